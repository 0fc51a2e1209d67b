"""Laws of the captioned world, and of the judge that looks at it."""

import numpy as np
import pytest

from condgen.data.synthetic.detector import _AREA, _unmix, detect
from condgen.data.synthetic.grammar import (
    COLOURS,
    INVERSE,
    RELATIONS,
    SHAPES,
    Thing,
    captions_of,
    is_held_out,
    is_held_out_kind,
    is_held_out_meaning,
    is_held_out_relation,
    negatives_of,
    noun,
    parse,
    relation_of,
    say,
    swaps_of,
)
from condgen.data.synthetic.prompts import questions
from condgen.data.synthetic.scenes import (
    BACKGROUND,
    IN_COMPANY,
    LARGE,
    MOST,
    PALETTE,
    SMALL,
    Layout,
    coverage,
    draw_layout,
    draw_scenes,
    render,
    scenes,
)
from condgen.metrics.geneval import TASKS, is_exact, passes, score

KINDS = [(c, s) for c in COLOURS for s in SHAPES]


@pytest.fixture(scope="module")
def world():
    layout, things = draw_scenes(1500, 11, None)
    return layout, things, render(layout, 32)


def test_a_seed_fixes_everything():
    a, b, other = scenes(50, seed=4), scenes(50, seed=4), scenes(50, seed=5)
    assert (a.images == b.images).all() and a.texts == b.texts and (a.captions == b.captions).all()
    assert not (a.images == other.images).all()


def test_shapes_stay_inside_and_do_not_touch(world):
    """Nothing is cut off: the ink is the sum of the areas. Nothing touches: as many blobs as things."""
    layout, things, _ = world
    drawn = render(layout, 128)
    ink = np.array([alpha.sum() for alpha in (_unmix(drawn.astype(np.float32))[0])]) / 128**2
    area = np.where(layout.shape >= 0, _AREA[layout.shape] * layout.r**2, 0).sum(1)
    np.testing.assert_allclose(ink, area, rtol=0.02)
    assert all(len(seen) == len(true) for seen, true in zip(detect(drawn[:500]), things))


def test_radii_are_in_their_ranges(world):
    for things in world[1]:
        ranges = (SMALL, LARGE) if len(things) == 1 else (IN_COMPANY,)
        for thing in things:
            assert any(low <= thing.r <= high for low, high in ranges)


@pytest.mark.parametrize("size", [16, 32, 64, 100])
def test_any_size_draws_the_same_scene(size):
    """Drawn at eight times the size and averaged down, a scene is nearly the one drawn small."""
    layout = draw_layout(20, np.random.default_rng(0))
    fine = render(layout, size * 8).reshape(20, 3, size, 8, size, 8).mean((3, 5))
    assert np.abs(fine - render(layout, size)).mean() < 1.5


def test_coverage_is_the_area():
    areas = np.pi, 1.76**2, 1.8, 2 * 1.15**2, 2 * 2 * 0.68 - 0.68**2
    kinds, r = np.arange(5), np.full(5, 20.0)
    drawn = coverage(kinds, np.full(5, 50.0), np.full(5, 50.0), r, 100).sum((1, 2))
    np.testing.assert_allclose(drawn, np.array(areas) * 400, rtol=0.01)


def test_captions_say_what_is_there(world):
    for things in world[1][:400]:
        for caption in captions_of(things):
            assert is_exact(parse(caption), things), caption


def test_say_and_parse_are_inverse():
    for task in TASKS:
        for side in (False, True):
            for meaning in questions(task, 60, side):
                assert parse(say(meaning)) == meaning
    assert parse("a photo of a dog") is None
    assert noun(("orange", "square")) == "an orange square" and noun(("red", "cross"), "small") == "a small red cross"


def test_relations_turn_round():
    a, b = Thing("red", "circle", 0.15, 0.5, 0.2), Thing("blue", "square", 0.15, 0.6, 0.7)
    assert relation_of(a, b) == "above" and relation_of(b, a) == "below"
    assert relation_of(a, Thing("blue", "square", 0.15, 0.9, 0.6)) is None, "far on both axes"
    assert {INVERSE[INVERSE[r]] for r in RELATIONS} == set(RELATIONS)


def test_about_15_percent_is_held_out_evenly():
    held = [kind for kind in KINDS if is_held_out_kind(kind)]
    assert len(held) == 6
    assert max(sum(c == kind[0] for kind in held) for c in COLOURS) == 1
    assert max(sum(s == kind[1] for kind in held) for s in SHAPES) == 2
    tuples = [(a, r, b) for a in KINDS for b in KINDS if a != b for r in RELATIONS]
    share = np.mean([is_held_out_relation(*t) for t in tuples])
    assert 0.13 < share < 0.17
    assert all(is_held_out_relation(a, r, b) == is_held_out_relation(b, INVERSE[r], a) for a, r, b in tuples[:500])


def test_training_never_shows_or_says_what_is_held_out():
    data = scenes(3000, seed=1)
    used = {data.texts[i] for i in data.captions[data.captions >= 0]}
    assert not any(is_held_out_meaning(parse(text)) for text in used)
    assert not any(is_held_out_meaning(parse(text)) for text in data.texts), "not as a wrong caption either"
    _, things = draw_scenes(500, 3, True)
    assert all(is_held_out(scene) for scene in things)


def test_negatives_are_wrong_of_the_image(world):
    count = 0
    for things in world[1]:
        for caption in captions_of(things):
            for wrong in negatives_of(caption, allow_held_out=True):
                assert not is_exact(parse(wrong), things), (caption, wrong)
                count += 1
    assert count > 1000
    assert set(swaps_of(parse("a red circle above a blue square"))) == {"colour", "shape", "relation"}


# the judge


def kinds_of(things):
    return sorted((t.colour, t.shape) for t in things)


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("noise", [0, 8])
def test_the_detector_reads_true_renders(world, size, noise):
    layout, things, _ = world
    images = render(layout, size) + noise * np.random.default_rng(0).standard_normal((len(layout), 3, size, size))
    seen = detect(images.clip(0, 255).round().astype(np.uint8))
    right = [
        kinds_of(s) == kinds_of(t) and sorted(x.size for x in s) == sorted(x.size for x in t)
        for s, t in zip(seen, things)
    ]
    assert np.mean(right) >= 0.99


def test_the_detector_finds_places(world):
    _, things, images = world
    for seen, true in zip(detect(images)[:300], things):
        if len({t.kind for t in true}) == len(true):
            by_kind = {t.kind: t for t in true}
            for s in seen:
                t = by_kind[s.colour, s.shape]
                assert abs(s.x - t.x) < 0.02 and abs(s.y - t.y) < 0.03 and abs(s.r - t.r) < 0.03


def test_nothing_and_noise_show_nothing():
    blank = np.full((1, 3, 32, 32), 245, np.uint8)
    static = np.random.default_rng(0).integers(0, 256, (20, 3, 32, 32)).astype(np.uint8)
    assert detect(blank) == [[]]
    named = [t for seen in detect(static) for t in seen if t.shape != "?" and t.colour != "?"]
    assert not named


def test_a_blob_of_no_shape_or_colour_is_not_named():
    image = np.full((2, 3, 32, 32), 245, np.uint8)
    image[0, :, 4:28, 4:7] = np.array([220, 40, 40])[:, None, None]  # a red bar
    image[1, :, 8:24, 8:24] = 60  # a dark square
    bar, dark = detect(image)
    assert [t.shape for t in bar] == ["?"] and [t.colour for t in dark] == ["?"]


def touching(shape: str, count: int, gap: float, size: int, colours: tuple[int, ...] = (0, 0, 0, 0)) -> np.ndarray:
    """A row of equal shapes whose outlines are `gap` pixels apart, uint8 (1, 3, size, size)."""
    half = {"circle": 1, "square": 0.88, "triangle": 1, "diamond": 1.15, "cross": 1}[shape]
    r = (size - 1 - gap * (count - 1)) / (2 * half * count) if count > 2 else 0.19 * size
    step, first = 2 * half * r + gap, size / 2 - (count - 1) / 2 * (2 * half * r + gap)
    x = np.full((1, MOST), 0.5, np.float32)
    x[0, :count] = (first + step * np.arange(count)) / size
    kinds = np.full((1, MOST), -1)
    kinds[0, :count] = SHAPES.index(shape)
    level = np.full((1, MOST), 0.5, np.float32)
    return render(Layout(kinds, np.array([colours]), x, level, np.full((1, MOST), r / size, np.float32)), size)


@pytest.mark.parametrize("gap", [0, 1, 2])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count, size", [(2, 32), (3, 32), (4, 48)])
def test_things_that_touch_are_counted_apart(shape, count, gap, size):
    """Of one colour and of several; four in a row at 32 pixels would be smaller than any scene has them."""
    for colours in ((0, 0, 0, 0), (2, 0, 2, 0)):
        (seen,) = detect(touching(shape, count, gap, size, colours))
        assert kinds_of(seen) == sorted((COLOURS[c], shape) for c in colours[:count])


def turned(shape: str, degrees: float, size: int, r: float) -> np.ndarray:
    alpha = coverage(np.array([SHAPES.index(shape)]), *([size / 2], [size / 2], [r * size]), size, np.deg2rad(degrees))
    return np.rint(BACKGROUND[:, None, None] + alpha * (PALETTE[2] - BACKGROUND)[:, None, None])[None].astype(np.uint8)


@pytest.mark.parametrize("r", [0.15, 0.24, 0.33])
@pytest.mark.parametrize("degrees", range(-45, 46, 10))
def test_a_turned_shape_keeps_its_name(degrees, r):
    """A square and a diamond are one shape, an eighth of a turn apart: beyond a sixteenth they change names."""
    other = {"square": "diamond", "diamond": "square"}
    for shape in SHAPES:
        (seen,) = detect(turned(shape, degrees, 32, r))
        name = other.get(shape, shape) if abs(degrees) > 22.5 else shape
        assert [(t.colour, t.shape) for t in seen] == [("blue", name)], shape


def stretched(shape: str, by: float) -> np.ndarray:
    """A shape that is `by` times as wide as high, drawn from many small ones; uint8 (1, 3, 32, 32)."""
    fine = coverage(np.array([SHAPES.index(shape)]), [128], [128], [56], 256)[0]
    rows = ((np.arange(32 * 8) - 128) * by**0.5 + 128).round().astype(int).clip(0, 255)
    columns = ((np.arange(32 * 8) - 128) / by**0.5 + 128).round().astype(int).clip(0, 255)
    alpha = fine[rows][:, columns].reshape(32, 8, 32, 8).mean((1, 3))
    return np.rint(BACKGROUND[:, None, None] + alpha * (PALETTE[2] - BACKGROUND)[:, None, None])[None].astype(np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("by", [1.2, 1.4, 1.6])
def test_one_odd_thing_is_not_cut_into_several(shape, by):
    assert [len(seen) for seen in detect(stretched(shape, by))] == [1]


# the exam


@pytest.mark.parametrize("task", TASKS)
def test_questions_keep_to_their_side(task):
    for held_out in (False, True):
        asked = questions(task, 30, held_out)
        assert 0 < len(asked) <= 30 and len(set(asked)) == len(asked)
        assert all(is_held_out_meaning(m) == held_out for m in asked)
    assert questions(task, 30, False) == questions(task, 30, False)


@pytest.mark.parametrize("task", TASKS)
def test_true_scenes_pass_and_wrong_captions_do_not(task):
    """The judge as a whole: scenes drawn for a prompt pass; judged by another prompt they are near chance."""
    layout, things = draw_scenes(3000, 5, None)
    seen = detect(render(layout, 32))
    asked = [parse(captions_of(t)[0]) for t in things]
    fits = [
        i for i, m in enumerate(asked)
        if (task == "counting") == (m.number > 1) and (task == "position") == (m.relation is not None)
        and (len(m.kinds) == 2 or task in ("single_object", "colours", "counting"))
        and not (len(m.kinds) == 2 and task in ("single_object", "colours"))
    ][:300]  # fmt: skip
    if task in ("two_objects", "attribute_binding"):
        pairs = [i for i, m in enumerate(asked) if len(m.kinds) == 2 and m.relation is None]
        fits = (pairs + [i for i, m in enumerate(asked) if len(m.kinds) == 2])[:300]
    assert len(fits) >= 50
    assert np.mean([passes(task, asked[i], seen[i]) for i in fits]) >= 0.99
    shuffled = np.mean([passes(task, asked[i], seen[j]) for i, j in zip(fits, np.roll(fits, 7))])
    chance = {"single_object": 0.3, "two_objects": 0.2, "colours": 0.15}.get(task, 0.08)
    assert shuffled <= chance


def test_scores_are_means_of_tasks():
    results = [("colours", True, True), ("colours", False, False), ("position", True, False)]
    assert score(results) == {"colours": 0.5, "position": 1.0, "overall": 0.75, "exact": pytest.approx(1 / 3)}
