"""Text-image alignment by atoms: the single facts of a prompt that can be checked, on detected objects.

A prompt is a description with `phrases` (`kind` (colour, shape), `number`, `size`), `relations` (phrase, relation,
phrase) and `kinds` (of every thing). Detected objects have `shape`, `colour`, `size`, `x`, `y`.

References:
    Davidsonian Scene Graph: Improving Reliability in Fine-grained Evaluation for Text-to-Image Generation (Cho et al.,
    2024), where a fact about an object is wrong if there is no such object
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

from condgen.metrics.failures import wrong_objects
from condgen.metrics.geneval import lies

ASPECTS = ("shape", "colour", "size", "number", "relation")
MOST = 5
"""Objects that may be meant by one phrase; of more, the largest."""

Atom = tuple[str, bool]
"""One of ASPECTS, and whether the image shows it."""


@dataclass(frozen=True)
class _Centre:
    x: float
    y: float


def check_atoms(description, objects: list) -> list[Atom]:
    """Checks every fact of a description.

    Objects are assigned to phrases so that most facts hold, each to one phrase: all objects of its kind if it names a
    number, else one; if there is none of its kind, one of its shape that no other phrase names.

    shape: there is an object of this shape. colour: it has this colour. size: it, or each of several, has this size.
    number: there are exactly so many objects of this shape and colour. relation: see `stands`; it is wrong where an
    object is missing.

    Args:
        objects: detected objects, largest first.
    """
    surplus = Counter((one.colour, one.shape) for one in objects) - Counter(description.kinds)
    options = [_options(phrase, objects, surplus) for phrase in description.phrases]
    best: list[Atom] = []
    for chosen in product(*options):
        used = [id(one) for own in chosen for one in own]
        if len(set(used)) == len(used):
            atoms = _check(description, chosen)
            if not best or sum(right for _, right in atoms) > sum(right for _, right in best):
                best = atoms
    return best


def _options(phrase, objects: list, surplus: Counter) -> list[list]:
    """The objects that a phrase may mean, of those that other phrases name only what is left; the last is none."""
    exact = [one for one in objects if (one.colour, one.shape) == phrase.kind]
    if exact and phrase.number > 1:
        return [exact, []]
    some = exact or [one for one in objects if one.shape == phrase.kind[1] and surplus[one.colour, one.shape]]
    return [*([one] for one in some[:MOST]), []]


def _check(description, chosen: tuple[list, ...]) -> list[Atom]:
    atoms = []
    for phrase, own in zip(description.phrases, chosen):
        is_kind = bool(own) and (own[0].colour, own[0].shape) == phrase.kind
        atoms += [("shape", bool(own)), ("colour", is_kind)]
        if phrase.size is not None:
            atoms.append(("size", bool(own) and all(one.size == phrase.size for one in own)))
        if phrase.number > 1:
            atoms.append(("number", is_kind and len(own) == phrase.number))
    for first, relation, second in description.relations:
        atoms.append(("relation", stands(chosen[first], relation, chosen[second])))
    return atoms


def stands(first: list, relation: str, second: list) -> bool:
    """True if the relation of some objects to others holds.

    It holds for their mean centres (see `geneval.lies`), and each of the first is on its side of each of the second.
    """
    if not first or not second:
        return False
    axis = "y" if relation in ("above", "below") else "x"
    a, b = ([getattr(one, axis) for one in own] for own in (first, second))
    on_side = max(a) < min(b) if relation in ("above", "left of") else min(a) > max(b)
    return on_side and lies(_mean(first), relation, _mean(second))


def _mean(objects: list) -> _Centre:
    return _Centre(*(sum(getattr(one, axis) for one in objects) / len(objects) for axis in ("x", "y")))


def description_cause(description, objects: list) -> str | None:
    """The first of `failures.CAUSES` that holds; None if the image shows the description and nothing else."""
    if cause := wrong_objects(description.kinds, objects):
        return cause
    wrong = {aspect for aspect, right in check_atoms(description, objects) if not right}
    return "wrong relation" if "relation" in wrong else "wrong size" if "size" in wrong else None


def score_atoms(results: Iterable[tuple[list[Atom], int, str | None]]) -> dict[str, float | None]:
    """Scores of some images.

    Args:
        results: of every image its atoms, the number of phrases of its prompt, and the cause of its failure.

    Returns:
        `prompt`: share of images with all atoms right; `exact`: that show nothing else either; `atoms`: share of atoms
        that are right. Of single aspects the share of right atoms, None if there are none: `shape`; `binding`, the
        colours of two or more phrases; `position`, the relations; `number`; `size`. `images`: number of images.
    """
    results = list(results)
    every = [atom for atoms, *_ in results for atom in atoms]
    n, most = max(len(results), 1), max(len(every), 1)
    scores: dict[str, float | None] = {
        "prompt": sum(all(right for _, right in atoms) for atoms, *_ in results) / n,
        "exact": sum(cause is None for *_, cause in results) / n,
        "atoms": sum(right for _, right in every) / most,
    }
    bound = [atom for atoms, phrases, _ in results if phrases > 1 for atom in atoms if atom[0] == "colour"]
    aspects = {name: [atom for atom in every if atom[0] == name] for name in ASPECTS}
    groups = {"shape": aspects["shape"], "binding": bound, "position": aspects["relation"]}
    groups |= {name: aspects[name] for name in ("number", "size")}
    scores |= {name: sum(right for _, right in own) / len(own) if own else None for name, own in groups.items()}
    return scores | {"images": len(results)}
