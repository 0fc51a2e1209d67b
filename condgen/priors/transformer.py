"""The shared parts of all priors: options, transformer, and the base class of their training."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.contracts import Batch, SamplingOption, limited
from condgen.nn.conditioning import MAX_DEPTH, PAD, without_padding
from condgen.nn.layers import Block
from condgen.nn.specs import TextSpec

GUIDANCE = SamplingOption("prior_guidance", 1.0, 0, 10, "float", "guidance of the prior; 1 is off")
BEST_OF = SamplingOption("best_of", 2, 1, 64, "int", "embeddings to draw; the one most similar to the text is kept")
DROP = 0.1
"""Share of the captions that are dropped in training, for guidance."""


@dataclass(frozen=True)
class EmbeddingSpec:
    """Description of the embeddings that are normalised.

    Args:
        dim: width D of the embeddings.
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
        """A normalizer with the statistics of training embeddings (N, D); of a single one the deviation is 1."""
        sd = image_embed.std(0) if len(image_embed) > 1 else torch.ones_like(image_embed[0])
        return cls.of(image_embed.mean(0), sd.clamp(min=1e-4), space)

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

    def unscaled(self, z: Tensor) -> Tensor:
        """Inverse of `forward`: z (B, D) -> embeddings (B, D), whose length is 1 only where z is that of an image."""
        return z * self.sd + self.mean

    def back(self, z: Tensor) -> Tensor:
        """z (B, D) -> unit vectors (B, D)."""
        return F.normalize(self.unscaled(z), dim=-1)


@dataclass(frozen=True)
class PriorConfig:
    """Options of a prior.

    Args:
        width: width of the transformer.
        depth: blocks of the transformer.
        heads: heads of every attention.
    """

    width: int = limited(128, low=1)
    depth: int = limited(3, low=0, high=MAX_DEPTH)
    heads: int = limited(4, low=1)


class PriorNetwork(nn.Module):
    """[words, text_embed, further vectors, query] -> the output at the query, (B, D).

    Args:
        config, spec: config and spec of the prior.
        extra: number of further input vectors of width D.
        after: number of tokens that a subclass adds after the query.
        out: width of the output; 0 is D.
    """

    def __init__(self, config: PriorConfig, spec: TextSpec, extra: int = 0, after: int = 0, out: int = 0):
        super().__init__()
        width = config.width
        self.scale, self.context, self.trims = math.sqrt(spec.embed_dim), spec.context, spec.trims
        self.token = nn.Embedding(spec.vocab, width)
        self.place = nn.Parameter(torch.randn(1, spec.context + 2 + extra + after, width) * 0.5)
        self.text = nn.Linear(spec.embed_dim, width)
        self.extra = nn.ModuleList(nn.Linear(spec.embed_dim, width) for _ in range(extra))
        self.query = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, out or spec.embed_dim)
        nn.init.normal_(self.token.weight, std=0.5)

    def forward(self, text_embed: Tensor, tokens: Tensor, has_text: Tensor | None = None, *extra: Tensor) -> Tensor:
        """Predicts a vector of width D.

        Args:
            text_embed: (B, D), unit length.
            tokens: (B, L).
            has_text: bool (B,), False where the caption is dropped.
            extra: further vectors, (B, D) each.
        """
        h, seen = self.prefix(text_embed, tokens, has_text, *extra)
        for block in self.blocks:
            h = block(h, seen)
        return self.out(self.norm(h[:, -1]))

    def prefix(
        self, text_embed: Tensor, tokens: Tensor, has_text: Tensor | None = None, *extra: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The embedded tokens up to the query, (B, N, width), and bool (B, N), False for those that are not read.

        Args: as of `forward`.
        """
        vectors = [layer(vector) for layer, vector in zip(self.extra, extra)]
        rows = len(text_embed)
        if self.trims:
            tokens = without_padding(tokens)
        seq = [self.token(tokens), *(v[:, None] for v in (self.text(text_embed * self.scale), *vectors))]
        h = torch.cat([*seq, self.query.expand(rows, -1, -1)], 1)
        place = self.place[:, self.context : self.context + h.shape[1] - tokens.shape[1]]
        h = h + torch.cat([self.place[:, : tokens.shape[1]], place], 1)
        known = torch.ones(rows, tokens.shape[1] + 1, dtype=torch.bool, device=h.device)
        known[:, :-1] = tokens != PAD
        if has_text is not None:
            known = known & has_text[:, None]
        rest = torch.ones(rows, h.shape[1] - known.shape[1], dtype=torch.bool, device=h.device)
        return h, torch.cat([known, rest], 1)


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

    def condition(self, batch: Batch) -> Batch:
        """The captions of a batch, a tenth of which is dropped, so that the prior learns guidance."""
        has_text = torch.rand(len(batch["text_embed"]), device=batch["text_embed"].device) >= DROP
        return {"text_embed": batch["text_embed"], "tokens": batch["tokens"], "has_text": has_text}


def most_similar(z: Tensor, text_embed: Tensor, normalizer: EmbeddingNormalizer) -> Tensor:
    """Of n embeddings for each of B texts, z (B, n, D), those that are most similar to their text (B, D): (B, D)."""
    similarity = (normalizer.back(z) * text_embed[:, None]).sum(-1)
    return z[torch.arange(len(z), device=z.device), similarity.argmax(1)]
