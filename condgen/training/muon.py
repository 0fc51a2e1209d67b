"""Muon: momentum with orthogonalised updates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from condgen.training.fsdp import like, whole

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic of the Newton-Schulz iteration; it maps the singular values to [0.7, 1.2]."""


def matrices_of(model: nn.Module) -> set[nn.Parameter]:
    """The weights of linear layers and convolutions; not embeddings, positions or norms."""
    return {m.weight for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)}


def orthogonal(g: Tensor, iterations: int = 5) -> Tensor:
    """(N, A, B) matrices with their singular values brought near 1, by the Newton-Schulz iteration.

    Every step of x <- (a + b G + c G^2) x with G = x x^T only multiplies x from the left, so the steps are combined
    into one small square matrix and x is used twice.
    """
    a, b, c = COEFFICIENTS
    tall = g.shape[-2] > g.shape[-1]
    x = g.mT if tall else g
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    gram = x @ x.mT
    stretch = None
    for k in range(iterations):
        q = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        q.diagonal(dim1=-2, dim2=-1).add_(a)
        stretch = q if stretch is None else q @ stretch
        if k + 1 < iterations:
            gram = q @ (gram @ q)
    x = stretch @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """The Muon optimiser, for matrices and kernels of convolutions, reshaped to (out, in * k * k).

    Updates have the size of Adam's at the same learning rate, so both can share it. torch.optim.Muon
    takes matrices only and iterates in bfloat16, which few CPUs can do fast; here kernels are matrices too, the
    precision is that of the weights, and matrices of one shape go through the iteration together.

    Args:
        params: parameters of two or more dimensions.
        lr: learning rate.
        momentum: momentum of the gradients, with one step of look-ahead (Nesterov).
        weight_decay: decoupled weight decay.

    References:
        Muon: An optimizer for hidden layers in neural networks (Jordan et al., 2024)
        Muon is Scalable for LLM Training (Liu et al., 2025), for the size of the update
    """

    def __init__(self, params: Iterable, lr: float = 1e-3, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        for p in (p for group in self.param_groups for p in group["params"]):
            if p.ndim < 2:
                raise ValueError(f"Muon is for matrices; a parameter has shape {tuple(p.shape)}.")

    @torch.no_grad()
    def step(self, closure=None) -> float | None:
        """One update of every parameter that has a gradient."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            together: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for p in (p for p in group["params"] if p.grad is not None):
                if not self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
                mean = self.state[p]["momentum"]
                mean.lerp_(p.grad, 1 - group["momentum"])
                ahead = p.grad.lerp(mean, group["momentum"]).flatten(1)
                together[ahead.shape].append((p, ahead))
            for shape, some in together.items():
                size = 0.2 * max(shape) ** 0.5  # the root mean square of Adam's updates
                for (p, _), update in zip(some, orthogonal(torch.stack([whole(u) for _, u in some]))):
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(like(update.view(p.shape), p), alpha=-group["lr"] * size)
        return loss
