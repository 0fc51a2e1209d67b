"""Jacobians compared with finite differences, torch's own, and a known plane."""

import sys

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA
from torch.autograd.functional import jacobian as slopes

from condgen.baselines.autoencoders import Autoencoder, AutoencoderConfig, AutoencoderObjective, AutoencoderTraining
from condgen.data.batches.base import to_float
from condgen.data.sources.open_images import open_any
from condgen.latent_space import jacobian
from condgen.latent_space.tools.jacobian import decoder_jacobian, encoder_jacobian
from condgen.nn.specs import ImageSpec
from tests.latent_space.flat import LATENT, Brush, Plane, on_plane


def conv(seed: int = 0, **more) -> Autoencoder:
    """An untrained net with blocks and norms that do something."""
    torch.manual_seed(seed)
    net = Autoencoder(AutoencoderConfig(latent=5, channels=(8,), **more), ImageSpec(8, 1)).eval()
    for parameter in net.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    return net


@pytest.mark.parametrize("more", [{}, {"variational": True, "likelihood": "bernoulli"}, {"body": "mlp"}])
def test_jacobians_are_those_of_torch_and_of_small_steps(more):
    net, x = conv(**more), torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    z = net.encode(x).detach()
    own = decoder_jacobian(net, z)
    other = torch.stack([slopes(lambda one: net.decode(one[None])[0].flatten(), one) for one in z])
    assert own.shape == (3, 64, 5) and torch.allclose(own, other, atol=1e-5)
    into = encoder_jacobian(net, x)
    other = torch.stack([slopes(lambda one: net.encode(one[None])[0], one) for one in x]).flatten(2)
    assert into.shape == (3, 5, 64) and torch.allclose(into, other, atol=1e-5)
    step = 1e-3 * torch.randn(3, 64, generator=torch.Generator().manual_seed(2))
    double = net.double()
    moved = double.encode((x.flatten(1) + step).double().unflatten(1, (1, 8, 8))) - double.encode(x.double())
    assert torch.allclose(torch.einsum("nzp,np->nz", into, step), moved.float(), atol=1e-5)


def test_the_tangents_of_a_plane_are_those_of_pca():
    space = Plane((3.0, 2.0, 1.0))
    images = on_plane(space, 200)
    found = jacobian(space, images[:5])
    pca = PCA(LATENT).fit(images.flatten(1).numpy())
    for basis in found.tangents.numpy():
        assert np.rad2deg(subspace_angles(basis, pca.components_.T)).max() < 0.1
    assert found.rank.tolist() == [LATENT] * 5
    assert torch.allclose(found.values, torch.tensor([3.0, 2.0, 1.0]).expand(5, 3), atol=1e-4)
    row = found.numbers["surface"]["mean over images"]
    assert row["log volume"] == pytest.approx(np.log(6), abs=1e-4) and 2 < row["effective rank"] < 3


def test_a_projection_answers_along_and_is_deaf_across():
    space = Plane((1.0, 1.0, 1.0))
    found = jacobian(space, on_plane(space, 4), real=on_plane(space, 300, seed=5))
    assert torch.allclose(found.along["reconstruction"], torch.ones(4), atol=1e-5)
    assert found.across["reconstruction"].max() < 1e-5 and (found.along["latent"] > found.across["latent"]).all()
    row = found.numbers["sensitivity"]["of the reconstruction"]
    assert row["ratio"] > 1e4 and row["share above 1"] == 1
    assert row["toward real neighbours"] == pytest.approx(1, abs=1e-3)
    assert found.numbers["real_neighbours"]["their directions"]["share within the tangents"] == pytest.approx(1)


def test_directions_without_length_are_no_tangents():
    flat = Plane((2.0, 1.0, 1e-4))
    found = jacobian(flat, on_plane(flat, 3))
    assert found.rank.tolist() == [2, 2, 2]
    assert torch.allclose(found.along["reconstruction"], torch.ones(3), atol=1e-3)


def test_a_random_net_prefers_nothing_and_a_trained_one_its_surface():
    data = open_any("digits", split="all")
    images = to_float(data.images)
    torch.manual_seed(0)
    net = Autoencoder(AutoencoderConfig(body="mlp", hidden=(64,), latent=6), ImageSpec(8, 1))
    before = jacobian(net, images[:30], seed=1).numbers["sensitivity"]["of the latent"]["median ratio"]
    training = AutoencoderTraining(net, AutoencoderObjective(noise="gaussian", strength=0.5))
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    for step in range(600):
        batch = {"image": images[torch.randint(0, len(images), (128,), generator=torch.Generator().manual_seed(step))]}
        optimiser.zero_grad()
        training.loss(batch)["loss"].backward()
        optimiser.step()
    net.eval()
    after = jacobian(net, images[:30], seed=1).numbers["sensitivity"]["of the latent"]["median ratio"]
    assert 0.5 < before < 1.7 and after > 2.5


def test_chunks_do_not_matter(monkeypatch):
    net, x = conv(), torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    whole = jacobian(net, x)
    monkeypatch.setattr(sys.modules["condgen.latent_space.tools.jacobian"], "ROWS", 2)
    parts = jacobian(net, x)
    assert torch.allclose(whole.values, parts.values, atol=1e-5) and torch.equal(whole.rank, parts.rank)
    assert torch.allclose(whole.along["latent"], parts.along["latent"], atol=1e-5)


def test_without_an_encoder_there_are_tangents_at_latents():
    found = jacobian(Brush(), torch.randn(3, 3))
    assert found.along == {} and set(found.numbers) == {"surface"} and found.rank.tolist() == [3, 3, 3]
