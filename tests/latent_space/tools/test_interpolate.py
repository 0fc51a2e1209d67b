"""Interpolation: ends, middle, lengths."""

import io

import pytest
import torch
from PIL import Image

from condgen.contracts import CondgenError
from condgen.latent_space import interpolate
from condgen.pipelines.editing.sphere import slerp
from tests.latent_space.flat import Brush, Plane, on_plane


@pytest.fixture
def space() -> Plane:
    return Plane()


def test_ends_are_the_images_or_their_reconstructions(space):
    a, b = on_plane(space, 3, 0.2, seed=1), on_plane(space, 3, 0.2, seed=2)
    found = interpolate(space, a, b, 5)
    for end, x in ((0, a), (-1, b)):
        assert torch.allclose(found.images["pixels"][:, end], x)
        for way in ("line", "sphere"):
            assert torch.allclose(found.images[way][:, end], space.decode(space.encode(x)), atol=1e-5)
    middle = found.images["pixels"][:, 2]
    assert torch.allclose(middle, (a + b) / 2, atol=1e-6)
    assert torch.allclose(found.images["line"][:, 2], space.decode(space.encode(middle)), atol=1e-5), "linear"


def test_the_arc_keeps_the_length_and_goes_evenly():
    rng = torch.Generator().manual_seed(0)
    a, b = (torch.nn.functional.normalize(torch.randn(20, 6, generator=rng), dim=1) for _ in range(2))
    steps = torch.stack([slerp(a, b, t / 8) for t in range(9)])
    assert torch.allclose(steps.norm(dim=2), torch.ones(9, 20), atol=1e-5)
    angles = (steps[1:] * steps[:-1]).sum(2).clamp(-1, 1).arccos()
    assert torch.allclose(angles, angles[:1].expand_as(angles), atol=1e-3)
    lengths = torch.stack([slerp(2 * a, 4 * b, t / 8) for t in range(9)]).norm(dim=2)
    assert torch.allclose(lengths, torch.linspace(2, 4, 9)[:, None].expand(9, 20), atol=1e-4)


def test_an_arc_between_the_same_or_opposite_is_a_line():
    a = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert torch.allclose(
        slerp(a, torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), 0.5), torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    )


def test_a_line_of_latents_is_more_realistic_than_one_of_pixels(space):
    among, off = on_plane(space, 500, seed=3), on_plane(space, 4, 0.3, seed=4)
    rows = interpolate(space, off[:2], off[2:], real=among).numbers["realism"]
    assert rows["line of latents"]["to its reconstruction"] < 1e-5 < rows["line of pixels"]["to its reconstruction"]
    assert rows["line of latents"]["to the nearest real image"] < rows["line of pixels"]["to the nearest real image"]
    assert rows["both ends"]["images"] == 4


def test_a_space_without_encoder_interpolates_latents():
    brush = Brush()
    a, b = torch.randn(2, 3), torch.randn(2, 3)
    found = interpolate(brush, a, b, 4)
    assert torch.allclose(found.images["line"][:, 0], brush.decode(a)) and found.numbers == {}
    with pytest.raises(CondgenError, match="no encoder"):
        interpolate(brush, brush.decode(a).detach(), brush.decode(b).detach())


def test_the_animation_plays_forwards_and_backwards(space):
    a, b = on_plane(space, 2, seed=1), on_plane(space, 2, seed=2)
    found = interpolate(space, a, b, 5)
    with Image.open(io.BytesIO(found.sheets["interpolation.gif"])) as film:
        assert film.format == "GIF" and film.n_frames == 2 * 5 - 2
    assert found.first_sheet.format == "PNG"


@pytest.mark.parametrize("how", [{"steps": 2}, {"paths": ("spiral",)}, {"paths": ()}])
def test_options_out_of_range_are_refused(space, how):
    x = on_plane(space, 1)
    with pytest.raises(CondgenError, match="3 steps or more"):
        interpolate(space, x, x, **how)
    with pytest.raises(CondgenError, match="as many end images"):
        interpolate(space, x, on_plane(space, 2))
    with pytest.raises(CondgenError, match=r"\(N, 1, 4, 4\), got \(1, 3, 4, 4\)"):
        interpolate(space, x.expand(-1, 3, -1, -1), x.expand(-1, 3, -1, -1))
