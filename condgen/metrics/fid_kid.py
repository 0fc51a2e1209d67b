"""Distances between two sets of images in some features: Fréchet and kernel distance, two-sample test.

Report a distance with its features, the number of images and the distance between two sets of real images.

These are functions of features, for any network; torchmetrics' classes call a fixed one, and serve as test oracles.
"""

from __future__ import annotations

import torch
from torch import Tensor

from condgen.contracts import Undefined


def frechet_distance(x: Tensor, y: Tensor) -> float:
    """Squared Fréchet distance of the two normal distributions with the means and covariances of x and y.

    Args:
        x, y: features (N, D) and (M, D).

    Returns:
        |mean_x - mean_y|^2 + tr(C_x + C_y - 2 (C_x C_y)^(1/2)); `Undefined` where a set has fewer than 2 D images: the
        estimate is biased upwards by about D / N, and would be mostly bias.

    References:
        GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium (Heusel et al., 2017)
    """
    if min(len(x), len(y)) < 2 * x.shape[1]:
        return Undefined(f"{min(len(x), len(y))} images for {x.shape[1]} features, {2 * x.shape[1]} are needed")
    x, y = x.double(), y.double()
    root_x, root_y = _root(x.T.cov()), _root(y.T.cov())
    # with C = A A^T and K = B B^T the eigenvalues of C K are the squared singular values of A^T B: real and not
    # negative, also for singular covariances
    overlap = torch.linalg.svdvals(root_x.T @ root_y).sum()
    spread = root_x.square().sum() + root_y.square().sum() - 2 * overlap
    return max(0.0, ((x.mean(0) - y.mean(0)).square().sum() + spread).item())


def _root(covariance: Tensor) -> Tensor:
    """A with A A^T the covariance."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt()


def polynomial_kernel(x: Tensor, y: Tensor) -> Tensor:
    """(x . y / D + 1)^3 of every pair: (N, D), (M, D) -> (N, M)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def gaussian_kernel(x: Tensor, y: Tensor, scale: float) -> Tensor:
    """exp(-|x - y|^2 / (2 scale^2)) of every pair: (N, D), (M, D) -> (N, M)."""
    return (-torch.cdist(x, y).square() / (2 * scale**2)).exp()


def mmd2(xx: Tensor, yy: Tensor, xy: Tensor) -> float:
    """Squared maximum mean discrepancy from kernel values, unbiased: it may be below zero.

    Args:
        xx, yy, xy: (N, N), (M, M) and (N, M), N and M at least 2.
    """
    n, m = xy.shape
    within = (xx.sum() - xx.trace()) / (n * (n - 1)) + (yy.sum() - yy.trace()) / (m * (m - 1))
    return (within - 2 * xy.mean()).item()


def kernel_distance(x: Tensor, y: Tensor, subsets: int = 50, subset: int = 1000, seed: int = 0) -> tuple[float, float]:
    """The distance of KID: `mmd2` under `polynomial_kernel`, over random subsets; unbiased for any number of images.

    Args:
        x, y: features (N, D) and (M, D), at least four each.
        subsets, subset: number and size of the subsets; a size of at most half the smaller set.
        seed: seed of the choice.

    Returns:
        (mean, standard deviation over the subsets with divisor N, as torchmetrics and torch-fidelity compute it)

    References:
        Demystifying MMD GANs (Bińkowski et al., 2018)
    """
    subset = min(subset, len(x) // 2, len(y) // 2)
    rng = torch.Generator().manual_seed(seed)
    values = []
    for _ in range(subsets):
        a, b = (z[torch.randperm(len(z), generator=rng)[:subset]].double() for z in (x, y))
        values.append(mmd2(polynomial_kernel(a, a), polynomial_kernel(b, b), polynomial_kernel(a, b)))
    found = torch.tensor(values)
    return found.mean().item(), found.std(correction=0).item()


def mmd_test(x: Tensor, y: Tensor, permutations: int = 999, most: int = 500, seed: int = 0) -> tuple[float, float]:
    """A permutation test on `mmd2` under a Gaussian kernel; the null hypothesis is that both distributions are equal.

    Args:
        x, y: features (N, D) and (M, D).
        permutations: number of permutations of the pooled images; the smallest p value is 1 / (permutations + 1).
        most: maximum number of images used from each set.
        seed: seed of the choice and of the permutations.

    Returns:
        (mmd2, p): p is the share of permutations, including the given order, with an mmd2 at least as large.

    References:
        A Kernel Two-Sample Test (Gretton et al., 2012), also for the median distance as scale
    """
    rng = torch.Generator().manual_seed(seed)
    x, y = (z[torch.randperm(len(z), generator=rng)[:most]].double() for z in (x, y))
    n, m = len(x), len(y)
    pooled = torch.cat([x, y])
    scale = torch.pdist(pooled).median().item() or 1.0
    kernel = gaussian_kernel(pooled, pooled, scale)
    kernel.fill_diagonal_(0)
    orders = [torch.arange(n + m), *(torch.randperm(n + m, generator=rng) for _ in range(permutations))]
    first = torch.stack([(order < n).double() for order in orders], 1)  # (N + M, permutations + 1)
    among_first, across = (first * (kernel @ first)).sum(0), ((1 - first) * (kernel @ first)).sum(0)
    among_second = kernel.sum() - among_first - 2 * across
    values = among_first / (n * (n - 1)) + among_second / (m * (m - 1)) - 2 * across / (n * m)
    return values[0].item(), (values >= values[0] - 1e-12).double().mean().item()
