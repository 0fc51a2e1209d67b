"""Images to images: two generators, and a critic that judges patch by patch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.contracts import limited
from condgen.kinds import Kind
from condgen.nn.specs import TranslationSpec

Norm = Literal["instance", "group"]


@dataclass(frozen=True)
class TranslatorConfig:
    """Options of a generator.

    Args:
        width: channels of the first level; they double with every halving of the image.
        blocks: of the ResNet, residual blocks at its lowest level.
        norm: over every channel of an image by itself, as the papers have it, or over groups of an eighth of the
            channels, which leaves more of what colour an image has.
        dropout: share of the features of the U-Net's way up that training leaves out.
    """

    width: int = limited(16, low=1)
    blocks: int = limited(4, low=0, high=1000)
    norm: Norm = "group"
    dropout: float = limited(0.0, low=0, high=0.99)


class UNet(nn.Module):
    """(B, C, S, S) in [-1, 1] -> (B, K, S, S) in [-1, 1], down to the whole image at a glance and up again; what a
    level saw on the way down lies beside what comes from below.

    The first halving folds two by two pixels into channels and the last unfolds them, so nothing is lost on the way;
    halving goes on to two by two places, or to an odd edge. Images grow by repeating places and a convolution, which
    leaves no checkerboard.

    Raises:
        ValueError: the edge of the images is odd, or less than 8.

    References:
        U-Net: Convolutional Networks for Biomedical Image Segmentation (Ronneberger et al., 2015)
        Image-to-Image Translation with Conditional Adversarial Networks (Isola et al., 2017)
        Deconvolution and Checkerboard Artifacts (Odena et al., 2016)
    """

    def __init__(self, config: TranslatorConfig, spec: TranslationSpec):
        super().__init__()
        self.config, self.spec = config, spec
        c = config
        _check(spec, 2)
        edge, channels = spec.size // 2, [c.width]
        while edge % 2 == 0 and edge > 2:
            edge //= 2
            channels.append(min(2 * channels[-1], 8 * c.width))
        self.stem = _conv(4 * spec.reads, c.width, None)
        self.down = nn.ModuleList(
            nn.Sequential(
                nn.LeakyReLU(0.2),
                _conv(above, below, c.norm if level < len(channels) - 1 else None, 4, 2),  # too few places lowest
            )
            for level, (above, below) in enumerate(pairwise(channels), 1)
        )
        self.up = nn.ModuleList(
            nn.Sequential(
                nn.ReLU(),
                nn.Upsample(scale_factor=2.0),
                _conv(below if level == len(channels) - 1 else 2 * below, above, c.norm),
                nn.Dropout(c.dropout),
            )
            for level, (above, below) in enumerate(pairwise(channels), 1)
        )
        last = c.width if len(channels) == 1 else 2 * c.width
        self.out = nn.Sequential(
            nn.ReLU(), _conv(last, c.width, c.norm), nn.ReLU(), Unfold(c.width, spec.image_channels)
        )
        started(self)

    def forward(self, images: Tensor) -> Tensor:
        seen = [self.stem(F.pixel_unshuffle(images, 2).contiguous(memory_format=torch.channels_last))]
        for down in self.down:
            seen.append(down(seen[-1]))
        h = seen.pop()
        for up in reversed(self.up):
            h = torch.cat([up(h), seen.pop()], 1)
        return torch.tanh(self.out(h))


class ResNet(nn.Module):
    """(B, C, S, S) in [-1, 1] -> (B, K, S, S) in [-1, 1], by residual blocks at a quarter of the edge.

    It sees no farther than its blocks reach, and so changes what things look like sooner than where they are. Borders
    are mirrored. Folding and growing are as in `UNet`.

    Raises:
        ValueError: the edge of the images is no multiple of 4, or less than 8.

    References:
        Perceptual Losses for Real-Time Style Transfer and Super-Resolution (Johnson et al., 2016)
        Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks (Zhu et al., 2017)
    """

    def __init__(self, config: TranslatorConfig, spec: TranslationSpec):
        super().__init__()
        self.config, self.spec = config, spec
        c = config
        _check(spec, 4)
        low = 2 * c.width
        self.start = nn.Sequential(
            _conv(4 * spec.reads, c.width, c.norm, border="reflect"),
            nn.ReLU(),
            _conv(c.width, low, c.norm, 3, 2),
            nn.ReLU(),
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(
                _conv(low, low, c.norm, border="reflect"), nn.ReLU(), _conv(low, low, c.norm, border="reflect")
            )
            for _ in range(c.blocks)
        )
        self.out = nn.Sequential(
            nn.Upsample(scale_factor=2.0),
            _conv(low, c.width, c.norm),
            nn.ReLU(),
            Unfold(c.width, spec.image_channels, "reflect"),
        )
        started(self)

    def forward(self, images: Tensor) -> Tensor:
        h = self.start(F.pixel_unshuffle(images, 2).contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            h = h + block(h)
        return torch.tanh(self.out(h))


class Unfold(nn.Module):
    """Features (B, width, S / 2, S / 2) -> (B, K, S, S), two by two pixels out of every place. All four begin alike: at
    random, they would be a checkerboard that training is long in smoothing.

    References:
        Checkerboard artifact free sub-pixel convolution (Aitken et al., 2017)
    """

    def __init__(self, width: int, channels: int, border: str = "zeros"):
        super().__init__()
        self.conv = nn.Conv2d(width, 4 * channels, 3, padding=1, padding_mode=border)

    def forward(self, h: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(h), 2)

    @torch.no_grad()
    def begin_alike(self) -> None:
        """Gives all four the weights of the first."""
        self.conv.weight.copy_(self.conv.weight[::4].repeat_interleave(4, 0))


class PatchCritic(nn.Module):
    """(B, C, S, S) -> logits (B, 1, H, W): does this patch look real? Every patch is judged by itself.

    A patch has 16, 34 or 70 pixels an edge, by how often the image is halved: once at 32 pixels, twice at 64, three
    times from 128.

    References:
        Image-to-Image Translation with Conditional Adversarial Networks (Isola et al., 2017), the PatchGAN
    """

    def __init__(self, size: int, reads: int, width: int):
        super().__init__()
        halvings = patch_halvings(size)
        self.net = nn.Sequential(nn.Conv2d(reads, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2))
        for level in range(1, halvings + 1):
            stride = 2 if level < halvings else 1
            self.net.extend([_conv(width, 2 * width, "instance", 4, stride), nn.LeakyReLU(0.2)])
            width *= 2
        self.net.append(nn.Conv2d(width, 1, 4, padding=1))
        started(self)

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images.contiguous(memory_format=torch.channels_last))


def patch_halvings(size: int) -> int:
    """How often a critic of patches halves images of this edge."""
    return max(1, min(3, int(math.log2(size)) - 4))


def started(net: nn.Module) -> None:
    """First weights as those of DCGAN and its heirs: normal, of sd 0.02, in place.

    References:
        Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks (Radford et al.,
        2016)
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in net.modules():
        if isinstance(module, Unfold):
            module.begin_alike()


def _conv(
    inside: int, outside: int, norm: Norm | None, kernel: int = 3, stride: int = 1, border: str = "zeros"
) -> nn.Sequential:
    """A convolution, and the norm that follows it; a norm over each channel by itself takes away any bias before it.

    With a group for every channel it is the instance norm, and keeps the layout in memory that convolutions like.
    """
    groups = outside if norm == "instance" else math.gcd(8, outside)
    biased = norm is None or groups < outside
    conv = nn.Conv2d(inside, outside, kernel, stride, padding=1, padding_mode=border, bias=biased)
    return nn.Sequential(conv, *([nn.GroupNorm(groups, outside, affine=norm == "group")] if norm else []))


def _check(spec: TranslationSpec, multiple: int) -> None:
    if spec.size < 8 or spec.size % multiple:
        raise ValueError(f"images have an edge of {spec.size}; this net takes multiples of {multiple} from 8")


UNET = Kind(UNet, TranslatorConfig)
RESNET = Kind(ResNet, TranslatorConfig)
