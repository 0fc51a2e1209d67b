"""Translation of images that a person uploaded or drew, one at a time."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condgen.contracts import CondgenError, short
from condgen.data.sources.images import open_image
from condgen.files.images import png_bytes
from condgen.pipelines.base import Pipeline
from condgen.pipelines.translator import Translation, Translator
from condgen.studio.session import BUSY

MAX_FILES = 64
"""Number of images in one request."""
MAX_DRAWING = 2**22
"""Characters of a drawing."""
PREFIX = "data:image/png;base64,"


@dataclass(frozen=True)
class Job:
    """A checked request.

    Args:
        files: the images, with the names that people gave them.
        to: one of `model.targets`.
        edges: translate the edges of the images.
    """

    model: Translator
    files: tuple[tuple[Path, str], ...]
    to: str
    edges: bool


def check_translation(model: Pipeline, files: Sequence[tuple[Path, str]], to: Any, edges: Any) -> Job:
    """Checks a request.

    Raises:
        CondgenError: the model translates no images, or not to that side; there are no images, or too many.
    """
    if not isinstance(model, Translator):
        raise CondgenError(f"{model.name} {model.kind().summary}; choose a model that translates images.")
    if not isinstance(to, str) and to is not None:
        raise CondgenError(f"The side to translate to must be one of {', '.join(model.targets)}, got {short(to)}.")
    model.net(to or "")
    if not files:
        raise CondgenError("There is no image yet. Upload images, or draw one.")
    if len(files) > MAX_FILES:
        raise CondgenError(f"At most {MAX_FILES} images are translated at once, got {len(files)}.")
    if not isinstance(edges, bool):
        raise CondgenError(f"The use of edges must be true or false, got {short(edges)}.")
    return Job(model, tuple(files), to or model.targets[0], edges)


def translate(job: Job) -> Iterator[Translation]:
    """Translates one image after the other; closing stops before the next. The names are those that people gave."""
    with BUSY:
        for path, name in job.files:
            try:
                (one,) = job.model.translations([path], job.to, None, job.edges)
            except CondgenError as error:
                raise CondgenError(str(error).replace(str(path), name)) from None
            yield Translation(Path(name), one.given, one.image, one.recipe | {"translated": name})


def drawn(url: Any) -> bytes | None:
    """The PNG of a drawing, see `components.sketch`; None for none.

    Raises:
        CondgenError: it is no PNG as a data URL, or too large.
    """
    if not url:
        return None
    if not isinstance(url, str) or not url.startswith(PREFIX) or len(url) > MAX_DRAWING:
        raise CondgenError("The drawing must be a PNG of at most 3 MB, as a data URL.")
    try:
        return png_bytes(open_image(base64.b64decode(url.removeprefix(PREFIX), validate=True), name="The drawing"))
    except (binascii.Error, ValueError):
        raise CondgenError("The drawing is damaged.") from None
