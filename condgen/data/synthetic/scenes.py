"""Scenes: synthetic captioned images.

Coloured shapes on a light ground, drawn anti-aliased at any size, with true captions. A fixed rule holds some
combinations out of training, to measure composition separately from recall. `detector` finds the
shapes in an image; `grammar` describes them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from condgen.data.datasets.captions import CaptionedImages, intern_captions
from condgen.data.synthetic.grammar import COLOURS, SHAPES, Thing, captions_of, is_held_out, negatives_of

PALETTE = np.array(
    [
        (220, 40, 40),
        (40, 170, 60),
        (50, 80, 220),
        (240, 210, 40),
        (150, 60, 190),
        (245, 140, 30),
        (50, 200, 215),
        (245, 130, 190),
    ],
    np.float32,
)
"""RGB of the eight colours, in the order of `grammar.COLOURS`."""
BACKGROUND = np.array((245, 245, 245), np.float32)

SMALL, LARGE, IN_COMPANY = (0.14, 0.19), (0.265, 0.345), (0.12, 0.2)
"""Ranges of the radius r, as fractions of the canvas S: single small, single large, in pairs and groups."""
MOST = 4  # shapes in one scene

GAP = 1 / 32
"""Least distance of bounding boxes, as a fraction of the canvas."""
EXTENT = np.array([(1, 1, 1), (0.88, 0.88, 0.88), (1, 1, 0.8), (1.15, 1.15, 1.15), (1, 1, 1)], np.float32)
"""Of every shape the half-width, height above and height below the centre, in units of r."""


def signed_distance(shape: int, x: np.ndarray, y: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Distance to the outline in pixels, negative inside; x, y are offsets from the centre, y grows downwards.

    Exact along flat edges and for the circle, a lower bound beyond corners: enough for anti-aliasing.
    """
    ax, ay = np.abs(x), np.abs(y)
    if SHAPES[shape] == "circle":
        return np.sqrt(x * x + y * y) - r
    if SHAPES[shape] == "square":
        return np.maximum(ax, ay) - 0.88 * r
    if SHAPES[shape] == "triangle":
        return np.maximum(y - 0.8 * r, (1.8 * ax - y - r) / np.sqrt(1.8**2 + 1))
    if SHAPES[shape] == "diamond":
        return (ax + ay - 1.15 * r) / np.sqrt(2)
    bars = [np.maximum(a - r, b - 0.34 * r) for a, b in ((ax, ay), (ay, ax))]
    return np.minimum(*bars)


def coverage(
    shape: np.ndarray, x: np.ndarray, y: np.ndarray, r: np.ndarray, size: int, turn: float = 0.0
) -> np.ndarray:
    """The fraction of every pixel that the shapes cover, in [0, 1].

    Args:
        shape: int (M,), indices into SHAPES; x, y, r: (M,) centre and radius in pixels; size: edge of the canvas.
        turn: angle in rad by which all shapes are turned about their centres, clockwise as y grows downwards.

    Returns:
        float32 (M, size, size).
    """
    grid = np.arange(size, dtype=np.float32) + 0.5
    dx = grid[None, None, :] - np.asarray(x, np.float32)[:, None, None]
    dy = grid[None, :, None] - np.asarray(y, np.float32)[:, None, None]
    radius = np.asarray(r, np.float32)[:, None, None]
    if turn:
        cos, sin = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        dx, dy = cos * dx + sin * dy, cos * dy - sin * dx
    out = np.zeros((len(dx), size, size), np.float32)
    for kind in range(len(SHAPES)):
        if (own := np.flatnonzero(shape == kind)).size:
            distance = signed_distance(kind, dx[own], dy[own], radius[own])
            out[own] = np.clip(0.5 - distance, 0, 1)
    return out


@dataclass
class Layout:
    """N scenes as arrays (N, MOST); shape is -1 if a scene has fewer things. x, y, r are fractions of the canvas."""

    shape: np.ndarray
    colour: np.ndarray
    x: np.ndarray
    y: np.ndarray
    r: np.ndarray

    def __len__(self) -> int:
        return len(self.shape)

    def __getitem__(self, rows) -> Layout:
        return Layout(*(a[rows] for a in (self.shape, self.colour, self.x, self.y, self.r)))

    def things(self, row: int) -> list[Thing]:
        """The things of one scene, for the grammar."""
        return [
            Thing(COLOURS[self.colour[row, k]], SHAPES[self.shape[row, k]], float(self.r[row, k]),
                  float(self.x[row, k]), float(self.y[row, k]))
            for k in range(MOST)
            if self.shape[row, k] >= 0
        ]  # fmt: skip


def render(layout: Layout, size: int) -> np.ndarray:
    """Draws scenes: uint8 (N, 3, size, size)."""
    out = np.empty((len(layout), 3, size, size), np.uint8)
    for start in range(0, len(layout), 1024):
        part = layout[slice(start, start + 1024)]
        canvas = np.broadcast_to(BACKGROUND[None, :, None, None], (len(part), 3, size, size)).copy()
        for k in range(MOST):
            if not (rows := np.flatnonzero(part.shape[:, k] >= 0)).size:
                continue
            x, y, r = (a[rows, k] * size for a in (part.x, part.y, part.r))
            alpha = coverage(part.shape[rows, k], x, y, r, size)[:, None]
            canvas[rows] += alpha * (PALETTE[part.colour[rows, k]][:, :, None, None] - canvas[rows])
        out[start : start + len(part)] = np.rint(canvas)
    return out


def draw_layout(
    n: int,
    rng: np.random.Generator,
    mix: tuple[float, float, float] = (0.15, 0.55, 0.3),
    kinds: tuple[str, ...] = SHAPES,
) -> Layout:
    """Draws n scenes: singles, pairs (85 % of them in a clear relation) and groups of two to four.

    `mix` holds the proportions of the three. All things are of the given `kinds`, lie inside the canvas and do not
    touch: their bounding boxes are at least 1/32 of the canvas apart.
    """
    kind = rng.choice(3, size=n, p=np.array(mix) / sum(mix))
    count = np.where(kind == 0, 1, np.where(kind == 1, 2, rng.integers(2, MOST + 1, n)))
    related = (kind == 1) & (rng.random(n) < 0.85)
    shape = np.array([SHAPES.index(kind) for kind in kinds])[rng.integers(0, len(kinds), (n, MOST))]
    colour = rng.integers(0, len(COLOURS), (n, MOST))
    group = kind == 2
    shape[group], colour[group] = shape[group, :1], colour[group, :1]
    twins = (kind == 1) & (shape[:, 0] == shape[:, 1]) & (colour[:, 0] == colour[:, 1])
    colour[twins, 1] = (colour[twins, 0] + rng.integers(1, len(COLOURS), twins.sum())) % len(COLOURS)
    shape[np.arange(MOST)[None, :] >= count[:, None]] = -1

    layout = Layout(shape, colour, *(np.zeros((n, MOST), np.float32) for _ in range(3)))
    todo = np.arange(n)
    while todo.size:
        _place(layout, todo, rng)
        todo = todo[~_is_well_placed(layout[todo], related[todo])]
    return layout


def _place(layout: Layout, rows: np.ndarray, rng: np.random.Generator) -> None:
    """Draws new radii and centres for the given rows, with every shape inside the canvas."""
    shape = layout.shape[rows]
    low_high = np.array([SMALL, LARGE])[rng.integers(0, 2, len(rows))]
    low_high[(shape >= 0).sum(1) > 1] = IN_COMPANY
    u = rng.random((3, *shape.shape))
    r = low_high[:, :1] + u[0] * (low_high[:, 1:] - low_high[:, :1])
    side, above, below = (EXTENT[shape][..., k] * r for k in range(3))
    layout.r[rows] = r
    layout.x[rows] = side + u[1] * (1 - 2 * side)
    layout.y[rows] = above + u[2] * (1 - above - below)


def _is_well_placed(layout: Layout, related: np.ndarray) -> np.ndarray:
    ok = np.ones(len(layout), bool)
    for a in range(MOST):
        for b in range(a + 1, MOST):
            both = (layout.shape[:, a] >= 0) & (layout.shape[:, b] >= 0)
            ea, eb = (EXTENT[layout.shape[:, k]] * layout.r[:, k, None] for k in (a, b))
            dx, dy = layout.x[:, b] - layout.x[:, a], layout.y[:, b] - layout.y[:, a]
            apart_x = np.abs(dx) >= ea[:, 0] + eb[:, 0] + GAP
            apart_y = np.where(dy >= 0, dy >= ea[:, 2] + eb[:, 1] + GAP, -dy >= ea[:, 1] + eb[:, 2] + GAP)
            ok &= ~both | apart_x | apart_y
    dx, dy = np.abs(layout.x[:, 1] - layout.x[:, 0]), np.abs(layout.y[:, 1] - layout.y[:, 0])
    clear = ((dx >= 0.3) & (dy < 0.3)) | ((dy >= 0.3) & (dx < 0.3))
    return ok & (~related | clear)


def draw_scenes(n: int, seed: int, held_out: bool | None = False) -> tuple[Layout, list[list[Thing]]]:
    """Draws n scenes of seen or of held-out combinations.

    Args:
        held_out: False draws only combinations of the training set, True only held-out ones, None both.
    """
    rng = np.random.default_rng(seed)
    layouts, things, missing = [], [], n
    while missing > 0:
        layout = draw_layout(max(64, int(missing * (5 if held_out else 2))), rng)
        own = [layout.things(row) for row in range(len(layout))]
        keep = [i for i, scene in enumerate(own) if held_out is None or is_held_out(scene) == held_out][:missing]
        layouts.append(layout[np.array(keep, int)])
        things += [own[i] for i in keep]
        missing -= len(keep)
    return join_layouts(layouts), things


def join_layouts(parts: list[Layout]) -> Layout:
    """The scenes of several layouts, one after another."""
    return Layout(*(np.concatenate([getattr(part, f) for part in parts]) for f in Layout.__dataclass_fields__))


def scenes(
    n: int, seed: int = 0, size: int = 32, held_out: bool | None = False, negatives: str = "seen"
) -> CaptionedImages:
    """Draws n captioned scenes.

    Args:
        n: number of images.
        seed: fixes layouts and captions.
        size: edge in pixels.
        held_out: see `draw_scenes`.
        negatives: wrong captions made by swapping colours, shapes or relations: `none`; `seen`, only
            those of combinations in the training set; `all`.
    """
    layout, things = draw_scenes(n, seed, held_out)
    return captioned(layout, [captions_of(scene) for scene in things], size, negatives, negatives_of)


def captioned(
    layout: Layout,
    captions: list[list[str]],
    size: int,
    negatives: str = "none",
    wrong_of: Callable[[str, bool], list[str]] = negatives_of,
) -> CaptionedImages:
    """Scenes with their captions.

    Args:
        captions: those of every scene.
        size, negatives: see `scenes`.
        wrong_of: (caption, whether held-out combinations are allowed) -> wrong captions.
    """
    texts, index = intern_captions(captions)
    table = None
    if negatives != "none":
        wrong = [wrong_of(text, negatives == "all") for text in texts]
        number = {text: i for i, text in enumerate(texts)}
        table = np.full((len(texts), max(map(len, wrong), default=0) or 1), -1, np.int64)
        for row, own in enumerate(wrong):
            for column, text in enumerate(own):
                table[row, column] = number.setdefault(text, len(number))
        texts = list(number)
        table = np.concatenate([table, np.full((len(texts) - len(table), table.shape[1]), -1, np.int64)])
    return CaptionedImages(render(layout, size), texts, index, table, name=f"scenes {size}x{size}")
