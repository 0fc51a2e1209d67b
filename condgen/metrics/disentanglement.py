"""Disentanglement metrics: one latent dimension per factor of variation, and one factor per dimension.

Codes are float (N, Z), for variational autoencoders the means; factors are int (N, K), levels counted from 0. All
scores are invariant to permutations and sign flips of latent dimensions. `mig` of a factor with more levels than bins
stays below log(bins) / entropy; a rotation of two factors counts as entangled in all three scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BINS = 20
"""Bins of a latent dimension between its minimum and maximum, for mutual information."""
INACTIVE = 0.05
"""A latent dimension with a lower sd is inactive; the prior has sd 1."""
DCI_BY = "permutation"
"""The importance that DCI is computed from; named beside every score, as other kinds give other values."""
TREES, LEAF = 20, 5
"""Trees of the forests of DCI, and fewest images in a leaf."""
SURE = 4.0
"""Standard errors above which a loss of accuracy is significant."""


# MIG ------------------------------------------------------------------------------------------------------------------


def mutual_information(codes: np.ndarray, factors: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Mutual information of every latent dimension, in bins of equal width, with every factor: (Z, K) in nats.

    The plug-in estimate, which is too large by about (bins - 1) (levels - 1) / 2N for N images.
    """
    from sklearn.metrics import mutual_info_score

    _check(codes, factors)
    binned = [np.digitize(z, np.histogram_bin_edges(z, bins)[1:-1]) for z in codes.astype(np.float64).T]
    return np.array([[mutual_info_score(z, levels) for levels in factors.T] for z in binned])


def entropies(factors: np.ndarray) -> np.ndarray:
    """Entropy of every factor, (K,) in nats.

    Raises:
        ValueError: a factor is constant.
    """
    shares = [np.bincount(levels) / len(levels) for levels in factors.T]
    if constant := [k for k, share in enumerate(shares) if (share > 0).sum() < 2]:
        raise ValueError(f"factor {constant[0]} is constant")
    return np.array([-(share[share > 0] * np.log(share[share > 0])).sum() for share in shares])


def mig(information: np.ndarray, entropy: np.ndarray) -> np.ndarray:
    """The gap between the two most informative latent dimensions of each factor, as a share of its entropy: (K,).

    The score is the mean: 1 where one dimension determines a factor and the others are independent of it.

    Args:
        information: (Z, K), see `mutual_information`.
        entropy: (K,).

    References:
        Isolating Sources of Disentanglement in Variational Autoencoders (Chen et al., 2018)
    """
    best = np.sort(np.concatenate([information, np.zeros((1, information.shape[1]))]), axis=0)
    return (best[-1] - best[-2]) / entropy


# DCI ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dci:
    """Results of DCI by permutation importance: forests predict factors from codes.

    Not comparable with scores from the importances of the forests themselves (impurity), as in the paper.

    Args:
        disentanglement: 1 where every dimension is important for one factor only; weighted by importance.
        completeness: 1 where one dimension only is important for every factor; the mean over factors.
        informativeness: accuracy on held-out images; the mean over factors.
        importance: (Z, K), loss of accuracy for a factor when a dimension is shuffled, as a share of the accuracy above
            chance.
        accuracy: (K,), of every factor.
        chance: (K,), of the most frequent level.
    """

    disentanglement: float
    completeness: float
    informativeness: float
    importance: np.ndarray
    accuracy: np.ndarray
    chance: np.ndarray


def dci(codes: np.ndarray, factors: np.ndarray, seed: int = 0, held: float = 1 / 3) -> Dci:
    """Fits a forest for each factor on a part of the images, and scores it on the rest, the share `held`.

    Random forests, as in the paper: linear models miss factors that are encoded along a curve (a position, a hue), and
    boosted trees need a minute for a factor of sixteen levels. Unlike in the paper, importance is the loss of accuracy
    on held-out images when a dimension is shuffled: impurity-based importances credit noise, so much that the score of
    a code with noise dimensions goes from 0.45 to 0.98 as leaves grow.

    References:
        A Framework for the Quantitative Evaluation of Disentangled Representations (Eastwood, Williams, 2018)
        Random Forests (Breiman, 2001), section 10, for permutation importance
    """
    from sklearn.ensemble import RandomForestClassifier

    _check(codes, factors)
    rng = np.random.default_rng((seed, 21))
    test, train = np.split(rng.permutation(len(codes)), [max(1, round(held * len(codes)))])
    shuffled = np.stack([rng.permutation(len(test)) for _ in codes.T])
    importance, accuracy, chance = np.zeros((codes.shape[1], factors.shape[1])), [], []
    for k, levels in enumerate(factors.T):
        forest = RandomForestClassifier(TREES, min_samples_leaf=LEAF, max_features=None, random_state=seed, n_jobs=1)
        forest.fit(codes[train], levels[train])
        right = forest.predict(codes[test]) == levels[test]
        accuracy.append(right.mean())
        chance.append((np.bincount(levels[train]).argmax() == levels[test]).mean())
        for z, order in enumerate(shuffled):
            without = codes[test].copy()
            without[:, z] = without[order, z]
            change = right.astype(int) - (forest.predict(without) == levels[test])
            if change.sum() > SURE * np.sqrt(np.abs(change).sum()):
                importance[z, k] = change.mean() / max(1 - chance[k], 1e-12)
    weight = importance.sum(1) / max(importance.sum(), 1e-12)
    return Dci(
        float((weight * _one_sided(importance.T)).sum()),
        float(_one_sided(importance).mean()),
        float(np.mean(accuracy)),
        importance,
        np.array(accuracy),
        np.array(chance),
    )


def _one_sided(matrix: np.ndarray) -> np.ndarray:
    """1 minus the normalised entropy of every column: 1 if one entry has all the weight, 0 if uniform or all 0."""
    total = matrix.sum(0)
    share = np.where(total > 0, matrix / np.where(total > 0, total, 1), 1 / len(matrix))
    entropy = -(share * np.log(np.where(share > 0, share, 1))).sum(0)
    return np.where(total > 0, 1 - entropy / np.log(max(len(matrix), 2)), 0)


# FactorVAE ------------------------------------------------------------------------------------------------------------


def factor_vae_score(
    codes: np.ndarray, factors: np.ndarray, seed: int = 0, votes: int = 5000, batch: int = 64
) -> float:
    """Accuracy of identifying a fixed factor by the latent dimension with the least variance: 1 / K to 1.

    Images are drawn with one factor fixed; the dimension with the least variance among them, relative to its overall
    variance, casts a vote. A majority vote assigns dimensions to factors; the score is the accuracy on as many further
    votes. Inactive dimensions do not vote; where all are inactive, the score is 0.

    References:
        Disentangling by Factorising (Kim, Mnih, 2018)
    """
    _check(codes, factors)
    active = np.flatnonzero(codes.std(0) >= INACTIVE)
    if not len(active):
        return 0.0
    rng = np.random.default_rng((seed, 22))
    x = codes[:, active] / codes[:, active].std(0)
    sorted_rows = [np.argsort(levels, kind="stable") for levels in factors.T]
    fixed = rng.integers(0, factors.shape[1], 2 * votes)
    cast = np.empty(2 * votes, int)
    for i, k in enumerate(fixed):
        level = factors[rng.integers(len(factors)), k]
        ordered = sorted_rows[k]
        low, high = np.searchsorted(factors[ordered, k], (level, level + 1))
        rows = ordered[rng.integers(low, high, batch)]
        cast[i] = x[rows].var(0).argmin()
    table = np.zeros((len(active), factors.shape[1]), int)
    np.add.at(table, (cast[:votes], fixed[:votes]), 1)
    return float((table.argmax(1)[cast[votes:]] == fixed[votes:]).mean())


def _check(codes: np.ndarray, factors: np.ndarray) -> None:
    """Raises `ValueError` for arrays of wrong shapes, types or lengths."""
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors) or len(codes) < 2:
        raise ValueError(f"codes (N, Z) and factors (N, K) of two images or more, got {codes.shape}, {factors.shape}")
    if not np.isfinite(codes).all():
        raise ValueError("some codes are no finite numbers")
    if not np.issubdtype(factors.dtype, np.integer) or factors.min() < 0:
        raise ValueError(f"factors are levels from 0, got {factors.dtype}")
