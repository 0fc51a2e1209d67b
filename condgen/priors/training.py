"""What the training of all priors shares."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from condgen.nn.embedding_normalizer import EmbeddingNormalizer


class PriorTraining(nn.Module):
    """Base of the Trainables around a prior; a subclass has the `loss`.

    A batch holds `text_embed` (B, D), `image_embed` (B, D), `tokens` (B, L) and `text_id` (B,).
    """

    turns = ("prior",)

    def __init__(self, prior: nn.Module, normalizer: EmbeddingNormalizer):
        super().__init__()
        self.prior, self.normalizer = prior, normalizer

    def parameters_of(self, turn: str) -> Iterable[nn.Parameter]:
        return self.prior.parameters()
