"""Batches of images in memory with precomputed embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from condgen.contracts import Batch
from condgen.data.batches.base import Batches, Shuffled


class EmbeddedBatches(Batches):
    """Embeddings, each with its image if there are any images.

    A batch holds the embeddings (B, D) and, with images, `image` (B, C, S, S) in [-1, 1].

    Args:
        name: name of the embeddings in the batch.
        embeds: (N, K, D); K is 1, or 2 with the embedding of the mirrored image second, and then half of a batch is
            mirrored.
        images: uint8 (N, C, S, S), or None to train on embeddings alone.
        batch, seed, options: see `Batches`.
    """

    def __init__(self, name: str, embeds: Tensor, images: np.ndarray | None, batch: int, seed: int, **options: Any):
        super().__init__(Shuffled(len(embeds), seed), batch, seed, flip=embeds.shape[1] == 2, **options)
        self.name, self.embeds, self.images = name, embeds, images

    def draw(self, step: int, rng: np.random.Generator) -> Batch:
        rows, moves = self.rows(step), self.moves(rng)
        mirrored = np.zeros(len(rows), int) if moves[1] is None else moves[1].astype(int)
        out = {self.name: self.embeds[torch.from_numpy(rows), torch.from_numpy(mirrored)]}
        return out if self.images is None else out | {"image": self.moved(self.images[rows], moves)}
