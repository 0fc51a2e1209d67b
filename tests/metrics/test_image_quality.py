"""PSNR and SSIM against torchmetrics, and where they must stand."""

import math

import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from condgen.metrics.image_quality import psnr, ssim


def pictures(channels: int, size: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(size)
    x = torch.rand(5, channels, size, size, generator=generator) * 2 - 1
    return x, (x + noise * torch.randn(x.shape, generator=generator)).clamp(-1, 1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size, noise", [(11, 0.1), (32, 0.3), (64, 1.0)])
def test_they_are_those_of_torchmetrics(channels, size, noise):
    x, y = pictures(channels, size, noise)
    assert psnr(x, y) == pytest.approx(float(peak_signal_noise_ratio(x, y, data_range=2.0)), abs=1e-4)
    # torchmetrics mirrors the border, which the paper does not
    asked = {"data_range": 2.0, "return_full_image": True}
    _, theirs = structural_similarity_index_measure(x.double(), y.double(), **asked)
    assert ssim(x, y) == pytest.approx(float(theirs[..., 5:-5, 5:-5].mean()), abs=1e-6)


def test_equal_pictures_are_as_alike_as_can_be_and_noise_makes_them_less_so():
    x, _ = pictures(3, 32, 0)
    assert psnr(x, x) == math.inf and ssim(x, x) == pytest.approx(1)
    found = [(psnr(x, y), ssim(x, y)) for y in (pictures(3, 32, noise)[1] for noise in (0.05, 0.2, 0.8))]
    assert found == sorted(found, reverse=True)
    assert psnr(x, x + 0.2) == pytest.approx(20)  # an error of a tenth of the range
