"""Causes of failures: scenes with one known error, as they are and as the detector reads them at 32 pixels."""

import dataclasses

import numpy as np
import pytest

from condgen.data.synthetic.detector import detect
from condgen.data.synthetic.grammar import COLOURS, SHAPES, SIZES, Meaning, captions_of, parse
from condgen.data.synthetic.scenes import BACKGROUND, coverage, draw_scenes, render
from condgen.metrics.failures import CAUSES, count_failures, failure_cause
from condgen.metrics.geneval import TASKS, is_exact, passes


@pytest.fixture(scope="module")
def world():
    layout, things = draw_scenes(1200, 21, None)
    return layout, [parse(captions_of(scene)[-1 if len(scene) == 1 else 0]) for scene in things], things


def copy_of(layout, rows):
    return dataclasses.replace(layout[np.array(rows)], **{k: v[rows].copy() for k, v in vars(layout).items()})


def rows_of(meanings, fits):
    return [row for row, meaning in enumerate(meanings) if fits(meaning)]


def other(values, count):
    """Another index than each of these."""
    return (values + 1 + np.arange(len(values)) % (count - 1)) % count


def causes_of(layout, meanings):
    """The causes by the true things, and as the detector reads them."""
    true = [failure_cause(m, layout.things(row)) for row, m in enumerate(meanings)]
    return true, [failure_cause(m, seen) for m, seen in zip(meanings, detect(render(layout, 32)))]


def always(found, cause):
    true, seen = found
    assert len(true) >= 100 and set(true) == {cause} and np.mean([one == cause for one in seen]) >= 0.98


def test_a_right_image_has_no_cause(world):
    always(causes_of(world[0], world[1]), None)


def test_one_thing_less_and_one_more(world):
    layout, meanings, _ = world
    rows = rows_of(meanings, lambda m: len(m.kinds) == 2 or m.number > 1)
    fewer = copy_of(layout, rows)
    fewer.shape[np.arange(len(rows)), (fewer.shape >= 0).sum(1) - 1] = -1
    always(causes_of(fewer, [meanings[row] for row in rows]), "too few")
    more = [
        Meaning(m.kinds[:1]) if m.number == 1 else Meaning(m.kinds, number=m.number - 1)
        for m in (meanings[row] for row in rows)
    ]
    always(causes_of(layout[np.array(rows)], more), "too many")


@pytest.mark.parametrize("field, names, cause", [("colour", COLOURS, "wrong colour"), ("shape", SHAPES, "wrong shape")])
def test_one_wrong_colour_or_shape(world, field, names, cause):
    wrong = copy_of(world[0], np.arange(len(world[0])))
    getattr(wrong, field)[:, 0] = other(getattr(wrong, field)[:, 0], len(names))
    wrong.r *= 0.87  # so that other shapes have room
    kept = np.flatnonzero([m.size is None for m in world[1]])
    always(causes_of(copy_of(wrong, kept), [world[1][row] for row in kept]), cause)


def test_both_wrong(world):
    wrong = copy_of(world[0], np.arange(len(world[0])))
    wrong.shape[:, 0], wrong.colour[:, 0] = other(wrong.shape[:, 0], 5), other(wrong.colour[:, 0], 8)
    wrong.r *= 0.87
    # two things may come to have the colours or the shapes of each other
    kept = rows_of(world[1], lambda m: len(m.kinds) == 1)
    always(causes_of(copy_of(wrong, kept), [world[1][row] for row in kept]), "wrong shape and colour")


def test_swapped_colours_and_swapped_places(world):
    layout, meanings, _ = world
    rows = rows_of(meanings, lambda m: len(m.kinds) == 2 and all(a != b for a, b in zip(*m.kinds)))
    swapped = copy_of(layout, rows)
    swapped.colour[:, :2] = swapped.colour[:, 1::-1]
    always(causes_of(swapped, [meanings[row] for row in rows]), "swapped")
    rows = rows_of(meanings, lambda m: m.relation is not None)
    moved = copy_of(layout, rows)
    moved.colour[:, :2], moved.shape[:, :2] = moved.colour[:, 1::-1].copy(), moved.shape[:, 1::-1].copy()
    moved.r *= 0.87
    always(causes_of(moved, [meanings[row] for row in rows]), "wrong relation")


def test_a_wrong_size(world):
    layout, _, things = world
    rows = [row for row, scene in enumerate(things) if len(scene) == 1]
    meanings = [Meaning((things[row][0].kind,), size=SIZES[things[row][0].size == "small"]) for row in rows]
    always(causes_of(layout[np.array(rows)], meanings), "wrong size")


def test_no_thing_and_a_thing_without_a_name(world):
    layout, meanings, _ = world
    images = np.broadcast_to(BACKGROUND[None, :, None, None], (200, 3, 32, 32)).astype(np.uint8)
    assert {failure_cause(m, seen) for m, seen in zip(meanings, detect(images))} == {"nothing drawn"}
    part = layout[:200]
    images, r = render(part, 32), [a[:, 0] * 32 for a in (part.x, part.y, part.r)]
    images = np.where((coverage(part.shape[:, 0], *r, 32) > 0)[:, None], 40, images).astype(np.uint8)
    found = [failure_cause(m, seen) for m, seen in zip(meanings, detect(images))]
    assert np.mean([cause == "unrecognisable" for cause in found]) >= 0.98


def test_every_failed_image_has_a_cause_and_only_exact_ones_have_none(world):
    """On captions of other scenes, which fit by chance; no cause is one that the task does not ask for."""
    layout, meanings, _ = world
    seen = detect(render(layout, 32))
    unasked = {"single_object": {"wrong colour", "swapped", "wrong size"}, "colours": {"wrong size"}}
    unasked |= {"two_objects": {"wrong colour", "swapped", "wrong relation"}, "counting": {"wrong size"}}
    unasked["attribute_binding"] = {"wrong relation"}
    failed = 0
    for meaning, objects in zip(np.roll(np.array(meanings, object), 5), seen):
        cause = failure_cause(meaning, objects)
        assert (cause is None) == is_exact(meaning, objects) and (cause is None or cause in CAUSES)
        for task in TASKS:
            fits = {"single_object": 1, "colours": 1, "counting": 1}.get(task, 2) == len(meaning.kinds)
            fits &= (task == "counting") == (meaning.number > 1) and (task != "position" or bool(meaning.relation))
            if fits and not passes(task, meaning, objects):
                failed += 1
                assert cause is not None and cause not in unasked.get(task, ())
    assert failed > 1000


def test_counts_add_up():
    results = [("colours", True, None), ("colours", False, "too few"), ("counting", False, "too few")]
    table = count_failures([*results, ("counting", True, "wrong size")])
    assert table["colours"] == {"images": 2, "failed": 1, "too few": 1}
    assert table["all tasks"] == {"images": 4, "failed": 2, "too few": 2}
    assert table["not exact"] == {"images": 4, "failed": 3, "too few": 2, "wrong size": 1}
