"""Compares generated images with real ones in the features of networks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from condgen.contracts import Undefined
from condgen.evaluation.base import Example, Report
from condgen.evaluation.classifier import Classifier, features_of
from condgen.metrics.fid_kid import frechet_distance, kernel_distance, mmd_test
from condgen.metrics.prdc import closeness, coverage_report, memorisation

FEWEST = 12
"""Minimum number of images of a set that is compared."""
SHOWN = 24
"""Maximum number of pairs on the sheet of neighbours."""
Extractors = dict[tuple[str, str], Callable[[np.ndarray], Tensor]]
"""(name of the Fréchet distance, name of the kernel distance) -> images uint8 (N, C, S, S) to features (N, D)."""


def read_inception(file: Path | str | None, device: torch.device | str) -> Extractors:
    """The feature extractor of FID, if a file of Inception weights is given.

    Raises:
        CondgenError: see `Inception.read`.
    """
    if file is None:
        return {}
    from condgen.evaluation.inception import Inception

    network = Inception.read(file).to(device)
    return {network.names: network.extract}


def classifier_features(classifier: Classifier, space: str) -> Extractors:
    """A classifier as a feature extractor; `space` names its features."""
    return {(f"frechet ({space})", f"kernel ({space})"): partial(features_of, classifier)}


class RealImages:
    """Real images that generated ones are compared with; features are computed once.

    Args:
        train, test: uint8 (N, C, S, S).
        extractors: feature extractors; the two-sample test and the coverage use the first one.
    """

    def __init__(self, train: np.ndarray, test: np.ndarray, extractors: Extractors):
        self.train, self.test, self.extractors = train, test, extractors

    @cached_property
    def features(self) -> dict[tuple[str, str], Tensor]:
        """Features of the test images, by extractor; empty where there are too few images."""
        if len(self.test) < FEWEST:
            return {}
        return {names: features(self.test) for names, features in self.extractors.items()}

    @cached_property
    def _train_pixels(self) -> Tensor:
        return pixels(self.train)

    @cached_property
    def _test_closeness(self) -> Tensor:
        return closeness(pixels(self.test), self._train_pixels)[0]

    def compare(self, generated: np.ndarray, rows: np.ndarray, seed: int) -> Report:
        """Distances, a two-sample test and coverage of generated images against the test images.

        Args:
            generated: uint8 (N, C, S, S).
            rows: int64 (M,), training images that are compared with the test images as a reference, the score of a
                perfect model.
            seed: seed of random subsets and permutations.
        """
        if not self.features:
            return {}
        out: Report = {"distances": {}}
        count = {"N": len(generated), "N real": len(rows)}
        for names, features in self.extractors.items():
            reference = self.features[names]
            both = {"generated": features(generated), "real": features(self.train[rows])}
            frechet, kernel = names
            out["distances"][frechet] = {side: frechet_distance(x, reference) for side, x in both.items()} | count
            kernels = {side: kernel_distance(x, reference, seed=seed) for side, x in both.items()}
            line = {side: mean for side, (mean, _) in kernels.items()}
            out["distances"][kernel] = line | count | {"sd over subsets": kernels["generated"][1]}
            if "two_sample_test" in out:
                continue
            tests = {side: mmd_test(x, reference, seed=seed) for side, x in both.items()}
            covers = {side: coverage_report(reference, x) for side, x in both.items()}
            out["two_sample_test"] = {
                name: {side: test[k] for side, test in tests.items()} | count for k, name in enumerate(("mmd2", "p"))
            }
            out["coverage"] = {
                name: {side: cover[name] for side, cover in covers.items()} | count for name in covers["generated"]
            }
        return out

    def memorisation(self, generated: np.ndarray, caption: Callable[[int], str]) -> tuple[Report, list[Example]]:
        """The share of generated images that lie closer to a training image than test images do.

        Args:
            generated: uint8 (N, C, S, S).
            caption: function from the number of an image to its caption.

        Returns:
            (section of the report, pairs of generated and training images with the smallest distance)
        """
        near, rows = closeness(pixels(generated), self._train_pixels)
        shown: list[Example] = []
        for i in near.argsort()[:SHOWN].tolist():
            row = int(rows[i])
            shown.append((f"{caption(i)}, closeness {near[i]:.2f}", rgb(generated[i]), True))
            shown.append((f"training image {row}", rgb(self.train[row]), True))
        line = memorisation(near, self._test_closeness) | {"N": len(near)}
        return {"memorisation": {"memorised": line}}, shown


def over_seeds(rounds: list[Report]) -> Report:
    """Means over the seeds, and for columns of generated images the standard deviation (divisor N - 1)."""
    out: Report = {}
    for name, table in rounds[0].items():
        out[name] = {row: {} for row in table}
        for row, line in table.items():
            for column in line:
                values = [found[name][row][column] for found in rounds]
                constant = all(isinstance(value, int) for value in values) and len(set(values)) == 1
                unknown = next((value for value in values if isinstance(value, Undefined)), None)
                out[name][row][column] = values[0] if constant else unknown or float(np.mean(values))
                if column in ("generated", "images per second"):
                    sd = float(np.std(values, ddof=1)) if len(values) > 1 else Undefined("one seed")
                    out[name][row]["sd"] = unknown or sd
    return out


def pixels(images: np.ndarray) -> Tensor:
    """uint8 (N, C, S, S) -> float32 (N, C S S) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).flatten(1).float() / 255


def rgb(image: np.ndarray) -> np.ndarray:
    """uint8 (C, S, S) with three channels."""
    return np.broadcast_to(image, (3, *image.shape[1:]))
