"""Importance weights against probabilistic PCA, whose likelihood is known."""

from itertools import pairwise

import pytest
import torch

from condgen.contracts import CondgenError
from condgen.latent_space import importance_weighted
from condgen.latent_space.tools.likelihood import bound, log_weights
from tests.latent_space.flat import PPCA, Plane, on_plane


def test_with_the_exact_posterior_one_latent_is_enough():
    space = PPCA()
    images = on_plane(space, 30, 0.3)
    found = importance_weighted(space, images, 1)
    assert torch.allclose(-found.nll, space.log_prob(images), atol=1e-3)
    assert torch.allclose(found.elbo, -found.nll, atol=1e-3)


def test_the_bound_tightens_with_latents_and_never_crosses():
    space = PPCA(wide=2.0)
    images = on_plane(space, 200, 0.3)
    exact = -space.log_prob(images).mean().item()
    found = {k: importance_weighted(space, images, k, seed=3).nll.mean().item() for k in (1, 4, 32, 512)}
    values = [*found.values()]
    assert values == sorted(values, reverse=True) and values[-1] > exact - 0.02 and values[-1] < exact + 0.02
    assert values[0] > exact + 0.5


def test_the_evidence_bound_is_short_of_it_by_the_divergence_of_posteriors():
    space, exact = PPCA(wide=2.0), PPCA()
    images = on_plane(space, 300, 0.3)
    (mean, log_var), (true, true_var) = space.posterior(images), exact.posterior(images)
    q, p = (torch.distributions.Normal(m, (v / 2).exp()) for m, v in ((mean, log_var), (true, true_var)))
    gap = torch.distributions.kl_divergence(q, p).sum(1).mean().item()
    elbo = importance_weighted(space, images, 256).elbo.mean().item()
    assert elbo == pytest.approx(space.log_prob(images).mean().item() - gap, abs=0.03)


def test_a_bound_of_fewer_latents_is_not_better():
    space = PPCA(wide=3.0)
    weights, kl = log_weights(space, on_plane(space, 50, 0.3), 64, 0)
    means = [bound(weights.double(), k).mean() for k in (1, 2, 8, 64)]
    assert all(a <= b for a, b in pairwise(means)), "Jensen"
    assert torch.allclose(bound(weights, 1), weights.mean(1)) and (kl > 0).all()


def test_chunks_and_batches_do_not_matter(monkeypatch):
    space = PPCA(wide=2.0)
    images = on_plane(space, 20, 0.3)
    whole = importance_weighted(space, images, 8, seed=5).nll
    monkeypatch.setattr("condgen.latent_space.tools.likelihood.BATCH", 24)
    assert torch.allclose(importance_weighted(space, images, 8, seed=5).nll, whole, atol=1e-4)
    assert torch.allclose(importance_weighted(space, images[7:9], 8, seed=12).nll, whole[7:9], atol=1e-4), "seeds"


def test_what_has_no_likelihood_is_refused():
    with pytest.raises(CondgenError, match="Use a VAE"):
        importance_weighted(Plane(), on_plane(Plane(), 2))
    with pytest.raises(CondgenError, match="1 sample"):
        importance_weighted(PPCA(), on_plane(PPCA(), 2), 0)
