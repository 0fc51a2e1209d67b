"""Muon: momentum with orthogonalised updates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from condgen import distributed
from condgen.training.fsdp import like, local, whole

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
            params = [p for p in group["params"] if p.grad is not None]
            for p in params:
                if not self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
            means = [self.state[p]["momentum"] for p in params]
            torch._foreach_lerp_([local(m) for m in means], [local(p.grad) for p in params], 1 - group["momentum"])
            ahead = [p.grad.lerp(mean, group["momentum"]).flatten(1) for p, mean in zip(params, means)]
            updates = orthogonal_all([whole(update) for update in ahead])
            sizes = [0.2 * max(update.shape) ** 0.5 for update in updates]  # root mean square of Adam's updates
            torch._foreach_mul_(updates, sizes)
            weights = [local(p) for p in params]
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            own = [local(like(update.view(p.shape), p)) for update, p in zip(updates, params)]
            torch._foreach_add_(weights, own, alpha=-group["lr"])
        return loss


def orthogonal_all(matrices: list[Tensor]) -> list[Tensor]:
    """`orthogonal` of matrices of any shapes, which are the same in every process; the processes share the work."""
    together: dict[torch.Size, list[int]] = defaultdict(list)
    mine = shares([cost(m.shape) for m in matrices], distributed.world())[distributed.rank()]
    for i in mine:
        together[matrices[i].shape].append(i)
    out = [torch.empty(0)] * len(matrices)
    for rows in together.values():
        for i, update in zip(rows, orthogonal(torch.stack([matrices[i] for i in rows]))):
            out[i] = update
    if distributed.world() == 1:
        return out
    flat = torch.cat([(out[i] if out[i].numel() else torch.zeros_like(m)).flatten() for i, m in enumerate(matrices)])
    parts = distributed.total(flat).split([m.numel() for m in matrices])
    return [part.view(m.shape) for part, m in zip(parts, matrices)]


def cost(shape: torch.Size) -> int:
    """Multiplications of `orthogonal` for a matrix."""
    small, large = sorted(shape)
    return small**2 * (2 * large + 15 * small)


def shares(costs: list[int], count: int) -> list[list[int]]:
    """Splits items into `count` parts of about equal cost: their indices, each in order."""
    parts: list[list[int]] = [[] for _ in range(count)]
    sums = [0] * count
    for i in sorted(range(len(costs)), key=lambda i: -costs[i]):
        place = sums.index(min(sums))
        parts[place].append(i)
        sums[place] += costs[i]
    return [sorted(part) for part in parts]
