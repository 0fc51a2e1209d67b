"""Scenes of version 2: up to four things whose captions name 3 to 10 facts, see `descriptions`."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

import numpy as np

from condgen.data.datasets.captions import CaptionedImages
from condgen.data.synthetic import descriptions, grammar
from condgen.data.synthetic.descriptions import (
    Description,
    Phrase,
    is_held_out_composition,
    is_held_out_description,
)
from condgen.data.synthetic.grammar import RELATIONS, Thing
from condgen.data.synthetic.prompts import KINDS
from condgen.data.synthetic.scenes import (
    EXTENT,
    GAP,
    IN_COMPANY,
    LARGE,
    MOST,
    SMALL,
    Layout,
    captioned,
    draw_scenes,
    join_layouts,
)

BESIDE_SMALL, CROWDED = (0.25, 0.29), (0.12, 0.165)
"""Ranges of the radius r, fractions of the canvas: a large thing among small ones; these, and four related things."""
FAR = 0.3
"""Least distance on the axis of a relation, and largest on the other, as in `grammar.relation_of`."""
TRIES, PLACES = 40, 48
"""Attempts to place all things of a scene, and places of every thing in each of them."""
NEGATIVES = 3
"""Wrong captions of one caption of version 2, of which there are nearly as many as scenes."""


@dataclass(frozen=True)
class Template:
    """The form of a description.

    Args:
        numbers: things of every phrase, at most MOST in all.
        related: pairs of phrases whose relation is named.
        sized: phrases whose size is named.
    """

    numbers: tuple[int, ...]
    related: tuple[tuple[int, int], ...] = ()
    sized: tuple[int, ...] = ()


PAIR, STAR, CLAUSES = ((0, 1),), ((0, 1), (0, 2)), ((0, 1), (2, 3))
TEMPLATES: dict[int, tuple[Template, ...]] = {
    3: (Template((1,), sized=(0,)), *(Template((number,)) for number in (2, 3, 4))),
    5: (Template((1, 1), PAIR), Template((1, 1), sized=(0,)), Template((2, 1)), Template((3, 1))),
    6: (Template((2, 1), PAIR), Template((3, 1), PAIR), Template((1, 3), PAIR), Template((1, 1, 1))),
    7: (Template((1, 1), PAIR, (0, 1)), Template((2, 2), PAIR)),
    8: (Template((1, 1, 1), STAR), Template((1, 1, 1, 1))),
    10: (Template((1, 1, 1), STAR, (0, 1)), Template((1, 1, 1), STAR, (1, 2)), Template((1, 1, 1, 1), CLAUSES)),
}
"""Number of atoms -> templates. Scenes of three atoms are those of version 1."""
COMPOSED = tuple(chain.from_iterable(own for atoms, own in TEMPLATES.items() if atoms > 3))


def draw_compositions(
    n: int, seed: int | Sequence[int], held_out: bool | None = False, templates: Sequence[Template] = COMPOSED
) -> tuple[Layout, list[Description]]:
    """Draws n scenes, each with the longest description of its template; templates are equally frequent.

    Args:
        held_out: False draws scenes without any combination that is held out of training, True those whose description
            names one, None both.
    """
    rng = np.random.default_rng(seed)
    counts = np.bincount(rng.integers(0, len(templates), n), minlength=len(templates))
    drawn = [_draw(template, count, held_out, rng) for template, count in zip(templates, counts) if count]
    order = rng.permutation(n)
    every = [one for _, own in drawn for one in own]
    return join_layouts([layout for layout, _ in drawn])[order], [every[i] for i in order]


def _draw(
    template: Template, n: int, held_out: bool | None, rng: np.random.Generator
) -> tuple[Layout, list[Description]]:
    layouts, found = [], []
    while len(found) < n:
        layout, relations = _placed(template, 2 * (n - len(found)) + 16, held_out is False, rng)
        kept = []
        for row in range(len(layout)):
            things = layout.things(row)
            description = _described(template, things, relations[row])
            unwanted = (
                is_held_out_composition(things) if held_out is False else not is_held_out_description(description)
            )
            if len(found) < n and (held_out is None or not unwanted):
                kept.append(row)
                found.append(description)
        layouts.append(layout[np.array(kept, int)])
    return join_layouts(layouts), found


def _placed(template: Template, n: int, seen: bool, rng: np.random.Generator) -> tuple[Layout, np.ndarray]:
    """At most n scenes of a template, and the index of every relation in RELATIONS, (n, len(related)).

    Few scenes, with large things, find no place for all of them and are left out.

    Args:
        seen: use no (colour, shape) pair that is held out.
    """
    phrases = len(template.numbers)
    kinds = np.array([k for k, kind in enumerate(KINDS) if not (seen and grammar.is_held_out_kind(kind))])
    chosen = kinds[rng.random((n, len(kinds))).argsort(1)[:, :phrases]]  # distinct kinds
    owner = np.repeat(np.arange(phrases), template.numbers)
    colour, shape = np.zeros((n, MOST), int), np.full((n, MOST), -1)
    colour[:, : len(owner)], shape[:, : len(owner)] = np.divmod(chosen[:, owner], len(grammar.SHAPES))
    bounds = _radii(template, n, owner, rng)
    layout = Layout(shape, colour, *(np.zeros((n, MOST), np.float32) for _ in range(3)))
    relations, todo = rng.integers(0, len(RELATIONS), (n, len(template.related))), np.arange(n)
    for _ in range(TRIES):
        part, fits = layout[todo], np.ones(len(todo), bool)
        for thing in range(len(owner)):
            fits &= _place(part, thing, bounds[todo, thing], _wanted(template, owner, thing, relations[todo]), rng)
        fits &= _are_level(part, template, owner, relations[todo])
        for name in ("x", "y", "r"):
            getattr(layout, name)[todo] = getattr(part, name)
        if not (todo := todo[~fits]).size:
            break
    done = np.setdiff1d(np.arange(n), todo)
    return layout[done], relations[done]


def _radii(template: Template, n: int, owner: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Ranges of the radii (n, MOST, 2): where sizes are named, two scenes of three have one large thing."""
    if len(owner) == 1:
        return np.repeat(np.array([SMALL, LARGE])[rng.integers(0, 2, n)][:, None], MOST, 1)
    bounds = np.tile(np.array(CROWDED if template.related and len(owner) == MOST else IN_COMPANY), (n, MOST, 1))
    if template.sized:
        rows = np.flatnonzero(rng.random(n) < 2 / 3)
        large = np.array(template.sized)[rng.integers(0, len(template.sized), len(rows))]
        bounds[rows] = CROWDED
        bounds[rows, np.searchsorted(owner, large)] = BESIDE_SMALL
    return bounds


def _wanted(template: Template, owner: np.ndarray, thing: int, relations: np.ndarray) -> dict[int, np.ndarray]:
    """Of the things before this one those that have a relation to it, with the index of that relation, (N,)."""
    links = {pair: relations[:, k] for k, pair in enumerate(template.related)}
    return {k: links[owner[k], owner[thing]] for k in range(thing) if (owner[k], owner[thing]) in links}


def _place(
    layout: Layout, thing: int, bounds: np.ndarray, wanted: dict[int, np.ndarray], rng: np.random.Generator
) -> np.ndarray:
    """Places one thing of every scene beside those before it, in their relations; whether there was a place, (N,)."""
    u = rng.random((3, len(layout), PLACES), np.float32)
    r = bounds[:, :1] + u[0] * (bounds[:, 1:] - bounds[:, :1])
    side, above, below = (EXTENT[layout.shape[:, thing], k][:, None] * r for k in range(3))
    x, y = side + u[1] * (1 - 2 * side), above + u[2] * (1 - above - below)
    fits = np.ones(r.shape, bool)
    for k in range(thing):
        other = EXTENT[layout.shape[:, k]] * layout.r[:, k, None]
        dx, dy = x - layout.x[:, k, None], y - layout.y[:, k, None]
        under, over = dy >= other[:, 2:] + above + GAP, -dy >= other[:, 1:2] + below + GAP
        fits &= (np.abs(dx) >= other[:, :1] + side + GAP) | under | over
        if k in wanted:
            fits &= _along(dx, dy, wanted[k][:, None]) >= FAR
    chosen = np.arange(len(r)), fits.argmax(1)
    layout.x[:, thing], layout.y[:, thing], layout.r[:, thing] = x[chosen], y[chosen], r[chosen]
    return fits.any(1)


def _along(dx: np.ndarray, dy: np.ndarray, relation: np.ndarray) -> np.ndarray:
    """Distance from the first to the second on the axis of a relation, positive on the side that it names."""
    vertical, turned = relation < RELATIONS.index("left of"), relation % 2 == 1
    return np.where(vertical, dy, dx) * np.where(turned, -1, 1)


def _are_level(layout: Layout, template: Template, owner: np.ndarray, relations: np.ndarray) -> np.ndarray:
    """Whether the means of related things differ by less than FAR on the other axis, bool (N,)."""
    fits = np.ones(len(layout), bool)
    for k, pair in enumerate(template.related):
        first, second = (np.flatnonzero(owner == one) for one in pair)
        dx, dy = (a[:, second].mean(1) - a[:, first].mean(1) for a in (layout.x, layout.y))
        fits &= np.abs(np.where(relations[:, k] < RELATIONS.index("left of"), dx, dy)) < FAR
    return fits


def _described(template: Template, things: list[Thing], relations: np.ndarray) -> Description:
    starts = np.cumsum((0, *template.numbers))
    phrases = tuple(
        Phrase(things[start].kind, number, things[start].size if i in template.sized else None)
        for i, (start, number) in enumerate(zip(starts, template.numbers))
    )
    named = tuple((a, RELATIONS[relation], b) for (a, b), relation in zip(template.related, relations))
    return Description(phrases, named)


def composition_prompts(atoms: int, n: int, held_out: bool, seed: int = 0) -> tuple[list[Description], Layout]:
    """Draws at most n distinct prompts of SceneEval-2, the templates in turn, and for each a scene that shows it.

    Args:
        atoms: number of facts, a key of TEMPLATES.
        held_out: prompts that name a combination that is held out of training, or only those of the training set.
    """
    pools = []
    for k, template in enumerate(TEMPLATES[atoms]):
        layout, found = draw_compositions(n, (seed, held_out, atoms, k), held_out, [template])
        pools.append([(one, layout[i : i + 1]) for i, one in enumerate(found)])
    turns = [one for turn in zip_longest(*pools) for one in turn if one]
    distinct = list({description: (description, layout) for description, layout in reversed(turns)}.values())[::-1][:n]
    return [description for description, _ in distinct], join_layouts([layout for _, layout in distinct])


def draw_captioned(
    n: int, seed: int, templates: int = 1, held_out: bool | None = False
) -> tuple[Layout, list[list[str]]]:
    """Draws n scenes and their captions: of version 1, or of both versions in turn with `templates` 2."""
    old = n if templates == 1 else (n + 1) // 2
    layout, things = draw_scenes(old, seed, held_out)
    captions = [grammar.captions_of(scene) for scene in things]
    if old == n:
        return layout, captions
    composed, found = draw_compositions(n - old, (seed, 2), held_out)
    order = np.argsort(np.concatenate([np.arange(old), np.arange(n - old) + 0.5]), kind="stable")
    captions += [descriptions.captions_of(description) for description in found]
    return join_layouts([layout, composed])[order], [captions[i] for i in order]


def captioned_scenes(
    n: int, seed: int = 0, size: int = 32, held_out: bool | None = False, negatives: str = "seen", templates: int = 1
) -> CaptionedImages:
    """Draws n captioned scenes.

    Args:
        n, seed, size, held_out, negatives: see `scenes.scenes`; with `templates` 1 the result is the same.
        templates: 2 draws every second scene of version 2: three and four things, counts with relations, sizes.
    """
    layout, captions = draw_captioned(n, seed, templates, held_out)
    longest = {own[0] for own in captions}

    def wrong_of(caption: str, allow_held_out: bool) -> list[str]:
        if grammar.parse(caption):
            return grammar.negatives_of(caption, allow_held_out)
        return negatives_of(caption, allow_held_out) if caption in longest else []

    return captioned(layout, captions, size, negatives, wrong_of)


def negatives_of(caption: str, allow_held_out: bool) -> list[str]:
    """At most NEGATIVES wrong captions that are similar to this one of version 2; see `grammar.negatives_of`."""
    wrong = descriptions.swaps_of(descriptions.parse(caption))
    wrong = [one for one in wrong if allow_held_out or not is_held_out_description(one)]
    start = zlib.crc32(caption.encode())  # of many wrong captions, others for every caption
    return [descriptions.say(wrong[(start + k) % len(wrong)]) for k in range(min(NEGATIVES, len(wrong)))]
