"""The captions of scenes: grammar, meaning, wrong captions, and the combinations that are held out.

a {small|large} {colour} {shape}         a {colour} {shape}
a {colour} {shape} and a {colour} {shape}
a {colour} {shape} {above|below|left of|right of} a {colour} {shape}
{two|three|four} {colour} {shape}s
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange", "cyan", "pink")
SHAPES = ("circle", "square", "triangle", "diamond", "cross")
RELATIONS = ("above", "below", "left of", "right of")
INVERSE = {"above": "below", "below": "above", "left of": "right of", "right of": "left of"}
NUMBERS = {"two": 2, "three": 3, "four": 4}
SIZES = ("small", "large")
SIZE_LIMIT = 0.2275
"""Radius, as a part of the canvas, that separates small from large: halfway between the two ranges."""

Kind = tuple[str, str]
"""(colour, shape)"""


@dataclass(frozen=True)
class Thing:
    """One shape of a scene; r, x, y are parts of the canvas, y grows downwards."""

    colour: str
    shape: str
    r: float
    x: float
    y: float

    @property
    def kind(self) -> Kind:
        return self.colour, self.shape

    @property
    def size(self) -> str:
        return SIZES[self.r > SIZE_LIMIT]


@dataclass(frozen=True)
class Meaning:
    """What a caption says: kinds in the order of the words, with a size, a number or a relation where it names one."""

    kinds: tuple[Kind, ...]
    size: str | None = None
    number: int = 1
    relation: str | None = None


def relation_of(a: Thing, b: Thing) -> str | None:
    """How a lies to b: at least 0.3 S apart on one axis and less on the other; None when that is not so."""
    dx, dy = a.x - b.x, a.y - b.y
    if abs(dy) >= 0.3 > abs(dx):
        return "above" if dy < 0 else "below"
    if abs(dx) >= 0.3 > abs(dy):
        return "left of" if dx < 0 else "right of"
    return None


def noun(kind: Kind, size: str | None = None) -> str:
    """'an orange square', 'a small orange square'."""
    first = size or kind[0]
    return " ".join(filter(None, ("an" if first[0] in "aeiou" else "a", size, *kind)))


def say(meaning: Meaning) -> str:
    """The caption of a meaning; `parse` is its inverse."""
    if meaning.number > 1:
        word = next(w for w, n in NUMBERS.items() if n == meaning.number)
        colour, shape = meaning.kinds[0]
        return f"{word} {colour} {shape}{'es' if shape == 'cross' else 's'}"
    if len(meaning.kinds) == 1:
        return noun(meaning.kinds[0], meaning.size)
    return f"{noun(meaning.kinds[0])} {meaning.relation or 'and'} {noun(meaning.kinds[1])}"


_THING = rf"an? (?:({'|'.join(SIZES)}) )?({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})"
_ONE = re.compile(_THING)
_TWO = re.compile(rf"{_THING} (and|{'|'.join(RELATIONS)}) {_THING}")
_SOME = re.compile(rf"({'|'.join(NUMBERS)}) ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})e?s")


def parse(caption: str) -> Meaning | None:
    """What a caption of the grammar says; None for any other text."""
    text = " ".join(caption.lower().split())
    if found := _ONE.fullmatch(text):
        return Meaning(((found[2], found[3]),), size=found[1])
    if found := _SOME.fullmatch(text):
        return Meaning(((found[2], found[3]),), number=NUMBERS[found[1]])
    if (found := _TWO.fullmatch(text)) and not (found[1] or found[5]):
        relation = None if found[4] == "and" else found[4]
        return Meaning(((found[2], found[3]), (found[6], found[7])), relation=relation)
    return None


def is_held_out_kind(kind: Kind) -> bool:
    """Six of the forty (colour, shape) pairs, at most one a colour and two a shape."""
    return (2 * COLOURS.index(kind[0]) + 3 * SHAPES.index(kind[1])) % 7 == 6


def is_held_out_relation(a: Kind, relation: str, b: Kind) -> bool:
    """About 15 % of the ordered tuples; 'a above b' and 'b below a' are one tuple."""
    if relation in ("below", "right of"):
        a, relation, b = b, INVERSE[relation], a
    return zlib.crc32(" ".join((*a, relation, *b)).encode()) % 100 < 15


def is_held_out(things: list[Thing]) -> bool:
    """Whether a scene shows a combination that is held out of training."""
    if any(is_held_out_kind(thing.kind) for thing in things):
        return True
    if len(things) != 2 or things[0].kind == things[1].kind:
        return False
    relation = relation_of(*things)
    return relation is not None and is_held_out_relation(things[0].kind, relation, things[1].kind)


def is_held_out_meaning(meaning: Meaning) -> bool:
    """Whether a caption names a combination that is held out of training."""
    if any(is_held_out_kind(kind) for kind in meaning.kinds):
        return True
    return meaning.relation is not None and is_held_out_relation(meaning.kinds[0], meaning.relation, meaning.kinds[1])


def captions_of(things: list[Thing]) -> list[str]:
    """Captions true of a scene: with and without size; both ways round a relation, and both ways round an 'and'."""
    a, b = things[0], things[-1]
    if len(things) == 1:
        return [say(Meaning((a.kind,), size=a.size)), say(Meaning((a.kind,)))]
    if a.kind == b.kind:
        return [say(Meaning((a.kind,), number=len(things)))]
    there, back = (a.kind, b.kind), (b.kind, a.kind)
    meanings = [Meaning(there), Meaning(back)]
    if relation := relation_of(a, b):
        meanings = [Meaning(there, relation=relation), Meaning(back, relation=INVERSE[relation]), *meanings]
    return [say(meaning) for meaning in meanings]


def swaps_of(meaning: Meaning) -> dict[str, Meaning]:
    """Wrong meanings in the same words: colours or shapes swapped, relation turned round; size or number changed."""
    if len(meaning.kinds) == 1:
        if meaning.number > 1:
            other = meaning.number % 4 + 1 if meaning.number < 4 else 2
            return {"number": Meaning(meaning.kinds, number=max(other, 2))}
        other_size = {"small": "large", "large": "small"}.get(meaning.size or "")
        return {"size": Meaning(meaning.kinds, size=other_size)} if other_size else {}
    (c1, s1), (c2, s2) = meaning.kinds
    wrong = {}
    if c1 != c2 and s1 != s2:  # else the swapped caption says the same, or is the relation turned round
        wrong["colour"] = Meaning(((c2, s1), (c1, s2)), relation=meaning.relation)
        wrong["shape"] = Meaning(((c1, s2), (c2, s1)), relation=meaning.relation)
    if meaning.relation:
        wrong["relation"] = Meaning(meaning.kinds, relation=INVERSE[meaning.relation])
    return wrong


def negatives_of(caption: str, allow_held_out: bool) -> list[str]:
    """Wrong captions that look like this one.

    A swap that names a held-out combination would teach that such a combination is always wrong; those are left out
    unless `allow_held_out`.
    """
    meaning = parse(caption)
    wrong = swaps_of(meaning).values() if meaning else ()
    return [say(other) for other in wrong if allow_held_out or not is_held_out_meaning(other)]
