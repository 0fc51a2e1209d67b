"""How well a score tells odd images from normal ones. Scores in, numbers out: the higher, the odder."""

from __future__ import annotations

import math

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from condgen.contracts import CondgenError


def auroc(normal: Tensor, odd: Tensor) -> float:
    """The chance that an odd image scores higher than a normal one; .5 tells nothing. Scores (N,) and (M,)."""
    return float(roc_auc_score(*_together(normal, odd)))


def average_precision(normal: Tensor, odd: Tensor) -> float:
    """Area under precision over recall, of finding the odd ones; by chance it is their share."""
    return float(average_precision_score(*_together(normal, odd)))


def _together(normal: Tensor, odd: Tensor) -> tuple[np.ndarray, np.ndarray]:
    labels = np.r_[np.zeros(len(normal)), np.ones(len(odd))]
    return labels, np.r_[normal.double().numpy(), odd.double().numpy()]


def check_share(false_alarms: float) -> None:
    """Raises `CondgenError` where a share of false alarms is none."""
    if not 0 < false_alarms < 1:
        raise CondgenError(f"The share of false alarms lies between 0 and 1, got {false_alarms}.")


def threshold(held: Tensor, false_alarms: float) -> float:
    """A score that normal images exceed with at most that chance.

    Args:
        held: scores (N,) of normal images that the score was not fitted on.
        false_alarms: the share, above 0 and below 1.

    Returns:
        The k-th smallest, k = ceil((N + 1) (1 - false_alarms)): for one more normal image the chance to exceed it is
        at most the share asked for, whatever the distribution.

    Raises:
        CondgenError: no share, or too few images for so small a one.

    References:
        Conformal Anomaly Detection (Laxhammar, 2014)
    """
    check_share(false_alarms)
    k = math.ceil((len(held) + 1) * (1 - false_alarms) - 1e-9)
    if k > len(held):
        least = math.ceil(1 / false_alarms - 1)
        raise CondgenError(
            f"{len(held)} held-out images are too few for a share of {false_alarms:g} false alarms: {least} at least "
            "are needed."
        )
    return held.double().sort().values[k - 1].item()


def novelty_report(held: Tensor, normal: Tensor, odd: Tensor, false_alarms: float) -> dict[str, float]:
    """Everything about one score.

    Args:
        held: scores of normal images that set the threshold.
        normal, odd: scores of other images.
        false_alarms: the share asked for.
    """
    limit = threshold(held, false_alarms)
    return {
        "AUROC": auroc(normal, odd),
        "average precision": average_precision(normal, odd),
        "threshold": limit,
        "odd found": (odd > limit).double().mean().item(),
        "false alarms": (normal > limit).double().mean().item(),
    }
