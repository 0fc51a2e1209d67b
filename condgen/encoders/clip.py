"""CLIP embeds images and captions into one space of unit vectors.

Three image towers. `grid`: convolutions to a 4 x 4 grid, a few attention blocks, and one linear map of the whole grid,
which preserves the layout. `patch` and `resnet`: a backbone of `encoders.backbones` and a linear map of its features.

Two text towers. `words`: attention blocks and an MLP over all tokens in their positions; mean pooling loses which
colour belongs to which shape. `clip`: causal attention, read at the end token, as in CLIP itself. A CLIP with `patch`
and `clip` has the architecture of the original and can be exported to open_clip and transformers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.contracts import CondgenError, limited
from condgen.encoders.backbones import Backbone, BackboneConfig, plain_blocks
from condgen.encoders.tokenizer import END, PAD
from condgen.nn.conditioning import MAX_DEPTH, without_padding
from condgen.nn.layers import Block, ResBlock
from condgen.nn.specs import EncoderSpec

MAX_SCALE = 100.0


@dataclass(frozen=True)
class CLIPConfig:
    """Options of a CLIP.

    Args:
        embed_dim: width of the shared space, D.
        image_width: channels at full resolution; in `grid` they double at every halving, up to four times as many.
        text_width: width of the text blocks.
        depth: attention blocks in each tower.
        heads: heads of every attention.
        pool: pooling of the text tower `words`: `flatten` concatenates all tokens, `mean` averages, `end` takes the
            end token.
        image, text: kinds of the towers.
        image_depth: attention blocks of the image tower; 0 is `depth`.
        patch, stages, norm: options of `patch` and `resnet`, see `encoders.backbones.BackboneConfig`.
        vocab: number of token ids; before the tokenizer is trained, the most that it may learn.
        context: tokens of a caption, L; before the tokenizer is trained, 0 takes 77, or what 95 % of the captions need
            if that is more, at most 256.
        bias: adds a learned bias to the logits, for the sigmoid loss.
    """

    embed_dim: int = limited(128, low=1)
    image_width: int = limited(32, low=1)
    text_width: int = limited(128, low=1)
    depth: int = limited(2, low=0, high=MAX_DEPTH)
    heads: int = limited(4, low=1)
    pool: Literal["flatten", "mean", "end"] = "flatten"
    vocab: int = limited(4096, low=1)
    context: int = limited(0, low=0)
    image: Literal["grid", "patch", "resnet"] = limited("grid", added=True)
    text: Literal["words", "clip"] = limited("words", added=True)
    image_depth: int = limited(0, low=0, high=MAX_DEPTH, added=True)
    patch: int = limited(2, low=1, added=True)
    stages: int = limited(3, low=1, high=64, added=True)
    norm: Literal["group", "batch"] = limited("group", added=True)
    bias: bool = limited(False, added=True)

    @property
    def backbone(self) -> BackboneConfig:
        """Options of the backbone of the towers `patch` and `resnet`."""
        kind, depth = ("patch" if self.image == "patch" else "resnet"), self.image_depth or self.depth
        return BackboneConfig(kind, self.image_width, depth, self.heads, self.patch, self.stages, self.norm)


class GridTower(nn.Module):
    """(B, 3, S, S) in [-1, 1] -> (B, D)."""

    def __init__(self, config: CLIPConfig, spec: EncoderSpec):
        super().__init__()
        size = spec.size
        if size < 16 or size & (size - 1):
            raise CondgenError(f"The image tower `grid` reads sizes that are powers of two from 16, not {size}.")
        width = config.image_width
        self.stem = nn.Conv2d(12, width, 3, padding=1)
        stages, channels = [], width
        for level in range(int(math.log2(size // 2)) - 2):
            wider = width * min(2 ** (level + 1), 4)
            stages += [ResBlock(channels, channels), nn.Conv2d(channels, wider, 3, stride=2, padding=1)]
            channels = wider
        self.stages = nn.Sequential(*stages)
        self.place = nn.Parameter(torch.randn(1, 16, channels) * 0.5)
        depth = config.image_depth or config.depth
        self.blocks = nn.ModuleList(Block(channels, config.heads) for _ in range(depth))
        self.norm = nn.LayerNorm(channels)
        self.out = nn.Sequential(
            nn.Linear(16 * channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, config.embed_dim)
        )

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """Its first two feature maps, (B, width, S / 2, S / 2) and (B, 2 width, S / 4, S / 4)."""
        h = self.stem(F.pixel_unshuffle(images, 2).contiguous(memory_format=torch.channels_last))
        first = self.stages[0](h)
        second = self.stages[1](first)
        return [first, self.stages[2](second) if len(self.stages) > 2 else second]

    def features(self, images: Tensor) -> Tensor:
        """(B, 16 channels), the flattened grid."""
        h = F.pixel_unshuffle(images, 2).contiguous(memory_format=torch.channels_last)
        h = self.stages(self.stem(h)).flatten(2).transpose(1, 2) + self.place  # (B, 16, channels)
        for block in self.blocks:
            h = block(h)
        return self.norm(h).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        return self.out(self.features(images))


class BackboneTower(nn.Module):
    """(B, 3, S, S) in [-1, 1] -> (B, D): a backbone and a linear map of its features."""

    def __init__(self, config: CLIPConfig, spec: EncoderSpec):
        super().__init__()
        self.backbone = Backbone(config.backbone, EncoderSpec(spec.size))
        self.out = projection(self.backbone.width, config.embed_dim)

    def features(self, images: Tensor) -> Tensor:
        """(B, F), the features of the backbone."""
        return self.backbone(images)

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """The first feature maps of the backbone."""
        return self.backbone.feature_maps(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.out(self.backbone(images))


def projection(width: int, embed_dim: int) -> nn.Linear:
    """The linear map into the shared space."""
    out = nn.Linear(width, embed_dim, bias=False)
    nn.init.normal_(out.weight, std=width**-0.5)
    return out


class CausalTextTower(nn.Module):
    """(B, L) token ids -> (B, D), read at the end token, with causal attention.

    References:
        Learning Transferable Visual Models From Natural Language Supervision (Radford et al., 2021)
    """

    def __init__(self, config: CLIPConfig):
        super().__init__()
        width = config.text_width
        self.token = nn.Embedding(config.vocab, width)
        self.place = nn.Parameter(torch.randn(config.context, width) * 0.01)
        self.blocks = plain_blocks(width, config.heads, config.depth)
        self.norm = nn.LayerNorm(width)
        self.out = projection(width, config.embed_dim)
        nn.init.normal_(self.token.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        h = self.token(tokens) + self.place[: tokens.shape[1]]
        for block in self.blocks:
            h = block(h, causal=True)
        end = (tokens == END).int().argmax(1)
        return self.out(self.norm(h[torch.arange(len(h), device=h.device), end]))


class WordsTower(nn.Module):
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
        h = self.token(tokens) + self.place[:, : tokens.shape[1]]
        for block in self.blocks:
            h = block(h, seen)
        h = self.norm(h) * seen[..., None]
        if self.pool == "flatten":
            return self.out(F.pad(h, (0, 0, 0, self.place.shape[1] - h.shape[1])).flatten(1))
        if self.pool == "mean":
            return self.out(h.sum(1) / seen.sum(1, keepdim=True).clamp(min=1))
        return self.out((h * (tokens == END)[..., None]).sum(1))


class CLIP(nn.Module):
    """Two towers, a temperature and an optional bias. Keeps the `Encoder` contract.

    References:
        Learning Transferable Visual Models From Natural Language Supervision (Radford et al., 2021)
        Sigmoid Loss for Language Image Pre-Training (Zhai et al., 2023), for the bias
    """

    def __init__(self, config: CLIPConfig, spec: EncoderSpec):
        super().__init__()
        self.config, self.spec = config, spec
        self.size, self.embed_dim, self.vocab, self.context = spec.size, config.embed_dim, config.vocab, config.context
        self.image = (GridTower if config.image == "grid" else BackboneTower)(config, spec)
        self.text = (WordsTower if config.text == "words" else CausalTextTower)(config)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.bias = nn.Parameter(torch.tensor(0.0)) if config.bias else None

    @property
    def scale(self) -> Tensor:
        """Inverse temperature; training clamps it to MAX_SCALE."""
        return self.log_scale.exp()

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) in [-1, 1] -> (B, F), the features of the image tower before the projection."""
        return self.image.features(images)

    def embed_image(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) in [-1, 1] -> unit vectors (B, D)."""
        return F.normalize(self.image(images), dim=-1)

    def embed_text(self, tokens: Tensor) -> Tensor:
        """int64 (B, L) -> unit vectors (B, D)."""
        return F.normalize(self.text(without_padding(tokens) if self.spec.trims else tokens), dim=-1)
