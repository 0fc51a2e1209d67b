"""Density and holes of latents whose distribution is known."""

import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from condgen.contracts import CondgenError
from condgen.latent_space import holes
from condgen.latent_space.tools.holes import NEIGHBOUR, Density, normal_fit
from tests.latent_space.flat import LATENT, PPCA, Brush, Plane


def codes(n: int, seed: int, width: int = 4) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def test_distance_is_that_to_the_fifth_neighbour_in_any_units():
    z, others = codes(150, 0), codes(40, 1)
    found = Density(z).distance(others)
    middle, spread = z.mean(0), z.std(0, correction=0)
    oracle = (
        NearestNeighbors(n_neighbors=NEIGHBOUR).fit((z - middle) / spread).kneighbors((others - middle) / spread)[0]
    )
    assert torch.allclose(found, torch.from_numpy(oracle[:, -1]).float(), atol=1e-4)
    units = torch.tensor([1e3, 1.0, 1e-2, 5.0])
    assert torch.allclose(Density(z * units + 7).distance(others * units + 7), found, rtol=1e-3)


def test_a_number_that_never_changes_does_no_harm():
    z = torch.cat([codes(100, 0), torch.full((100, 1), 3.0)], 1)
    density = Density(z)
    assert density.distance(z).isfinite().all() and density.log_prob(z).isfinite().all()


def test_a_normal_fit_has_the_moments_of_the_latents():
    z = codes(400, 0) @ codes(4, 1) + 5
    own = normal_fit(z, 20_000, torch.Generator().manual_seed(0))
    assert torch.allclose(own.mean(0), z.mean(0), atol=0.1)
    assert torch.allclose(own.T.cov(), z.T.cov(), atol=0.15 * z.T.cov().abs().max().item())
    assert normal_fit(codes(50, 0, 1), 10, torch.Generator()).shape == (10, 1)


def test_the_middle_between_two_islands_is_a_hole():
    space = Plane((1.0, 1.0, 1.0))
    sides = torch.tensor([-1.0, 1.0])[torch.arange(400) % 2]
    with torch.no_grad():
        x = space.decode(0.05 * codes(400, 0, LATENT) + sides[:, None])
    found = holes(space, x[:250], x[250:], n=300)
    rows = found.numbers["holes"]
    assert rows["real images, held out"]["in holes"] == pytest.approx(0.05, abs=0.01)
    assert rows["between two images"]["in holes"] == pytest.approx(0.5, abs=0.12), "every second pair is torn"
    assert rows["normal fit"]["in holes"] > 0.5 and rows["samples of the model"]["in holes"] > 0.9
    between, hole = found.latents["between two images"], found.in_hole["between two images"]
    assert hole[(between.abs() < 0.5).all(1)].all()
    assert all(row["round-trip error"] < 1e-4 for row in rows.values()), "a plane loses no code"
    assert rows["between two images"]["log density"] < rows["real images, held out"]["log density"]


def test_a_model_that_generated_its_images_has_no_holes_in_its_prior():
    space = PPCA()
    with torch.no_grad():
        x = space.decode(codes(1000, 0, LATENT))
    x = x + space.sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    found = holes(space, x[:600], x[600:], n=500)
    assert found.numbers["holes"]["the prior"]["in holes"] == pytest.approx(0.05, abs=0.04)
    assert "samples of the model" not in found.latents, "which are of the prior"


def test_maps_of_two_dimensions_and_of_one():
    for width in (1, 2):
        space = Plane((1.0, 1.0, 1.0))
        space.weight, space.latent = torch.nn.Parameter(space.weight[:, :width].detach()), width
        with torch.no_grad():
            x = space.decode(codes(80, 0, width))
        assert holes(space, x[:40], x[40:], n=20).sheets["map.png"].startswith(b"\x89PNG")


def test_too_few_images_and_no_encoder_are_refused():
    x = torch.randn(40, 1, 4, 4)
    with pytest.raises(CondgenError, match="40 images to measure the density by, and 10 held out; at least 10 and 20"):
        holes(Plane(), x, x[:10])
    with pytest.raises(CondgenError, match="no encoder"):
        holes(Brush(), x, x)
