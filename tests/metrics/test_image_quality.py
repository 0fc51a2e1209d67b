"""PSNR and SSIM on 8-bit images against scikit-image and torchmetrics, called as those libraries are called."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio as skimage_psnr
from skimage.metrics import structural_similarity as skimage_ssim
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from condgen.data.batches.base import to_float
from condgen.data.synthetic.scenes import draw_layout, render
from condgen.metrics.image_quality import MAX_PSNR, psnr, similarity, ssim

GAUSSIAN = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
"""The window of the paper; scikit-image has a uniform one by default."""


def drawn(seed: int, size: int = 32) -> np.ndarray:
    return render(draw_layout(6, np.random.default_rng(seed)), size)


def noisy(images: np.ndarray, sd: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.rint(images + sd * rng.standard_normal(images.shape)).clip(0, 255).astype(np.uint8)


def changed(kind: str, images: np.ndarray) -> np.ndarray:
    """Changes of uint8 (N, C, S, S) that a metric must rank."""
    if kind == "darkened":
        return (images * 0.7).astype(np.uint8)
    if kind == "brightened":
        return (images // 2 + 127).astype(np.uint8)
    if kind == "negative":
        return 255 - images
    if kind == "black":
        return np.zeros_like(images)
    if kind == "others":  # as generated images beside real ones
        return np.ascontiguousarray(np.roll(images, 1, 0))
    return noisy(images, float(kind))


KINDS = ("darkened", "brightened", "negative", "black", "others", "5", "40")


@pytest.fixture(params=["scenes", "grey", "static"])
def images(request):
    if request.param == "static":
        return np.random.default_rng(1).integers(0, 256, (6, 3, 24, 24), np.uint8)
    return drawn(0) if request.param == "scenes" else noisy(drawn(1, 28)[:, :1], 3)


def in_our_range(*pairs: np.ndarray) -> list[torch.Tensor]:
    """As every caller converts images: 0..255 to -1..1."""
    return [to_float(torch.from_numpy(x)) for x in pairs]


@pytest.mark.parametrize("kind", KINDS)
def test_ssim_of_8_bit_images_is_that_of_scikit_image(images, kind):
    other = changed(kind, images)
    pairs = zip(images, other)
    expected = [skimage_ssim(x, y, data_range=255, channel_axis=0, **GAUSSIAN) for x, y in pairs]
    assert ssim(*in_our_range(other, images)) == pytest.approx(np.mean(expected), abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_ssim_of_8_bit_images_is_that_of_torchmetrics(images, kind):
    """torchmetrics pads images, which the paper does not: compare the pixels whose window lies inside."""
    x, y = (torch.from_numpy(z).double() for z in (images, changed(kind, images)))
    _, theirs = structural_similarity_index_measure(y, x, data_range=255.0, return_full_image=True)
    assert ssim(x / 127.5 - 1, y / 127.5 - 1) == pytest.approx(theirs[..., 5:-5, 5:-5].mean().item(), abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_psnr_of_8_bit_images_is_that_of_both_libraries(images, kind):
    other = changed(kind, images)
    found = psnr(*in_our_range(other, images))
    assert found == pytest.approx(skimage_psnr(images, other, data_range=255), abs=1e-4)
    pair = (torch.from_numpy(z).double() for z in (other, images))
    assert found == pytest.approx(peak_signal_noise_ratio(*pair, data_range=255.0).item(), abs=1e-4)


def test_a_darkened_image_is_similar_and_its_negative_is_not():
    """On intensities from -1, where grey is 0, darkened images had an SSIM of .576 and negatives one below 0."""
    images = drawn(2)
    found = {kind: ssim(*in_our_range(changed(kind, images), images)) for kind in ("darkened", "negative", "black")}
    assert found["darkened"] > 0.9 > 0.5 > found["negative"] and abs(found["black"]) < 0.1


def test_equal_images_have_the_highest_scores_and_noise_lowers_them():
    images = drawn(3)
    (x,) = in_our_range(images)
    assert psnr(x, x) == math.inf and ssim(x, x) == pytest.approx(1)
    assert similarity(x, x) == {"PSNR": MAX_PSNR, "SSIM": pytest.approx(1), "mse": 0}
    found = [(psnr(x, y), ssim(x, y)) for y in in_our_range(*(noisy(images, sd) for sd in (5, 20, 80)))]
    assert found == sorted(found, reverse=True)
    assert psnr(x, x + 0.2) == pytest.approx(20)  # an error of a tenth of the range
    assert "SSIM" not in similarity(x[..., :10, :10], x[..., :10, :10])
