"""Batches of captioned images in memory."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from condgen.contracts import Batch
from condgen.data.batches.base import Batches, Shuffled
from condgen.data.datasets.captions import CaptionedImages


class CaptionBatches(Batches):
    """Images, each with one of its captions.

    A batch holds `image` (B, 3, S, S) in [-1, 1], `tokens` (B, L), `text_id` (B,), the index of the text, `true_ids`
    (B, C), the indices of all captions of the image, -1 for none; `label` (B,), if the data has any; and with negatives
    `negative_id` (B, M) and `negative_tokens` (B, M, L).

    Args:
        data: the images.
        tokens: int64 (T, L), the encoded texts of `data`.
        negatives: M, number of wrong captions to add for every image, if the data has any.
        batch, seed, options: see `Batches`. Do not flip where captions speak of left and right.
    """

    def __init__(
        self, data: CaptionedImages, tokens: np.ndarray, batch: int, seed: int, negatives: int = 0, **options: Any
    ):
        super().__init__(Shuffled(len(data), seed), batch, seed, **options)
        self.data, self.tokens = data, torch.as_tensor(tokens)
        self.negatives = negatives if data.negatives is not None else 0
        self.with_images = True
        self._cached: dict[str, tuple[Tensor, str]] = {}

    def cache(self, name: str, values: Tensor, per: Literal["image", "text", "mirrored"]) -> CaptionBatches:
        """Adds precomputed rows to every batch: one per image (N, ...) or text (T, ...), or for `mirrored` images two,
        (N, 2, ...), of the image and of its mirror image.
        """
        self._cached[name] = (values, per)
        return self

    def without_images(self) -> CaptionBatches:
        """Leaves the images out of the batches, for training on embeddings alone."""
        self.with_images = False
        return self

    def draw(self, step: int, rng: np.random.Generator) -> Batch:
        rows = self.rows(step)
        captions = self.data.captions[rows]
        chosen = (rng.random(self.batch)[self.part] * (captions >= 0).sum(1)).astype(int)
        text_id = captions[np.arange(len(rows)), chosen]
        out = {
            "tokens": self.tokens[text_id],
            "text_id": torch.from_numpy(text_id),
            "true_ids": torch.from_numpy(captions),
        }
        mirrored = np.zeros(len(rows), int)
        if self.with_images:
            moves = self.moves(rng)
            out["image"] = self.moved(self.data.images[rows], moves)
            mirrored = mirrored if moves[1] is None else moves[1].astype(int)
        if self.data.labels is not None:
            out["label"] = torch.from_numpy(self.data.labels[rows])
        if self.negatives:
            wrong = self.data.negatives[text_id]
            draws = rng.random((self.batch, wrong.shape[1]))[self.part]
            draws[wrong < 0] = 1.0  # places without a text come last
            wrong = np.take_along_axis(wrong, np.argsort(draws, axis=1), 1)[:, : self.negatives]
            out |= {"negative_id": torch.from_numpy(wrong), "negative_tokens": self.tokens[wrong.clip(0)]}
        for name, (values, per) in self._cached.items():
            out[name] = values[rows, mirrored] if per == "mirrored" else values[rows if per == "image" else text_id]
        return out
