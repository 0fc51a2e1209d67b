"""Projection onto a plane, where the nearest image is known, and onto a curve with local minima."""

import pytest
import torch
from torch import nn

from condgen.contracts import CondgenError
from condgen.latent_space import Search, corrupt, find_latents, project
from condgen.latent_space.measures import rmse
from tests.latent_space.flat import Brush, Plane, on_plane


def test_on_a_plane_one_round_is_the_orthogonal_projection():
    space = Plane()
    clean = on_plane(space, 30)
    noisy = on_plane(space, 30, 0.2)
    found = project(space, noisy, clean, rounds=3, real=on_plane(space, 200, seed=9))
    basis = torch.linalg.qr(space.weight.detach())[0]
    foot = ((noisy.flatten(1) - space.mean) @ basis @ basis.T + space.mean).detach().view_as(noisy)
    for now in found.images[1:]:
        assert torch.allclose(now, foot, atol=1e-5)
    off, moved, left = (rmse(*pair).square() for pair in ((noisy, clean), (noisy, foot), (foot, clean)))
    assert torch.allclose(off, moved + left, atol=1e-6), "Pythagoras: what was done is orthogonal to what is left"
    rows = found.numbers["projection"]
    assert rows["round 1"]["moved"] > 0.1 and rows["round 2"]["moved"] < 1e-5
    for what in ("from the clean image", "to the nearest real image"):
        assert rows["round 3"][what] < 0.7 * rows["as given"][what]


def test_a_search_finds_the_latents_of_the_encoder():
    space, x = Plane(), on_plane(Plane(), 6, 0.2)
    found = project(Brush(), x, search=Search(2, 100))
    assert torch.allclose(found.latents, space.encode(x), atol=0.02) and len(found.images) == 2
    assert torch.equal(project(space, x, search=Search(2, 100)).latents, found.latents)
    assert project(space, x).latents is None


class Bumpy(nn.Module):
    """A bent line among images, with many places that look like the nearest one."""

    size, image_channels, latent, encodes = 4, 1, 1, False

    def __init__(self):
        super().__init__()
        self.rates = nn.Parameter(torch.linspace(1, 6, 16))

    def decode(self, z):
        return (self.rates * z).sin().unflatten(1, (1, 4, 4))


def test_more_starts_are_never_worse():
    space = Bumpy()
    x = space.decode(torch.linspace(-1, 1, 4)[:, None]).detach()
    for image in x.split(1):
        one, many = (rmse(space.decode(find_latents(space, image, Search(n, 40))), image).item() for n in (1, 16))
        assert many < 0.02 and many < one + 1e-6, "the first start is among them"
    assert all(parameter.grad is None for parameter in space.parameters()), "the model learns nothing"


def test_images_are_searched_for_independently():
    space = Bumpy()
    x = space.decode(torch.linspace(-2, 2, 4)[:, None]).detach()
    whole = find_latents(space, x, Search(1, 30))
    assert torch.allclose(whole[2:3], find_latents(space, x[2:3], Search(1, 30, seed=2)), atol=1e-5)


def test_corruptions_have_the_requested_strength():
    grey = torch.full((200, 3, 8, 8), 0.5)
    noise = corrupt(grey, "noise", 0.1) - grey
    assert noise.std().item() == pytest.approx(0.1, rel=0.02) and abs(noise.mean().item()) < 0.002
    hidden = (corrupt(grey, "occlusion", 0.5) == 0).flatten(1).sum(1)
    assert (hidden == 3 * 4 * 4).all()
    hit = corrupt(grey, "pixels", 0.3) != grey
    assert hit.float().mean().item() == pytest.approx(0.3, abs=0.02) and torch.equal(hit[:, 0], hit[:, 2])
    assert torch.equal(corrupt(grey, "noise", seed=3), corrupt(grey, "noise", seed=3)) and (grey == 0.5).all()
    assert (corrupt(grey, "occlusion", 1) == 0).all()
    with pytest.raises(CondgenError, match="noise, occlusion, pixels, got 'rain'"):
        corrupt(grey, "rain")


@pytest.mark.parametrize("how", [{"rounds": 0}, {"search": Search(starts=0)}, {"search": Search(steps=0)}])
def test_counts_below_one_are_refused(how):
    with pytest.raises(CondgenError, match="1 or more"):
        project(Plane(), on_plane(Plane(), 1), **how)
