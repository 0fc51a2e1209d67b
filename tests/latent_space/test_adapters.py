"""Models as latent spaces: fixed conditions, shapes of images."""

import pytest
import torch

import condgen.latent_space
from condgen.contracts import CondgenError
from condgen.latent_space.adapters import as_space
from tests.latent_space.flat import PPCA, Brush, Plane, on_plane
from tests.tiny import tiny_labels, tiny_model


@pytest.mark.parametrize("kind, options", [("cvae", {"temperature": 1}), ("cgan", {"truncation": 4})])
def test_a_conditional_space_generates_what_its_model_samples(kind, options):
    model = tiny_labels(kind)
    space = as_space(model, {"label": "Sneaker", "age": 40})
    assert space.has_encoder == (kind == "cvae") and space.sample([3]).shape == (1, space.model.latent)
    asked = model.cond_batch([{"label": "Sneaker", "age": 40}])
    *_, last = model.decoder.sample(asked, rng=[torch.Generator().manual_seed(3)], **options)
    own = space.decode(space.sample([3])).clamp(-1, 1)
    assert torch.allclose(own, last, atol=1e-3), "a seed names an image"  # the tails of the normal are cut off
    other = as_space(model, {"label": "Trouser", "age": 40})
    assert (space.decode(space.sample([3])) - other.decode(space.sample([3]))).abs().max() > 1e-3


def test_latents_of_a_condition_are_those_of_the_prior():
    space = as_space(tiny_labels("cvae"), {"label": "Sneaker"})
    z = space.sample(range(5))
    cond = {name: x.expand(5, *x.shape[1:]) for name, x in space.net.cond.items()}
    there = space.net.decoder.prior.from_normal(z, cond["vector"])
    assert torch.allclose(space.net.decoder.prior.to_normal(there, cond["vector"])[0], z, atol=1e-4)
    x = space.decode(z)
    assert space.encode(x).shape == z.shape


def test_models_without_latents_are_refused():
    with pytest.raises(CondgenError, match="tiny has no latent space"):
        as_space(tiny_model())
    with pytest.raises(CondgenError, match="is a diffusion model"):
        as_space(tiny_labels("diffusion"))
    with pytest.raises(CondgenError, match="is unconditional: drop the labels"):
        as_space(Plane(), {"label": "Sneaker"})
    with pytest.raises(CondgenError, match="Snaker"):
        as_space(tiny_labels("cvae"), {"label": "Snaker"})
    assert as_space(plane := as_space(Plane())) is plane


def test_bytes_and_floats_are_the_same_images():
    space = as_space(Plane())
    pixels = torch.randint(0, 256, (3, 1, 4, 4), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    assert torch.allclose(space.encode(pixels), space.encode(pixels.float() / 127.5 - 1), atol=1e-5)
    assert torch.equal(space.encode(pixels), space.encode(pixels.numpy()))


def test_chunks_do_not_matter(monkeypatch):
    space, x = as_space(PPCA()), on_plane(PPCA(), 7)
    whole = (space.encode(x), *space.posterior(x))
    monkeypatch.setattr("condgen.latent_space.adapters.ROWS", 2)
    assert all(torch.allclose(a, b) for a, b in zip(whole, (space.encode(x), *space.posterior(x))))


def test_latents_are_drawn_from_the_posterior_where_there_is_one():
    space = as_space(PPCA())
    x = on_plane(space, 1).expand(4000, -1, -1, -1)
    mean, log_var = space.posterior(x)
    codes = space.sample_posterior(x)
    assert torch.allclose(codes.mean(0), mean[0], atol=0.05)
    assert torch.allclose(codes.var(0), log_var[0].exp(), rtol=0.15)
    plane = as_space(Plane())
    assert torch.equal(plane.sample_posterior(x[:3]), plane.encode(x[:3]))


def test_images_of_another_shape_are_refused():
    for wrong in (torch.zeros(2, 3, 4, 4), torch.zeros(2, 1, 5, 4), torch.zeros(1, 4, 4)):
        with pytest.raises(CondgenError, match=r"Plane takes images of shape \(N, 1, 4, 4\), got"):
            as_space(Plane()).encode(wrong)
    with pytest.raises(CondgenError, match="There are no images"):
        as_space(Plane()).encode(torch.zeros(0, 1, 4, 4))
    with pytest.raises(CondgenError, match="has no encoder"):
        as_space(Brush()).encode(torch.zeros(1, 1, 4, 4))


def test_the_public_names_exist():
    assert all(hasattr(condgen.latent_space, name) for name in condgen.latent_space.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = condgen.latent_space.nothing
