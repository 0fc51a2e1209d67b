"""What is painted, as a part that is plugged in: an image embedding and the words of the caption.

The part owns what "nothing said" looks like and drops each of the two per sample in training, so that a decoder can
later be guided, and works with either alone. A condition is a batch of

    z          (B, D)   image embedding after the normaliser
    has_z      (B,)     bool
    tokens     (B, L)   token ids, 0 is padding
    has_words  (B,)     bool
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from condgen.contracts import Batch
from condgen.nn.layers import Block

PAD = 0


@dataclass(frozen=True)
class ConditionDrop:
    """Shares of the training samples that lose part of their condition.

    Args:
        both: nothing is said.
        z: only the words.
        words: only the image embedding.
        noise: sd of the noise on z in training, for z has unit variance and a prior errs.
    """

    both: float = 0.1
    z: float = 0.1
    words: float = 0.2
    noise: float = 0.15

    def __call__(self, cond: Batch) -> Batch:
        """Draws what is dropped, per sample; gives a new batch."""
        z = cond["z"]
        u = torch.rand(len(z), device=z.device)
        drop_both, drop_z = u < self.both, (self.both <= u) & (u < self.both + self.z)
        drop_words = (self.both + self.z <= u) & (u < self.both + self.z + self.words)
        return cond | {
            "z": z + self.noise * torch.randn_like(z),
            "has_z": cond["has_z"] & ~(drop_both | drop_z),
            "has_words": cond["has_words"] & ~(drop_both | drop_words),
        }


def condition(z: Tensor, tokens: Tensor, use_z: bool = True, use_words: bool = True) -> Batch:
    """The condition of B pictures; either half can be left out."""
    on = torch.ones(len(z), dtype=torch.bool, device=z.device)
    return {"z": z, "has_z": on & use_z, "tokens": tokens, "has_words": on & use_words}


def say_nothing(cond: Batch) -> Batch:
    """The same batch with nothing said."""
    return cond | {name: torch.zeros_like(cond[name]) for name in ("has_z", "has_words")}


class WordEncoder(nn.Module):
    """(B, L) token ids -> (B, L, width): a token, its place, and what stands around it."""

    def __init__(self, vocab: int, context: int, width: int, heads: int, depth: int):
        super().__init__()
        self.token = nn.Embedding(vocab, width)
        self.place = nn.Parameter(torch.randn(1, context, width) * 0.5)  # as large as the tokens
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.token.weight, std=0.5)

    def forward(self, tokens: Tensor, seen: Tensor) -> Tensor:
        h = self.token(tokens) + self.place
        for block in self.blocks:
            h = block(h, seen)
        return self.norm(h) * seen[..., None]


class ImageAndWords(nn.Module):
    """Encodes a condition: z becomes one vector and a few tokens, the words one token each.

    What comes out is a batch again: `vector` (B, width), `tokens` (B, K, width), `seen` bool (B, K).

    References:
        Hierarchical Text-Conditional Image Generation with CLIP Latents (Ramesh et al., 2022), section 2.1
    """

    def __init__(self, embed_dim: int, vocab: int, context: int, width: int, heads: int, depth: int, z_tokens: int = 4):
        super().__init__()
        self.z_tokens = z_tokens
        self.null_z = nn.Parameter(torch.zeros(embed_dim))
        self.to_vector = nn.Sequential(nn.Linear(embed_dim, width), nn.SiLU(), nn.Linear(width, width))
        self.to_tokens = nn.Linear(embed_dim, z_tokens * width)
        self.words = WordEncoder(vocab, context, width, heads, depth)

    def forward(self, cond: Batch) -> Batch:
        z = torch.where(cond["has_z"][:, None], cond["z"], self.null_z)
        z_tokens = self.to_tokens(z).unflatten(1, (self.z_tokens, -1))
        seen = (cond["tokens"] != PAD) & cond["has_words"][:, None]
        # a row without words still needs something to look at inside the word encoder
        words = self.words(cond["tokens"], seen | ~cond["has_words"][:, None]) * seen[..., None]
        always = torch.ones(z_tokens.shape[:2], dtype=torch.bool, device=z.device)
        return {
            "vector": self.to_vector(z),
            "tokens": torch.cat([z_tokens, words], 1),
            "seen": torch.cat([always, seen], 1),
        }
