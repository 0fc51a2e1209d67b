"""Captions of version 2, of several facts: up to four noun phrases, each with its number and size, and relations.

phrases:    a [small|large] {colour} {shape}, {two|three|four} [small|large] {colour} {shape}s
captions:   PHRASE and PHRASE ...                                 phrases without relations
            PHRASE above PHRASE and left of PHRASE                relations of one phrase
            PHRASE above PHRASE and PHRASE left of PHRASE         relations of several

Every caption of version 1 (see `grammar`) is one of these, and there are no other words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from condgen.data.synthetic.grammar import (
    COLOURS,
    INVERSE,
    NUMBERS,
    RELATIONS,
    SHAPES,
    SIZES,
    Kind,
    Thing,
    is_held_out,
    is_held_out_kind,
    is_held_out_relation,
    noun,
)

Relation = tuple[int, str, int]
"""(phrase, relation, phrase): 'the first is above the second'."""


@dataclass(frozen=True)
class Phrase:
    """Things of one kind: (colour, shape), how many, and their size if it is named."""

    kind: Kind
    number: int = 1
    size: str | None = None


@dataclass(frozen=True)
class Description:
    """The meaning of a caption: its phrases in the order of the words, and relations between them."""

    phrases: tuple[Phrase, ...]
    relations: tuple[Relation, ...] = ()

    @property
    def kinds(self) -> list[Kind]:
        """The kind of every thing that the caption names."""
        return [phrase.kind for phrase in self.phrases for _ in range(phrase.number)]

    @property
    def atoms(self) -> int:
        """Number of facts that can be checked: shapes, colours, sizes, numbers and relations."""
        return len(self.relations) + sum(2 + (p.number > 1) + (p.size is not None) for p in self.phrases)


def say(description: Description) -> str:
    """Writes the caption of a description; the inverse of `parse`."""
    if not description.relations:
        return " and ".join(map(_say, description.phrases))
    parts, subject = [], None
    for first, relation, second in description.relations:
        start = f"{_say(description.phrases[first])} " if first != subject else ""
        parts.append(f"{start}{relation} {_say(description.phrases[second])}")
        subject = first
    return " and ".join(parts)


def _say(phrase: Phrase) -> str:
    if phrase.number == 1:
        return noun(phrase.kind, phrase.size)
    word = next(word for word, number in NUMBERS.items() if number == phrase.number)
    colour, shape = phrase.kind
    return " ".join(filter(None, (word, phrase.size, colour, f"{shape}{'es' if shape == 'cross' else 's'}")))


_PHRASE = re.compile(
    rf"(an?|{'|'.join(NUMBERS)}) (?:({'|'.join(SIZES)}) )?({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})(e?s)?"
)
_RELATED = re.compile(rf"(?:(?P<first>.+) )?(?P<relation>{'|'.join(RELATIONS)}) (?P<second>.+)")


def parse(caption: str) -> Description | None:
    """Parses a caption of either version; None for any other text, and for a list with relations in it.

    Of 'a red circle above a blue square and a green cross' it is open what the cross is above or below.
    """
    phrases: list[Phrase] = []
    relations: list[Relation] = []
    alone = 0
    for part in " ".join(caption.lower().split()).split(" and "):
        found = _RELATED.fullmatch(part)
        named = [found["first"], found["second"]] if found else [part]
        read = [_parse(text) for text in named if text is not None]
        if None in read or (found and not found["first"] and not relations):
            return None
        alone += found is None
        first = len(phrases) if not found or found["first"] else relations[-1][0]
        phrases += read
        if found:
            relations.append((first, found["relation"], len(phrases) - 1))
    return None if alone and relations else Description(tuple(phrases), tuple(relations))


def _parse(text: str) -> Phrase | None:
    found = _PHRASE.fullmatch(text)
    if not found or (found[1] in NUMBERS) != bool(found[5]):
        return None
    return Phrase((found[3], found[4]), NUMBERS.get(found[1], 1), found[2])


def arranged(phrases: Sequence[Phrase], relations: Iterable[Relation]) -> Description:
    """A description by these relations, whose phrases are numbered in the order in which the caption names them."""
    relations = list(relations)
    order = list(dict.fromkeys(i for first, _, second in relations for i in (first, second)))
    place = {old: new for new, old in enumerate(order)}
    return Description(tuple(phrases[i] for i in order), tuple((place[a], r, place[b]) for a, r, b in relations))


def equivalents(description: Description) -> list[Description]:
    """Other descriptions with the same meaning: phrases or relations in another order, relations turned round."""
    phrases, relations = description.phrases, description.relations
    if not relations:
        found = [Description(phrases[::-1])]
    else:
        found = [arranged(phrases, relations[::-1])]
        if len({i for a, _, b in relations for i in (a, b)}) == 2 * len(relations):
            found.append(arranged(phrases, [(b, INVERSE[relation], a) for a, relation, b in relations]))
    return [one for one in dict.fromkeys(found) if one != description]


def captions_of(description: Description) -> list[str]:
    """Captions that are true where the description is: it comes first, then equivalents, then those that name less."""
    unsized = replace(description, phrases=tuple(replace(one, size=None) for one in description.phrases))
    less = [unsized, Description(description.phrases)]
    return list(dict.fromkeys(map(say, (description, *equivalents(description), *less))))


def swaps_of(description: Description) -> list[Description]:
    """Wrong descriptions close to the given one: colours or shapes of two phrases swapped, a relation turned round,
    another size, another number.
    """
    phrases, wrong = description.phrases, []
    for i, j in combinations(range(len(phrases)), 2):
        (c1, s1), (c2, s2) = phrases[i].kind, phrases[j].kind
        if c1 != c2 and s1 != s2:
            wrong += [
                _changed(description, {i: (c2, s1), j: (c1, s2)}),
                _changed(description, {i: (c1, s2), j: (c2, s1)}),
            ]
    for k, (first, relation, second) in enumerate(description.relations):
        turned = (first, INVERSE[relation], second)
        wrong.append(
            replace(description, relations=(*description.relations[:k], turned, *description.relations[k + 1 :]))
        )
    for i, phrase in enumerate(phrases):
        if phrase.size:
            other = replace(phrase, size=SIZES[phrase.size == SIZES[0]])
            wrong.append(replace(description, phrases=(*phrases[:i], other, *phrases[i + 1 :])))
        if phrase.number > 1:
            other = replace(phrase, number=phrase.number + 1 if phrase.number < 4 else 2)
            wrong.append(replace(description, phrases=(*phrases[:i], other, *phrases[i + 1 :])))
    return wrong


def _changed(description: Description, kinds: dict[int, Kind]) -> Description:
    phrases = [replace(one, kind=kinds.get(i, one.kind)) for i, one in enumerate(description.phrases)]
    return replace(description, phrases=tuple(phrases))


def is_held_out_description(description: Description) -> bool:
    """Whether a caption names a combination that is held out of training: a kind, or a relation of two kinds."""
    phrases = description.phrases
    return any(is_held_out_kind(one.kind) for one in phrases) or any(
        is_held_out_relation(phrases[first].kind, relation, phrases[second].kind)
        for first, relation, second in description.relations
    )


def is_held_out_composition(things: list[Thing]) -> bool:
    """Whether a scene shows a kind, or between any two of its things a relation, that is held out of training."""
    return any(is_held_out_kind(one.kind) for one in things) or any(
        is_held_out([*two]) for two in combinations(things, 2)
    )
