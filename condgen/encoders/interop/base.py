"""Base of the encoders of other libraries, which keep the `Encoder` contract.

Images are in [-1, 1] and of any size; resizing and normalisation happen inside. Token ids are those of the library plus
one, so that 0 is padding as everywhere in condgen; inside they are the library's ids again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.contracts import CondgenError, is_out_of_memory
from condgen.encoders.tokenizer import Reading
from condgen.nn.conditioning import PAD

CHUNK = 64
"""Images in one forward pass where no gradient is needed."""


@dataclass(frozen=True)
class ForeignConfig:
    """Inputs and outputs of a network, found by running it.

    Args:
        size: edge of the images that its image tower reads.
        embed_dim: width of the shared space, D.
        vocab: token ids, padding among them.
        context: tokens of a text, L.
        pad: the library's padding id.
        mean, std: mean and standard deviation of the colour channels, in [0, 1].
        edge: images are resized to this edge before the centre crop of `size`.
        resize: interpolation of the resizing.
        architecture: the library's description of the network, as JSON.
    """

    size: int
    embed_dim: int
    vocab: int
    context: int
    pad: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    edge: int
    resize: Literal["bicubic", "bilinear"]
    architecture: str


class Foreign(nn.Module):
    """A network of another library. Keeps the `Encoder` contract; images may have any size.

    Args:
        model: the library's module.
        config: inputs and outputs of the module.
    """

    resizes = True
    """Images of other sizes than `size` are resized."""

    def __init__(self, model: nn.Module, config: ForeignConfig):
        super().__init__()
        self.model, self.config = model, config
        self.size, self.embed_dim, self.vocab, self.context = (
            config.size,
            config.embed_dim,
            config.vocab,
            config.context,
        )
        self.register_buffer("mean", torch.tensor(config.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(3, 1, 1), persistent=False)

    @property
    def log_scale(self) -> nn.Parameter:
        return self.model.logit_scale

    @property
    def bias(self) -> nn.Parameter | None:
        return getattr(self.model, "logit_bias", None)

    def embed_image(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) in [-1, 1] -> unit vectors (B, D)."""
        return F.normalize(in_chunks(lambda some: self.project_image(self.prepare(some)), images), dim=-1)

    def embed_text(self, tokens: Tensor) -> Tensor:
        """int64 (B, L) -> unit vectors (B, D)."""
        return F.normalize(self.project_text(restored(tokens, self.config.pad)), dim=-1)

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) in [-1, 1] -> (B, F), the features of the image tower before the projection."""
        return in_chunks(lambda some: self.image_features(self.prepare(some)), images)

    def prepare(self, images: Tensor) -> Tensor:
        """Converts images in [-1, 1] to the input of the library's tower."""
        c = self.config
        if images.shape[-1] != c.edge:
            for edges in ((images.shape[-2], c.edge), (c.edge, c.edge)):  # as PIL: one direction, then the other
                images = F.interpolate(images, edges, mode=c.resize, antialias=True).clamp(-1, 1)
        if c.edge > c.size:
            start = round((c.edge - c.size) / 2)
            images = images[..., start : start + c.size, start : start + c.size]
        return ((images + 1) / 2 - self.mean) / self.std

    def project_image(self, pixels: Tensor) -> Tensor:
        """Normalised images (B, 3, size, size) -> (B, D), of any length."""
        raise NotImplementedError

    def project_text(self, ids: Tensor) -> Tensor:
        """The library's ids (B, L) -> (B, D), of any length."""
        raise NotImplementedError

    def image_features(self, pixels: Tensor) -> Tensor:
        """Normalised images -> (B, F)."""
        raise NotImplementedError


def in_chunks(compute: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """All rows at once where gradients are needed, else in chunks, to save memory."""
    if torch.is_grad_enabled() or len(rows) <= CHUNK:
        return compute(rows)
    return torch.cat([compute(part) for part in rows.split(CHUNK)])


def restored(tokens: Tensor, pad: int) -> Tensor:
    """Converts token ids of condgen to those of the library."""
    return torch.where(tokens == PAD, pad, tokens - 1)


class ForeignTokenizer:
    """The tokenizer of another library: texts to its ids plus one, and 0 for padding.

    Args:
        backend: object with `save_pretrained` that is saved with the model; None where the library brings its own.
        ids_of: texts -> int64 (B, L), padded and truncated.
        count: text -> number of its ids without truncation.
        context: L.
        vocab: number of ids, padding included.
        pad, end: the library's ids of padding and of the end token.
        marks: texts of special tokens, which are removed from prompts.
    """

    words: frozenset[str] = frozenset()
    """The words of the training captions are unknown."""

    def __init__(
        self, backend, ids_of: Callable[[list[str]], Tensor], count: Callable[[str], int], context: int, vocab: int,
        pad: int, end: int | None, marks: list[str],
    ):  # fmt: skip
        self.backend, self.context, self.vocab, self.pad = backend, context, vocab, pad
        self._ids_of, self._count, self._end = ids_of, count, end
        self._lock = Lock()  # the tokenizers of the libraries cannot pad in two threads at a time
        self._marks = re.compile("|".join(map(re.escape, sorted(marks, key=len, reverse=True))) or r"\b\B", re.I)

    def encode(self, texts: list[str]) -> np.ndarray:
        """int64 (B, L): the library's ids plus one, 0 for padding."""
        if not texts:
            return np.zeros((0, self.context), np.int64)
        with self._lock:
            ids = np.asarray(self._ids_of([self._plain(text) for text in texts]), np.int64)
        padding = np.logical_and.accumulate((ids == self.pad)[:, ::-1], axis=1)[:, ::-1].copy()
        if self.pad == self._end:  # the first of them is the end token
            padding[np.arange(len(ids)), padding.argmax(1)] = False
        return np.where(padding, PAD, ids + 1)

    def cut(self, text: str) -> str | None:
        """The part of a text that fits, or None where all of it does."""
        text = self._plain(text)
        if self._count(text) <= self.context:
            return None
        low, high = 0, len(text)  # numbers of characters that fit, and that do not
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._count(text[:middle]) <= self.context else (low, middle)
        return text[:low].rstrip()

    def unseen(self, text: str) -> list[str]:
        """Always empty: the training captions are unknown."""
        return []

    def read(self, text: str) -> Reading:
        """The text as it is, and the part that fits: the library's tokenizer knows every word."""
        return Reading(text, cut=self.cut(text))

    def count_cut(self, texts: Iterable[str]) -> int:
        """Number of texts that are longer than the context."""
        return sum(self._count(self._plain(text)) > self.context for text in texts)

    def save(self, folder: Path) -> None:
        """Writes the library's own files."""
        folder.mkdir(parents=True, exist_ok=True)
        if self.backend is not None:
            with hushed():
                self.backend.save_pretrained(str(folder))

    def _plain(self, text: str) -> str:
        return self._marks.sub(" ", text.encode("utf-8", "replace").decode())


def backend_tokenizer(folder: Path | str, context: int, vocab: int) -> ForeignTokenizer:
    """The tokenizer of a local folder, in the layout of transformers.

    Args:
        context: L.
        vocab: number of ids that the network reads.

    Raises:
        CondgenError: there is none, it is damaged, or it has ids that the network does not read.
    """
    with library(f"The tokenizer in {folder}"):
        from transformers import AutoTokenizer

        backend = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    if backend.pad_token_id is None:
        raise CondgenError(f"The tokenizer in {folder} has no token to pad with. Name one in tokenizer_config.json.")
    if (highest := max(backend.get_vocab().values())) >= vocab:
        raise CondgenError(f"The tokenizer in {folder} has ids up to {highest}, but its network reads {vocab} ids.")

    def ids_of(texts: list[str]) -> Tensor:
        options = {"padding": "max_length", "truncation": True, "max_length": context, "return_tensors": "pt"}
        return backend(texts, **options).input_ids

    def count(text: str) -> int:
        return len(backend(text, verbose=False).input_ids)

    marks = [str(mark) for mark in backend.all_special_tokens]
    return ForeignTokenizer(
        backend, ids_of, count, context, vocab + 1, backend.pad_token_id, backend.eos_token_id, marks
    )


def as_json(architecture: dict) -> str:
    """A description as JSON with sorted keys."""
    return json.dumps(architecture, sort_keys=True)


def square(size: object, what: str) -> int:
    """An edge in pixels, from a number or a pair; `CondgenError` where the images are not square."""
    edges = {size} if isinstance(size, int) else set(size)
    if len(edges) != 1:
        raise CondgenError(f"{what} reads images of {' x '.join(map(str, size))} pixels; condgen makes square ones.")
    return int(edges.pop())


def run_once(what: str, net: Foreign, tokenizer: ForeignTokenizer) -> int:
    """Runs one image and one text through a network, and returns the width D of its space.

    Raises:
        CondgenError: it fails, or its towers have different output shapes.
    """
    with library(what), torch.inference_mode():
        tokens = torch.from_numpy(tokenizer.encode(["an image"]))
        size = net.size
        image, text = net.eval().embed_image(torch.zeros(1, 3, size, size)), net.embed_text(tokens)
    for kind, embed in (("an image", image), ("a text", text)):
        if not embed.isfinite().all():
            raise CondgenError(f"{what} gives NaN or infinite numbers as the embedding of {kind}. Export it again.")
    if image.shape != text.shape or image.ndim != 2:
        raise CondgenError(f"{what} is no encoder: an image gives {tuple(image.shape)}, a text {tuple(text.shape)}.")
    return image.shape[1]


@contextmanager
def library(what: str) -> Iterator[None]:
    """Turns exceptions of other libraries into a `CondgenError`; hides their progress bars and reports."""
    try:
        with hushed():
            yield
    except (CondgenError, MemoryError):
        raise
    except ImportError as error:
        message = f"{what} needs a library that is missing or broken ({_line(error)}). See condgen doctor."
        raise CondgenError(message) from None
    except Exception as error:  # the libraries raise many types
        if is_out_of_memory(error):
            raise
        raise CondgenError(f"{what} cannot be used ({_line(error)}).") from None


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0].rstrip(".")[:300]


@contextmanager
def hushed() -> Iterator[None]:
    """Silences the progress bars and reports of transformers, and the log messages of open_clip."""
    import logging

    from transformers.utils import logging as theirs

    root, before, bars = logging.getLogger(), theirs.get_verbosity(), theirs.is_progress_bar_enabled()
    level = root.level
    theirs.set_verbosity_error()
    theirs.disable_progress_bar()
    root.setLevel(logging.ERROR)  # open_clip logs through the root logger
    try:
        yield
    finally:
        root.setLevel(level)
        theirs.set_verbosity(before)
        if bars:
            theirs.enable_progress_bar()
