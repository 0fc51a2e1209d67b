"""How varied images are: a generator that paints few things well has collapsed, whatever its images look like."""

from __future__ import annotations

import math

import torch
from torch import Tensor

MISSING = 0.1
"""A class with less than this part of the share it should have counts as missing."""


def mean_distance(x: Tensor) -> float:
    """Mean Euclidean distance of two different rows of (N, ...)."""
    return torch.pdist(x.flatten(1).float()).mean().item()


def shares(labels: Tensor, classes: int) -> Tensor:
    """Classes int64 (N,) -> which part of all each one is, (classes,)."""
    return torch.bincount(labels, minlength=classes).double() / max(len(labels), 1)


def entropy(share: Tensor) -> float:
    """Of shares that add up to one, in nats; of K equal ones it is ln K."""
    return -torch.xlogy(share, share).sum().item()


def missing(share: Tensor, real: Tensor) -> int:
    """Number of classes that real images show and generated ones hardly do."""
    return int(((real > 0) & (share < MISSING * real)).sum())


def best_matching(found: Tensor, labels: Tensor, kinds: int, classes: int) -> Tensor:
    """Names clusters after classes, each class once: the matching that makes the most images right.

    Args:
        found: int64 (N,), cluster of every image. labels: int64 (N,), its class.
        kinds, classes: how many there are.

    Returns:
        int64 (kinds,), the class of every cluster; -1 where there are more clusters than classes.

    References:
        The Hungarian Method for the Assignment Problem (Kuhn, 1955), as scipy has it
    """
    from scipy.optimize import linear_sum_assignment

    counts = torch.bincount(found * classes + labels, minlength=kinds * classes).unflatten(0, (kinds, classes))
    rows, columns = linear_sum_assignment(counts.numpy(), maximize=True)
    matching = torch.full((kinds,), -1)
    matching[torch.from_numpy(rows)] = torch.from_numpy(columns)
    return matching


def purity(found: Tensor, labels: Tensor, kinds: int, classes: int) -> float:
    """Share of the images that are of the class that is the most frequent in their cluster; NaN of none."""
    counts = torch.bincount(found * classes + labels, minlength=kinds * classes).unflatten(0, (kinds, classes))
    return counts.amax(1).sum().item() / len(found) if len(found) else math.nan
