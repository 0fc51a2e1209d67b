"""PSNR and SSIM against scikit-image's values and torchmetrics, and at their limits."""

import math

import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from condgen.metrics.image_quality import MAX_PSNR, psnr, similarity, ssim


def image_pairs(channels: int, size: int, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(size)
    x = torch.rand(5, channels, size, size, generator=generator) * 2 - 1
    return x, (x + noise * torch.randn(x.shape, generator=generator)).clamp(-1, 1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size, noise", [(11, 0.1), (32, 0.3), (64, 1.0)])
def test_they_are_those_of_torchmetrics(channels, size, noise):
    x, y = image_pairs(channels, size, noise)
    assert psnr(x, y) == pytest.approx(float(peak_signal_noise_ratio(x, y, data_range=2.0)), abs=1e-4)
    # torchmetrics pads the images, which the paper does not: compare the pixels whose window lies inside
    x_01, y_01 = (x.double() + 1) / 2, (y.double() + 1) / 2
    _, theirs = structural_similarity_index_measure(x_01, y_01, data_range=1.0, return_full_image=True)
    assert ssim(x, y) == pytest.approx(float(theirs[..., 5:-5, 5:-5].mean()), abs=1e-6)


@pytest.mark.parametrize(
    "channels, size, noise, expected",
    [
        (1, 11, 0.1, 0.9834952865640292),
        (1, 32, 0.3, 0.8862428008134794),
        (1, 64, 1.0, 0.4667074422677193),
        (3, 11, 0.1, 0.9846477999699026),
        (3, 32, 0.3, 0.8880172255121355),
        (3, 64, 1.0, 0.4604519768020565),
    ],
)
def test_ssim_is_that_of_scikit_image(channels, size, noise, expected):
    """scikit-image 0.26, with the arguments that the docstring of `ssim` names, on images in [0, 1]."""
    assert ssim(*image_pairs(channels, size, noise)) == pytest.approx(expected, abs=1e-10)


def test_equal_images_have_the_highest_scores_and_noise_lowers_them():
    x, _ = image_pairs(3, 32, 0)
    assert psnr(x, x) == math.inf and ssim(x, x) == pytest.approx(1)
    assert similarity(x, x) == {"PSNR": MAX_PSNR, "SSIM": pytest.approx(1), "mse": 0}
    found = [(psnr(x, y), ssim(x, y)) for y in (image_pairs(3, 32, noise)[1] for noise in (0.05, 0.2, 0.8))]
    assert found == sorted(found, reverse=True)
    assert psnr(x, x + 0.2) == pytest.approx(20)  # an error of a tenth of the range
    assert "SSIM" not in similarity(x[..., :10, :10], x[..., :10, :10])
