"""Search by words and an image, in folders of the server, in a person's own images, and in uploaded ones."""

from __future__ import annotations

import io
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from condgen.contracts import CondgenError, short
from condgen.data.sources.images import ImageError, open_image
from condgen.files.images import png_bytes, slug
from condgen.pipelines.base import Pipeline
from condgen.pipelines.encoder import ImageEncoder, TextImageEncoder
from condgen.retrieval.embedding import embed_images, embed_texts, gallery_of, reading_of
from condgen.retrieval.search import Finder, encoder_of, image_of
from condgen.studio.session import check_integer, check_number, check_text

MAX_FOUND, MAX_UPLOADS = 48, 200
"""Number of images that are found, and that can be uploaded to be searched, at most."""
EDGE = 512
"""Longest edge of a found image on the page, in pixels."""
MINE, UPLOADS, FOLDER, DATA = "mine", "uploads", "folder", "data:"
"""Places: a person's own images, uploaded ones, any folder of this machine, and those that the server offers."""
OPEN, REMEMBERED = 3, 10_000
"""Folders whose embeddings are in memory, and embeddings of single files."""
FRESH = 30.0
"""Seconds after which a folder is looked at again."""
ROWS = 32
"""Single files that are embedded at a time."""
ENCODERS = ("TextImageEncoder", "ImageEncoder", "TextToImage", "EmbeddingToImage")
"""Kinds of models that embed images."""


@dataclass(frozen=True)
class Query:
    """A checked query: words, an image, or both.

    Args:
        weight: share of the image where there are both, from 0 to 1.
        count: number of images to find.
    """

    words: str
    image: Path | None
    weight: float
    count: int


@dataclass(frozen=True)
class Found:
    """An image that was found.

    Args:
        score: cosine similarity to the query.
        text: caption, label, or name of its file.
        file: name of its file.
        key: its number in a folder, or the place of its file in a list of files.
    """

    score: float
    text: str
    file: str
    key: int


def check_query(encoder: ImageEncoder, words: Any, image: Path | None, weight: Any, count: Any) -> Query:
    """Checks a query.

    Raises:
        CondgenError: there are neither words nor an image, the encoder cannot read words, or a value is out of range.
    """
    words = check_text("The words", words, empty=True)
    if not words and image is None:
        wants = "Type words to find images by, or choose" if isinstance(encoder, TextImageEncoder) else "Choose"
        raise CondgenError(f"There is nothing to find yet. {wants} an image that they should be like.")
    if words and not isinstance(encoder, TextImageEncoder):
        raise CondgenError(f"{encoder.name} encodes images and no text. Give it an image.")
    check_number("The share of the image", weight)
    if not 0 <= weight <= 1:
        raise CondgenError(f"The share of the image must be from 0 to 1, got {short(weight)}.")
    return Query(words, image, float(weight), check_integer("The number of images", count, 1, MAX_FOUND))


def embed_query(encoder: ImageEncoder, query: Query) -> np.ndarray:
    """The unit vector (D,) of a query: with words and an image, of the weighted mean of their two unit vectors."""
    parts = []
    if query.words:
        parts.append((1 - query.weight if query.image else 1.0, embed_texts(encoder, [query.words])[0]))
    if query.image:
        image = embed_images(encoder, [image_of(query.image)], reading_of(encoder).resize)[0]
        parts.append((query.weight if query.words else 1.0, image))
    mean = sum(share * vector for share, vector in parts)
    return mean / max(float(np.linalg.norm(mean)), 1e-8)


def encoder_for(model: Pipeline) -> ImageEncoder:
    """The encoder of a model; `CondgenError` where it has none."""
    try:
        return encoder_of(model)
    except CondgenError:
        raise CondgenError(f"{model.name} {model.kind().summary}; choose a model that embeds images.") from None


class Searcher:
    """Embeds images and finds those that are nearest to a query; what was embedded is remembered.

    Whoever calls it holds `session.BUSY`.
    """

    def __init__(self) -> None:
        self._folders: OrderedDict[tuple[str, str], tuple[Finder, float]] = OrderedDict()
        self._files: OrderedDict[tuple[str, str, int], np.ndarray] = OrderedDict()

    def folder(self, encoder: ImageEncoder, path: str) -> Finder:
        """The images of a folder, or of a data set in any format that is read; errors as in `Gallery`."""
        key = encoder.space, path
        if key not in self._folders:
            self._folders[key] = Finder(encoder, gallery_of(encoder, path)), 0.0
        self._folders.move_to_end(key)
        while len(self._folders) > OPEN:
            self._folders.popitem(last=False)
        return self._folders[key][0]

    def embed_folder(self, encoder: ImageEncoder, path: str) -> Iterator[tuple[int, int]]:
        """Embeds the images of a folder, unless they are known; yields how many are done, of about how many."""
        finder = self.folder(encoder, path)
        _, seen = self._folders[encoder.space, path]
        if finder.vectors is None or time.monotonic() - seen > FRESH:
            done = 0
            for count in finder.embed_steps():
                done += count
                yield done, max(done, len(finder.gallery))
            self._folders[encoder.space, path] = finder, time.monotonic()

    def in_folder(self, encoder: ImageEncoder, path: str, vector: np.ndarray, count: int) -> list[Found]:
        """The nearest images of a folder that was embedded, without those that are gone."""
        finder = self.folder(encoder, path)
        hits = finder.nearest(vector, count)
        return [Found(hit.score, hit.text or hit.file, hit.file, hit.number) for hit in hits]

    def images(self, encoder: ImageEncoder, path: str, numbers: Sequence[int]) -> dict[int, Image.Image]:
        """Images of a folder by number."""
        finder = self.folder(encoder, path)
        if finder.vectors is None:
            for _ in finder.embed_steps():
                pass
        return finder.gallery.images(numbers)

    def embed_files(self, encoder: ImageEncoder, files: Sequence[Path]) -> Iterator[tuple[int, int]]:
        """Embeds single files, unless they are known; files that are no images are left out."""
        todo = [path for path in files if _key(encoder, path) not in self._files]
        for at in range(0, len(todo), ROWS):
            yield at, len(todo)
            images = {}
            for path in todo[at : at + ROWS]:
                try:
                    images[path] = open_image(path)
                except (ImageError, OSError):
                    continue
            vectors = embed_images(encoder, list(images.values()), reading_of(encoder).resize) if images else []
            self._files |= {_key(encoder, path): vector for path, vector in zip(images, vectors)}
        while len(self._files) > max(REMEMBERED, len(files)):
            self._files.popitem(last=False)

    def in_files(self, encoder: ImageEncoder, files: Sequence[Path], vector: np.ndarray, count: int) -> list[Found]:
        """The nearest of files that were embedded."""
        known = [(k, self._files.get(_key(encoder, path))) for k, path in enumerate(files)]
        scores = {k: float(own @ vector) for k, own in known if own is not None}
        if not scores:
            raise CondgenError("There are no images to search here yet.")
        best = sorted(scores, key=lambda k: -scores[k])[:count]
        return [Found(scores[k], files[k].name, files[k].name, k) for k in best]


def _key(encoder: ImageEncoder, path: Path) -> tuple[str, str, int]:
    try:
        return encoder.space, str(path), path.stat().st_mtime_ns
    except OSError:
        return encoder.space, str(path), 0


def shown_bytes(image: Image.Image, file: str, edge: int = EDGE) -> tuple[str, bytes]:
    """File name and bytes of an image for the page: PNG where it is small, JPEG where it must be reduced."""
    stem = slug(Path(file).stem, 60)
    if max(image.size) <= edge:
        return f"{stem}.png", png_bytes(image)
    image = image.convert("RGB")
    image.thumbnail((edge, edge))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90)
    return f"{stem}.jpg", out.getvalue()
