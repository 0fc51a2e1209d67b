"""Metrics by nearest neighbours: precision, recall, density, coverage, and memorisation of training images."""

from __future__ import annotations

import torch
from torch import Tensor

ROWS = 1024
"""Rows of a matrix of distances that are held at a time."""


def nearest(x: Tensor, among: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
    """The k nearest rows of `among`: Euclidean distances and indices, (N, k) each, the nearest first.

    Args:
        x, among: (N, D) and (M, D).
    """
    found = [_nearest(part, among, k) for part in x.split(ROWS)]
    return torch.cat([distances for distances, _ in found]), torch.cat([rows for _, rows in found])


def _nearest(x: Tensor, among: Tensor, k: int) -> tuple[Tensor, Tensor]:
    # products are fast but lose all digits between nearly equal rows: they select, and differences measure
    rows = torch.cdist(x, among, compute_mode="use_mm_for_euclid_dist").topk(k, 1, largest=False).indices
    distances = torch.stack([(x - among[own]).norm(dim=1) for own in rows.T], 1)
    order = distances.argsort(dim=1, stable=True)
    return distances.gather(1, order), rows.gather(1, order)


def _apart(x: Tensor, y: Tensor) -> Tensor:
    """Distances of every pair, exact to the last digits: (N, D), (M, D) -> (N, M)."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def coverage_report(real: Tensor, generated: Tensor, k: int = 5) -> dict[str, float]:
    """Precision, recall, density and coverage. An image's ball reaches to its k-th nearest neighbour in the same set.

    The ball includes its edge, as in the code of the first reference and in torch-fidelity; the package prdc leaves the
    edge out, which differs where distances are equal: for copies of images and for features that are integers.

    Args:
        real, generated: features (N, D) and (M, D), more than k each.
        k: neighbours.

    Returns:
        precision: share of generated images within the ball of any real image; recall: share of real images within
        the ball of any generated one; density: mean number of real balls that contain a generated image, over k (may
        exceed 1); coverage: share of the real balls that contain a generated image.

    References:
        Improved Precision and Recall Metric for Assessing Generative Models (Kynkäänniemi et al., 2019)
        Reliable Fidelity and Diversity Metrics for Generative Models (Naeem et al., 2020)
    """
    # the nearest neighbour of every image is itself
    reach_real, reach_generated = (
        torch.cat([_apart(rows, z).kthvalue(k + 1, 1).values for rows in z.split(ROWS)]) for z in (real, generated)
    )
    inside = torch.zeros(len(generated), dtype=torch.int64)
    recalled, covered = [], []
    for rows, reach in zip(real.split(ROWS), reach_real.split(ROWS)):
        far = _apart(rows, generated)
        within = far <= reach[:, None]
        inside += within.sum(0)
        covered.append(within.any(1))
        recalled.append((far <= reach_generated).any(1))
    return {
        "precision": (inside > 0).double().mean().item(),
        "recall": torch.cat(recalled).double().mean().item(),
        "density": inside.double().mean().item() / k,
        "coverage": torch.cat(covered).double().mean().item(),
    }


def closeness(x: Tensor, training: Tensor, k: int = 50) -> tuple[Tensor, Tensor]:
    """The distance to the nearest training image over the mean distance to the k nearest.

    Near 1 for an image among others, near 0 for a copy. The distance alone would call every blurred image a copy, as
    such images are near to many; and relative to the second nearest alone, copies of duplicates in the data would pass.

    Args:
        x, training: (N, D) and (M, D).
        k: number of neighbours, at most M.

    Returns:
        (closeness (N,) in [0, 1], index of the nearest training image (N,))

    References:
        Extracting Training Data from Diffusion Models (Carlini et al., 2023), section 4.2
    """
    distances, rows = nearest(x, training, min(k, len(training)))
    return distances[:, 0] / distances.mean(1).clamp(min=1e-12), rows[:, 0]


def memorisation(generated: Tensor, real: Tensor) -> dict[str, float]:
    """The share of images that lie closer to a training image than real images do.

    Args:
        generated, real: `closeness` of generated images, and of real ones that training never saw.

    Returns:
        limit: the first percentile of the real images' closeness; generated, real: shares of generated and of real
        images at or below it. The share of real images is .01; a model that does not memorise has about the same.
    """
    limit = real.double().quantile(0.01, interpolation="higher")
    shares = {
        name: (z.double() <= limit).double().mean().item() for name, z in (("generated", generated), ("real", real))
    }
    return {"limit": limit.item()} | shares
