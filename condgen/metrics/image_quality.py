"""PSNR and SSIM of images against a reference.

Both are computed here because torchmetrics takes seconds to import and pads images before it computes SSIM, which
neither the paper nor scikit-image does.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW, SIGMA = 11, 1.5
"""Pixels and standard deviation of SSIM's Gaussian window."""
MAX_PSNR = 120.0
"""PSNR that `similarity` reports for equal images."""


def psnr(images: Tensor, reference: Tensor) -> float:
    """Peak signal-to-noise ratio in dB.

    Args:
        images, reference: (N, C, S, S) in [-1, 1].

    Returns:
        PSNR of the mean squared error over all images; infinite where they are equal.
    """
    return float(10 * torch.log10(4 / (images.double() - reference.double()).square().mean()))


def ssim(images: Tensor, reference: Tensor) -> float:
    """Structural similarity, averaged over images, channels and all positions of the window inside the image.

    Intensities are mapped to [0, 1] first: the luminance term compares means relative to black. The value is that of
    scikit-image's `structural_similarity` with `gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    data_range=1`, computed for every channel.

    Args:
        images, reference: (N, C, S, S) in [-1, 1], S at least 11.

    Returns:
        SSIM in [-1, 1]; 1 where they are equal.

    References:
        Image Quality Assessment: From Error Visibility to Structural Similarity (Wang et al., 2004)
    """
    x, y = (images.double() + 1) / 2, (reference.double() + 1) / 2
    channels = x.shape[1]
    line = torch.exp(-((torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2) ** 2) / (2 * SIGMA**2))
    line = (line / line.sum()).expand(channels, 1, 1, -1)

    def mean(z: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(z, line, groups=channels), line.transpose(2, 3), groups=channels)

    c_1, c_2 = 0.01**2, 0.03**2
    mean_x, mean_y = mean(x), mean(y)
    var_x, var_y, cov = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2, mean(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c_1) / (mean_x**2 + mean_y**2 + c_1)
    return float((luminance * (2 * cov + c_2) / (var_x + var_y + c_2)).mean())


def similarity(images: Tensor, reference: Tensor) -> dict[str, float]:
    """PSNR in dB (at most MAX_PSNR, so that metrics stay finite), SSIM and the mean squared error on [-1, 1].

    Args:
        images, reference: (N, C, S, S) in [-1, 1]. SSIM is left out for images smaller than its window.
    """
    scores = {"PSNR": min(psnr(images, reference), MAX_PSNR)}
    scores |= {"SSIM": ssim(images, reference)} if images.shape[-1] >= WINDOW else {}
    return scores | {"mse": (images - reference).square().mean().item()}
