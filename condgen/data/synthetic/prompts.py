"""The prompts of SceneEval for each of its six tasks, of seen or of held-out combinations."""

from __future__ import annotations

import numpy as np

from condgen.data.synthetic.grammar import (
    COLOURS,
    NUMBERS,
    RELATIONS,
    SHAPES,
    SIZES,
    Meaning,
    is_held_out_meaning,
)

KINDS = [(colour, shape) for colour in COLOURS for shape in SHAPES]


def questions(task: str, n: int, held_out: bool, seed: int = 0) -> list[Meaning]:
    """Draws n distinct meanings of a task (fewer if there are fewer), in a seeded order.

    Args:
        held_out: use only held-out combinations, or only those of the training set.
    """
    rng = np.random.default_rng((seed, held_out, sum(map(ord, task))))
    every = [m for m in _all(task) if is_held_out_meaning(m) == held_out]
    return [every[i] for i in rng.permutation(len(every))[:n]]


def _all(task: str) -> list[Meaning]:
    if task == "single_object":
        return [Meaning((kind,), size=size) for kind in KINDS for size in SIZES]
    if task == "colours":
        return [Meaning((kind,)) for kind in KINDS]
    if task == "counting":
        return [Meaning((kind,), number=number) for kind in KINDS for number in NUMBERS.values()]
    pairs = [(a, b) for a in KINDS for b in KINDS if a != b]
    if task == "two_objects":
        return [Meaning(pair) for pair in pairs]
    if task == "attribute_binding":
        return [Meaning((a, b)) for a, b in pairs if a[0] != b[0] and a[1] != b[1]]
    return [Meaning(pair, relation=relation) for pair in pairs for relation in RELATIONS]
