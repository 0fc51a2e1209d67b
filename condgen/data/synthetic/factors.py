"""Scenes of one shape with known factors, drawn on demand: the data set `scenes`.

Every combination of shape, colour, size, x and y occurs once, 61,440 in all, so that factors are uniform and
independent, as disentanglement scores assume. A seeded shuffle puts 50,000 into train and the others into test. All
shapes of all sizes fit into the canvas at all places.

References:
    the layout of dSprites: Disentanglement testing Sprites dataset (Matthey, Higgins, Hassabis, Lerchner, 2017)
"""

from __future__ import annotations

from functools import partial

import numpy as np

from condgen.contracts import CondgenError
from condgen.data.formats.arrays import Arrays, Part, choose
from condgen.data.formats.registry import LabelledFormat, is_builtin
from condgen.data.options import ReadOptions
from condgen.data.synthetic.grammar import COLOURS, SHAPES
from condgen.data.synthetic.scenes import MOST, Layout, render

SCENES = "scenes"
SIZE = 32
"""Default edge in pixels."""
TRAIN = 50_000
RADII = np.linspace(0.12, 0.24, 6)
"""Radii as fractions of the canvas."""
PLACES = np.linspace(0.28, 0.72, 16)
"""Coordinates of centres as fractions of the canvas, about a pixel apart at 32 pixels."""
FACTORS: dict[str, tuple[str, ...]] = {
    "shape": tuple(SHAPES),
    "colour": tuple(COLOURS),
    "size": tuple(f"{r:.3f}" for r in RADII),
    "x": tuple(f"{x:.3f}" for x in PLACES),
    "y": tuple(f"{y:.3f}" for y in PLACES),
}
"""Factor -> its values."""


def open_singles(word: str, options: ReadOptions, size: int = 0) -> Arrays:
    """Opens the scenes without drawing them.

    Args:
        options: choose factors by name, see `formats.arrays.choose`; the class is the shape by default.
        size: edge in pixels, from 16; 0 is SIZE.

    Raises:
        CondgenError: a factor does not exist or is chosen twice, or images are too small to distinguish shapes.
    """
    if size and size < 16:
        raise CondgenError(f"Scenes are drawn at 16 pixels or more, got {size}.")
    columns = choose(SCENES, tuple(FACTORS), options, "shape")
    chosen = [list(FACTORS).index(name) for name in columns.values()]
    order = np.random.default_rng(0).permutation(np.prod([len(values) for values in FACTORS.values()]))
    parts = []
    for split, numbers in (("train", order[:TRAIN]), ("test", order[TRAIN:])):
        codes = codes_of(numbers)
        parts.append(Part(split, split, codes[:, chosen], partial(draw, codes, size or SIZE)))
    names = tuple(FACTORS[name] for name in columns.values())
    return Arrays(SCENES, SCENES, "drawn", tuple(columns), names, tuple(parts))


def codes_of(numbers: np.ndarray) -> np.ndarray:
    """Converts indices of combinations, int64 (N,), to the value of each factor, (N, 5)."""
    return np.stack(np.unravel_index(numbers, [len(values) for values in FACTORS.values()]), axis=1).astype(np.int64)


def draw(codes: np.ndarray, size: int = SIZE) -> np.ndarray:
    """Draws images, uint8 (N, 3, size, size), from values of the factors, int64 (N, 5)."""
    shape = np.full((len(codes), MOST), -1)
    colour = np.zeros((len(codes), MOST), int)
    x, y, r = (np.zeros((len(codes), MOST), np.float32) for _ in range(3))
    shape[:, 0], colour[:, 0], r[:, 0] = codes[:, 0], codes[:, 1], RADII[codes[:, 2]]
    x[:, 0], y[:, 0] = PLACES[codes[:, 3]], PLACES[codes[:, 4]]
    return render(Layout(shape, colour, x, y, r), size)


FORMAT = LabelledFormat(
    "drawn scenes",
    lambda word, options: is_builtin(word, SCENES),
    open_singles,
    ("label_column", "attribute_columns"),
    lambda word: tuple(FACTORS),
)
