"""Pictures out of vectors, and vectors out of pictures: what decoders of one pass are made of."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.contracts import Batch
from condgen.nn.layers import ResBlock
from condgen.nn.layout import LAYOUT, Layout, bottom_edge


class Grow(nn.Module):
    """(code (B, N), encoded condition) -> (B, C, S, S), level by level; two by two pixels come out at once.

    The layout map of the condition is added at the lowest level, its vector scales and shifts every block. Levels are
    doubled by repeating pixels and a convolution, which leaves no checkerboard.

    Args:
        channels: of every level, the highest first.
        code: length N of the code.
        width: of the encoded condition.
    """

    def __init__(self, size: int, colours: int, channels: tuple[int, ...], blocks: int, code: int, width: int):
        super().__init__()
        self.edge, low = bottom_edge(size, len(channels)), channels[-1]
        self.layout = Layout(width, self.edge)
        self.place = nn.Conv2d(LAYOUT, low, 1)
        self.embed = nn.Sequential(nn.Linear(code + width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.start = nn.Linear(code, low * self.edge**2)
        self.blocks = nn.ModuleList(
            nn.ModuleList(ResBlock(k, k, width) for _ in range(blocks)) for k in reversed(channels)
        )
        self.up = nn.ModuleList(nn.Conv2d(b, a, 3, padding=1) for a, b in reversed(list(pairwise(channels))))
        self.norm = nn.GroupNorm(math.gcd(8, channels[0]), channels[0])
        self.out = nn.Conv2d(channels[0], 4 * colours, 3, padding=1)

    def forward(self, code: Tensor, said: Batch) -> Tensor:
        style = self.embed(torch.cat([code, said["vector"]], 1))
        h = self.start(code).unflatten(1, (-1, self.edge, self.edge)) + self.place(self.layout(said))
        h = h.contiguous(memory_format=torch.channels_last)
        for level, blocks in enumerate(self.blocks):
            h = self.up[level - 1](F.interpolate(h, scale_factor=2.0)) if level else h
            for block in blocks:
                h = block(h, style)
        return F.pixel_shuffle(self.out(F.silu(self.norm(h))), 2)


class PlainBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, without norms: a norm over a picture would hide from a critic what it is
    to judge by.

    References:
        The GAN is dead; long live the GAN! (Huang et al., 2024)
    """

    def __init__(self, channels: int):
        super().__init__()
        self.conv_1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv_2.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_2(F.leaky_relu(self.conv_1(F.leaky_relu(x, 0.2)), 0.2))


class Critic(nn.Module):
    """(picture (B, C, S, S), encoded condition) -> logits (B,): is it real, and is it what was said?

    The vector of the condition is compared with the features by their scalar product (projection); its layout map is
    laid beside them, so that what goes where can be checked, too.

    References:
        cGANs with Projection Discriminator (Miyato, Koyama, 2018)
    """

    def __init__(
        self, size: int, colours: int, channels: tuple[int, ...], blocks: int, width: int, features: int = 128
    ):
        super().__init__()
        edge, low = bottom_edge(size, len(channels)), channels[-1]
        self.layout = Layout(width, edge)
        self.place = nn.Conv2d(LAYOUT, low, 1)
        self.stem = nn.Conv2d(4 * colours, channels[0], 3, padding=1)
        self.blocks = nn.ModuleList(nn.ModuleList(PlainBlock(k) for _ in range(blocks)) for k in channels)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(channels))
        self.after = PlainBlock(low)
        self.features = nn.Linear(low * edge**2, features)
        self.said = nn.Linear(width, features)
        self.real = nn.Linear(features, 1)

    def forward(self, image: Tensor, said: Batch) -> Tensor:
        h = self.stem(F.pixel_unshuffle(image, 2).contiguous(memory_format=torch.channels_last))
        for level, blocks in enumerate(self.blocks):
            h = self.shrink[level - 1](F.leaky_relu(h, 0.2)) if level else h
            for block in blocks:
                h = block(h)
        h = self.after(h + self.place(self.layout(said)))
        phi = F.leaky_relu(self.features(F.leaky_relu(h, 0.2).flatten(1)), 0.2)
        match = (phi * self.said(said["vector"])).sum(1) / math.sqrt(phi.shape[1])
        return self.real(phi)[:, 0] + match
