"""A small CLIP: pictures and captions to one space of unit vectors.

Images go through convolutions to a 4 x 4 grid, a few attention blocks, and one linear map of the whole grid; captions
through attention blocks and a perceptron over the tokens *in their places*. Averaging the tokens instead loses which
colour belongs to which shape; `pool` keeps both for comparison.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.encoders.tokenizer import END, PAD
from condgen.nn.layers import Block, ResBlock

MAX_SCALE = 100.0


@dataclass(frozen=True)
class CLIPConfig:
    """Shape of a CLIP.

    Args:
        size: edge of the pictures, a power of two from 16.
        vocab: token ids of the tokenizer.
        context: tokens of a caption, L.
        embed_dim: width of the shared space, D.
        image_width: channels at full resolution; doubles at every halving up to four times as many.
        text_width: width of the text blocks.
        depth: attention blocks in each tower.
        heads: heads of every attention.
        pool: how the text tower sums up: `flatten` keeps every token in its place, `mean` averages, `end` takes the
            end mark.
    """

    size: int = 32
    vocab: int = 64
    context: int = 12
    embed_dim: int = 128
    image_width: int = 32
    text_width: int = 128
    depth: int = 2
    heads: int = 4
    pool: Literal["flatten", "mean", "end"] = "flatten"


class ImageTower(nn.Module):
    """(B, 3, S, S) in [-1, 1] -> (B, D)."""

    def __init__(self, config: CLIPConfig):
        super().__init__()
        width = config.image_width
        self.stem = nn.Conv2d(12, width, 3, padding=1)
        stages, channels = [], width
        for level in range(int(math.log2(config.size // 2)) - 2):
            wider = width * min(2 ** (level + 1), 4)
            stages += [ResBlock(channels, channels), nn.Conv2d(channels, wider, 3, stride=2, padding=1)]
            channels = wider
        self.stages = nn.Sequential(*stages)
        self.place = nn.Parameter(torch.randn(1, 16, channels) * 0.5)
        self.blocks = nn.ModuleList(Block(channels, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(channels)
        self.out = nn.Sequential(
            nn.Linear(16 * channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, config.embed_dim)
        )

    def forward(self, images: Tensor) -> Tensor:
        h = F.pixel_unshuffle(images, 2).contiguous(memory_format=torch.channels_last)
        h = self.stages(self.stem(h)).flatten(2).transpose(1, 2) + self.place  # (B, 16, channels)
        for block in self.blocks:
            h = block(h)
        return self.out(self.norm(h).flatten(1))


class TextTower(nn.Module):
    """(B, L) token ids -> (B, D)."""

    def __init__(self, config: CLIPConfig):
        super().__init__()
        width = config.text_width
        self.pool = config.pool
        self.token = nn.Embedding(config.vocab, width)
        self.place = nn.Parameter(torch.randn(1, config.context, width) * 0.5)
        self.blocks = nn.ModuleList(Block(width, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        pooled = width * (config.context if config.pool == "flatten" else 1)
        self.out = nn.Sequential(nn.Linear(pooled, 2 * width), nn.GELU(), nn.Linear(2 * width, config.embed_dim))
        nn.init.normal_(self.token.weight, std=0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        seen = tokens != PAD
        h = self.token(tokens) + self.place
        for block in self.blocks:
            h = block(h, seen)
        h = self.norm(h) * seen[..., None]
        if self.pool == "flatten":
            return self.out(h.flatten(1))
        if self.pool == "mean":
            return self.out(h.sum(1) / seen.sum(1, keepdim=True).clamp(min=1))
        return self.out((h * (tokens == END)[..., None]).sum(1))


class CLIP(nn.Module):
    """Two towers and one temperature.

    References:
        Learning Transferable Visual Models From Natural Language Supervision (Radford et al., 2021)
    """

    def __init__(self, config: CLIPConfig):
        super().__init__()
        self.config = config
        self.image = ImageTower(config)
        self.text = TextTower(config)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    @property
    def scale(self) -> Tensor:
        """Inverse temperature; training keeps the parameter where this is at most MAX_SCALE."""
        return self.log_scale.exp()

    def embed_image(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) in [-1, 1] -> unit vectors (B, D)."""
        return F.normalize(self.image(images), dim=-1)

    def embed_text(self, tokens: Tensor) -> Tensor:
        """int64 (B, L) -> unit vectors (B, D)."""
        return F.normalize(self.text(tokens), dim=-1)
