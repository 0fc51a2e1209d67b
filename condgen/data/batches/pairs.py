"""Batches of images of two sides, to translate between."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from condgen.contracts import Batch
from condgen.data.batches.base import Batches, Moves, Shuffled
from condgen.data.datasets.pairs import Pairs, Unpaired

DICE = 4
"""Numbers in [0, 1) that a batch holds for every image, for random choices of the training."""


class PairBatches(Batches):
    """Images of both sides. Pairs are shifted and flipped alike; unpaired sides are ordered independently.

    A batch holds `a` (B, C, S, S) and `b` (B, K, S, S) in [-1, 1], and `dice` (B, 4), uniform in [0, 1).

    Args:
        data: the images.
        batch, seed, options: see `Batches`; `batch` counts images of each side.
    """

    def __init__(self, data: Unpaired, batch: int, seed: int, **options: Any):
        super().__init__(Shuffled(len(data.a), seed), batch, seed, **options)
        self.data, self.paired = data, isinstance(data, Pairs)
        # with one seed, two orders of the same length would be equal
        self.orders = (self.order, Shuffled(len(data.b), seed if self.paired else seed + 2**32))

    def draw(self, step: int, rng: np.random.Generator) -> Batch:
        out: Batch = {"dice": torch.from_numpy(rng.random((self.batch, DICE), np.float32)[self.part])}
        moves = self.moves(rng)
        for name, order, own in zip("ab", self.orders, (moves, moves if self.paired else self.moves(rng))):
            rows = order.rows(step * self.batch, self.batch)[self.part]
            out[name] = self.moved(getattr(self.data, name)[rows], own)
        return out

    def moves(self, rng: np.random.Generator) -> Moves:
        """Like `Batches.moves`, but always draws both."""
        corners = rng.integers(0, 2 * self.shift + 1, (self.batch, 2))[self.part]
        mirrored = rng.random(self.batch)[self.part] < 0.5
        return corners if self.shift else None, mirrored if self.flip else None
