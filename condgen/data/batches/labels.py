"""Batches of labelled images in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from condgen.contracts import Batch
from condgen.data.batches.base import Batches, Shuffled
from condgen.data.datasets.labels import LabelledImages


class LabelBatches(Batches):
    """Images with their targets.

    A batch holds `image` (B, C, S, S) in [-1, 1], `targets` float (B, A), 0 where unknown, and `has_targets` bool
    (B, A).

    Args:
        data: the images.
        batch, seed, options: see `Batches`.
    """

    def __init__(self, data: LabelledImages, batch: int, seed: int, **options: Any):
        super().__init__(Shuffled(len(data), seed), batch, seed, **options)
        self.data = data

    def draw(self, step: int, rng: np.random.Generator) -> Batch:
        rows = self.rows(step)
        return {"image": self.moved(self.data.images[rows], self.moves(rng))} | condition_of(self.data.targets[rows])


def condition_of(targets: np.ndarray) -> Batch:
    """Converts targets, NaN where unknown, to a condition: `targets`, 0 where unknown, and `has_targets`."""
    known = ~np.isnan(targets)
    return {
        "targets": torch.from_numpy(np.where(known, targets, 0).astype(np.float32)),
        "has_targets": torch.from_numpy(known),
    }
