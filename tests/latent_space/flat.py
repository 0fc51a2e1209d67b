"""Latent spaces of which everything is known: a plane among images, and probabilistic PCA."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from condgen.data.attributes import Attribute
from condgen.data.batches.base import to_uint8
from condgen.data.datasets.labels import LabelledImages

SIZE, LATENT = 4, 3


class Plane(nn.Module):
    """Images of 16 numbers near a plane of three dimensions; encoding projects onto it.

    Args:
        stretch: lengths of the three directions of the decoder.
    """

    size, image_channels, latent, encodes = SIZE, 1, LATENT, True

    def __init__(self, stretch: tuple[float, ...] = (3.0, 2.0, 1.0)):
        super().__init__()
        rng = torch.Generator().manual_seed(0)
        basis = torch.linalg.qr(torch.randn(SIZE**2, LATENT, generator=rng))[0]
        self.weight = nn.Parameter(basis * torch.tensor(stretch))
        self.mean = nn.Parameter(0.1 * torch.randn(SIZE**2, generator=rng))

    def decode(self, z: Tensor) -> Tensor:
        return (z @ self.weight.T + self.mean).unflatten(1, (1, SIZE, SIZE))

    def encode(self, images: Tensor) -> Tensor:
        return (images.flatten(1) - self.mean) @ torch.linalg.pinv(self.weight).T


class PPCA(Plane):
    """Probabilistic PCA: the posterior is known, and so is log p(x).

    Args:
        sigma: sd of the pixels.
        wide: factor on the sd of the posterior; 1 is exact.

    References:
        Probabilistic Principal Component Analysis (Tipping, Bishop, 1999)
    """

    variational = True

    def __init__(self, sigma: float = 0.3, wide: float = 1.0):
        super().__init__((0.6, 0.4, 0.3))
        self.sigma, self.wide = sigma, wide

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        precision = self.weight.square().sum(0) / self.sigma**2 + 1  # diagonal, for the columns are orthogonal
        mean = (images.flatten(1) - self.mean) @ self.weight / self.sigma**2 / precision
        return mean, (-precision.log() + 2 * math.log(self.wide)).expand_as(mean)

    def encode(self, images: Tensor) -> Tensor:
        return self.posterior(images)[0]

    def log_likelihood(self, images: Tensor, z: Tensor) -> Tensor:
        return torch.distributions.Normal(self.decode(z), self.sigma).log_prob(images).flatten(1).sum(1)

    def log_prob(self, images: Tensor) -> Tensor:
        """log p(x), exact."""
        covariance = self.weight @ self.weight.T + self.sigma**2 * torch.eye(SIZE**2)
        return torch.distributions.MultivariateNormal(self.mean, covariance).log_prob(images.flatten(1))


class Brush(Plane):
    """The same without an encoder."""

    encodes = False


def on_plane(space: Plane, n: int = 40, noise: float = 0.0, seed: int = 1) -> Tensor:
    """Images of normal codes, with noise."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        images = space.decode(0.1 * torch.randn(n, LATENT, generator=rng))
    return images + noise * torch.randn(images.shape, generator=rng)


def two_classes(n: int = 60, seed: int = 0) -> LabelledImages:
    """Images whose left half is dark or light (the class) and whose top row is dark or light (another attribute)."""
    rng = np.random.default_rng(seed)
    codes = np.stack([np.arange(n) % 2, np.arange(n) // 2 % 2], 1).astype(np.float32)
    images = torch.from_numpy(rng.normal(0, 0.05, (n, 1, SIZE, SIZE))).float()
    images[:, 0, 1:, :2] += torch.from_numpy(codes[:, 0] - 0.5)[:, None, None]
    images[:, 0, 0] += torch.from_numpy(codes[:, 1] - 0.5)[:, None]
    factors = (Attribute("label", ("dark", "light")), Attribute("top", ("low", "high")))
    return LabelledImages(to_uint8(images), factors, codes, "halves")
