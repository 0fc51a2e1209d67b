"""Prediction targets and loss weights of diffusion. The path is always x_t = (1 - t) x_0 + t eps.

Every class here turns a network into a denoiser, a function (x_t, t, cond) -> estimate of x_0, samples noise levels for
training, and weights the errors. Data has standard deviation 1. Any Gaussian path equals this one up to a factor, so
samplers do not depend on the choice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from condgen.contracts import Batch
from condgen.losses import weighted_mse

Network = Callable[[Tensor, Tensor, Batch], Tensor]
Denoiser = Callable[[Tensor, Tensor, Batch], Tensor]
"""(x_t (B, ...), t (B,), cond) -> x_0 (B, ...)"""


def expand(t: Tensor, like: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, ...), which broadcasts against `like`."""
    return t.reshape(-1, *[1] * (like.ndim - 1))


def add_noise(x_0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """x_t = (1 - t) x_0 + t eps."""
    t = expand(t, x_0)
    return (1 - t) * x_0 + t * eps


@dataclass(frozen=True)
class XPrediction:
    """The network predicts x_0; the loss is that of the velocity (x_t - x_0) / t, capped near t = 0.

    Args:
        mean, sd: parameters of the normal distribution of ln sigma = logit t in training.
        floor: noise level below which the weight of the error no longer grows.

    References:
        Back to Basics: Let Denoising Generative Models Denoise (Li, He, 2025)
    """

    mean: float = 0.7
    sd: float = 1.2
    floor: float = 0.05

    def draw_t(self, n: int, device: torch.device | None = None) -> Tensor:
        """Noise levels for training, (n,) in (0, 1)."""
        return torch.sigmoid(self.mean + self.sd * torch.randn(n, device=device))

    def weight(self, t: Tensor) -> Tensor:
        """Weight of the squared error of x_0."""
        return 1 / t.clamp(min=self.floor) ** 2

    def denoise(self, network: Network, x_t: Tensor, t: Tensor, cond: Batch) -> Tensor:
        """x_0 from x_t."""
        return network(x_t, t, cond)


@dataclass(frozen=True)
class EDM(XPrediction):
    """EDM's preconditioning: input, output and error of the network have unit variance.

    c_skip, c_out, c_in and weight with sigma_data = 1, written in t.

    References:
        Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022), Table 1
    """

    mean: float = 0.3
    sd: float = 1.2

    def weight(self, t: Tensor) -> Tensor:
        return self._norm(t) ** 2 / t**2

    def denoise(self, network: Network, x_t: Tensor, t: Tensor, cond: Batch) -> Tensor:
        norm, level = expand(self._norm(t), x_t), expand(t, x_t)
        return (1 - level) / norm**2 * x_t + level / norm * network(x_t / norm, t, cond)

    @staticmethod
    def _norm(t: Tensor) -> Tensor:
        return (t**2 + (1 - t) ** 2).sqrt()


OBJECTIVES = {"x": XPrediction, "edm": EDM}


def estimate(objective: XPrediction, network: Network, x_0: Tensor, cond: Batch) -> tuple[Tensor, Tensor]:
    """The network's estimate of x_0, (B, ...), from noise of a random level for every sample; the levels, (B,)."""
    t = objective.draw_t(len(x_0), x_0.device)
    x_t = add_noise(x_0, torch.randn_like(x_0), t)
    return objective.denoise(network, x_t, t, cond), t


def denoising_loss(objective: XPrediction, network: Network, x_0: Tensor, cond: Batch) -> Tensor:
    """The training loss with a random noise level and noise for every sample: weighted squared error of x_0."""
    x, t = estimate(objective, network, x_0, cond)
    return weighted_mse(x, x_0, objective.weight(t))
