"""The registry of evaluations, and the result of an evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from condgen.evaluation.options import Options

Example = tuple[str, np.ndarray, bool]
"""An image for a sheet: caption, uint8 (3, S, S), whether it is right."""
Report = dict[str, Any]
"""Tables by name: row -> column -> value."""


@dataclass
class Findings:
    """The results of an evaluation.

    Args:
        report: see Report; `kind` names the evaluation.
        sheets: file name without suffix -> images in rows of eight.
        figures: file name without suffix -> PNG.
    """

    report: Report
    sheets: dict[str, list[Example]] = field(default_factory=dict)
    figures: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """An evaluation for models of some pipeline classes.

    Args:
        options: dataclass of the options.
        run: (model, options, progress) -> Findings.
    """

    options: type[Options]
    run: Callable[..., Findings]


def reranked(options: Any) -> Report:
    """The section that says how many candidates the evaluated images were chosen from; none without re-ranking."""
    return {"re_ranking": {"candidates": options.candidates}} if options.candidates > 1 else {}


REPRESENTATIONS = object
"""The key of the evaluation of representations, which any model may be given."""
EVALUATIONS: dict[type, Evaluation] = {}


def register(*pipelines: type, options: type[Options]) -> Callable:
    """Decorator that registers a function as the evaluation of these pipeline classes."""

    def decorate(run: Callable[..., Findings]) -> Callable[..., Findings]:
        EVALUATIONS.update(dict.fromkeys(pipelines, Evaluation(options, run)))
        return run

    return decorate


def evaluation_of(model: Any) -> Evaluation:
    """The evaluation registered for the class of a model, or for the nearest of its base classes."""
    return next(EVALUATIONS[kind] for kind in type(model).__mro__ if kind in EVALUATIONS)
