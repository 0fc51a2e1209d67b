"""What all tabs of the studio share: models, kept images, who asks, and how errors are shown."""

from __future__ import annotations

import hashlib
import html
import logging
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr
from gradio.utils import get_upload_folder

from condgen.contracts import CondgenError, is_out_of_memory, out_of_memory
from condgen.files.images import GeneratedImage, slug
from condgen.pipelines.base import Pipeline
from condgen.studio.images.outputs import Outputs, SavedImage
from condgen.studio.library import ModelLibrary
from condgen.studio.server.visitors import VISITOR, is_visitor, new_visitor

log = logging.getLogger("condgen.studio")
COMPUTE: dict[str, Any] = {"concurrency_id": "compute", "concurrency_limit": 1}
"""Arguments of every event that computes with a model: one at a time, whichever tab asked."""
QUICK: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
"""Arguments of events that only change the page."""
AGAIN = 30.0
"""Seconds in which a person is warned once that images are not kept."""
PIXELS = 128
"""Images below this edge are enlarged without smoothing."""


@dataclass
class Studio:
    """The state of the server, one for all visitors.

    Args:
        library: the models.
        outputs: the images that are kept.
        several: whether people who are not the owner of this machine can reach the studio.
        trains: whether visitors may start trainings.
        data: folders and tables of images that the page offers to search.
    """

    library: ModelLibrary
    outputs: Outputs
    several: bool = False
    trains: bool = True
    data: tuple[str, ...] = ()
    _warned: dict[str, float] = field(default_factory=dict, init=False, repr=False)

    def person(self, request: gr.Request | None) -> str:
        """Who asks: the name that logged in, a browser where everybody is let in, '' for the owner of this machine.

        A program without a cookie is known by the session of its client.
        """
        if request is None:
            return ""
        if request.username:
            return f"user {request.username}"
        if not self.several:
            return ""
        visitor = (request.cookies or {}).get(VISITOR)
        return f"visitor {visitor}" if is_visitor(visitor) else f"session {request.session_hash or new_visitor()}"

    def open(self, name: object) -> Pipeline:
        """The loaded model of a name, see `ModelLibrary.open`."""
        return self.library.open(name)

    def keep(self, generated: GeneratedImage, request: gr.Request | None) -> SavedImage:
        """Writes a finished image; warns where it is not kept, errors as in `Outputs.save`."""
        person = self.person(request)
        image = self.outputs.save(person, generated.file_name, generated.png())
        if image.problem and time.monotonic() - self._warned.get(person, -AGAIN) > AGAIN:
            self._warned[person] = time.monotonic()
            warn([image.problem])
        return image

    def file(self, name: str, data: bytes) -> dict[str, Any]:
        """A file for a client of the API, which is not kept."""
        path = self._serve(name, data)
        return gr.FileData(path=str(path), orig_name=name).model_dump()

    def _serve(self, name: str, data: bytes) -> Path:
        """Writes a file where the web server serves it, in a folder that cannot be guessed."""
        path = self.outputs.served / secrets.token_urlsafe(16) / name
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        return path

    def card(self, image: SavedImage, caption: str, request: gr.Request | None, **more: Any) -> dict[str, Any]:
        """An image as an entry of an `image_grid`; `more` are further fields that the page reads."""
        path = self.outputs.shown(self.person(request), image)
        if image.problem:
            more["note"] = image.problem
        return {"id": image.id, "url": url_of(path), "file": image.path.name, "caption": caption, **more}

    def slot(self, image: SavedImage, request: gr.Request | None) -> dict[str, Any]:
        """A kept image as the value of an `image_slot`."""
        path = self.outputs.shown(self.person(request), image)
        return {"id": image.id, "url": url_of(path), "name": image.path.name}

    def slot_of(self, name: str, data: bytes) -> dict[str, Any]:
        """A PNG as the value of an `image_slot`, for images that are not kept."""
        path = self._serve(f"{slug(Path(name).stem)}.png", data)
        return {"path": str(path), "url": url_of(path), "name": path.name}

    def url_of_copy(self, path: Path) -> str:
        """The address of a copy of a file of this machine that everybody may see, such as a sample sheet."""
        state = path.stat()
        name = hashlib.sha256(f"{path.resolve()} {state.st_mtime_ns} {state.st_size}".encode()).hexdigest()[:24]
        copy = self.outputs.served / name / path.name
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        return url_of(copy)

    def image(self, value: Any, request: gr.Request | None, what: str = "image") -> Path:
        """The file of an `image_slot`, or of an upload of an API client.

        Raises:
            CondgenError: there is none, or it belongs to somebody else; the message says `what`.
        """
        if not value:
            raise CondgenError(f"There is no {what} yet. Choose one.")
        if isinstance(value, dict) and "id" in value:
            return self.outputs.get(self.person(request), value["id"]).path
        path = uploaded(value, what)
        if path.is_relative_to(self.outputs.root.resolve()):
            raise CondgenError(f"The {what} must be an uploaded file.")
        return path


def url_of(path: Path) -> str:
    """The address of a file in the cache of Gradio, relative to the page, so that it holds behind a proxy."""
    return f"gradio_api/file={quote(str(path))}"


def uploaded(file: Any, what: str = "image") -> Path:
    """The path of an upload, as a page or an API client gives it; never of another file of this machine.

    Raises:
        CondgenError: it is no uploaded file, or is no longer there.
    """
    path = file.get("path") if isinstance(file, dict) else file
    if not isinstance(path, str) or not path or "\0" in path:
        raise CondgenError(f"The {what} must be an uploaded file.")
    try:
        found, served = Path(path).resolve(), Path(get_upload_folder()).resolve()
        inside, there = found.is_relative_to(served), found.is_file()
    except (OSError, RuntimeError, ValueError):
        inside = there = False
    if not inside:
        raise CondgenError(f"The {what} must be an uploaded file.")
    if not there:
        raise CondgenError(f"The {what} is no longer here: uploads are kept for a day. Upload it again.")
    return found


@contextmanager
def without_folders(*paths: object) -> Iterator[None]:
    """Removes folders from file names in error messages, since visitors must not see them."""
    try:
        yield
    except CondgenError as error:
        message = str(error)
        for path in map(str, paths):
            message = message.replace(path, Path(path).name)
        raise CondgenError(message) from None


@contextmanager
def user_errors() -> Iterator[None]:
    """Shows errors as messages on the page; logs unexpected ones under an id that the message names."""
    try:
        yield
    except gr.Error:
        raise
    except Exception as error:
        raise gr.Error(escaped(message_of(error)), print_exception=False) from None


def message_of(error: Exception) -> str:
    """What people read about an error; an unexpected one is logged under an id that the message names."""
    if isinstance(error, CondgenError):
        return str(error)
    if is_out_of_memory(error):
        return out_of_memory(error, "Ask for fewer images, or close other programs.")
    number = secrets.token_hex(4)
    log.exception("error %s", number)
    return f"Something went wrong (error {number}). See the log of the studio."


def escaped(message: str) -> str:
    """A message for a place that shows HTML; it may quote a visitor's input."""
    return html.escape(message, quote=False)


def warn(notes: list[str] | tuple[str, ...]) -> None:
    """Shows notes beside the page."""
    for note in notes:
        gr.Warning(escaped(note), title="Note")
