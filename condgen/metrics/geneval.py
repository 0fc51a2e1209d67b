"""Does the image show what the words say? GenEval's six tasks, on things that a detector has named.

What was seen is a list of things with `shape`, `colour`, `size`, `x`, `y`; what was asked is a meaning with `kinds`
((colour, shape), ...), `number`, `size` and `relation`. Where they come from is not this file's business.

References:
    GenEval: An Object-Focused Framework for Evaluating Text-to-Image Alignment (Ghosh et al., 2023)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import permutations

TASKS = ("single_object", "two_objects", "counting", "colours", "position", "attribute_binding")


def passes(task: str, asked, seen: list) -> bool:
    """Whether an image passes its task.

    single_object: the shape is there. two_objects: both shapes are. counting: exactly so many things of that kind, and
    nothing else. colours: a thing of that shape and colour. position: both things, and the one lies to the other as
    asked. attribute_binding: both things, each with its own colour.
    """
    kinds = Counter((thing.colour, thing.shape) for thing in seen)
    wanted = Counter(asked.kinds)
    if task in ("single_object", "two_objects"):
        return Counter(shape for _, shape in asked.kinds) <= Counter(thing.shape for thing in seen)
    if task == "counting":
        return kinds == Counter({asked.kinds[0]: asked.number})
    if task == "position":
        return any(_lies(a, asked.relation, b) for a, b in _pairs(asked, seen))
    return wanted <= kinds


def is_exact(asked, seen: list) -> bool:
    """Whether the image shows everything the words say and nothing else."""
    wanted = Counter(asked.kinds) if asked.number == 1 else Counter({asked.kinds[0]: asked.number})
    if Counter((thing.colour, thing.shape) for thing in seen) != wanted:
        return False
    if asked.size is not None and seen[0].size != asked.size:
        return False
    return asked.relation is None or any(_lies(a, asked.relation, b) for a, b in _pairs(asked, seen))


def _pairs(asked, seen: list) -> Iterable[tuple]:
    first, second = asked.kinds
    for a, b in permutations(seen, 2):
        if (a.colour, a.shape) == first and (b.colour, b.shape) == second:
            yield a, b


def _lies(a, relation: str | None, b) -> bool:
    """Whether a lies to b as the relation says, along the axis on which their centres differ most; that axis alone.

    Training data is stricter: where a caption names a relation, the centres differ by at least 0.3 S on that axis and
    by less on the other. In GenEval two relations may hold on a diagonal, and none between boxes that overlap much.
    """
    dx, dy = a.x - b.x, a.y - b.y
    if abs(dy) >= abs(dx):
        return relation == ("above" if dy < 0 else "below")
    return relation == ("left of" if dx < 0 else "right of")


def score(results: list[tuple[str, bool, bool]]) -> dict[str, float]:
    """Share of passes per task, their mean as `overall`, and the share of exact images.

    Args:
        results: (task, passed, exact), one an image.
    """
    scores = {}
    for task in TASKS:
        own = [passed for name, passed, _ in results if name == task]
        if own:
            scores[task] = sum(own) / len(own)
    scores["overall"] = sum(scores.values()) / max(len(scores), 1)
    scores["exact"] = sum(exact for _, _, exact in results) / max(len(results), 1)
    return scores
