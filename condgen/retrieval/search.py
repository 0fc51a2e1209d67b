"""Image search by text or by image, and embeddings for other tools.

for result in condgen.search("runs/clip/model", "photos", ["a dog on a beach", Path("cat.jpg")], n=5):
    print(result.query, [(hit.file, hit.score) for hit in result.hits])
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from condgen.contracts import CondgenError, CondgenWarning, ProgressCallback, listed, short
from condgen.data.embeddings.compute import load_encoder
from condgen.data.formats.registry import IMAGE_NAMES
from condgen.data.progress import Clock
from condgen.data.sources.images import fit, open_image
from condgen.data.sources.webdataset import cache_folder
from condgen.files.images import grid, slug, tile
from condgen.files.registry import about, class_name, find
from condgen.pipelines.auto import load_folder, task_of
from condgen.pipelines.encoder import ImageEncoder, TextImageEncoder
from condgen.pipelines.text_to_image import TextToImage
from condgen.pipelines.unconditional import EmbeddingToImage
from condgen.retrieval.embedding import (
    check_text,
    embed_gallery,
    embed_images,
    embed_texts,
    embedding_steps,
    gallery_of,
)
from condgen.retrieval.gallery import Gallery
from condgen.retrieval.vectors import Vectors


class TextQuery(str):
    """A query that is text, even if an image file has that name."""


Query = str | Path | Image.Image
MOST = 1000
"""Maximum number of hits per query."""
CELL = 160
"""Edge of an image on the sheet."""
FORMAT = 1


@dataclass(frozen=True)
class Hit:
    """An image that was found.

    Args:
        score: cosine similarity of query and image, from -1 to 1.
        file: its name in the data.
        captions, label: empty where unknown.
        number: its index in the data.
    """

    score: float
    file: str
    captions: tuple[str, ...]
    label: str
    number: int

    @property
    def text(self) -> str:
        """The first caption, or the label if there is none."""
        return self.captions[0] if self.captions else self.label


@dataclass(frozen=True)
class SearchResult:
    """The hits of a query, nearest first."""

    query: str
    kind: Literal["text", "image"]
    hits: tuple[Hit, ...]


def search(
    model: object,
    data: str | Path,
    queries: Query | Sequence[Query],
    n: int = 9,
    *,
    split: str = "all",
    cache: str | Path | None = None,
    progress: ProgressCallback = lambda share, what: None,
    **options: Any,
) -> list[SearchResult]:
    """Finds the images nearest to each query, by cosine similarity in the embedding space of an encoder.

    Args:
        model: an encoder, or a text-to-image model, whose encoder is used; or a path or name of one, also of another
            library, see `encoders.interop.load.NAMES`.
        data: captioned images, labelled ones, or a folder of images, see `gallery.Gallery`.
        queries: texts, images as paths or PIL. A text that is the path of an image is that image, except `TextQuery`.
        n: number of images per query; fewer if the data has fewer.
        split: split of the data.
        cache: folder that keeps the embeddings of the data; None uses condgen's cache folder.
        progress: called with progress.
        options: fields of `data.options.ReadOptions`; by default images are resized as in training.

    Raises:
        CondgenError: there are no queries or no images, a query is text but the encoder reads only images, or the
            model cannot be loaded.
    """
    encoder = encoder_of(model)
    asked = [queries] if isinstance(queries, str | Path | Image.Image) else list(queries)
    finder = Finder(encoder, gallery_of(encoder, data, split, **options))
    finder.check(asked, n)
    finder.embed(cache, progress)
    return finder.find(asked, n)


def encode(
    model: object,
    texts: str | Sequence[str] = (),
    data: str | Path = "",
    *,
    split: str = "all",
    progress: ProgressCallback = lambda share, what: None,
    **options: Any,
) -> Vectors:
    """Computes unit vectors of texts, then of images, each with its text or image.

    Args:
        model, data, split, progress, options: as for `search`.
        texts: the texts to encode.

    Raises:
        CondgenError: neither texts nor data are given, or as in `search`.
    """
    texts = [texts] if isinstance(texts, str) else list(texts)
    if not texts and not data:
        raise CondgenError("There is nothing to encode. Give texts, or images with --data PATH.")
    encoder = encoder_of(model)
    gallery = gallery_of(encoder, data, split, **options) if data else None
    embeds = [embed_texts(encoder, texts)] if texts else []
    rows: list[dict[str, Any]] = [{"text": text} for text in texts]
    about = {"model": encoder.name, "space": encoder.space}
    if gallery is not None:
        own, images = embed_gallery(encoder, gallery, progress)
        embeds.append(own)
        rows += [{name: value for name, value in row.items() if name != "number"} for row in images]
        about |= {"data": gallery.name, "left_out": gallery.bad.total()}
    return Vectors.of(np.concatenate(embeds), rows, about)


class Finder:
    """A gallery with an encoder; its embeddings are computed once and searched many times.

    Args:
        encoder: makes the embeddings.
        gallery: the images.
    """

    def __init__(self, encoder: ImageEncoder, gallery: Gallery):
        self.encoder, self.gallery = encoder, gallery
        self.vectors: Vectors | None = None
        self.kept_in: Path | None = None
        """The file that `embed` has written; None where it has not."""

    def check(self, queries: Sequence[Query], n: int) -> None:
        """Raises `CondgenError` for invalid queries, before anything is embedded."""
        if not queries:
            raise CondgenError("There is no query. Give a text, for example 'a red circle', or the path of an image.")
        if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MOST:
            raise CondgenError(f"The number of images must be an integer from 1 to {MOST}, got {short(n)}.")
        for query in queries:
            if is_text(query):
                check_text(self.encoder, query)
            else:
                image_of(query)

    def embed(self, cache: str | Path | None = None, progress: ProgressCallback = lambda share, what: None) -> Vectors:
        """Returns the embeddings of the images: from the cache if encoder and images are unchanged; otherwise computes
        them and writes them to the cache.
        """
        clock = None
        for count in self.embed_steps(cache):
            if clock is None:
                progress(0.0, f"embedding the images of {self.gallery.name}")
                clock = Clock(progress, len(self.gallery), 0)
            clock.add(count)
        if self.kept_in:
            progress(1.0, f"{len(self.vectors):,} images embedded, kept in {self.kept_in}")
        return self.vectors

    def embed_steps(self, cache: str | Path | None = None) -> Iterator[int]:
        """Like `embed`: sets `vectors`, step by step, and yields the number of images of each step, first 0; nothing
        where the cache is used.
        """
        gallery, space = self.gallery, self.encoder.space
        if self.vectors is not None:  # asked again: files may have come or gone
            gallery.open()
        about = {"format": FORMAT, "space": space, "data": gallery.name, "digest": gallery.digest}
        about |= {"labels": labels} if (labels := gallery.label_digest) else {}
        folder = Path(cache) if cache else cache_folder("search")
        path = folder / f"{slug(gallery.name, 40)}-{gallery.place}-{space}.parquet"
        kept, self.kept_in = _kept(path, about, gallery), None
        if kept is None:
            yield 0
            kept = Vectors.of(*(yield from embedding_steps(self.encoder, gallery)), about)
            try:
                if gallery.changed([row["file"] for row in kept.rows()]):
                    raise CondgenError("images changed while they were embedded.")
                kept.write(path)
                self.kept_in = path
            except CondgenError as error:
                warnings.warn(f"The embeddings are not kept for the next time: {error}", CondgenWarning, stacklevel=2)
        gallery.places = {row["number"]: row["file"] for row in kept.rows()}
        self.vectors = kept

    def find(self, queries: Sequence[Query], n: int = 9) -> list[SearchResult]:
        """Finds the nearest images of each query, see `search`; warns if they are not as they were when embedded."""
        self.check(queries, n)
        vectors = self.vectors or self.embed()
        known = [self._known(query) for query in queries]
        scores = np.stack([embed for *_, embed in known]) @ vectors.embeds.T  # (queries, N)
        found = [SearchResult(name, kind, self._hits(own, n)) for (name, kind, _), own in zip(known, scores)]
        self._warn_of_changes({hit.file for one in found for hit in one.hits})
        return found

    def nearest(self, embed: np.ndarray, n: int = 9) -> tuple[Hit, ...]:
        """The images nearest to a unit vector (D,), as `find` returns them."""
        hits = self._hits((self.vectors or self.embed()).embeds @ embed, n)
        self._warn_of_changes({hit.file for hit in hits})
        return hits

    def _warn_of_changes(self, files: set[str]) -> None:
        if changed := self.gallery.changed(files):
            text = f"Changed or gone since the images were embedded: {listed(changed, 3)}. Scores, captions and labels "
            text += "are those of before, and images that changed are not shown. Open the search again."
            warnings.warn(text, CondgenWarning, stacklevel=3)

    def _known(self, query: Query) -> tuple[str, Literal["text", "image"], np.ndarray]:
        """Returns name, kind and embedding of a query."""
        name = str(getattr(query, "filename", "") or "an image") if isinstance(query, Image.Image) else str(query)
        name = name.encode("utf-8", "replace").decode()
        if is_text(query):
            return name, "text", embed_texts(self.encoder, [query])[0]
        return name, "image", embed_images(self.encoder, [image_of(query)], self.gallery.options.resize)[0]

    def _hits(self, scores: np.ndarray, n: int) -> tuple[Hit, ...]:
        n = min(n, len(scores))
        best = np.argpartition(-scores, n - 1)[:n]
        hits = []
        for place in best[np.lexsort((best, -scores[best]))]:
            row = self.vectors.row(int(place))
            captions = tuple(row.get("caption", ()))
            hits.append(Hit(float(scores[place]), row["file"], captions, row.get("label", ""), row["number"]))
        return tuple(hits)

    def sheet(self, found: Sequence[SearchResult], queries: Sequence[Query]) -> Image.Image:
        """Draws the results as a sheet; every query begins a new row and is its first image.

        Args:
            found: the results of `find` for `queries`.
        """
        images = self.gallery.images({hit.number for one in found for hit in one.hits})
        most = max(len(one.hits) for one in found) + 1
        columns = min(most, 10) if len(found) > 1 else -(-most // max(1, round((most / 1.6) ** 0.5)))
        cells, labels = [], []
        for one, query in zip(found, queries):
            cells.append(tile(one.query, CELL) if one.kind == "text" else self._cell(image_of(query)))
            labels.append("" if one.kind == "text" else f"query: {Path(one.query).name}")
            for hit in one.hits:
                there = images.get(hit.number)
                cells.append(tile("gone", CELL) if there is None else self._cell(there))
                labels.append(f"{hit.score:.3f} · {hit.text or hit.file}")
            blank = -len(cells) % columns
            cells += [None] * blank
            labels += [""] * blank
        return grid(cells, labels, columns, CELL)

    def _cell(self, image: Image.Image) -> Image.Image:
        edges = min(image.size) if self.gallery.options.resize == "crop" else max(image.size)
        square = fit(image, min(CELL, edges), self.gallery.options.resize)
        return Image.fromarray(square.transpose(1, 2, 0).copy())


def encoder_of(model: object) -> ImageEncoder:
    """Returns the encoder of a model, or loads it from a path or name, which may be that of another library.

    Raises:
        CondgenError: the model has no encoder; also as in `pipelines.auto.load_folder` and
            `encoders.interop.load.open_encoder`.
    """
    if isinstance(model, ImageEncoder):
        return model
    if isinstance(model, TextToImage):
        return TextImageEncoder(model.clip, model.tokenizer, model.about, model.model_id)
    if isinstance(model, EmbeddingToImage):
        return model.image_encoder
    if model is not None and not isinstance(model, str | Path):
        raise CondgenError(f"A {type(model).__name__} has no encoder. Give an encoder, or a text-to-image model.")
    folder = None
    with suppress(CondgenError):  # an unfinished run, or a model of another library
        folder = find(model)
    if folder is not None and task_of(folder) in ("text-image-encoding", "image-encoding"):
        return load_folder(folder)
    if folder is not None and class_name(folder) == EmbeddingToImage.__name__:
        return EmbeddingToImage.load(folder).image_encoder
    net, tokenizer = load_encoder(model)
    known = about(folder) if folder is not None else {}
    return TextImageEncoder(net, tokenizer, {"name": Path(str(model)).name} | known)


def is_text(query: Query) -> bool:
    """Whether a query is text rather than the path of an image file.

    Raises:
        CondgenError: it has the suffix of an image file, but the file does not exist.
    """
    if not isinstance(query, str) or isinstance(query, TextQuery) or Path(query).suffix.lower() not in IMAGE_NAMES:
        return isinstance(query, str)
    with suppress(OSError, ValueError):  # too long for a path, or with a NUL in it
        if Path(query).is_file():
            return False
    if " " in query:
        return True
    raise CondgenError(f"{short(query)} looks like an image file, but is not there. Check the path, or use --text.")


def image_of(query: Query) -> Image.Image:
    """Opens the image of a query as RGB; errors as in `open_image`."""
    return query.convert("RGB") if isinstance(query, Image.Image) else open_image(query)


def _kept(path: Path, about: dict[str, Any], gallery: Gallery) -> Vectors | None:
    """Reads embeddings from a file; None, with a message, if they are of another encoder or of other images."""
    if not path.is_file():
        return None
    try:
        kept = Vectors.read(path)
        if kept.about in (about, {name: value for name, value in about.items() if name != "labels"}):  # the second: old
            return kept
        why = "the images have changed" if kept.about.get("space") == about["space"] else "they are of another encoder"
    except CondgenError:
        why = "their file is damaged"
    warnings.warn(f"The embeddings of {gallery.name} are computed anew: {why}.", CondgenWarning, stacklevel=4)
    return None
