"""Image backbones: a vision transformer and a residual network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.contracts import CondgenError, limited
from condgen.nn.conditioning import MAX_DEPTH
from condgen.nn.layers import Block
from condgen.nn.specs import EncoderSpec


@dataclass(frozen=True)
class BackboneConfig:
    """Options of a backbone.

    Args:
        kind: `patch`, a vision transformer; `resnet`, a residual network with the stem of small images.
        width: width of the transformer, or of the first stage of the residual network; each further stage doubles it.
        depth: blocks of the transformer, or of every stage.
        heads: heads of the transformer's attention.
        patch: edge of the patches; a residual network folds each into channels, 1 folds none.
        stages: stages of the residual network, each at half the resolution of the previous one.
        norm: normalisation of the residual network. `group` is per image, so that splitting a batch into chunks and
            over processes does not change the result; `batch` is the original.
    """

    kind: Literal["patch", "resnet"] = "resnet"
    width: int = limited(24, low=1)
    depth: int = limited(1, low=0, high=MAX_DEPTH)
    heads: int = limited(4, low=1)
    patch: int = limited(2, low=1)
    stages: int = limited(3, low=1, high=64)
    norm: Literal["group", "batch"] = "group"


class Backbone(nn.Module):
    """(B, 3, S, S) in [-1, 1] -> features (B, F).

    Raises:
        CondgenError: the image size is no multiple of the patch size, or cannot be halved at every stage.
    """

    def __init__(self, config: BackboneConfig, spec: EncoderSpec):
        super().__init__()
        self.config, self.spec, self.size = config, spec, spec.size
        if config.patch < 1 or spec.size % config.patch:
            raise CondgenError(f"Images of {spec.size} pixels cannot be cut into squares of {config.patch}.")
        self.body = (PatchTransformer if config.kind == "patch" else ResNet)(config, spec.size)

    @property
    def width(self) -> int:
        """Number of features F."""
        return self.body.features

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images)

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """Its first feature maps, at most two, (B, C, H, W) each."""
        return self.body.feature_maps(images)


class PatchTransformer(nn.Module):
    """A vision transformer; the features are the class token of the last layer.

    Its layers are those of CLIP's image tower, so that weights can be converted in both directions.

    References:
        An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale (Dosovitskiy et al., 2021)
        Scaling Language-Image Pre-training via Masking (Li et al., 2023), for patch dropout
    """

    drop: float = 0.0
    """Share of the patches of every image that training drops at random."""

    def __init__(self, config: BackboneConfig, size: int):
        super().__init__()
        width, n = config.width, (size // config.patch) ** 2
        self.features = width
        self.stem = nn.Conv2d(3, width, config.patch, stride=config.patch, bias=False)
        self.token = nn.Parameter(torch.randn(width) * width**-0.5)
        self.place = nn.Parameter(torch.randn(n + 1, width) * width**-0.5)
        self.norm_pre = nn.LayerNorm(width)
        self.blocks = plain_blocks(width, config.heads, config.depth)
        self.norm_post = nn.LayerNorm(width)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.stem(images).flatten(2).transpose(1, 2) + self.place[1:]  # (B, n, width)
        if self.training and self.drop:
            kept = max(1, round(patches.shape[1] * (1 - self.drop)))
            kept_rows = torch.rand(patches.shape[:2], device=patches.device).topk(kept, dim=1).indices
            patches = patches.gather(1, kept_rows[..., None].expand(-1, -1, patches.shape[2]))
        h = self._begin(patches)
        for block in self.blocks:
            h = block(h)
        return self.norm_post(h[:, 0])

    def _begin(self, patches: Tensor) -> Tensor:
        """Patches (B, n, width) -> (B, 1 + n, width), with the class token."""
        token = (self.token + self.place[0]).expand(len(patches), 1, -1)
        return self.norm_pre(torch.cat([token, patches], 1))

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """The patches after each of the first two blocks."""
        grid = self.stem(images)
        h, maps = self._begin(grid.flatten(2).transpose(1, 2) + self.place[1:]), []
        for block in self.blocks[:2]:
            h = block(h)
            maps.append(h[:, 1:].transpose(1, 2).unflatten(2, grid.shape[2:]))
        return maps


def plain_blocks(width: int, heads: int, depth: int) -> nn.ModuleList:
    """Transformer blocks of CLIP, with its initialisation.

    References:
        Learning Transferable Visual Models From Natural Language Supervision (Radford et al., 2021)
    """
    blocks = nn.ModuleList(Block(width, heads, qk_norm=False) for _ in range(depth))
    into, out = width**-0.5, width**-0.5 * (2 * depth) ** -0.5
    for block in blocks:
        stds = ((block.attention.qkv, into), (block.attention.out, out), (block.mlp[0], (2 * width) ** -0.5))
        for layer, std in (*stds, (block.mlp[2], out)):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)
    return blocks


class ResNet(nn.Module):
    """A residual network for small images: its stem is one convolution without pooling.

    References:
        Deep Residual Learning for Image Recognition (He et al., 2016)
    """

    def __init__(self, config: BackboneConfig, size: int):
        super().__init__()
        edge, widths = size // config.patch, [config.width * 2**i for i in range(config.stages)]
        if config.stages < 1 or edge < 2 ** (config.stages - 1):
            raise CondgenError(
                f"{edge} x {edge} places of {config.patch} pixels cannot be halved {config.stages - 1} times. Choose "
                "fewer stages, or a smaller patch."
            )
        self.fold, self.features, self.depth = config.patch, widths[-1], config.depth
        self.stem = nn.Conv2d(3 * config.patch**2, widths[0], 3, padding=1, bias=False)
        self.norm = norm_of(config.norm, widths[0])
        stages, before = [], widths[0]
        for level, width in enumerate(widths):
            for k in range(config.depth):
                stages.append(Residual(before, width, 2 if level and not k else 1, config.norm))
                before = width
        self.blocks = nn.Sequential(*stages)

    def forward(self, images: Tensor) -> Tensor:
        return self.blocks(self._begin(images)).mean((2, 3))

    def _begin(self, images: Tensor) -> Tensor:
        h = F.pixel_unshuffle(images, self.fold) if self.fold > 1 else images
        return F.relu(self.norm(self.stem(h.contiguous(memory_format=torch.channels_last))))

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """The outputs of the first two stages."""
        first = self.blocks[: self.depth](self._begin(images))
        return [first, self.blocks[self.depth : 2 * self.depth](first)] if len(self.blocks) > self.depth else [first]


class Residual(nn.Module):
    """Two 3x3 convolutions and a skip connection; the second norm is initialised to zero, the block to its skip."""

    def __init__(self, before: int, channels: int, stride: int, norm: Literal["group", "batch"]):
        super().__init__()
        self.conv_1 = nn.Conv2d(before, channels, 3, stride=stride, padding=1, bias=False)
        self.norm_1 = norm_of(norm, channels)
        self.conv_2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm_2 = norm_of(norm, channels)
        same = stride == 1 and before == channels
        self.short = None if same else nn.Conv2d(before, channels, 1, stride=stride, bias=False)
        self.short_norm = None if same else norm_of(norm, channels)
        nn.init.zeros_(self.norm_2.weight)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm_2(self.conv_2(F.relu(self.norm_1(self.conv_1(x)))))
        return F.relu(h + (x if self.short is None else self.short_norm(self.short(x))))


def norm_of(kind: Literal["group", "batch"], channels: int) -> nn.Module:
    """Group norm or batch norm."""
    return nn.BatchNorm2d(channels) if kind == "batch" else nn.GroupNorm(math.gcd(8, channels), channels)
