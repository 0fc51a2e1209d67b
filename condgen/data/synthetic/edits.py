"""Edits of scenes in words, such as 'a red circle' -> 'a green circle', and rules that decide whether one was done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np

from condgen.data.synthetic.grammar import (
    COLOURS,
    NUMBERS,
    RELATIONS,
    SHAPES,
    SIZES,
    Meaning,
    Thing,
    relation_of,
    say,
)
from condgen.data.synthetic.scenes import draw_scenes, render

CHANGES = ("colour", "shape", "size", "relation", "number")
IN_PLACE = 0.1
"""A thing is in its place if its centre moved by at most this fraction of the canvas."""


@dataclass(frozen=True)
class SceneEdit:
    """One change of one scene, in words.

    Args:
        change: what is changed, one of CHANGES.
        before: the things of the scene.
        source, target: captions of the scene before and after.
        after: what must be there: kinds, number, and the size or relation even if the captions do not name it.
    """

    change: str
    before: tuple[Thing, ...]
    source: str
    target: str
    after: Meaning


def draw_edits(n: int, seed: int = 0, size: int = 32) -> tuple[np.ndarray, list[SceneEdit]]:
    """Draws n edits of held-out scenes, CHANGES in turn.

    Returns:
        The scenes, uint8 (n, 3, size, size), and their edits.
    """
    rng = np.random.default_rng(seed)
    layout, things = draw_scenes(12 * n, seed, held_out=True)
    rows, edits, free = [], [], list(range(len(things)))
    for k in range(n):
        change = CHANGES[k % len(CHANGES)]
        row = next(row for row in free if _allows(change, things[row]))
        free.remove(row)
        rows.append(row)
        edits.append(_edit(change, tuple(things[row]), rng))
    return render(layout[np.array(rows)], size), edits


def _allows(change: str, things: Sequence[Thing]) -> bool:
    kinds, related = {thing.kind for thing in things}, len(things) == 2 and relation_of(*things) is not None
    if change == "size":
        return len(things) == 1
    if change == "number":
        return len(things) > 1 and len(kinds) == 1
    if change == "relation":
        return len(kinds) == 2 and related
    return len(things) == 1 or (len(kinds) == 2 and related)


def _edit(change: str, things: tuple[Thing, ...], rng: np.random.Generator) -> SceneEdit:
    kinds = tuple(dict.fromkeys(thing.kind for thing in things))
    size = things[0].size if len(things) == 1 else None
    relation = relation_of(*things) if len(kinds) == 2 else None
    before = Meaning(kinds, size, len(things) if len(kinds) == 1 else 1, relation)
    after = before
    if change in ("colour", "shape"):
        which, column = int(rng.integers(len(kinds))), ("colour", "shape").index(change)
        others = [word for word in (COLOURS, SHAPES)[column] if word != kinds[which][column]]
        new = [*kinds[which]]
        new[column] = str(rng.choice([word for word in others if _with(kinds[which], column, word) not in kinds]))
        after = replace(before, kinds=tuple(tuple(new) if k == which else kind for k, kind in enumerate(kinds)))
    elif change == "size":
        after = replace(before, size=SIZES[1 - SIZES.index(before.size)])
    elif change == "relation":
        after = replace(before, relation=str(rng.choice([word for word in RELATIONS if word != relation])))
    else:
        after = replace(before, number=int(rng.choice([m for m in NUMBERS.values() if m != len(things)])))
    return SceneEdit(change, things, say(before), say(after), after)


def _with(kind: tuple[str, str], column: int, word: str) -> tuple[str, str]:
    return (word, kind[1]) if column == 0 else (kind[0], word)


def is_done(edit: SceneEdit, seen: Sequence[Thing]) -> bool:
    """Whether the named change is made and everything else kept: kinds, number, size of a single thing, relation."""
    after = edit.after
    wanted = Counter(after.kinds) if after.number == 1 else Counter({after.kinds[0]: after.number})
    if Counter(thing.kind for thing in seen) != wanted:
        return False
    if after.size is not None and seen[0].size != after.size:
        return False
    if after.relation is None:
        return True
    one, other = sorted(seen, key=lambda thing: after.kinds.index(thing.kind))
    return _axis_relation(one, other) == after.relation


def _axis_relation(a: Thing, b: Thing) -> str:
    """The relation of a to b on the axis along which their centres differ most, as in `metrics.geneval`."""
    dx, dy = a.x - b.x, a.y - b.y
    if abs(dy) >= abs(dx):
        return "above" if dy < 0 else "below"
    return "left of" if dx < 0 else "right of"


def in_place(edit: SceneEdit, seen: Sequence[Thing]) -> bool:
    """Whether what did not have to move is in its place.

    All things after a change of colour, shape or size; one of two after a change of the relation; as many as stay after
    a change of the number.
    """
    stay = 1 if edit.change == "relation" else min(len(edit.before), len(seen))
    if len(seen) < stay or not seen:
        return False

    def kept(order: Sequence[Thing]) -> int:
        return sum(
            max(abs(a.x - b.x), abs(a.y - b.y)) <= IN_PLACE and (edit.change != "relation" or a.kind == b.kind)
            for a, b in zip(edit.before, order)
        )

    return max(kept(order) for order in permutations(seen[:6])) >= stay
