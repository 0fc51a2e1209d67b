"""Scenes whose factors are known: all combinations once, drawn as they are told."""

import numpy as np
import pytest

from condgen.contracts import CondgenError
from condgen.data.options import ReadOptions
from condgen.data.sources.labels import find, open_labelled
from condgen.data.sources.open_images import open_any
from condgen.data.synthetic.detector import detect
from condgen.data.synthetic.factors import FACTORS, PLACES, TRAIN, draw
from condgen.data.synthetic.grammar import COLOURS, SHAPES

EVERY = tuple(FACTORS)


@pytest.fixture(scope="module")
def test_images():
    return open_labelled("scenes", split="test", attribute_columns=EVERY)


def test_every_combination_is_there_once_and_in_one_split():
    parts = find("scenes", ReadOptions(attribute_columns=EVERY)).parts
    targets = np.concatenate([part.targets for part in parts])
    assert len(parts[0].targets) == TRAIN
    assert len(np.unique(targets, axis=0)) == len(targets) == np.prod([len(values) for values in FACTORS.values()])


def test_factors_are_uniform_and_independent_in_what_is_trained_on():
    targets = find("scenes", ReadOptions(attribute_columns=EVERY)).parts[0].targets
    for column, values in zip(targets.T, FACTORS.values()):
        assert np.bincount(column, minlength=len(values)) / TRAIN == pytest.approx(1 / len(values), rel=0.03)
    assert np.abs(np.corrcoef(targets.T) - np.eye(5)).max() < 0.01


def test_the_detector_finds_what_the_labels_say(test_images):
    for seen, code in zip(detect(test_images.images[:500]), test_images.targets[:500].astype(int)):
        assert [(thing.shape, thing.colour) for thing in seen] == [(SHAPES[code[0]], COLOURS[code[1]])]
        assert abs(seen[0].x - PLACES[code[3]]) < 0.03 and abs(seen[0].y - PLACES[code[4]]) < 0.03


def test_larger_sizes_cover_more(test_images):
    ink = (test_images.images.astype(int) != 245).any(1).mean((1, 2))
    means = [ink[test_images.targets[:, 2] == level].mean() for level in range(6)]
    assert (np.diff(means) > 0).all()


def test_no_shape_leaves_the_canvas():
    for shape in range(len(SHAPES)):
        corners = [(shape, 0, 5, x, y) for x in (0, 7, 15) for y in (0, 7, 15)]
        ink = (245.0 - draw(np.array(corners), 128)).sum((1, 2, 3))
        assert ink == pytest.approx(ink.mean(), rel=0.01)


def test_the_class_is_the_shape_and_the_size_is_free():
    data = open_any("scenes", 16, split="test")
    assert data.images.shape[1:] == (3, 16, 16) and [factor.name for factor in data.attributes] == ["label"]
    assert data.attributes[0].values == tuple(SHAPES)
    other = open_labelled("scenes", image_channels=1, split="test", label_column="colour", attribute_columns=("x",))
    assert [factor.name for factor in other.attributes] == ["label", "x"] and other.image_channels == 1
    assert other.attributes[0].values == tuple(COLOURS)


@pytest.mark.parametrize(
    "asked, message",
    [
        ({"size": 8}, "at 16 pixels or more"),
        ({"attribute_columns": ("hue",)}, "no factor .hue.; it has shape, colour"),
        ({"label_column": "x", "attribute_columns": ("x",)}, "chosen twice"),
        ({"filter": "x=1"}, "scenes is drawn scenes, where filter cannot"),
        ({"split": "val"}, "no images in the split 'val'"),
    ],
)
def test_what_cannot_be_drawn_is_refused(asked, message):
    with pytest.raises(CondgenError, match=message):
        open_labelled("scenes", **asked)
