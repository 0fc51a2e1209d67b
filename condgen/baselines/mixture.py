"""A Gaussian mixture fitted to the latents of training images, to sample autoencoders that have no prior."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class MixtureConfig:
    """Shape of a Gaussian mixture.

    Args:
        latent: length Z of the latents.
        components: number of normal distributions.
    """

    latent: int
    components: int = 10


class Mixture(nn.Module):
    """A Gaussian mixture with full covariances over a latent space.

    References:
        From Variational to Deterministic Autoencoders (Ghosh et al., 2020), section 4
    """

    def __init__(self, config: MixtureConfig):
        super().__init__()
        self.config = config
        k, z = config.components, config.latent
        self.register_buffer("weights", torch.full((k,), 1 / k))
        self.register_buffer("means", torch.zeros(k, z))
        self.register_buffer("roots", torch.eye(z).expand(k, z, z).clone())  # Cholesky factors of the covariances

    def draw(self, rng: list[torch.Generator]) -> Tensor:
        """Samples, one for each generator, (B, Z) on the CPU."""
        weights, means, roots = self.weights.cpu(), self.means.cpu(), self.roots.cpu()
        samples = []
        for generator in rng:
            k = int(torch.multinomial(weights, 1, generator=generator))
            samples.append(means[k] + roots[k] @ torch.randn(self.config.latent, generator=generator))
        return torch.stack(samples)

    def log_prob(self, z: Tensor) -> Tensor:
        """Log density of latents (N, Z) in nats, (N,)."""
        normals = torch.distributions.MultivariateNormal(self.means, scale_tril=self.roots, validate_args=False)
        return torch.logsumexp(self.weights.log() + normals.log_prob(z[:, None]), 1)


def point(latent: Tensor) -> Mixture:
    """A mixture of one component at a latent (Z,), with standard deviation 1e-4."""
    mixture = Mixture(MixtureConfig(len(latent), 1))
    mixture.means.copy_(latent[None])
    mixture.roots.mul_(1e-4)
    return mixture.eval()


def fit_mixture(latents: Tensor, components: int = 10, seed: int = 0, most: int = 20_000) -> Mixture:
    """A mixture fitted by expectation-maximisation (scikit-learn).

    Args:
        latents: (N, Z), of training images.
        components: maximum number; fewer for few latents. Equal latents have one component, a point.
        seed: seed of the initialisation, and of the selection from more than `most` latents.
        most: maximum number of latents for the fit.
    """
    import warnings

    from sklearn.mixture import GaussianMixture

    values = latents.double().numpy()
    if len(values) > most:
        values = values[np.random.default_rng(seed).permutation(len(values))[:most]]
    count = max(1, min(components, len(values) // (2 * values.shape[1])))
    if np.ptp(values, axis=0).max() < 1e-9:
        return point(torch.from_numpy(values[0]))
    spread = max(float(values.var(0).mean()), 1e-12)
    found = GaussianMixture(count, reg_covar=1e-4 * spread, random_state=seed, max_iter=50, init_params="k-means++")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on missing convergence: an approximate fit is enough for sampling
        found.fit(values)
    mixture = Mixture(MixtureConfig(values.shape[1], count))
    mixture.weights.copy_(torch.from_numpy(found.weights_))
    mixture.means.copy_(torch.from_numpy(found.means_))
    mixture.roots.copy_(torch.linalg.cholesky(torch.from_numpy(found.covariances_)))
    return mixture.eval()
