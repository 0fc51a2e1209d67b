"""Batches of one or two augmented views of every image, for self-supervised learning."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from condgen.contracts import Batch
from condgen.data.batches.augment import DICE, Augment, augment
from condgen.data.batches.base import Batches, Shuffled, to_float


class ViewBatches(Batches):
    """Augmented views of images.

    A batch holds `view_1` and, with two views, `view_2`, (B, C, S, S) in [-1, 1]; `index` int64 (B,), the indices of
    the images; and, with `noise`, `noise` int64 (B, M), indices of random images.

    Args:
        images: uint8 (N, C, S, S).
        augmentation: the augmentation of every view.
        views: 1 or 2.
        noise: M, number of noise samples (negatives) to draw for every image.
        batch, seed, options: see `Batches`; only the augmentation shifts and flips.
    """

    def __init__(
        self, images: np.ndarray, batch: int, seed: int, augmentation: Augment, views: int = 2, noise: int = 0,
        **options: Any,
    ):  # fmt: skip
        super().__init__(Shuffled(len(images), seed), batch, seed, **options)
        self.images, self.augmentation, self.views, self.noise = images, augmentation, views, noise

    def draw(self, step: int, rng: np.random.Generator) -> Batch:
        rows = self.rows(step)
        dice = torch.from_numpy(rng.random((self.views, self.batch, DICE), np.float32)[:, self.part])
        images = to_float(self.images[rows])
        out = {f"view_{k}": augment(images, own, self.augmentation) for k, own in enumerate(dice, 1)}
        out["index"] = torch.from_numpy(rows)
        if self.noise:
            out["noise"] = torch.from_numpy(rng.integers(0, len(self.images), (self.batch, self.noise))[self.part])
        return out
