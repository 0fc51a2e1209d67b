"""How a code tells the factors that made the images: one number of the code for each factor, and one factor for each?

Codes and factors in, numbers out: codes float (N, Z), of plain autoencoders as they are and of variational ones the
means; factors int (N, K), the level of each from 0. No score changes when numbers of the code change places or signs.

None of them can be 1 for free: `mig` of a factor of more levels than bins stays below log(bins) / entropy, and a code
that turns two factors together, however informative, is entangled to all three.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BINS = 20
"""Of a number of the code, between its least and its greatest value, for mutual information."""
INACTIVE = 0.05
"""A number of the code with a lower sd tells nothing; a prior of sd 1 is meant."""
TREES, LEAF = 20, 5
"""Of the forests that tell the factors of a code: how many, and how few images may be in a leaf."""
SURE = 4.0
"""Standard errors above which a loss of accuracy is one."""


# MIG ------------------------------------------------------------------------------------------------------------------


def mutual_information(codes: np.ndarray, factors: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Mutual information of every number of the code, in bins of equal width, with every factor: (Z, K) in nats.

    It is the plain estimate, which of N images is too large by about (bins - 1) (levels - 1) / 2N.
    """
    from sklearn.metrics import mutual_info_score

    _check(codes, factors)
    binned = [np.digitize(own, np.histogram_bin_edges(own, bins)[1:-1]) for own in codes.astype(np.float64).T]
    return np.array([[mutual_info_score(own, levels) for levels in factors.T] for own in binned])


def entropies(factors: np.ndarray) -> np.ndarray:
    """Entropy of every factor, (K,) in nats.

    Raises:
        ValueError: a factor is always the same, so that nothing can be told of it.
    """
    shares = [np.bincount(levels) / len(levels) for levels in factors.T]
    if constant := [k for k, share in enumerate(shares) if (share > 0).sum() < 2]:
        raise ValueError(f"factor {constant[0]} is always the same")
    return np.array([-(share[share > 0] * np.log(share[share > 0])).sum() for share in shares])


def mig(information: np.ndarray, entropy: np.ndarray) -> np.ndarray:
    """The gap between the two numbers of the code that tell most of a factor, as a share of its entropy: (K,).

    The score is their mean: 1 where one number tells a factor wholly and the others nothing.

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
    """What forests that tell the factors of a code need of it.

    Args:
        disentanglement: 1 where every number of the code tells of one factor only; numbers weigh as they matter.
        completeness: 1 where every factor is told by one number only; the mean over factors.
        informativeness: accuracy on images that the forests were not fitted on; the mean over factors.
        importance: (Z, K), what the accuracy of a factor loses when a number of the code is shuffled, as a share of
            what there is above chance.
        accuracy: (K,), of every factor.
        chance: (K,), of always saying the commonest level.
    """

    disentanglement: float
    completeness: float
    informativeness: float
    importance: np.ndarray
    accuracy: np.ndarray
    chance: np.ndarray


def dci(codes: np.ndarray, factors: np.ndarray, seed: int = 0, held: float = 1 / 3) -> Dci:
    """Fits a forest for each factor on a part of the images; all that is told is told on the rest, the share `held`.

    Random forests, as in the paper: linear models miss what is coded along a curve (a place, a hue), boosted trees need
    a minute for a factor of sixteen levels, and histogram boosting tells no importances. Not as in the paper, a number
    is important by what shuffling it costs on held-out images: the forests' own importances credit numbers that hold
    nothing but noise, so much that the score of a code with noise beside it goes from 0.45 to 0.98 as leaves grow.

    References:
        A Framework for the Quantitative Evaluation of Disentangled Representations (Eastwood, Williams, 2018)
        Random Forests (Breiman, 2001), section 10, for the shuffled numbers
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
    """Of every column 1 - the entropy of its shares, to the base of its length: 1 one-sided, 0 even or all 0."""
    total = matrix.sum(0)
    share = np.where(total > 0, matrix / np.where(total > 0, total, 1), 1 / len(matrix))
    entropy = -(share * np.log(np.where(share > 0, share, 1))).sum(0)
    return np.where(total > 0, 1 - entropy / np.log(max(len(matrix), 2)), 0)


# FactorVAE ------------------------------------------------------------------------------------------------------------


def factor_vae_score(
    codes: np.ndarray, factors: np.ndarray, seed: int = 0, votes: int = 5000, batch: int = 64
) -> float:
    """How often the number of the code that varies least tells which factor was held fixed: about 1 / K to 1.

    Images are drawn with one factor fixed; the number with the least variance among them, as a share of its variance
    at all, casts a vote. Every number stands for the factor that it voted for most; the score is its accuracy in as
    many further votes. Numbers with an sd below INACTIVE do not vote; where all are such, the score is 0.

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
    """Raises `ValueError` for arrays that do not belong together, or are not what they should be."""
    if codes.ndim != 2 or factors.ndim != 2 or len(codes) != len(factors) or len(codes) < 2:
        raise ValueError(f"codes (N, Z) and factors (N, K) of two images or more, got {codes.shape}, {factors.shape}")
    if not np.isfinite(codes).all():
        raise ValueError("some codes are no finite numbers")
    if not np.issubdtype(factors.dtype, np.integer) or factors.min() < 0:
        raise ValueError(f"factors are levels from 0, got {factors.dtype}")
