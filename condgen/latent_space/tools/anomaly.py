"""Detect images of a kind that the model was not trained on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from condgen.contracts import ProgressCallback
from condgen.latent_space.adapters import ROWS, Images, LatentSpace, as_float, as_space
from condgen.latent_space.measures import nearest_real, rmse
from condgen.latent_space.registry import MAX_REAL, Tool, ToolCall, false_alarms_option, option, register
from condgen.latent_space.result import Analysis, no_progress, sheet
from condgen.latent_space.tools.likelihood import bound, log_weights
from condgen.losses import kl_normal
from condgen.metrics.anomaly import anomaly_report, check_share

SAMPLES = 16
"""Number of latents for the likelihood."""
SHOWN = 12
"""Images in a row of the sheet."""
BASELINE = "nearest training image"
"""The score that needs no model: the distance in pixels."""


@dataclass(frozen=True)
class Anomaly(Analysis):
    """The result of `anomaly`: the scores by name, of the evaluated normal images and of the anomalies."""

    scores: dict[str, tuple[Tensor, Tensor]]


class AnomalyScores:
    """Anomaly scores of images, higher for anomalies.

    `reconstruction`: mean squared error. `latent distance`: Mahalanobis distance from the latents of the training
    images. `likelihood`: -log p(x), bounded with SAMPLES latents, and `KL` of the posterior from the prior, in a
    variational space. BASELINE: distance to the nearest training image in pixels.

    Args:
        space: a latent space with an encoder.
        train: normal images that it was trained on.
    """

    def __init__(self, space: LatentSpace, train: Images):
        self.space, self.train = as_space(space), train[:MAX_REAL]
        latents = self.space.encode(self.train).double()
        self.center = latents.mean(0)
        covariance = latents.T.cov().reshape(len(self.center), -1)
        ridge = 1e-6 * covariance.diagonal().mean().clamp(min=1e-12)
        self.root = torch.linalg.cholesky(covariance + ridge * torch.eye(len(self.center), dtype=torch.float64))

    def __call__(self, images: Images, seed: int = 0) -> dict[str, Tensor]:
        """(N, C, S, S) -> scores (N,) by name."""
        self.space.check_images(images)
        parts = [self._score(as_float(images[k : k + ROWS]), seed + k) for k in range(0, len(images), ROWS)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _score(self, x: Tensor, seed: int) -> dict[str, Tensor]:
        mean, log_var = self.space.posterior(x)
        whitened = torch.linalg.solve_triangular(self.root, (mean.double() - self.center).T, upper=False)
        found = {"reconstruction": rmse(self.space.decode(mean), x).square()}
        if self.space.is_variational and log_var is not None:
            weights, _ = log_weights(self.space, x, SAMPLES, seed)
            found["likelihood"] = -bound(weights, SAMPLES)
            found["KL"] = kl_normal(mean, log_var).sum(1)
        found["latent distance"] = whitened.norm(dim=0).float()
        found[BASELINE] = nearest_real(x, self.train)
        return found


def anomaly(
    space: LatentSpace, train: Images, test: Images, anomalous: Images, false_alarms: float = 0.05, seed: int = 0,
    progress: ProgressCallback = no_progress,
) -> Anomaly:  # fmt: skip
    """Measures how well a latent space detects images of a kind that it was not trained on.

    Args:
        train: normal images that it was trained on, of which MAX_REAL are used.
        test: held-out normal images: one half sets the threshold of every score, the other is evaluated.
        anomalous: images of another kind.
        false_alarms: share of normal images that may be above the threshold.
        seed: seed of the halves, and of the latents for the likelihood.

    Raises:
        CondgenError: there is no encoder, images have a wrong shape, or there are too few for the share.
    """
    space = as_space(space)
    space.check_encoder()
    check_share(false_alarms)
    progress(0.0, f"latents of {min(len(train), MAX_REAL):,} training images")
    scores = AnomalyScores(space, train)
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(seed)).numpy()
    calibration, normal = test[order[: len(test) // 2]], test[order[len(test) // 2 :]]
    found = []
    for k, (images, kind) in enumerate(((calibration, "held-out"), (normal, "other normal"), (anomalous, "anomalous"))):
        progress(0.1 + 0.3 * k, f"scores of {len(images):,} {kind} images")
        found.append(scores(images, seed))
    table = {name: anomaly_report(*(part[name] for part in found), false_alarms) for name in found[0]}
    counts = {"training": len(scores.train), "for the threshold": len(calibration), "normal": len(normal)}
    numbers = {"anomaly": table, "images": {"": counts | {"anomalous": len(anomalous)}}}
    by_name = {name: (found[1][name], found[2][name]) for name in table}
    return Anomaly(numbers, {"anomaly.png": _sheet(as_float(normal), as_float(anomalous), by_name, table)}, by_name)


def _sheet(normal: Tensor, anomalous: Tensor, scores: dict[str, tuple[Tensor, Tensor]], table: dict) -> bytes:
    """A sheet of the normal and the anomalous images that the model's best score ranks highest and lowest."""
    best = max((name for name in table if name != BASELINE), key=lambda name: table[name]["AUROC"])
    rows = []
    for images, kind, values in ((normal, "normal", scores[best][0]), (anomalous, "anomalous", scores[best][1])):
        order = values.argsort()
        for few, level in ((order.flip(0)[:SHOWN], "highest"), (order[:SHOWN], "lowest")):
            rows.append((f"{kind}, {level} {best}", images[few], [f"{v:.3g}" for v in values[few].tolist()]))
    return sheet(rows)


def run(call: ToolCall) -> Anomaly:
    args = call.args
    train, test, anomalous = call.source.anomalies(args.anomaly_class, args.anomaly_data)
    return anomaly(call.space, train, test, anomalous, args.false_alarms, progress=call.progress)


OPTIONS = (
    option("--anomaly-class", default="", metavar="CLASS",
           help="the anomalous class (default the one that the training left out)"),
    option("--anomaly-data", default="", metavar="PATH", help="another data set whose images are the anomalies"),
    false_alarms_option("normal images that may be reported as anomalies"),
)  # fmt: skip
register(Tool("anomaly", __doc__, OPTIONS, run))
