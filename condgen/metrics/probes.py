"""Quality of features: nearest neighbours, a linear probe, zero-shot classification, and collapse.

Probes are fitted on the features of training images and scored on those of others. Compare the scores of an encoder
with those of raw pixels and of a random network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from condgen import losses
from condgen.contracts import Undefined

ROWS = 1024
"""Rows of a matrix of similarities that are held at a time."""
TRIED = 10_000
"""Maximum number of images for the selection of penalties: six fits to all images would take minutes."""
STRENGTHS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
"""Penalties to select from."""
FEWEST = 10
"""Minimum number of validation images; with fewer, the strongest penalty is taken."""


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Share of correct predictions; both arguments are int64 (N,). `Undefined` without images."""
    if not len(labels):
        return Undefined("no images")
    return (predicted.cpu() == labels.cpu()).double().mean().item()


def accuracy_by_class(predicted: Tensor, labels: Tensor, classes: int) -> list[float]:
    """Accuracy for each class; NaN for classes without images."""
    labels = labels.cpu()
    right = (predicted.cpu() == labels).double()
    counts = torch.bincount(labels, minlength=classes)
    return (torch.bincount(labels, weights=right, minlength=classes) / counts).tolist()


# Nearest neighbours ---------------------------------------------------------------------------------------------------


def knn(
    features: Tensor, labels: Tensor, asked: Tensor, classes: int, k: int = 200, temperature: float = 0.1
) -> Tensor:
    """Classifies by the k nearest training images, weighted by exp(cosine / temperature).

    Args:
        features, labels: features (N, F) and classes int64 (N,) of the training images.
        asked: features (M, F) of the images to classify.
        k: neighbours, at most the number of training images.

    Returns:
        int64 (M,).

    References:
        Unsupervised Feature Learning via Non-Parametric Instance Discrimination (Wu et al., 2018), section 3.4
    """
    known, k = F.normalize(features, dim=1), min(k, len(features))
    predicted = []
    for rows in asked.split(ROWS):
        near, which = (F.normalize(rows, dim=1) @ known.T).topk(k, 1, sorted=False)
        votes = near.new_zeros(len(rows), classes).scatter_add_(1, labels[which], ((near - 1) / temperature).exp())
        predicted.append(votes.argmax(1))
    return torch.cat(predicted)


# The linear probe -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Probe:
    """A multinomial logistic regression on features.

    Args:
        weight, bias: for features without standardisation, (K, F) and (K,).
        strength: strength of the penalty.
        tried: strength -> validation accuracy; empty if no strength was selected.
    """

    weight: Tensor
    bias: Tensor
    strength: float
    tried: dict[float, float]

    def __call__(self, features: Tensor) -> Tensor:
        """(M, F) -> the most likely class, int64 (M,)."""
        return self.logits(features).argmax(1)

    def logits(self, features: Tensor) -> Tensor:
        """(M, F) -> (M, K)."""
        return features @ self.weight.T + self.bias


def linear_probe(
    features: Tensor, labels: Tensor, classes: int, strengths: Sequence[float] = STRENGTHS, seed: int = 0,
    held: float = 0.1, steps: int = 100,
) -> Probe:  # fmt: skip
    """Fits a probe on standardised features.

    Args:
        features, labels: (N, F) and int64 (N,) below `classes`.
        strengths: strengths of the penalty strength / 2 |weight|^2 that is added to the mean cross-entropy. The best
            one is selected on at most TRIED images by accuracy on a held-out part; the probe is fitted on all images
            with that strength, scaled by the ratio of the numbers of images.
        seed: seed of the held-out part.
        held: share of the held-out part.
        steps: steps of L-BFGS for every strength.
    """
    mean, sd = features.mean(0), features.std(0, correction=0)
    sd = torch.where(sd > 1e-6 * sd.max().clamp(min=1e-30), sd, torch.inf)  # constant features get no weight
    x = (features - mean) / sd
    few = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:TRIED].to(x.device)
    part = labels[few]
    tried = _tried(x[few], part, classes, sorted(strengths, reverse=True), _held_out(part, held, seed), steps)
    strength = max(tried, key=lambda one: (tried[one], one)) if tried else max(strengths)
    strength = strength * len(few) / len(x)
    solution = _fit(x, labels, classes, strength, 2 * steps)
    weight = (solution[:-1] / sd[:, None]).T.contiguous()
    return Probe(weight, solution[-1] - weight @ mean, strength, tried)


def _tried(
    x: Tensor, labels: Tensor, classes: int, strengths: Sequence[float], held: Tensor, steps: int
) -> dict[float, float]:
    """Validation accuracy by strength, the strongest first; stops when the accuracy has fallen twice."""
    if len(strengths) < 2 or len(held) < FEWEST:
        return {}
    rest = torch.ones(len(x), dtype=torch.bool, device=x.device)
    rest[held] = False
    solution, tried, falls = None, {}, 0
    for strength in strengths:
        solution = _fit(x[rest], labels[rest], classes, strength, steps, solution)
        tried[strength] = accuracy((x[held] @ solution[:-1] + solution[-1]).argmax(1), labels[held])
        falls = falls + 1 if tried[strength] < max(tried.values()) else 0
        if falls == 2:
            break
    return tried


def _held_out(labels: Tensor, share: float, seed: int) -> Tensor:
    """Rows for validation, a share of every class."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).to(labels.device)
    rows = [some[: round(share * len(some))] for some in (order[labels[order] == one] for one in labels.unique())]
    return torch.cat(rows)


def _fit(x: Tensor, labels: Tensor, classes: int, strength: float, steps: int, start: Tensor | None = None) -> Tensor:
    """Weights, and the bias in the last row: (F + 1, K)."""
    solution = x.new_zeros(x.shape[1] + 1, classes) if start is None else start.clone()
    solution.requires_grad_(True)
    optimiser = torch.optim.LBFGS(
        [solution],
        max_iter=steps,
        history_size=10,
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-5,
        tolerance_change=1e-7,
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = F.cross_entropy(torch.addmm(solution[-1], x, solution[:-1]), labels)
        loss = loss + strength / 2 * solution[:-1].square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimiser.step(closure)
    return solution.detach()


# Zero-shot ------------------------------------------------------------------------------------------------------------


def class_embeddings(text_embed: Tensor) -> Tensor:
    """Unit embeddings of T sentences about each of K classes, (K, T, D) -> their mean direction, unit, (K, D)."""
    return F.normalize(text_embed.mean(1), dim=-1)


def zero_shot(image_embed: Tensor, classes: Tensor) -> Tensor:
    """Unit embeddings of images (N, D) and of classes (K, D) -> the nearest class, int64 (N,)."""
    return (image_embed @ classes.T).argmax(1)


# Collapse -------------------------------------------------------------------------------------------------------------


def effective_rank(features: Tensor) -> float:
    """exp of the entropy of the singular values as shares of their sum: 1 to min(N, F).

    References:
        RankMe: Assessing the Downstream Performance of Pretrained Self-Supervised Representations by Their Rank
        (Garrido et al., 2023)
    """
    x = features.double()
    gram = x.T @ x if x.shape[0] > x.shape[1] else x @ x.T
    values = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    return torch.special.entr(values / values.sum().clamp(min=1e-30)).sum().exp().item()


def spread(features: Tensor) -> float:
    """`losses.spread` of normalised features: 0 in one point, 1 if uniform."""
    return losses.spread(F.normalize(features.double(), dim=1)).item()


def alignment(x: Tensor, y: Tensor) -> float:
    """Mean squared distance of positive pairs, unit vectors (N, D) each: 0 is best, 2 is chance.

    References:
        Understanding Contrastive Representation Learning through Alignment and Uniformity on the Hypersphere (Wang,
        Isola, 2020)
    """
    return (x - y).double().square().sum(1).mean().item()


def alignment_within(features: Tensor, labels: Tensor) -> float:
    """`alignment` of all pairs of unit features (N, D) of one class; NaN without such pairs."""
    classes, count = labels.unique(return_inverse=True)[1], torch.unique(labels, return_counts=True)[1].double()
    x = features.double()
    sums = x.new_zeros(len(count), x.shape[1]).index_add_(0, classes, x)
    squares = x.new_zeros(len(count)).index_add_(0, classes, x.square().sum(1))
    # sum over pairs of |a - b|^2 = n sum |a|^2 - |sum a|^2
    apart = (count * squares - sums.square().sum(1)).sum()
    return (apart / (count * (count - 1) / 2).sum()).item()


def uniformity(features: Tensor, t: float = 2.0) -> float:
    """log of the mean of exp(-t |x - y|^2) over all pairs of unit features (N, D): 0 in one point, about -2 t if
    uniform in many dimensions. References: see `alignment`.
    """
    total, n, length = 0.0, len(features), features.square().sum(1)
    for rows, lengths in zip(features.split(ROWS), length.split(ROWS)):  # features that are all 0 keep length 0
        apart = lengths[:, None] + length - 2 * rows @ features.T
        total = total + (-t * apart).exp().sum(dtype=torch.float64)
    return ((total - n) / (n * (n - 1))).clamp(min=1e-300).log().item()


def collapse_report(features: Tensor, labels: Tensor | None = None) -> dict[str, float]:
    """Indicators of collapsed features.

    Args:
        features: (N, F).
        labels: int64 (N,), for the alignment of classes.
    """
    unit = F.normalize(features, dim=1)
    report = {"width": features.shape[1], "effective rank": effective_rank(features), "spread": spread(features)}
    report["uniformity"] = uniformity(unit)
    return report | ({} if labels is None else {"alignment": alignment_within(unit, labels)})
