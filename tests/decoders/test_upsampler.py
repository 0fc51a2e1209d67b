"""Upsamplers: the network is convolutional, seeds name images, and what they begin with is interpolation."""

import pytest
import torch
import torch.nn.functional as F

from condgen.contracts import CondgenError
from condgen.data.batches.base import to_float
from condgen.data.synthetic.scenes import draw_scenes, render
from condgen.decoders.upsampler import (
    Upsampler,
    UpsamplerConfig,
    UpsamplerSpec,
    augmented,
    calibrate,
)
from tests.tiny import tiny_upsampler


def generators(n: int, seed: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed + i) for i in range(n)]


def last(upsampler, low, n=1, seed=0, **options):
    *_, images = upsampler.upsample(low, generators(n, seed), **options)
    return images


@pytest.mark.parametrize("factor", [2, 4])
def test_the_interior_of_a_crop_is_that_of_the_whole_image(factor):
    upsampler = tiny_upsampler(32 * factor, 32)
    torch.manual_seed(0)
    low, z, t = torch.rand(2, 3, 80, 80) * 2 - 1, torch.randn(2, 16), torch.tensor([0.9, 0.3])
    x_t = torch.randn(2, 3, 80 * factor, 80 * factor)
    level = torch.tensor([0.0, 0.5])
    with torch.inference_mode():
        whole = upsampler.denoise(x_t, t, upsampler.cond_of(low, level, z))
        part = slice(24, 64)
        fine = slice(24 * factor, 64 * factor)
        crop = upsampler.denoise(x_t[..., fine, fine], t, upsampler.cond_of(low[..., part, part], level, z))
    edge = 32  # beyond the reach of the convolutions
    inside = slice(edge, 40 * factor - edge)
    assert torch.allclose(crop[..., inside, inside], whole[..., fine, fine][..., inside, inside], atol=1e-4)
    assert not torch.allclose(crop, whole[..., fine, fine], atol=1e-4)  # the border is another


@pytest.mark.parametrize("height, width", [(32, 32), (7, 9), (1, 1), (30, 64)])
def test_images_of_any_edges_are_enlarged(height, width):
    images = last(tiny_upsampler(), torch.zeros(2, 3, height, width), 2)
    assert images.shape == (2, 3, 2 * height, 2 * width) and images.abs().max() <= 1


def test_a_seed_names_an_image_in_every_batch():
    upsampler = tiny_upsampler()
    torch.manual_seed(0)
    low, z = torch.rand(3, 3, 16, 16) * 2 - 1, torch.randn(3, 16)
    together = last(upsampler, low, 3, z=z)
    for row in range(3):
        alone = last(upsampler, low[row : row + 1], 1, row, z=z[row : row + 1])
        assert torch.allclose(together[row], alone[0], atol=1e-5)
    assert not torch.allclose(together, last(upsampler, low, 3, seed=9, z=z), atol=1e-3)


def test_the_level_of_augmentation_and_the_embedding_matter():
    upsampler, low = tiny_upsampler(), torch.zeros(1, 3, 16, 16)
    plain = last(upsampler, low, upsample_augmentation=0.0)
    assert not torch.equal(plain, last(upsampler, low, upsample_augmentation=0.5))
    assert not torch.equal(plain, last(upsampler, low, upsample_augmentation=0.0, z=torch.ones(1, 16)))


def test_augmentation_at_level_0_changes_nothing_and_blur_keeps_the_mean_of_flat_images():
    torch.manual_seed(0)
    low = torch.rand(2, 3, 12, 12)
    assert torch.equal(augmented(low, torch.zeros(2), torch.ones(2)), low)
    flat, other = torch.full((400, 3, 12, 12), 0.3), torch.ones(400)
    assert augmented(flat, other, other).mean().item() == pytest.approx(0.3, abs=0.01)
    assert augmented(low, torch.ones(2), torch.ones(2)).sub(low).abs().mean() > 0.05


def test_an_untrained_upsampler_interpolates():
    torch.manual_seed(0)
    upsampler = Upsampler(UpsamplerConfig(channels=(8,), blocks=1), UpsamplerSpec(32, 16))
    low = torch.rand(1, 3, 16, 16) * 2 - 1
    expected = F.interpolate(low, size=(32, 32), mode="bilinear")
    assert torch.allclose(last(upsampler, low, upsample_augmentation=0.0), expected, atol=1e-5)


def test_statistics_are_those_of_the_data():
    layout, _ = draw_scenes(64, 0, False)
    high, low = (to_float(render(layout, size)) for size in (64, 32))
    upsampler = tiny_upsampler()
    calibrate(upsampler, high, low)
    residual = (high - upsampler.enlarge(low) - upsampler.residual_mean) / upsampler.residual_sd
    assert residual.mean((0, 2, 3)).abs().max() < 1e-4 and residual.std((0, 2, 3)).sub(1).abs().max() < 1e-3


def test_what_does_not_fit_is_refused():
    for size, low in ((96, 32), (32, 32), (33, 16)):
        with pytest.raises(ValueError, match="power of two"):
            Upsampler(UpsamplerConfig(), UpsamplerSpec(size, low))
    with pytest.raises(CondgenError, match="embeddings of width 16, got 5"):
        last(tiny_upsampler(), torch.zeros(1, 3, 8, 8), z=torch.zeros(1, 5))
    with pytest.raises(CondgenError, match="upsample_steps must be an integer from 1 to 16, got 17"):
        last(tiny_upsampler(), torch.zeros(1, 3, 8, 8), upsample_steps=17)
