"""Diversity of generated images, to detect mode collapse."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from condgen.contracts import Undefined

MISSING = 0.1
"""A class is missing below this fraction of its share among real images."""


def mean_distance(x: Tensor) -> float:
    """Mean Euclidean distance of two different rows of (N, ...); `Undefined` for fewer than two."""
    if len(x) < 2:
        return Undefined(f"{len(x)} images have no distance")
    return torch.pdist(x.flatten(1).float()).mean().item()


def shares(labels: Tensor, classes: int) -> Tensor:
    """Share of each class, (classes,), from classes int64 (N,)."""
    return torch.bincount(labels, minlength=classes).double() / max(len(labels), 1)


def entropy(share: Tensor) -> float:
    """Entropy of shares that add up to one, in nats; ln K for K equal ones."""
    return -torch.xlogy(share, share).sum().item()


def missing(share: Tensor, real: Tensor) -> int:
    """Number of classes that occur in real images and are missing in generated ones."""
    return int(((real > 0) & (share < MISSING * real)).sum())


def best_matching(found: Tensor, labels: Tensor, kinds: int, classes: int) -> Tensor:
    """Assigns clusters to classes one to one so that most images are right.

    Args:
        found: int64 (N,), cluster of every image. labels: int64 (N,), its class.
        kinds, classes: number of clusters and of classes.

    Returns:
        int64 (kinds,), the class of every cluster; -1 where there are more clusters than classes.

    References:
        The Hungarian Method for the Assignment Problem (Kuhn, 1955)
    """
    from scipy.optimize import linear_sum_assignment

    counts = torch.bincount(found * classes + labels, minlength=kinds * classes).unflatten(0, (kinds, classes))
    rows, columns = linear_sum_assignment(counts.numpy(), maximize=True)
    matching = torch.full((kinds,), -1)
    matching[torch.from_numpy(rows)] = torch.from_numpy(columns)
    return matching


def purity(found: Tensor, labels: Tensor, kinds: int, classes: int) -> float:
    """Share of images of the most frequent class of their cluster; NaN without images."""
    counts = torch.bincount(found * classes + labels, minlength=kinds * classes).unflatten(0, (kinds, classes))
    return counts.amax(1).sum().item() / len(found) if len(found) else math.nan
