"""Random crops, flips and colour changes in batches; the result depends only on the image and its dice.

Blur is left out: it removes the content of images of 32 pixels and below.

References:
    A Simple Framework for Contrastive Learning of Visual Representations (Chen et al., 2020), appendix A
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

DICE = 14
"""Random numbers per view; always drawn, so that options do not change later draws."""
LUMA = (0.299, 0.587, 0.114)
TURN = ((0.0, -1.0, 1.0), (1.0, 0.0, -1.0), (-1.0, 1.0, 0.0))
"""Matrix of the cross product with (1, 1, 1), the grey axis; divided by sqrt(3) it generates rotations of the hue."""


@dataclass(frozen=True)
class Augment:
    """Random changes of an image.

    Args:
        crop: smallest fraction of the area to keep and enlarge, in (0, 1]; 1 crops nothing.
        flip: mirror every second image, left to right.
        jitter: strength of changes in brightness and contrast and, in colour images, in saturation and hue; 0 is none.
        grey: fraction of images that become grey.
        erase: fraction of images in which a square, 10 to 33 % of the area, is replaced by the mean of the image.
    """

    crop: float = 0.4
    flip: bool = True
    jitter: float = 0.4
    grey: float = 0.2
    erase: float = 0.0


def augment(images: Tensor, dice: Tensor, how: Augment) -> Tensor:
    """Augments images (B, C, S, S) in [-1, 1]. Row i of the result depends only on row i of `images` and `dice`.

    Args:
        images: C is 1 or 3.
        dice: (B, DICE), uniform in [0, 1).
    """
    d = dice.float().unbind(1)
    out = _cropped(images, d[:5], how)
    if how.jitter:
        out = _recoloured(out, d[5:10], how.jitter)
    if how.grey and images.shape[1] == 3:
        luma = (out * out.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
        out = torch.where((d[10] < how.grey)[:, None, None, None], luma, out)
    return _erased(out, d[11:14], how.erase) if how.erase else out


def _cropped(images: Tensor, d: tuple[Tensor, ...], how: Augment) -> Tensor:
    """Crops a part of random area, aspect ratio and place, enlarges it to the whole, and flips half of the images."""
    if how.crop >= 1 and not how.flip:
        return images
    area = how.crop + (1 - how.crop) * d[0]
    stretch = torch.exp((2 * d[1] - 1) * math.log(4 / 3) / 2) if how.crop < 1 else torch.ones_like(d[1])
    width, height = ((area.sqrt() * s).clamp(max=1) for s in (stretch, 1 / stretch))
    mirror = torch.where(d[4] < 0.5, -1.0, 1.0) if how.flip else torch.ones_like(d[4])
    theta = images.new_zeros(len(images), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = width * mirror, height
    theta[:, 0, 2], theta[:, 1, 2] = (2 * d[2] - 1) * (1 - width), (2 * d[3] - 1) * (1 - height)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _recoloured(images: Tensor, d: tuple[Tensor, ...], strength: float) -> Tensor:
    """Changes brightness and contrast, and the saturation and hue of colour images, in four of five images."""
    on = d[4] < 0.8

    def factor(lot: Tensor, most: float) -> Tensor:
        return torch.where(on, 1 + most * (2 * lot - 1), 1.0)[:, None, None, None]

    most = min(strength, 0.95)
    out = (images + 1) / 2 * factor(d[0], most)
    mean = out.mean((1, 2, 3), keepdim=True)
    out = mean + (out - mean) * factor(d[1], most)
    if images.shape[1] == 3:
        saturation = factor(d[2], most)[:, :, 0]
        angle = torch.where(on, (2 * d[3] - 1) * 2 * math.pi * min(strength / 4, 0.5), 0.0)[:, None, None]
        grey = out.new_full((3, 3), 1 / 3)
        turn = out.new_tensor(TURN) / math.sqrt(3)
        mix = grey + saturation * (angle.cos() * (torch.eye(3, device=out.device) - grey) + angle.sin() * turn)
        out = (mix @ out.flatten(2)).view_as(out)
    return (out * 2 - 1).clamp(-1, 1)


def _erased(images: Tensor, d: tuple[Tensor, ...], share: float) -> Tensor:
    """Replaces a square at a random place by the mean of the image, in a fraction `share` of the images."""
    size = images.shape[-1]
    lot = d[0] / share  # below 1 the image is erased, and the value gives the area
    edge = (0.1 + 0.23 * lot.clamp(max=1)).sqrt() * size
    at = torch.arange(size, device=images.device) + 0.5
    rows, columns = ((at >= (x * (size - edge))[:, None]) & (at < (x * (size - edge) + edge)[:, None]) for x in d[1:])
    gone = (rows[:, :, None] & columns[:, None, :] & (lot < 1)[:, None, None])[:, None]
    return torch.where(gone, images.mean((1, 2, 3), keepdim=True), images)
