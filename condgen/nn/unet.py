"""A small U-Net whose lowest level is a transformer that attends to the condition."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.contracts import Batch
from condgen.nn.conditioning import LAYOUT, Layout, bottom_edge
from condgen.nn.layers import Block, ResBlock, timestep_embedding


@dataclass(frozen=True)
class UNetConfig:
    """Shape of the network.

    Args:
        size: edge of the images; the lowest level has edge size / 2 ** len(channels).
        channels: of every level; the first works at half resolution.
        blocks: residual blocks a level on the way down (the way up has one fewer, at least one).
        depth: pairs of residual and attention block at the lowest level.
        heads: of every attention.
        image_channels: channels of the images.
    """

    size: int = 32
    channels: tuple[int, ...] = (48, 128)
    blocks: int = 1
    depth: int = 2
    heads: int = 4
    image_channels: int = 3


class UNet(nn.Module):
    """(x (B, C, S, S), t (B,), an encoded condition) -> (B, C, S, S).

    Two by two pixels are folded into channels first, a quarter of the cost of full resolution. The layout map is added
    at every level. It depends on the condition alone, so `layout` runs once for all noise levels, and its output is
    part of the encoded condition.

    References:
        simple diffusion (Hoogeboom et al., 2023), for the transformer at the lowest level
    """

    def __init__(self, config: UNetConfig, width: int):
        super().__init__()
        c, size = config.channels, config.size
        self.bottom = bottom_edge(size, len(c))
        self.embed = nn.Sequential(nn.Linear(64 + width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.layout = Layout(width, self.bottom)
        self.stem = nn.Conv2d(4 * config.image_channels, c[0], 3, padding=1)
        self.place = nn.ModuleList(nn.Conv2d(LAYOUT, channels, 1) for channels in c)
        self.down = nn.ModuleList(nn.ModuleList(ResBlock(k, k, width) for _ in range(config.blocks)) for k in c[:-1])
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(c))
        self.where = nn.Parameter(torch.randn(1, self.bottom**2, c[-1]) * 0.5)
        self.low = nn.ModuleList(ResBlock(c[-1], c[-1], width) for _ in range(config.depth))
        self.look = nn.ModuleList(Block(c[-1], config.heads, context_width=width) for _ in range(config.depth))
        self.up = nn.ModuleList(
            nn.ModuleList(ResBlock(b + a if i == 0 else a, a, width) for i in range(max(1, config.blocks - 1)))
            for a, b in pairwise(c)
        )
        self.norm = nn.GroupNorm(8, c[0])
        self.out = nn.Conv2d(c[0], 4 * config.image_channels, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, t: Tensor, cond: Batch) -> Tensor:
        emb = self.embed(torch.cat([timestep_embedding(t, 64), cond["vector"]], 1))
        layout = cond["layout"]
        h = self.stem(F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last))
        skips = []
        for level, blocks in enumerate(self.down):
            h = self._add_layout(h, layout, level)
            for block in blocks:
                h = block(h, emb)
            skips.append(h)
            h = self.shrink[level](h)
        h = self._bottom(self._add_layout(h, layout, -1), emb, cond)
        for level in reversed(range(len(self.up))):
            h = torch.cat([F.interpolate(h, scale_factor=2.0), skips[level]], 1)
            for block in self.up[level]:
                h = block(h, emb)
        return F.pixel_shuffle(self.out(F.silu(self.norm(h))), 2)

    def _add_layout(self, h: Tensor, layout: Tensor, level: int) -> Tensor:
        here = self.place[level](layout)
        return h + (here if here.shape[-1] == h.shape[-1] else F.interpolate(here, size=h.shape[-2:]))

    def _bottom(self, h: Tensor, emb: Tensor, cond: Batch) -> Tensor:
        pixels = torch.ones(len(h), self.bottom**2, dtype=torch.bool, device=h.device)
        mask = torch.cat([pixels, cond["seen"]], 1)
        for convolve, look in zip(self.low, self.look):
            h = convolve(h, emb)
            seq = h.flatten(2).transpose(1, 2) + self.where  # (B, N, C)
            h = look(seq, mask, cond["tokens"]).transpose(1, 2).unflatten(2, (self.bottom, self.bottom))
            h = h.contiguous(memory_format=torch.channels_last)
        return h
