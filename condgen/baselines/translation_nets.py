"""Networks of image translation: two generators, and a discriminator of patches."""

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
        blocks: residual blocks at the lowest level of the ResNet.
        norm: `instance`, as in the papers, or `group`, over eighths of the channels, which preserves more of the
            colours of an image.
        dropout: dropout probability in the upsampling half of the U-Net.
    """

    width: int = limited(16, low=1)
    blocks: int = limited(4, low=0, high=1000)
    norm: Norm = "group"
    dropout: float = limited(0.0, low=0, high=0.99)


class UNet(nn.Module):
    """(B, C, S, S) in [-1, 1] -> (B, K, S, S) in [-1, 1], with skip connections at every level.

    The first halving folds two by two pixels into channels, which loses nothing, and the last layer unfolds them. The
    lowest level has two by two places, or an odd edge. Upsampling repeats pixels before a convolution, which leaves no
    checkerboard.

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
                _conv(
                    above, below, c.norm if level < len(channels) - 1 else None, 4, 2
                ),  # too few values at the lowest level
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
            nn.ReLU(), _conv(last, c.width, c.norm), nn.ReLU(), SubpixelConv(c.width, spec.image_channels)
        )
        init_weights(self)

    def forward(self, images: Tensor) -> Tensor:
        skips = [self.stem(F.pixel_unshuffle(images, 2).contiguous(memory_format=torch.channels_last))]
        for down in self.down:
            skips.append(down(skips[-1]))
        h = skips.pop()
        for up in reversed(self.up):
            h = torch.cat([up(h), skips.pop()], 1)
        return torch.tanh(self.out(h))


class ResNet(nn.Module):
    """(B, C, S, S) in [-1, 1] -> (B, K, S, S) in [-1, 1], by residual blocks at a quarter of the edge.

    Its receptive field is limited, so it changes appearance rather than layout. Convolutions pad by reflection; pixels
    are folded and upsampled as in `UNet`.

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
            SubpixelConv(c.width, spec.image_channels, "reflect"),
        )
        init_weights(self)

    def forward(self, images: Tensor) -> Tensor:
        h = self.start(F.pixel_unshuffle(images, 2).contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            h = h + block(h)
        return torch.tanh(self.out(h))


class SubpixelConv(nn.Module):
    """Features (B, width, S / 2, S / 2) -> (B, K, S, S), two by two pixels from every place. All four start with equal
    weights; random ones would give a checkerboard that takes long to unlearn.

    References:
        Checkerboard artifact free sub-pixel convolution (Aitken et al., 2017)
    """

    def __init__(self, width: int, channels: int, border: str = "zeros"):
        super().__init__()
        self.conv = nn.Conv2d(width, 4 * channels, 3, padding=1, padding_mode=border)

    def forward(self, h: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(h), 2)

    @torch.no_grad()
    def init_equal(self) -> None:
        """Copies the weights of the first pixel to all four."""
        self.conv.weight.copy_(self.conv.weight[::4].repeat_interleave(4, 0))


class PatchCritic(nn.Module):
    """(B, C, S, S) -> logits (B, 1, H, W) of every patch being real.

    A patch has an edge of 16 pixels for images of 32 pixels, 34 for 64, and 70 from 128.

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
        init_weights(self)

    def forward(self, images: Tensor) -> Tensor:
        return self.net(images.contiguous(memory_format=torch.channels_last))


def patch_halvings(size: int) -> int:
    """Number of times that the patch discriminator halves images of this edge."""
    return max(1, min(3, int(math.log2(size)) - 4))


def init_weights(net: nn.Module) -> None:
    """Initial weights of DCGAN, in place: normal with standard deviation 0.02.

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
        if isinstance(module, SubpixelConv):
            module.init_equal()


def _conv(
    inside: int, outside: int, norm: Norm | None, kernel: int = 3, stride: int = 1, border: str = "zeros"
) -> nn.Sequential:
    """A convolution and its norm. An instance norm, which removes any bias before it, is a group norm with one channel
    a group: that keeps the channels-last memory layout.
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
