"""Traversals of a plane whose directions are known."""

import pytest
import torch

from condgen.contracts import CondgenError
from condgen.latent_space import traverse
from tests.latent_space.flat import LATENT, PPCA, Brush, Plane

SPREAD = torch.tensor([0.2, 0.5, 0.05])


@pytest.fixture
def space() -> Plane:
    return Plane((1.0, 2.0, 3.0))


def pictures(space: Plane, n: int = 400) -> torch.Tensor:
    with torch.no_grad():
        return space.decode(SPREAD * torch.randn(n, LATENT, generator=torch.Generator().manual_seed(0)) + 0.1)


def test_one_dimension_moves_over_the_range_of_real_images(space):
    among = pictures(space)
    z = space.encode(among)
    found = traverse(space, among[:2], extent=2.0, steps=5, real=among)
    assert found.dimensions == [1, 0, 2], "by their variance"
    read = space.encode(found.images.flatten(0, 2)).unflatten(0, found.images.shape[:3])
    start = space.encode(among[:2])
    for row, k in enumerate(found.dimensions):
        others = [i for i in range(LATENT) if i != k]
        assert torch.allclose(read[:, row, :, others], start[:, None, others].expand(2, 5, 2), atol=1e-4)
        way = z[:, k].mean() + z[:, k].std(correction=0) * torch.linspace(-2, 2, 5)
        assert torch.allclose(read[:, row, :, k], way.expand(2, 5), atol=1e-4)


def test_the_change_is_the_distance_in_pixels(space):
    among = pictures(space)
    rows = traverse(space, among[:3], extent=2.0, real=among).numbers["latents"]
    spread = space.encode(among).std(0, correction=0)
    for k, stretch in enumerate((1.0, 2.0, 3.0)):
        way = 4 * spread[k].item() * stretch / 4  # 16 pixels: the root mean square is the length over 4
        assert rows[f"latent {k}"]["change of the image"] == pytest.approx(way, rel=1e-3)
        assert rows[f"latent {k}"]["variance"] == pytest.approx(spread[k].item() ** 2, rel=1e-3)


def test_of_a_variational_space_information_decides():
    space = PPCA()  # whose first direction is the longest, and says the most
    with torch.no_grad():
        x = space.decode(torch.randn(500, LATENT, generator=torch.Generator().manual_seed(0)))
    x = x + space.sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    found = traverse(space, x[:1], extent=2.0, steps=3, real=x)
    kl = [row["kl"] for row in found.numbers["latents"].values()]
    assert found.dimensions == [0, 1, 2] and kl == sorted(kl, reverse=True) and kl[-1] > 0.1
    ends = (found.images[0, 0, 2] - found.images[0, 0, 0]).norm() / space.weight[:, 0].norm()
    assert ends.item() == pytest.approx(4, rel=0.1), "the codes of all images together are as wide as the prior"


def test_without_real_images_the_range_is_around_zero_and_change_decides():
    brush = Brush((1.0, 3.0, 2.0))
    found = traverse(brush, torch.zeros(1, 3), extent=1.0, steps=3)
    assert found.dimensions == [1, 2, 0] and [*found.numbers["latents"]] == ["latent 1", "latent 2", "latent 0"]
    own = torch.stack([brush.decode(torch.tensor([[0.0, t, 0.0]]))[0] for t in (-1.0, 0.0, 1.0)])
    assert torch.allclose(found.images[0, 0], own, atol=1e-6)
    assert traverse(brush, torch.zeros(1, 3), [0, 2]).dimensions == [2, 0]


@pytest.mark.parametrize("how", [{"dimensions": [3]}, {"dimensions": [-1]}, {"steps": 1}, {"extent": 0.0}])
def test_options_out_of_range_are_refused(space, how):
    with pytest.raises(CondgenError, match="dimensions from 0 to 2"):
        traverse(space, torch.zeros(1, 3), **how)
