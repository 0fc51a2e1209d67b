"""Normalisation of embeddings to unit variance, and its inverse."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class EmbeddingSpec:
    """The embeddings that are normalised.

    Args:
        dim: their width D.
        space: fingerprint of the encoder that made them.
    """

    dim: int
    space: str


class EmbeddingNormalizer(nn.Module):
    """image_embed -> z with mean 0 and standard deviation 1 in every dimension, and back to unit vectors."""

    def __init__(self, spec: EmbeddingSpec):
        super().__init__()
        self.spec = spec
        self.register_buffer("mean", torch.zeros(spec.dim))
        self.register_buffer("sd", torch.ones(spec.dim))

    @classmethod
    def fit(cls, image_embed: Tensor, space: str) -> EmbeddingNormalizer:
        """A normalizer with the statistics of training embeddings (N, D)."""
        return cls.of(image_embed.mean(0), image_embed.std(0).clamp(min=1e-4), space)

    @classmethod
    def of(cls, mean: Tensor, sd: Tensor, space: str) -> EmbeddingNormalizer:
        """A normalizer with a given mean and standard deviation, (D,) each."""
        normalizer = cls(EmbeddingSpec(len(mean), space))
        normalizer.mean.copy_(mean)
        normalizer.sd.copy_(sd)
        return normalizer

    def forward(self, image_embed: Tensor) -> Tensor:
        """(B, D) -> z (B, D)."""
        return (image_embed - self.mean) / self.sd

    def back(self, z: Tensor) -> Tensor:
        """z -> unit vectors (B, D)."""
        return F.normalize(z * self.sd + self.mean, dim=-1)
