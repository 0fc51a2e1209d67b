"""Images to images: two generators, and a critic that judges patch by patch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Norm = Literal["instance", "group"]


@dataclass(frozen=True)
class TranslatorConfig:
    """Shape of a generator.

    Args:
        size: edge S of the images.
        reads: channels of the images that come in, 1 or 3.
        colours: channels of those that go out, 1 or 3.
        width: channels of the first level; they double with every halving of the image.
        blocks: of the ResNet, residual blocks at its lowest level.
        norm: over every channel of an image by itself, as the papers have it, or over groups of an eighth of the
            channels, which leaves more of what colour an image has.
        dropout: share of the features of the U-Net's way up that training leaves out.
    """

    size: int
    reads: int = 3
    image_channels: int = 3
    width: int = 32
    blocks: int = 4
    norm: Norm = "group"
    dropout: float = 0.0


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

    def __init__(self, config: TranslatorConfig):
        super().__init__()
        c = self.config = config
        _check(c, 2)
        edge, channels = c.size // 2, [c.width]
        while edge % 2 == 0 and edge > 2:
            edge //= 2
            channels.append(min(2 * channels[-1], 8 * c.width))
        self.stem = _conv(4 * c.reads, c.width, None)
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
        self.out = nn.Sequential(nn.ReLU(), _conv(last, c.width, c.norm), nn.ReLU(), Unfold(c))
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

    def __init__(self, config: TranslatorConfig):
        super().__init__()
        c = self.config = config
        _check(c, 4)
        low = 2 * c.width
        self.start = nn.Sequential(
            _conv(4 * c.reads, c.width, c.norm, border="reflect"),
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
            Unfold(c, "reflect"),
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

    def __init__(self, config: TranslatorConfig, border: str = "zeros"):
        super().__init__()
        self.conv = nn.Conv2d(config.width, 4 * config.image_channels, 3, padding=1, padding_mode=border)

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


def _check(config: TranslatorConfig, multiple: int) -> None:
    if config.size < 8 or config.size % multiple:
        raise ValueError(f"images have an edge of {config.size}; this net takes multiples of {multiple} from 8")


NETS: dict[str, type[nn.Module]] = {"unet": UNet, "resnet": ResNet}
"""Kind -> class of a generator; all are built from a TranslatorConfig."""
