"""GenEval's six tasks of text-image alignment, on detected objects.

Detected objects have `shape`, `colour`, `size`, `x`, `y`; a prompt is a meaning with `kinds` ((colour, shape), ...),
`number`, `size` and `relation`.

References:
    GenEval: An Object-Focused Framework for Evaluating Text-to-Image Alignment (Ghosh et al., 2023)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import permutations

TASKS = ("single_object", "two_objects", "counting", "colours", "position", "attribute_binding")


def passes(task: str, prompt, objects: list) -> bool:
    """True if an image passes its task.

    single_object: the shape is there. two_objects: both shapes are. counting: exactly this number of objects of the
    kind, and no others. colours: an object of the shape and colour. position: both objects, in the relation.
    attribute_binding: both objects, each with its colour.
    """
    kinds = Counter((one.colour, one.shape) for one in objects)
    expected = Counter(prompt.kinds)
    if task in ("single_object", "two_objects"):
        return Counter(shape for _, shape in prompt.kinds) <= Counter(one.shape for one in objects)
    if task == "counting":
        return kinds == Counter({prompt.kinds[0]: prompt.number})
    if task == "position":
        return relation_holds(prompt, objects)
    return expected <= kinds


def is_exact(prompt, objects: list) -> bool:
    """True if the image shows everything in the prompt and nothing else."""
    expected = Counter(prompt.kinds) if prompt.number == 1 else Counter({prompt.kinds[0]: prompt.number})
    if Counter((one.colour, one.shape) for one in objects) != expected:
        return False
    if prompt.size is not None and objects[0].size != prompt.size:
        return False
    return prompt.relation is None or relation_holds(prompt, objects)


def relation_holds(prompt, objects: list) -> bool:
    """True if two objects of the kinds in the prompt stand in its relation, see `lies`."""
    return any(lies(a, prompt.relation, b) for a, b in _pairs(prompt, objects))


def _pairs(prompt, objects: list) -> Iterable[tuple]:
    first, second = prompt.kinds
    for a, b in permutations(objects, 2):
        if (a.colour, a.shape) == first and (b.colour, b.shape) == second:
            yield a, b


def lies(a, relation: str | None, b) -> bool:
    """True if the relation of a to b holds, on the axis along which their centres differ most.

    Training data is stricter: where a caption names a relation, the centres differ by at least 0.3 S on that axis and
    by less on the other. In GenEval two relations may hold on a diagonal, and none between overlapping boxes.
    """
    dx, dy = a.x - b.x, a.y - b.y
    if abs(dy) >= abs(dx):
        return relation == ("above" if dy < 0 else "below")
    return relation == ("left of" if dx < 0 else "right of")


def score(results: list[tuple[str, bool, bool]]) -> dict[str, float]:
    """Share of passes per task, their mean as `overall`, and the share of exact images.

    Args:
        results: (task, passed, exact) of every image.
    """
    scores = {}
    for task in TASKS:
        if passed := [passed for name, passed, _ in results if name == task]:
            scores[task] = sum(passed) / len(passed)
    scores["overall"] = sum(scores.values()) / max(len(scores), 1)
    scores["exact"] = sum(exact for _, _, exact in results) / max(len(results), 1)
    return scores
