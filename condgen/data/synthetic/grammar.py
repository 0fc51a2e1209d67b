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
"""Radius, as a fraction of the canvas, that separates small from large: halfway between the two ranges."""

Kind = tuple[str, str]
"""(colour, shape)"""


@dataclass(frozen=True)
class Thing:
    """One shape of a scene; r, x, y are fractions of the canvas, y grows downwards."""

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
    """The meaning of a caption: kinds in the order of the words, with the size, number or relation that it names."""

    kinds: tuple[Kind, ...]
    size: str | None = None
    number: int = 1
    relation: str | None = None


def relation_of(a: Thing, b: Thing) -> str | None:
    """The relation of a to b: at least 0.3 S apart on one axis and less on the other; None if there is none."""
    dx, dy = a.x - b.x, a.y - b.y
    if abs(dy) >= 0.3 > abs(dx):
        return "above" if dy < 0 else "below"
    if abs(dx) >= 0.3 > abs(dy):
        return "left of" if dx < 0 else "right of"
    return None


def noun(kind: Kind, size: str | None = None) -> str:
    """A noun phrase such as 'an orange square' or 'a small orange square'."""
    first = size or kind[0]
    return " ".join(filter(None, ("an" if first[0] in "aeiou" else "a", size, *kind)))


def say(meaning: Meaning) -> str:
    """Writes the caption of a meaning; the inverse of `parse`."""
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
    """Parses a caption of the grammar; None for any other text."""
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
    """Whether a (colour, shape) pair is held out: six of forty, at most one per colour and two per shape."""
    return (2 * COLOURS.index(kind[0]) + 3 * SHAPES.index(kind[1])) % 7 == 6


def is_held_out_relation(a: Kind, relation: str, b: Kind) -> bool:
    """Whether a relation is held out: about 15 % of the ordered tuples; 'a above b' and 'b below a' are one tuple."""
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
    """All captions that are true of a scene: with and without size, and with relations and 'and' in both orders."""
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
    """Wrong meanings close to the given one: colours or shapes swapped, relation inverted, size or number changed."""
    if len(meaning.kinds) == 1:
        if meaning.number > 1:
            other = meaning.number % 4 + 1 if meaning.number < 4 else 2
            return {"number": Meaning(meaning.kinds, number=max(other, 2))}
        other_size = {"small": "large", "large": "small"}.get(meaning.size or "")
        return {"size": Meaning(meaning.kinds, size=other_size)} if other_size else {}
    (c1, s1), (c2, s2) = meaning.kinds
    wrong = {}
    if c1 != c2 and s1 != s2:  # otherwise the swapped caption means the same, or equals the inverted relation
        wrong["colour"] = Meaning(((c2, s1), (c1, s2)), relation=meaning.relation)
        wrong["shape"] = Meaning(((c1, s2), (c2, s1)), relation=meaning.relation)
    if meaning.relation:
        wrong["relation"] = Meaning(meaning.kinds, relation=INVERSE[meaning.relation])
    return wrong


def negatives_of(caption: str, allow_held_out: bool) -> list[str]:
    """Wrong captions that are similar to this one.

    Captions of held-out combinations are left out unless `allow_held_out`, because training on them would teach that
    these combinations are always wrong.
    """
    meaning = parse(caption)
    wrong = swaps_of(meaning).values() if meaning else ()
    return [say(other) for other in wrong if allow_held_out or not is_held_out_meaning(other)]
