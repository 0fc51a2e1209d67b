"""The transformer that every prior uses: words, text embedding and whatever else is known, and one query to answer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from condgen.nn.conditioning import PAD
from condgen.nn.layers import Block


@dataclass(frozen=True)
class PriorConfig:
    """Shape of a prior.

    Args:
        embed_dim, vocab, context: of the encoder whose embeddings and tokens it reads.
        space: fingerprint of that encoder.
        width, depth, heads: of the transformer.
    """

    embed_dim: int = 128
    vocab: int = 64
    context: int = 12
    space: str = ""
    width: int = 128
    depth: int = 3
    heads: int = 4


class PriorNetwork(nn.Module):
    """[words, text_embed, further vectors, query] -> what the query has become, (B, D).

    Args:
        config: see PriorConfig.
        extra: how many further vectors of width D the network is given.
    """

    def __init__(self, config: PriorConfig, extra: int = 0):
        super().__init__()
        width = config.width
        self.scale = math.sqrt(config.embed_dim)
        self.token = nn.Embedding(config.vocab, width)
        self.place = nn.Parameter(torch.randn(1, config.context + 2 + extra, width) * 0.5)
        self.text = nn.Linear(config.embed_dim, width)
        self.extra = nn.ModuleList(nn.Linear(config.embed_dim, width) for _ in range(extra))
        self.query = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, config.embed_dim)
        nn.init.normal_(self.token.weight, std=0.5)

    def forward(self, text_embed: Tensor, tokens: Tensor, told: Tensor | None = None, *extra: Tensor) -> Tensor:
        """text_embed: (B, D), unit length. tokens: (B, L). told: bool (B,), False where the caption is withheld."""
        vectors = [layer(vector) for layer, vector in zip(self.extra, extra)]
        rows = len(text_embed)
        seq = [self.token(tokens), *(v[:, None] for v in (self.text(text_embed * self.scale), *vectors))]
        h = torch.cat([*seq, self.query.expand(rows, -1, -1)], 1) + self.place
        known = torch.ones(rows, tokens.shape[1] + 1, dtype=torch.bool, device=h.device)
        known[:, :-1] = tokens != PAD
        if told is not None:
            known = known & told[:, None]
        rest = torch.ones(rows, h.shape[1] - known.shape[1], dtype=torch.bool, device=h.device)
        seen = torch.cat([known, rest], 1)
        for block in self.blocks:
            h = block(h, seen)
        return self.out(self.norm(h[:, -1]))
