"""Why an image shows something else than its prompt: one cause for every image, and a count of causes.

Detected objects have `shape`, `colour` and `size`; '?' is a shape or colour that the detector does not recognise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from condgen.metrics.geneval import relation_holds

CAUSES = {
    "nothing drawn": "no object was found",
    "too few": "fewer objects than the prompt names; objects that merge count as one",
    "too many": "more objects than the prompt names",
    "unrecognisable": "the right number, but an object has no shape or no colour of the prompts",
    "swapped": "the right shapes and the right colours, in other combinations",
    "wrong shape": "the right number and colours, another shape",
    "wrong colour": "the right number and shapes, another colour",
    "wrong shape and colour": "the right number, both shapes and colours differ",
    "wrong relation": "the right objects, elsewhere",
    "wrong size": "the right objects, of another size",
}
"""Cause -> meaning, in the order in which they are tested: the first that holds is the cause."""


def wrong_objects(kinds: Iterable[tuple[str, str]], objects: list) -> str | None:
    """The cause by number, shapes and colours; None if exactly these objects were found.

    Args:
        kinds: (colour, shape) of every object that the prompt names; a kind of which it names n occurs n times.
        objects: the objects found.
    """
    expected, found = Counter(kinds), Counter((one.colour, one.shape) for one in objects)
    if not objects:
        return "nothing drawn"
    if found.total() != expected.total():
        return "too few" if found.total() < expected.total() else "too many"
    if any("?" in kind for kind in found):
        return "unrecognisable"
    if found == expected:
        return None
    colours, shapes = (
        Counter(kind[k] for kind in expected.elements()) == Counter(kind[k] for kind in found.elements())
        for k in range(2)
    )
    if colours and shapes:
        return "swapped"
    if colours or shapes:
        return "wrong shape" if colours else "wrong colour"
    return "wrong shape and colour"


def failure_cause(prompt, objects: list) -> str | None:
    """The first of CAUSES that holds; None if the image shows everything in the prompt and nothing else.

    An image that fails a task of GenEval always has a cause; one that passes has a cause where it shows more than the
    prompt, or where its task does not ask for what is wrong.

    Args:
        prompt: a meaning with `kinds` ((colour, shape), ...), `number`, `size` and `relation`.
        objects: the objects found.
    """
    kinds = prompt.kinds if prompt.number == 1 else prompt.kinds[:1] * prompt.number
    if cause := wrong_objects(kinds, objects):
        return cause
    if prompt.relation is not None and not relation_holds(prompt, objects):
        return "wrong relation"
    return "wrong size" if prompt.size is not None and objects[0].size != prompt.size else None


def count_failures(results: Iterable[tuple[str, bool, str | None]]) -> dict[str, dict[str, int]]:
    """Counts the images that failed, by task and cause.

    Args:
        results: (task, passed, cause) of every image.

    Returns:
        task -> `images`, `failed` and the number of failed images of every cause that occurs; the row `all tasks` sums
        them, `not exact` counts all images with a cause, whether they passed or not.
    """
    results = list(results)
    table = {task: _row([one for one in results if one[0] == task]) for task in dict.fromkeys(t for t, *_ in results)}
    everything = [(task, cause is None, cause) for task, _, cause in results]
    return table | {"all tasks": _row(results), "not exact": _row(everything)}


def _row(results: list[tuple[str, bool, str | None]]) -> dict[str, int]:
    causes = Counter(cause for _, passed, cause in results if not passed)
    return {"images": len(results), "failed": causes.total()} | {one: causes[one] for one in CAUSES if causes[one]}
