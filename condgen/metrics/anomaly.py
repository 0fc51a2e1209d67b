"""Metrics of anomaly detection. Scores are higher for anomalies."""

from __future__ import annotations

import math

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from condgen.contracts import CondgenError, Undefined


def auroc(normal: Tensor, anomalous: Tensor) -> float:
    """The probability that an anomaly scores higher than a normal image; .5 is chance. Scores (N,) and (M,).

    It is `Undefined` without images of both kinds.
    """
    if not len(normal) or not len(anomalous):
        return Undefined(f"{len(normal)} normal and {len(anomalous)} anomalous images")
    return float(roc_auc_score(*_labelled(normal, anomalous)))


def average_precision(normal: Tensor, anomalous: Tensor) -> float:
    """Area under the precision-recall curve of finding the anomalies; chance is their share.

    It is `Undefined` without images of both kinds.
    """
    if not len(normal) or not len(anomalous):
        return Undefined(f"{len(normal)} normal and {len(anomalous)} anomalous images")
    return float(average_precision_score(*_labelled(normal, anomalous)))


def _labelled(normal: Tensor, anomalous: Tensor) -> tuple[np.ndarray, np.ndarray]:
    labels = np.r_[np.zeros(len(normal)), np.ones(len(anomalous))]
    return labels, np.r_[normal.double().numpy(), anomalous.double().numpy()]


def check_share(false_alarms: float) -> None:
    """Raises `CondgenError` for a share of false alarms that is not between 0 and 1."""
    if not 0 < false_alarms < 1:
        raise CondgenError(f"The share of false alarms lies between 0 and 1, got {false_alarms}.")


def threshold(held_out: Tensor, false_alarms: float) -> float:
    """A score that normal images exceed with at most a given probability.

    Args:
        held_out: scores (N,) of normal images that the score was not fitted on.
        false_alarms: the probability, above 0 and below 1.

    Returns:
        The k-th smallest, k = ceil((N + 1) (1 - false_alarms)): the probability that another normal image exceeds it is
        at most `false_alarms`, for every distribution.

    Raises:
        CondgenError: `false_alarms` is not between 0 and 1, or there are too few images for it.

    References:
        Conformal Anomaly Detection (Laxhammar, 2014)
    """
    check_share(false_alarms)
    k = math.ceil((len(held_out) + 1) * (1 - false_alarms) - 1e-9)
    if k > len(held_out):
        least = math.ceil(1 / false_alarms - 1)
        raise CondgenError(
            f"{len(held_out)} held-out images are too few for a share of {false_alarms:g} false alarms: at least "
            f"{least} are needed."
        )
    return held_out.double().sort().values[k - 1].item()


def anomaly_report(held_out: Tensor, normal: Tensor, anomalous: Tensor, false_alarms: float) -> dict[str, float]:
    """All metrics of one score.

    Args:
        held_out: scores of normal images that set the threshold.
        normal, anomalous: scores of further images, which are evaluated.
        false_alarms: share of normal images that may exceed the threshold.
    """
    limit = threshold(held_out, false_alarms)
    return {
        "AUROC": auroc(normal, anomalous),
        "average precision": average_precision(normal, anomalous),
        "threshold": limit,
        "anomalies found": (anomalous > limit).double().mean().item(),
        "false alarms": (normal > limit).double().mean().item(),
    }
