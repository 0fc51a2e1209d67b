"""Generated images held against real ones, in the features of some networks: what every judge of images shares."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from condgen.evaluation.embed import Example
from condgen.metrics.fid_kid import frechet_distance, kernel_distance, mmd_test
from condgen.metrics.prdc import coverage_report

FEWEST = 12
"""Sets of fewer images are not held against each other."""
SHOWN = 24
"""Pairs on the sheet of neighbours, at most."""
Report = dict[str, dict]
Extractors = dict[tuple[str, str], Callable[[np.ndarray], Tensor]]
"""(name of the Fréchet distance, name of the kernel distance) -> images uint8 (N, C, S, S) to features (N, D)."""


def held_against(
    truth: dict[tuple[str, str], Tensor], generated: np.ndarray, real: np.ndarray, extractors: Extractors, seed: int
) -> Report:
    """Distances, a two-sample test and coverage: generated against test images, and real training ones beside them.

    Args:
        truth: features of the test images, by extractor.
        generated, real: uint8 (N, C, S, S); the second are what a perfect model would paint.
        extractors: the test and the coverage are in the features of the first alone.
        seed: of random subsets and permutations.
    """
    out: Report = {"distances": {}}
    count = {"N": len(generated), "N real": len(real)}
    for names, features in extractors.items():
        both = {"generated": features(generated), "real": features(real)}
        frechet, kernel = names
        out["distances"][frechet] = {side: frechet_distance(x, truth[names]) for side, x in both.items()} | count
        kernels = {side: kernel_distance(x, truth[names], seed=seed) for side, x in both.items()}
        line = {side: mean for side, (mean, _) in kernels.items()}
        out["distances"][kernel] = line | count | {"sd over subsets": kernels["generated"][1]}
        if "two_sample_test" in out:
            continue
        tests = {side: mmd_test(x, truth[names], seed=seed) for side, x in both.items()}
        rows = zip(("mmd2", "p"), *tests.values())
        out["two_sample_test"] = {name: {"generated": own, "real": floor} | count for name, own, floor in rows}
        covers = {side: coverage_report(truth[names], x) for side, x in both.items()}
        out["coverage"] = {name: {side: covers[side][name] for side in covers} | count for name in covers["generated"]}
    return out


def over_seeds(rounds: list[Report]) -> Report:
    """Means over the seeds, and beside what was generated its standard deviation, for N - 1."""
    out: Report = {}
    for section, table in rounds[0].items():
        out[section] = {name: {} for name in table}
        for name, line in table.items():
            for column in line:
                values = [found[section][name][column] for found in rounds]
                whole = all(isinstance(value, int) for value in values) and len(set(values)) == 1
                out[section][name][column] = values[0] if whole else float(np.mean(values))
                if column in ("generated", "images a second"):
                    out[section][name]["sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return out


def pixels(images: np.ndarray) -> Tensor:
    """uint8 (N, C, S, S) -> float32 (N, C S S) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).flatten(1).float() / 255


def rgb(picture: np.ndarray) -> np.ndarray:
    """uint8 (C, S, S) with three channels."""
    return np.broadcast_to(picture, (3, *picture.shape[1:]))


def neighbours(
    generated: np.ndarray, progress: Callable[[int], str], training: np.ndarray, near: Tensor, rows: Tensor
) -> list[Example]:
    """The images that are nearest to a training image, each beside it.

    Args:
        painted, training: uint8 (N, C, S, S). told: number of a painted image -> what stands below it.
        near, rows: `metrics.neighbours.closeness` of the painted images.
    """
    out: list[Example] = []
    for i in near.argsort()[:SHOWN].tolist():
        there = int(rows[i])
        out.append((f"{progress(i)}, closeness {near[i]:.2f}", rgb(generated[i]), True))
        out.append((f"training image {there}", rgb(training[there]), True))
    return out
