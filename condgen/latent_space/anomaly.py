"""Telling images of a kind that was never seen: scores of a space, and how well they find the odd ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from condgen.contracts import ProgressCallback
from condgen.latent_space.adapters import (
    ROWS,
    Images,
    LatentSpace,
    as_float,
    check_encodes,
    check_pictures,
    decoded,
    encoded,
    is_variational,
    posterior,
)
from condgen.latent_space.likelihood import bound, log_weights
from condgen.latent_space.neighbours import nearest_real
from condgen.latent_space.result import Analysis, apart, quiet, sheet
from condgen.losses import kl_normal
from condgen.metrics.anomaly import check_share, novelty_report

MOST = 10_000
"""Training images that scores are fitted on."""
SAMPLES = 16
"""Codes of the likelihood."""
SHOWN = 12
"""Images of a row of the sheet."""
CONTROL = "nearest training image"
"""The score that needs no model: the distance in pixels."""


@dataclass(frozen=True)
class Novelty(Analysis):
    """What `novelty` found.

    Args:
        scores: by name, of the normal images that were not used for the threshold and of the odd ones.
    """

    scores: dict[str, tuple[Tensor, Tensor]]


class Scores:
    """How odd images are to a space, the higher the odder, in several ways.

    `reconstruction`: mean squared error. `latent distance`: Mahalanobis distance of the code from those of the training
    images. `likelihood`: -log p(x), bounded by SAMPLES codes; `KL`: of the posterior from the prior; both of a
    variational space only. CONTROL: see there.

    Args:
        space: it encodes.
        known: normal images that it was trained on.
    """

    def __init__(self, space: LatentSpace, known: Images):
        known = known[:MOST]
        self.space, self.known = space, known
        codes = encoded(space, known).double()
        self.middle = codes.mean(0)
        covariance = codes.T.cov().reshape(len(self.middle), -1)
        ridge = 1e-6 * covariance.diagonal().mean().clamp(min=1e-12)
        self.root = torch.linalg.cholesky(covariance + ridge * torch.eye(len(self.middle), dtype=torch.float64))

    def __call__(self, images: Images, seed: int = 0) -> dict[str, Tensor]:
        """(N, C, S, S) -> scores (N,) by name."""
        check_pictures(self.space, images)
        parts = [self._of(as_float(images[k : k + ROWS]), seed + k) for k in range(0, len(images), ROWS)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _of(self, x: Tensor, seed: int) -> dict[str, Tensor]:
        mean, log_var = posterior(self.space, x)
        away = torch.linalg.solve_triangular(self.root, (mean.double() - self.middle).T, upper=False)
        found = {"reconstruction": apart(decoded(self.space, mean), x).square()}
        if is_variational(self.space) and log_var is not None:
            weights, _ = log_weights(self.space, x, SAMPLES, seed)
            found["likelihood"] = -bound(weights, SAMPLES)
            found["KL"] = kl_normal(mean, log_var).sum(1)
        found["latent distance"] = away.norm(dim=0).float()
        found[CONTROL] = nearest_real(x, self.known)
        return found


def novelty(
    space: LatentSpace, known: Images, held: Images, odd: Images, false_alarms: float = 0.05, seed: int = 0,
    progress: ProgressCallback = quiet,
) -> Novelty:  # fmt: skip
    """How well a space tells images that are not of the kind it was trained on.

    Args:
        known: normal images that it was trained on (MOST of them are looked at).
        held: normal images that it never saw: one half sets the threshold of every score, the other is judged.
        odd: images of another kind.
        false_alarms: share of normal images that the threshold may call odd.
        seed: of the halves, and of the codes of the likelihood.
        progress: called with progress.

    Raises:
        CondgenError: no encoder, images that do not fit, or too few of them for so small a share.
    """
    check_encodes(space)
    check_share(false_alarms)
    progress(0.0, f"codes of {min(len(known), MOST):,} training images")
    scores = Scores(space, known)
    order = torch.randperm(len(held), generator=torch.Generator().manual_seed(seed)).numpy()
    halves = [held[own] for own in (order[: len(held) // 2], order[len(held) // 2 :])]
    found = []
    for k, (images, what) in enumerate(((halves[0], "held-out"), (halves[1], "other normal"), (odd, "odd"))):
        progress(0.1 + 0.3 * k, f"scores of {len(images):,} {what} images")
        found.append(scores(images, seed))
    table = {name: novelty_report(*(part[name] for part in found), false_alarms) for name in found[0]}
    counts = {"training": min(len(known), MOST), "for the threshold": len(halves[0]), "normal": len(halves[1])}
    numbers = {"novelty": table, "pictures": {"": counts | {"odd": len(odd)}}}
    both = {name: (found[1][name], found[2][name]) for name in table}
    return Novelty(numbers, {"novelty.png": _sheet(as_float(halves[1]), as_float(odd), both, table)}, both)


def _sheet(normal: Tensor, odd: Tensor, scores: dict[str, tuple[Tensor, Tensor]], table: dict[str, dict]) -> bytes:
    """By the best score of the space: the normal and the odd images that it finds the oddest and the most normal."""
    name = max((one for one in table if one != CONTROL), key=lambda one: table[one]["AUROC"])
    rows = []
    for images, what, own in ((normal, "normal", scores[name][0]), (odd, "odd", scores[name][1])):
        order = own.argsort()
        for rows_of, how in ((order.flip(0)[:SHOWN], "oddest"), (order[:SHOWN], "most normal")):
            rows.append((f"{what}, {how} by {name}", images[rows_of], [f"{v:.3g}" for v in own[rows_of].tolist()]))
    return sheet(rows)
