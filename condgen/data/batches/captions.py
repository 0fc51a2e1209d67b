"""Batches from captioned images. Batch number k of a seed is always the same, so that a run can go on anywhere."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from condgen.contracts import Batch
from condgen.data.batches.order import Shuffled
from condgen.data.datasets.captions import CaptionedImages
from condgen.distributed import split


def to_float(images: np.ndarray | Tensor) -> Tensor:
    """uint8 (..., H, W) -> float in [-1, 1]."""
    return torch.as_tensor(images).float() / 127.5 - 1


def to_uint8(images: Tensor) -> np.ndarray:
    """float in [-1, 1] -> uint8, rounded, on the CPU; values outside are clipped."""
    return ((images.detach().cpu().float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()


def shifted(images: np.ndarray, most: int, corners: np.ndarray) -> np.ndarray:
    """(B, C, H, W) cut out anew at `corners` (B, 2), 0 to 2 `most`, of the images with their border repeated."""
    size = images.shape[-1]
    padded = np.pad(images, ((0, 0), (0, 0), (most, most), (most, most)), mode="edge")
    return np.stack([p[:, y : y + size, x : x + size] for p, (y, x) in zip(padded, corners)])


class CaptionBatches:
    """Draws batch k: every image once an epoch in a seeded order, with one of its captions.

    Args:
        data: the images.
        tokens: int64 (T, L), the encoded texts of `data`.
        batch: images in a batch, over all processes.
        seed: fixes order and choice of captions.
        negatives: wrong captions to add for every image, where the data has any.
        shift: largest random shift in pixels, the border repeated: a mild augmentation for small collections.
        flip: mirror every second image; not where captions speak of left and right.
        rank, world: this process and how many there are; each takes its own part of every batch, and the parts
            together are the batch that a single process would have drawn.

    Raises:
        CondgenError: the batch cannot be split evenly.
    """

    def __init__(
        self,
        data: CaptionedImages,
        tokens: np.ndarray,
        batch: int,
        seed: int,
        negatives: int = 0,
        shift: int = 0,
        rank: int = 0,
        world: int = 1,
        flip: bool = False,
    ):
        self.data, self.tokens, self.batch, self.seed, self.shift = data, torch.as_tensor(tokens), batch, seed, shift
        self.flip = flip
        self.negatives = negatives if data.negatives is not None else 0
        self.with_images = True
        self._cached: dict[str, tuple[Tensor, str]] = {}
        self.own = split(batch, rank, world)
        self.order = Shuffled(len(data), seed)

    def cache(self, name: str, values: Tensor, per: Literal["image", "text"]) -> CaptionBatches:
        """Adds precomputed rows to every batch, one for each image (N, ...) or text (T, ...); never changed here."""
        self._cached[name] = (values, per)
        return self

    def without_images(self) -> CaptionBatches:
        """Leaves the images out of the batches, for what trains on embeddings alone."""
        self.with_images = False
        return self

    def __call__(self, step: int) -> Batch:
        """Batch `step`, counted from 0."""
        rng = np.random.default_rng((self.seed, step, 0))  # draws for the whole batch, however it is split
        rows = self.order.rows(step * self.batch, self.batch)[self.own]
        captions = self.data.captions[rows]
        chosen = (rng.random(self.batch)[self.own] * (captions >= 0).sum(1)).astype(int)
        text_id = captions[np.arange(len(rows)), chosen]
        out = {
            "tokens": self.tokens[text_id],
            "text_id": torch.from_numpy(text_id),
            "true_ids": torch.from_numpy(captions),
        }
        if self.with_images:
            images = self.data.images[rows]
            if self.shift:
                images = shifted(images, self.shift, rng.integers(0, 2 * self.shift + 1, (self.batch, 2))[self.own])
            if self.flip:
                mirrored = rng.random(self.batch)[self.own] < 0.5
                images = np.where(mirrored[:, None, None, None], images[..., ::-1], images)
            out["image"] = to_float(images)
        if self.data.labels is not None:
            out["label"] = torch.from_numpy(self.data.labels[rows])
        if self.negatives and self.data.negatives is not None:
            wrong = self.data.negatives[text_id]
            lots = rng.random((self.batch, wrong.shape[1]))[self.own]
            lots[wrong < 0] = 1.0  # places without a text come last
            wrong = np.take_along_axis(wrong, np.argsort(lots, axis=1), 1)[:, : self.negatives]
            out |= {"negative_id": torch.from_numpy(wrong), "negative_tokens": self.tokens[wrong.clip(0)]}
        for name, (values, per) in self._cached.items():
            out[name] = values[rows if per == "image" else text_id]
        return out
