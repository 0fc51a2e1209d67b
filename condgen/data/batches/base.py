"""Batches: batch k of a seed is always the same, on any number of processes, so that a run can continue anywhere."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from condgen.contracts import Batch
from condgen.data.batches.order import BlockOrder, Shuffled
from condgen.distributed import split

Moves = tuple[np.ndarray | None, np.ndarray | None]
"""Of every image: where it is cut out again, int (B, 2), and whether it is mirrored, bool (B,)."""


def to_float(images: np.ndarray | Tensor) -> Tensor:
    """uint8 (..., H, W) -> float in [-1, 1]."""
    return torch.as_tensor(images).float() / 127.5 - 1


def to_uint8(images: Tensor) -> np.ndarray:
    """float in [-1, 1] -> uint8, rounded, on the CPU; values outside are clipped."""
    return ((images.detach().cpu().float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()


class Batches:
    """Draws every image once an epoch, in a seeded order. Subclasses implement `draw`.

    Each process takes its own part of every batch, and the parts together are the batch of a single process.

    Args:
        order: of the images.
        batch: images in a batch, over all processes.
        seed: fixes all random draws.
        shift: largest random shift in pixels, the border repeated: a mild augmentation for small collections.
        flip: mirror every second image, left to right.
        rank, world: this process, and how many there are.

    Raises:
        CondgenError: the batch cannot be split evenly.
    """

    def __init__(
        self, order: Shuffled | BlockOrder, batch: int, seed: int, *, shift: int = 0, flip: bool = False,
        rank: int = 0, world: int = 1,
    ):  # fmt: skip
        self.order, self.batch, self.seed, self.shift, self.flip = order, batch, seed, shift, flip
        self.part = split(batch, rank, world)

    def __call__(self, step: int) -> Batch:
        """Batch `step`, counted from 0."""
        return self.draw(step, np.random.default_rng((self.seed, step, 0)))

    def draw(self, step: int, rng: np.random.Generator) -> Batch:
        """This process' part of batch `step`; `rng` draws for the whole batch, however it is split."""
        raise NotImplementedError

    def rows(self, step: int) -> np.ndarray:
        """int64: the images of this process' part."""
        return self.order.rows(step * self.batch, self.batch)[self.part]

    def moves(self, rng: np.random.Generator) -> Moves:
        """Random shifts and mirror images, where they are asked for."""
        corners = rng.integers(0, 2 * self.shift + 1, (self.batch, 2))[self.part] if self.shift else None
        return corners, rng.random(self.batch)[self.part] < 0.5 if self.flip else None

    def moved(self, images: np.ndarray, moves: Moves) -> Tensor:
        """uint8 (B, C, S, S), shifted and mirrored -> float in [-1, 1]."""
        corners, mirrored = moves
        if corners is not None:
            size, pad = images.shape[-1], (self.shift, self.shift)
            padded = np.pad(images, ((0, 0), (0, 0), pad, pad), mode="edge")
            images = np.stack([p[:, y : y + size, x : x + size] for p, (y, x) in zip(padded, corners)])
        if mirrored is not None:
            images = np.where(mirrored[:, None, None, None], images[..., ::-1], images)
        return to_float(images)
