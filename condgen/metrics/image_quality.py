"""How like two images are, pixel by pixel and in their structure. torchmetrics is what these are tested by."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW, SIGMA = 11, 1.5
"""Places and sd of the window that SSIM looks through."""


def psnr(images: Tensor, truth: Tensor) -> float:
    """Peak signal to noise in dB of images (N, C, S, S) in [-1, 1], from the mean squared error over all of them;
    infinite where they are equal."""
    return float(10 * torch.log10(4 / (images.double() - truth.double()).pow(2).mean()))


def ssim(images: Tensor, truth: Tensor) -> float:
    """Structural similarity of images (N, C, S, S) in [-1, 1], S at least 11, averaged: 1 where they are equal.

    References:
        Image Quality Assessment: From Error Visibility to Structural Similarity (Wang et al., 2004)
    """
    x, y = images.double(), truth.double()
    channels = x.shape[1]
    line = torch.exp(-((torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2) ** 2) / (2 * SIGMA**2))
    line = (line / line.sum()).expand(channels, 1, 1, -1)

    def mean(z: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(z, line, groups=channels), line.transpose(2, 3), groups=channels)

    c_1, c_2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    of_x, of_y = mean(x), mean(y)
    var_x, var_y, both = mean(x * x) - of_x**2, mean(y * y) - of_y**2, mean(x * y) - of_x * of_y
    top, low = (2 * of_x * of_y + c_1) * (2 * both + c_2), (of_x**2 + of_y**2 + c_1) * (var_x + var_y + c_2)
    return float((top / low).mean())
