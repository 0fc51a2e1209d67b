"""Edits of scenes: they are true of their scenes, and the rules accept what was asked for and nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from condgen.data.synthetic.detector import detect
from condgen.data.synthetic.edits import CHANGES, draw_edits, in_place, is_done
from condgen.data.synthetic.grammar import Thing, captions_of, is_held_out, parse

PIXELS, EDITS = draw_edits(100, seed=3)


def edited(edit) -> list[Thing]:
    """The scene after its edit, for changes that leave all things in their places."""
    kinds = dict(zip(dict.fromkeys(thing.kind for thing in edit.before), edit.after.kinds))
    r = {"small": 0.16, "large": 0.3}.get(edit.after.size or "")
    return [
        replace(thing, colour=kinds[thing.kind][0], shape=kinds[thing.kind][1], r=r or thing.r) for thing in edit.before
    ]


def test_the_source_is_true_of_a_held_out_scene_and_the_target_is_not():
    for edit in EDITS:
        assert is_held_out(list(edit.before))
        assert edit.source in captions_of(list(edit.before)) and edit.target not in captions_of(list(edit.before))


def test_source_and_target_differ_in_the_named_change_alone():
    for edit in EDITS:
        source, target = parse(edit.source), parse(edit.target)
        differ = {
            "size": source.size != target.size,
            "number": source.number != target.number,
            "relation": source.relation != target.relation,
            "colour": [kind[0] for kind in source.kinds] != [kind[0] for kind in target.kinds],
            "shape": [kind[1] for kind in source.kinds] != [kind[1] for kind in target.kinds],
        }
        assert [name for name, changed in differ.items() if changed] == [edit.change]


def test_every_change_is_drawn_equally_often():
    assert {name: sum(edit.change == name for edit in EDITS) for name in CHANGES} == dict.fromkeys(CHANGES, 20)


def test_the_untouched_scene_is_not_done_and_in_its_place():
    for edit, seen in zip(EDITS, detect(PIXELS)):
        assert not is_done(edit, seen)
        assert in_place(edit, seen) or edit.change == "number"


@pytest.mark.parametrize("change", ["colour", "shape", "size"])
def test_the_edited_scene_is_done_and_in_its_place(change):
    for edit in EDITS:
        if edit.change == change:
            after = edited(edit)
            assert is_done(edit, after) and in_place(edit, after)
            assert not is_done(edit, [*after, Thing("red", "cross", 0.15, 0.5, 0.5)])
            moved = [replace(thing, x=thing.x + 0.2) for thing in after]
            assert not in_place(edit, moved)


def test_numbers_and_relations():
    for edit in EDITS:
        if edit.change == "number":
            more = [replace(edit.before[0], x=k / 4) for k in range(edit.after.number)]
            assert is_done(edit, more) and not is_done(edit, more[:-1])
        if edit.change == "relation":
            dx, dy = {"above": (0, -0.4), "below": (0, 0.4), "left of": (-0.4, 0), "right of": (0.4, 0)}[
                edit.after.relation
            ]
            one, other = edit.before
            placed = [replace(one, x=other.x + dx, y=other.y + dy), other]
            assert is_done(edit, placed) and in_place(edit, placed) and is_done(edit, placed[::-1])
            assert not is_done(edit, [replace(one, x=other.x - dx, y=other.y - dy), other])


def test_a_seed_names_the_edits():
    again, edits = draw_edits(100, seed=3)
    assert np.array_equal(again, PIXELS) and edits == EDITS
