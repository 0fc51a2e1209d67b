"""A running mean of weights that always covers the same share of the run so far."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from condgen.training.fsdp import like, local


class PowerEma:
    """Averages the weights of step i with beta_i = (1 - 1/i)^(gamma + 1).

    Args:
        module: whose parameters and buffers to follow.
        gamma: the higher, the shorter the memory; 12 weighs roughly the last 7 % of the run.
        without: names in the module's state to leave out.

    References:
        Analyzing and Improving the Training Dynamics of Diffusion Models (Karras et al., 2024), Eq. 3
    """

    def __init__(self, module: nn.Module, gamma: float = 12.0, without: Collection[str] = ()):
        self.gamma = gamma
        state = module.state_dict().items()
        self.mean = {name: value.detach().clone() for name, value in state if name not in without}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Updates the mean with the weights after optimiser step `step`, counted from 1."""
        beta = (1 - 1 / step) ** (self.gamma + 1)
        now = {name: value for name, value in module.state_dict().items() if name in self.mean}
        floating = [name for name, value in now.items() if value.is_floating_point()]
        means, weights = ([local(of[name].detach()) for name in floating] for of in (self.mean, now))
        torch._foreach_lerp_(means, weights, 1 - beta)
        for name in set(now) - set(floating):
            self.mean[name].copy_(now[name])

    def state_dict(self) -> dict[str, Tensor]:
        return self.mean

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.mean = {name: like(value.to(self.mean[name].device), self.mean[name]) for name, value in state.items()}
