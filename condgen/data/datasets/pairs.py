"""Images of two kinds, to translate between: pair by pair, or two heaps of which nobody knows who belongs to whom."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from condgen.contracts import Batch
from condgen.data.batches.captions import shifted, to_float
from condgen.data.batches.order import Shuffled, held_out
from condgen.distributed import split

DICE = 4
"""Numbers in [0, 1) that a batch holds for every image, for what the training draws about it."""


@dataclass
class Unpaired:
    """Two heaps of square images of one size.

    Args:
        a, b: uint8 (N, C, S, S) and (M, K, S, S); C and K are 1 or 3.
        sides: what a and what b show, in a word each.
        name: what this data is called in messages and model cards.
    """

    a: np.ndarray
    b: np.ndarray
    sides: tuple[str, str] = ("a", "b")
    name: str = "images"

    def __post_init__(self) -> None:
        for images in (self.a, self.b):
            _, channels, height, width = images.shape
            if images.dtype != np.uint8 or channels not in (1, 3) or not height == width == self.size:
                raise ValueError(f"images must be uint8 (N, 1 or 3, S, S), got {images.dtype} {images.shape}")

    def __len__(self) -> int:
        return len(self.a) + len(self.b)

    @property
    def size(self) -> int:
        """Edge S of all images."""
        return self.a.shape[-1]

    @property
    def image_channels(self) -> tuple[int, int]:
        """Channels of a and of b."""
        return self.a.shape[1], self.b.shape[1]

    def parted(self, share: int, most: int, seed: int) -> tuple[Unpaired, Unpaired] | None:
        """One of `share` images is held out, at most so many of a side: (what is kept, what is held out); None where
        there are too few of them."""
        rows = [held_out(len(side), share, most, seed) for side in (self.a, self.b)]
        if None in rows:
            return None
        return tuple(replace(self, a=self.a[of_a], b=self.b[of_b]) for of_a, of_b in zip(*rows))


@dataclass
class Pairs(Unpaired):
    """Image i of a and image i of b show the same."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.a) != len(self.b):
            raise ValueError(f"there must be as many images of both sides, got {len(self.a)} and {len(self.b)}")

    def __len__(self) -> int:
        return len(self.a)


class PairBatches:
    """Draws batch k: every image of a side once an epoch in a seeded order. Batch k of a seed is always the same.

    A batch holds `a` (B, C, S, S) and `b` (B, K, S, S) in [-1, 1], and `dice` (B, 4), numbers evenly from 0 to 1. Of
    pairs, both are shifted and mirrored alike; of images without partners, the sides come in orders of their own.

    Args:
        data: the images.
        batch: images of each side in a batch, over all processes.
        seed: fixes the orders and what follows.
        shift: largest random shift in pixels, the border repeated.
        flip: mirror every second image, left to right.
        rank, world: this process and how many there are; each takes its own part of every batch.

    Raises:
        CondgenError: the batch cannot be split evenly.
    """

    def __init__(
        self,
        data: Unpaired,
        batch: int,
        seed: int,
        shift: int = 0,
        flip: bool = False,
        rank: int = 0,
        world: int = 1,
    ):
        self.data, self.batch, self.seed, self.shift, self.flip = data, batch, seed, shift, flip
        self.own = split(batch, rank, world)
        self.paired = isinstance(data, Pairs)
        # of two orders of one seed, equally long, the second would be the first
        self.orders = [Shuffled(len(side), seed if k == 0 or self.paired else seed + 2**32)
                       for k, side in enumerate((data.a, data.b))]  # fmt: skip

    def __call__(self, step: int) -> Batch:
        """Batch `step`, counted from 0."""
        rng = np.random.default_rng((self.seed, step, 0))  # draws for the whole batch, however it is split
        dice = torch.from_numpy(rng.random((self.batch, DICE), np.float32)[self.own])
        drawn = [self._moves(rng)]
        drawn.append(drawn[0] if self.paired else self._moves(rng))
        out: Batch = {"dice": dice}
        for name, order, (corners, mirrored) in zip("ab", self.orders, drawn):
            rows = order.rows(step * self.batch, self.batch)[self.own]
            images = getattr(self.data, name)[rows]
            if self.shift:
                images = shifted(images, self.shift, corners)
            if self.flip:
                images = np.where(mirrored[:, None, None, None], images[..., ::-1], images)
            out[name] = to_float(images)
        return out

    def _moves(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Where to cut images out anew, and which to mirror."""
        corners = rng.integers(0, 2 * self.shift + 1, (self.batch, 2))[self.own]
        return corners, rng.random(self.batch)[self.own] < 0.5
