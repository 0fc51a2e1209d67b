"""Batches of two looks at every image. Batch number k of a seed is always the same, on any number of processes."""

from __future__ import annotations

import numpy as np
import torch

from condgen.contracts import Batch
from condgen.data.batches.augment import DICE, Augment, augment
from condgen.data.batches.captions import to_float
from condgen.data.batches.order import Shuffled
from condgen.distributed import split


class ViewBatches:
    """Draws batch k: every image once an epoch in a seeded order, seen once or twice.

    A batch holds `view_1` and, of two looks, `view_2`, (B, C, S, S) in [-1, 1]; `index` int64 (B,), the numbers of the
    images; and, where asked for, `noise` int64 (B, M), numbers drawn evenly from all.

    Args:
        images: uint8 (N, C, S, S).
        batch: images in a batch, over all processes.
        seed: fixes the order and what happens to the images.
        how: what may happen to an image.
        looks: 1 or 2.
        noise: M, wrong answers to draw for every image.
        rank, world: this process and how many there are; each takes its own part of every batch.

    Raises:
        CondgenError: the batch cannot be split evenly.
    """

    def __init__(
        self,
        images: np.ndarray,
        batch: int,
        seed: int,
        how: Augment,
        looks: int = 2,
        noise: int = 0,
        rank: int = 0,
        world: int = 1,
    ):
        self.images, self.batch, self.seed, self.how, self.looks, self.noise = images, batch, seed, how, looks, noise
        self.own = split(batch, rank, world)
        self.order = Shuffled(len(images), seed)

    def __call__(self, step: int) -> Batch:
        """Batch `step`, counted from 0."""
        rng = np.random.default_rng((self.seed, step, 0))  # draws for the whole batch, however it is split
        rows = self.order.rows(step * self.batch, self.batch)[self.own]
        dice = torch.from_numpy(rng.random((self.looks, self.batch, DICE), np.float32)[:, self.own])
        images = to_float(self.images[rows])
        out = {f"view_{k}": augment(images, own, self.how) for k, own in enumerate(dice, 1)}
        out["index"] = torch.from_numpy(rows)
        if self.noise:
            out["noise"] = torch.from_numpy(rng.integers(0, len(self.images), (self.batch, self.noise))[self.own])
        return out
