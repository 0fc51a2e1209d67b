"""The images that the studio keeps: `outputs/YYYY-MM-DD/HHMMSS-words-seed.png`, each with its recipe.

An image is written as soon as it is finished, so that a crash loses none. People who must not see each other's images
have a folder each. Images that others put there, such as those of `condgen generate -o outputs`, are found as well.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import secrets
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from condgen.contracts import CondgenError, short
from condgen.files.images import write_bytes

try:
    import fcntl
except ImportError:  # Windows: one server per folder
    fcntl = None

MIB, GIB = 2**20, 2**30
STARS = "stars.json"
"""File, in the folder of a person, of the images with a star."""
PEOPLE = "people"
"""Folder of the folders of people, where there are several."""
SUFFIXES = (".png", ".gif")
SHOWN = 12 * 3600.0
"""Seconds for which the address of an image holds at least; afterwards the page gets another one."""
SESSION = "session"
"""First part of the id of an image that is not kept."""
PASSING = "passing"
"""Folder in the ids of images that go from tab to tab."""
SESSION_LIMIT = 256 * MIB
"""Bytes of images that could not be kept and are held until the studio is closed; the oldest go first."""
RECENT = 2.0
"""Seconds within which a folder may change again without a new time of change."""
RECOUNT = 60.0
"""Seconds after which the bytes in the folder are counted anew, for others may write into it."""


@dataclass(frozen=True)
class SavedImage:
    """An image on disk.

    Args:
        id: its path below the folder of its person, `YYYY-MM-DD/name.png`; `session/...` for one that is not kept.
        path: the file.
        modified: time of its last change in nanoseconds.
        size: bytes.
        problem: why it is not kept: a sentence; '' for one that is.
    """

    id: str
    path: Path
    modified: int = 0
    size: int = 0
    problem: str = ""

    @property
    def day(self) -> str:
        """The day, `YYYY-MM-DD`: that of its folder, or else of its last change."""
        folder = self.id.partition("/")[0]
        if re.fullmatch(r"\d{4}-\d\d-\d\d", folder):
            return folder
        return time.strftime("%Y-%m-%d", time.localtime(self.modified / 1e9))


class FolderIndex:
    """The images in folders; a folder is read again only after it changed."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[int, list[SavedImage]]] = {}

    def images(self, folder: Path, prefix: str = "") -> list[SavedImage]:
        """The images in a folder, without empty files; `prefix` is the beginning of their ids."""
        try:
            changed = os.stat(folder).st_mtime_ns
        except OSError:
            return []
        known = self._known.get(folder)
        if known is None or known[0] != changed:
            began = time.time()
            images = [
                SavedImage(prefix + file.name, folder / file.name, file.modified, file.size)
                for file in _files(folder)
                if file.size and is_image(file.name)
            ]
            known = changed, images
            if abs(began - changed / 1e9) > RECENT:
                self._known[folder] = known
        return known[1]

    def forget(self, folder: Path) -> None:
        """Reads a folder again next time."""
        self._known.pop(folder, None)


class Outputs:
    """Keeps, lists and deletes the images of people; safe to use from several threads and by several servers.

    Args:
        root: the folder; created when the first image is kept.
        served: a folder from which the web server may serve files; images are copied into it to be shown.
        limit: bytes in `root` above which nothing more is kept.
    """

    def __init__(self, root: Path, served: Path, limit: int = 4 * GIB):
        self.root, self.served, self.limit = Path(root).absolute(), Path(served), limit
        self._lock = threading.RLock()
        self._counted: tuple[float, int] | None = None
        self._shown: dict[tuple[str, str], tuple[Path, float]] = {}
        self._session: OrderedDict[tuple[str, str], SavedImage] = OrderedDict()
        self._index = FolderIndex()

    def folder(self, person: str) -> Path:
        """The folder of a person; '' is the owner of this machine."""
        if not person:
            return self.root
        return self.root / PEOPLE / hashlib.sha256(person.encode("utf-8", "replace")).hexdigest()[:16]

    # Writing ----------------------------------------------------------------------------------------------------------

    def save(self, person: str, name: str, data: bytes) -> SavedImage:
        """Writes a file that is named after the time and `name`; it is on disk when this returns.

        Where the folder is full or cannot be written, the image is held until the studio is closed, and has a
        `problem`.

        Raises:
            CondgenError: it cannot be held either.
        """
        name = f"{time.strftime('%H%M%S')}-{Path(name).name}"
        with self._lock:
            if self.used() + len(data) > self.limit:
                return self._hold(person, name, data, self._full())
            try:
                day = self.folder(person) / time.strftime("%Y-%m-%d")
                day.mkdir(parents=True, exist_ok=True)
                path = write_new(day / name, data)
            except OSError as error:
                reason = error.strerror or "it cannot be written"
                return self._hold(person, name, data, f"Not kept in {self.root.name}: {reason}. Download it.")
            self._count(len(data))
            return _saved(f"{day.name}/{path.name}", path)

    def _full(self) -> str:
        return (
            f"Not kept: the folder {self.root.name} is full ({self.used() / GIB:.2f} of {self.limit / GIB:.2f} GB). "
            "Download it; delete images in the gallery, or start the studio with a larger --outputs-limit."
        )

    def hold(self, person: str, name: str, data: bytes, problem: str) -> SavedImage:
        """Holds an image that goes from tab to tab until the studio is closed; it is not in `list`.

        Args:
            problem: why it is not kept: a sentence.

        Raises:
            CondgenError: it cannot be written.
        """
        with self._lock:
            return self._hold(person, Path(name).name, data, problem, PASSING)

    def _hold(self, person: str, name: str, data: bytes, problem: str, place: str = SESSION) -> SavedImage:
        """Keeps an image until the studio is closed."""
        folder = self.served / secrets.token_urlsafe(16)
        image = SavedImage(f"{place}/{folder.name}/{name}", folder / name, time.time_ns(), len(data), problem)
        try:
            folder.mkdir(parents=True)
            write_bytes(image.path, data)
        except (CondgenError, OSError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            reason = getattr(error, "strerror", None) or "the disk is full or cannot be written"
            advice = "Free some space, then generate it again."
            raise CondgenError(f"The image cannot be written: {reason}. {advice}") from None
        self._session[person, image.id] = image
        while sum(one.size for one in self._session.values()) > SESSION_LIMIT:
            _, old = self._session.popitem(last=False)
            shutil.rmtree(old.path.parent, ignore_errors=True)
        return image

    def used(self) -> int:
        """Bytes of all files of all people."""
        with self._lock:
            if self._counted is None or time.monotonic() - self._counted[0] > RECOUNT:
                sizes = (entry.size for folder, _, _ in os.walk(self.root) for entry in _files(Path(folder)))
                self._counted = time.monotonic(), sum(sizes)
            return self._counted[1]

    def _count(self, more: int) -> None:
        self._counted = self._counted[0], self._counted[1] + more

    # Reading ----------------------------------------------------------------------------------------------------------

    def list(self, person: str) -> list[SavedImage]:
        """The images of a person, the newest day first; those of a day by time. Empty files are left out.

        Those that are not kept are among them until the studio is closed.
        """
        folder = self.folder(person)
        with self._lock:
            held = [image for (owner, _), image in self._session.items() if owner == person]
        found = [image for image in held if not image.id.startswith(f"{PASSING}/")]
        found += self._index.images(folder)
        for sub in _folders(folder):
            found += self._index.images(sub, f"{sub.name}/")
        return sorted(found, key=lambda image: (image.day, image.modified, image.id), reverse=True)

    def get(self, person: str, image_id: object) -> SavedImage:
        """One image; `CondgenError` where this person has none of that id."""
        with self._lock:
            held = self._session.get((person, image_id)) if isinstance(image_id, str) else None
        if held is not None and held.path.is_file():
            return held
        parts = image_id.split("/") if isinstance(image_id, str) and "\0" not in image_id else []
        if 1 <= len(parts) <= 2 and all(map(is_plain, parts)) and is_image(parts[-1]) and parts[0] != PEOPLE:
            folder = self.folder(person)
            with contextlib.suppress(OSError, ValueError):
                path, above = folder.joinpath(*parts), folder.joinpath(*parts[:-1])
                if path.is_file() and not path.is_symlink() and (above == folder or not above.is_symlink()):
                    return _saved("/".join(parts), path)
        raise CondgenError(f"There is no image {short(image_id)} any more. It may have been deleted or moved.")

    def delete(self, person: str, image_id: object) -> None:
        """Deletes one image and its star; `CondgenError` where there is none."""
        image = self.get(person, image_id)
        with self._lock:
            try:
                image.path.unlink()
            except FileNotFoundError:
                pass
            except OSError as error:
                raise CondgenError(f"{image.path.name} cannot be deleted ({error.strerror}).") from None
            if self._session.pop((person, image.id), None) is None:
                self.used()
                self._count(-image.size)
            self._index.forget(image.path.parent)
            if shown := self._shown.pop((person, image.id), None):
                shutil.rmtree(shown[0].parent, ignore_errors=True)
        if image.id in self.stars(person):
            self._change_stars(person, image.id, False)

    # Stars ------------------------------------------------------------------------------------------------------------

    def stars(self, person: str) -> set[str]:
        """The ids of the images with a star."""
        try:
            stars = json.loads((self.folder(person) / STARS).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return set()
        return {star for star in stars if isinstance(star, str)} if isinstance(stars, list) else set()

    def star(self, person: str, image_id: object, on: bool) -> None:
        """Gives an image a star, or takes it; `CondgenError` for one that is not kept."""
        image = self.get(person, image_id)
        if image.problem:
            raise CondgenError("This image is not kept, so it cannot have a star. Download it.")
        self._change_stars(person, image.id, on)

    def _change_stars(self, person: str, image_id: str, on: bool) -> None:
        folder = self.folder(person)
        with self._lock, _locked(folder / f".{STARS}.lock"):
            stars = self.stars(person)
            stars = stars | {image_id} if on else stars - {image_id}
            write_bytes(folder / STARS, json.dumps(sorted(stars)).encode())

    # Serving ----------------------------------------------------------------------------------------------------------

    def shown(self, person: str, image: SavedImage) -> Path:
        """A copy of an image that the web server serves, in a folder that cannot be guessed; it lasts SHOWN seconds."""
        if image.problem:
            return image.path
        with self._lock:
            copy, since = self._shown.get((person, image.id), (None, 0.0))
            if copy is None or time.time() - since > SHOWN or not _same(copy, image.path):
                copy = self.served / secrets.token_urlsafe(16) / image.path.name
                try:
                    copy.parent.mkdir(parents=True)
                    try:
                        os.link(image.path, copy)
                    except OSError:
                        shutil.copy2(image.path, copy)
                except OSError as error:
                    raise CondgenError(f"{image.path.name} cannot be shown ({error.strerror}).") from None
                self._shown[person, image.id] = copy, time.time()
        return copy

    def tidy(self, age: float = 2 * SHOWN) -> None:
        """Removes the copies that were made for the web server more than `age` seconds ago."""
        with self._lock:
            for key, (copy, since) in list(self._shown.items()):
                if time.time() - since >= age:
                    del self._shown[key]
                    shutil.rmtree(copy.parent, ignore_errors=True)


@dataclass(frozen=True)
class _File:
    name: str
    size: int
    modified: int


def is_plain(name: str) -> bool:
    """Whether a name is that of a visible file or folder, and nothing else."""
    return bool(name) and not name.startswith(".") and name == Path(name).name and "\\" not in name


def is_image(name: str) -> bool:
    """Whether a file is an image to list, by its name."""
    return not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES


def write_new(path: Path, data: bytes) -> Path:
    """Writes a file whole or not at all, with a number in its name if others have that name; returns its path.

    Raises:
        OSError: it cannot be written.
    """
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        for number in itertools.count(1):
            free = path if number == 1 else path.with_stem(f"{path.stem}-{number}")
            with contextlib.suppress(FileExistsError):
                _move_new(temporary, free)
                return free
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _move_new(source: Path, target: Path) -> None:
    """Renames a file; `FileExistsError` where another has that name, also of another process."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        open(target, "xb").close()
        os.replace(source, target)


def _saved(image_id: str, path: Path) -> SavedImage:
    facts = path.stat()
    return SavedImage(image_id, path, facts.st_mtime_ns, facts.st_size)


def _same(copy: Path, path: Path) -> bool:
    """Whether a copy is still that of the file."""
    try:
        one, other = copy.stat(), path.stat()
    except OSError:
        return False
    return (one.st_mtime_ns, one.st_size) == (other.st_mtime_ns, other.st_size)


def _folders(folder: Path) -> Iterator[Path]:
    """The visible folders in a folder; no links, and not that of other people."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if is_plain(entry.name) and entry.name != PEOPLE and entry.is_dir(follow_symlinks=False):
                yield folder / entry.name


def _files(folder: Path) -> Iterator[_File]:
    """The files in a folder; no links."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.is_file(follow_symlinks=False):
                    facts = entry.stat(follow_symlinks=False)
                    yield _File(entry.name, facts.st_size, facts.st_mtime_ns)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds a lock that other processes see."""
    if fcntl is None:
        yield
        return
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
