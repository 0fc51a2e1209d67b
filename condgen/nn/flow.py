"""A conditional normalizing flow, used as the prior of latents."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Flow(nn.Module):
    """(latents (B, N), vector (B, width)) <-> normal numbers (B, N), by an affine map and coupling layers.

    Each layer transforms one half of the numbers by a function of the other half and the condition, so it has an exact
    inverse. An untrained flow is the identity.

    Args:
        size: length N of the latents, even.
        width: width of the condition's vector.
        layers: number of coupling layers.
        hidden: hidden width of their MLPs.

    References:
        Density estimation using Real NVP (Dinh et al., 2017)
        Variational Lossy Autoencoder (Chen et al., 2017), for flows as priors of latents
    """

    def __init__(self, size: int, width: int, layers: int = 6, hidden: int = 128):
        super().__init__()
        if size % 2:
            raise ValueError(f"the length of the latent must be even, got {size}")
        self.half = size // 2
        self.affine = nn.Linear(width, 2 * size)
        self.couplings = nn.ModuleList(
            nn.Sequential(
                nn.Linear(self.half + width, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
                nn.Linear(hidden, size),
            )
            for _ in range(layers)
        )  # fmt: skip
        for last in (self.affine, *(coupling[-1] for coupling in self.couplings)):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def log_prob(self, z: Tensor, vector: Tensor) -> Tensor:
        """Log density of latents under the condition, in nats, (B,)."""
        x, log_det = self.to_normal(z, vector)
        normal = torch.distributions.Normal(0.0, 1.0, validate_args=False)
        return normal.log_prob(x).sum(1) + log_det

    def to_normal(self, z: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
        """Maps latents to normal numbers; returns them and the log determinant of the Jacobian, (B,)."""
        shift, log_scale = self._affine(vector)
        x, log_det = (z - shift) * (-log_scale).exp(), -log_scale.sum(1)
        for coupling in self.couplings:
            still, moved = x.chunk(2, 1)
            shift, log_scale = self._coupling(coupling, still, vector)
            x = torch.cat([(moved - shift) * (-log_scale).exp(), still], 1)
            log_det = log_det - log_scale.sum(1)
        return x, log_det

    def from_normal(self, x: Tensor, vector: Tensor) -> Tensor:
        """Maps normal numbers to latents; the exact inverse of `to_normal`."""
        for coupling in reversed(self.couplings):
            moved, still = x.chunk(2, 1)
            shift, log_scale = self._coupling(coupling, still, vector)
            x = torch.cat([still, moved * log_scale.exp() + shift], 1)
        shift, log_scale = self._affine(vector)
        return x * log_scale.exp() + shift

    def _affine(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        shift, log_scale = self.affine(vector).chunk(2, 1)
        return shift, 2 * torch.tanh(log_scale)

    @staticmethod
    def _coupling(coupling: nn.Module, still: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
        shift, log_scale = coupling(torch.cat([still, vector], 1)).chunk(2, 1)
        return shift, 2 * torch.tanh(log_scale / 2)
