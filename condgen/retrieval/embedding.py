"""Embeddings of images and texts by an encoder, and how it reads images."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from condgen.contracts import CondgenError, ProgressCallback, short
from condgen.data.batches.base import to_float
from condgen.data.options import ReadOptions, Resize
from condgen.data.progress import Clock
from condgen.data.sources.images import fit
from condgen.pipelines.base import BATCH_ROWS
from condgen.pipelines.encoder import ImageEncoder, TextImageEncoder
from condgen.retrieval.gallery import Gallery
from condgen.text import check_prompt, warn_of_texts


def gallery_of(encoder: ImageEncoder, data: str | Path, split: str = "all", **options: Any) -> Gallery:
    """Opens the images of a path, resized as in the training of the encoder unless `options` set `resize`."""
    return Gallery(data, reading_of(encoder, **options), split)


def reading_of(encoder: ImageEncoder, **options: Any) -> ReadOptions:
    """How images are read for an encoder: resized as in its training unless `options` set `resize`."""
    trained = encoder.about.get("reading")
    known = trained if isinstance(trained, dict) else {}
    reading = {name: known[name] for name in ("resize", "value_range") if name in known}
    return ReadOptions.stored(reading, **options)


def embed_gallery(
    encoder: ImageEncoder, gallery: Gallery, progress: ProgressCallback
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Computes unit vectors, float32 (N, D), of all readable images, with the image of each."""
    progress(0.0, f"embedding the images of {gallery.name}")
    clock, steps = Clock(progress, len(gallery), 0), embedding_steps(encoder, gallery)
    while True:
        try:
            clock.add(next(steps))
        except StopIteration as end:
            return end.value


def embedding_steps(
    encoder: ImageEncoder, gallery: Gallery
) -> Generator[int, None, tuple[np.ndarray, list[dict[str, Any]]]]:
    """The steps of `embed_gallery`: yields the number of images of each, and returns its result."""
    entries, embeds, images = [], [], gallery.each(encoder.size)
    while some := list(islice(images, BATCH_ROWS)):
        entries += [entry for entry, _ in some]
        embeds.append(encoder.embed_image(to_float(np.stack([image for _, image in some]))).numpy())
        yield len(some)
    rows = [{"file": e.file, "caption": e.captions, "label": e.label, "number": e.number} for e in entries]
    return np.concatenate(embeds), rows


def embed_images(encoder: ImageEncoder, images: Sequence[Image.Image], resize: Resize = "crop") -> np.ndarray:
    """Computes unit vectors, float32 (N, D), of RGB images of any size."""
    squares = np.stack([fit(image, encoder.size, resize) for image in images])
    return encoder.embed_image(to_float(squares)).numpy()


def embed_texts(encoder: ImageEncoder, texts: Sequence[str]) -> np.ndarray:
    """Computes unit vectors, float32 (N, D); warns of unknown words and of texts that are too long.

    Raises:
        CondgenError: a text is empty, or the encoder reads only images.
    """
    for text in texts:
        check_text(encoder, text)
    warn_of_texts(encoder.tokenizer, texts)
    return encoder.embed_text(texts).numpy()


def check_text(encoder: ImageEncoder, text: str) -> None:
    """Raises `CondgenError` if the encoder cannot read a text."""
    if not isinstance(encoder, TextImageEncoder):
        raise CondgenError(f"{encoder.name} encodes images and no text, such as {short(text)}. Give it an image.")
    check_prompt(text)
