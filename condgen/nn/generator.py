"""Generator and discriminator of the decoders that generate in one pass."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.contracts import Batch
from condgen.nn.conditioning import LAYOUT, Layout, bottom_edge
from condgen.nn.layers import ResBlock
from condgen.nn.specs import CondSpec


class Generator(nn.Module):
    """(code (B, N), encoded condition) -> (B, C, S, S), level by level; the last layer unfolds two by two pixels.

    The vector of the condition scales and shifts every block; the layout map of text conditions is added at the lowest
    level. Upsampling repeats pixels before a convolution, which leaves no checkerboard.

    Args:
        spec: size and channels of the images, and the kind of condition.
        width: width of the encoded condition.
        channels: channels of every level, the highest resolution first.
        code: length N of the code.
    """

    def __init__(self, spec: CondSpec, width: int, channels: tuple[int, ...], blocks: int, code: int):
        super().__init__()
        self.edge, low = bottom_edge(spec.size, len(channels)), channels[-1]
        self.place = LayoutFeatures(spec, width, self.edge, low)
        self.embed = nn.Sequential(nn.Linear(code + width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.start = nn.Linear(code, low * self.edge**2)
        self.blocks = nn.ModuleList(
            nn.ModuleList(ResBlock(k, k, width) for _ in range(blocks)) for k in reversed(channels)
        )
        self.up = nn.ModuleList(nn.Conv2d(b, a, 3, padding=1) for a, b in reversed(list(pairwise(channels))))
        self.norm = nn.GroupNorm(math.gcd(8, channels[0]), channels[0])
        self.out = nn.Conv2d(channels[0], 4 * spec.image_channels, 3, padding=1)

    def forward(self, code: Tensor, cond: Batch) -> Tensor:
        style = self.embed(torch.cat([code, cond["vector"]], 1))
        h = self.start(code).unflatten(1, (-1, self.edge, self.edge)) + self.place(cond)
        h = h.contiguous(memory_format=torch.channels_last)
        for level, blocks in enumerate(self.blocks):
            h = self.up[level - 1](F.interpolate(h, scale_factor=2.0)) if level else h
            for block in blocks:
                h = block(h, style)
        return F.pixel_shuffle(self.out(F.silu(self.norm(h))), 2)


class LayoutFeatures(nn.Module):
    """Encoded condition -> a term added to features (B, channels, edge, edge): its layout map, or zero for labels."""

    def __init__(self, spec: CondSpec, width: int, edge: int, channels: int):
        super().__init__()
        self.layout = None if spec.cardinalities else Layout(width, edge)
        self.out = None if spec.cardinalities else nn.Conv2d(LAYOUT, channels, 1)

    def forward(self, cond: Batch) -> Tensor | float:
        return self.out(self.layout(cond)) if self.layout is not None else 0.0


class PlainBlock(nn.Module):
    """Two 3x3 convolutions and a skip connection, without normalisation, which would hide statistics of the image from
    a discriminator.

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
    """(image (B, C, S, S), output of `encode_cond`) -> logits (B,) of being real and matching the condition.

    The vector of the condition is projected onto the features; the layout map of text conditions is added to the
    feature map, so that the discriminator can check the positions of objects.

    References:
        cGANs with Projection Discriminator (Miyato, Koyama, 2018)
    """

    def __init__(self, spec: CondSpec, width: int, channels: tuple[int, ...], blocks: int, features: int = 128):
        super().__init__()
        edge, low = bottom_edge(spec.size, len(channels)), channels[-1]
        self.place = LayoutFeatures(spec, width, edge, low)
        self.stem = nn.Conv2d(4 * spec.image_channels, channels[0], 3, padding=1)
        self.blocks = nn.ModuleList(nn.ModuleList(PlainBlock(k) for _ in range(blocks)) for k in channels)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(channels))
        self.after = PlainBlock(low)
        self.features = nn.Linear(low * edge**2, features)
        self.cond_encoder = nn.Linear(width, features)
        self.real = nn.Linear(features, 1)

    def encode_cond(self, cond: Batch) -> tuple[Tensor, Tensor | float]:
        """Projection vector and layout features of an encoded condition."""
        return self.cond_encoder(cond["vector"]), self.place(cond)

    def forward(self, image: Tensor, match: Tensor, place: Tensor | float) -> Tensor:
        phi = self.phi(image, place)
        return self.real(phi)[:, 0] + (phi * match).sum(1) / math.sqrt(phi.shape[1])

    def phi(self, image: Tensor, place: Tensor | float) -> Tensor:
        """Features of images, (B, features), from which both logits are computed."""
        h = self.stem(F.pixel_unshuffle(image, 2).contiguous(memory_format=torch.channels_last))
        for level, blocks in enumerate(self.blocks):
            h = self.shrink[level - 1](F.leaky_relu(h, 0.2)) if level else h
            for block in blocks:
                h = block(h)
        h = self.after(h + place)
        return F.leaky_relu(self.features(F.leaky_relu(h, 0.2).flatten(1)), 0.2)
