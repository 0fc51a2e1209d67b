"""The images that the studio keeps: `outputs/YYYY-MM-DD/HHMMSS-words-seed.png`, each with its recipe.

An image is written as soon as it is finished, so that a crash loses none. People who must not see each other's images
have a folder each.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from condgen.contracts import CondgenError, short
from condgen.files.images import make_folder, write_beside, write_bytes

GIB = 2**30
STARS = "stars.json"
"""File, in the folder of a person, of the images with a star."""
PEOPLE = "people"
"""Folder of the folders of people, where there are several."""
SUFFIXES = (".png", ".gif")
SHOWN = 12 * 3600.0
"""Seconds for which the address of an image holds at least; afterwards the page gets another one."""


@dataclass(frozen=True)
class SavedImage:
    """An image that is kept; `id` is its path below the folder of its person, `YYYY-MM-DD/name.png`."""

    id: str
    path: Path

    @property
    def day(self) -> str:
        return self.id.partition("/")[0]


class Outputs:
    """Keeps, lists and deletes the images of people.

    Args:
        root: the folder; created when the first image is kept.
        served: a folder from which the web server may serve files; images are copied into it to be shown.
        limit: bytes in `root` above which nothing more is kept.
    """

    def __init__(self, root: Path, served: Path, limit: int = 4 * GIB):
        self.root, self.served, self.limit = Path(root), Path(served), limit
        self._lock = threading.Lock()
        self._used: int | None = None
        self._shown: dict[tuple[str, str], tuple[Path, float]] = {}

    def folder(self, person: str) -> Path:
        """The folder of a person; '' is the owner of this machine."""
        if not person:
            return self.root
        return self.root / PEOPLE / hashlib.sha256(person.encode("utf-8", "replace")).hexdigest()[:16]

    def save(self, person: str, name: str, data: bytes) -> SavedImage:
        """Writes a file that is named after the time and `name`; it is on disk when this returns.

        Raises:
            CondgenError: the folder is full or cannot be written.
        """
        with self._lock:
            if self.used() + len(data) > self.limit:
                raise CondgenError(
                    f"The folder {self.root.name} is full ({self.used() / GIB:.2f} of {self.limit / GIB:.2f} GB), so "
                    "this image is not kept. Delete images in the gallery, or start the studio with a larger "
                    "--outputs-limit."
                )
            day = make_folder(self.folder(person) / time.strftime("%Y-%m-%d"))
            path = write_beside(day / f"{time.strftime('%H%M%S')}-{name}", data)
            self._used = self.used() + len(data)
        return SavedImage(f"{day.name}/{path.name}", path)

    def used(self) -> int:
        """Bytes of all files; counted once, then kept up to date."""
        if self._used is None:
            files = (path for path in self.root.rglob("*") if path.is_file()) if self.root.is_dir() else ()
            self._used = sum(path.stat().st_size for path in files)
        return self._used

    def list(self, person: str) -> list[SavedImage]:
        """The images of a person, the newest first."""
        folder = self.folder(person)
        days = sorted((day for day in _folders(folder) if day.name[:1].isdigit()), reverse=True)
        found = []
        for day in days:
            files = [path for path in day.iterdir() if path.suffix in SUFFIXES and not path.name.startswith(".")]
            files.sort(key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True)
            found += [SavedImage(f"{day.name}/{path.name}", path) for path in files]
        return found

    def get(self, person: str, image_id: object) -> SavedImage:
        """One image; `CondgenError` where this person has none of that id."""
        folder = self.folder(person)
        if isinstance(image_id, str) and image_id.count("/") == 1 and "\0" not in image_id:
            day, _, name = image_id.partition("/")
            path = folder / day / name
            plain = day[:1].isdigit() and name == Path(name).name and not name.startswith(".")
            if plain and path.suffix in SUFFIXES and path.is_file() and path.resolve().is_relative_to(folder.resolve()):
                return SavedImage(image_id, path)
        raise CondgenError(f"There is no image {short(image_id)} any more. It may have been deleted or moved.")

    def delete(self, person: str, image_id: object) -> None:
        """Deletes one image; `CondgenError` where there is none."""
        image = self.get(person, image_id)
        size = image.path.stat().st_size
        image.path.unlink()
        with self._lock:
            self._used = self.used() - size
            if shown := self._shown.pop((person, image.id), None):
                shutil.rmtree(shown[0].parent, ignore_errors=True)

    def stars(self, person: str) -> set[str]:
        """The ids of the images with a star."""
        try:
            stars = json.loads((self.folder(person) / STARS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return set()
        return {star for star in stars if isinstance(star, str)} if isinstance(stars, list) else set()

    def star(self, person: str, image_id: object, on: bool) -> None:
        """Gives an image a star, or takes it."""
        image = self.get(person, image_id)
        with self._lock:
            stars = self.stars(person)
            stars = stars | {image.id} if on else stars - {image.id}
            write_bytes(self.folder(person) / STARS, json.dumps(sorted(stars)).encode())

    def shown(self, person: str, image: SavedImage) -> Path:
        """A copy of an image that the web server serves, in a folder that cannot be guessed; it lasts SHOWN seconds."""
        with self._lock:
            copy, since = self._shown.get((person, image.id), (None, 0.0))
            if copy is None or time.time() - since > SHOWN or not copy.exists():
                copy = self.served / secrets.token_urlsafe(16) / image.path.name
                copy.parent.mkdir(parents=True)
                try:
                    os.link(image.path, copy)
                except OSError:
                    shutil.copyfile(image.path, copy)
                self._shown[person, image.id] = copy, time.time()
        return copy

    def tidy(self, age: float = 2 * SHOWN) -> None:
        """Removes the copies that were made for the web server more than `age` seconds ago."""
        with self._lock:
            for key, (copy, since) in list(self._shown.items()):
                if time.time() - since >= age:
                    del self._shown[key]
                    shutil.rmtree(copy.parent, ignore_errors=True)


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
