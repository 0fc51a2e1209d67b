"""Principal component analysis as an autoencoder: the best linear reconstruction from Z numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

MOST = 20_000
"""Maximum number of images for the fit."""


class PrincipalComponents(nn.Module):
    """Fits principal components of images, by scikit-learn.

    Args:
        images: (N, C, S, S) in [-1, 1].
        latent: number of components Z; at most as many as there are images and intensities.
        solver: `randomized`, or `covariance_eigh` for all digits.
        seed: seed of the randomized solver.
    """

    def __init__(self, images: Tensor, latent: int, solver: str = "randomized", seed: int = 0):
        from sklearn.decomposition import PCA

        super().__init__()
        flat = images.flatten(1).numpy()
        self.latent, self.name = min(latent, *flat.shape), f"PCA, {latent} components"
        self.image_channels, self.size = images.shape[1], images.shape[-1]
        fitted = PCA(self.latent, svd_solver=solver, random_state=seed).fit(flat)
        self.register_buffer("mean", torch.from_numpy(fitted.mean_).float())
        self.register_buffer("basis", torch.from_numpy(fitted.components_.copy()).float())  # (Z, C S S)

    def encode(self, images: Tensor) -> Tensor:
        """(N, C, S, S) -> (N, Z)."""
        return (images.flatten(1) - self.mean) @ self.basis.T

    def decode(self, z: Tensor) -> Tensor:
        """(N, Z) -> (N, C, S, S), without a bound on the intensities."""
        return (z @ self.basis + self.mean).unflatten(1, (self.image_channels, self.size, self.size))
