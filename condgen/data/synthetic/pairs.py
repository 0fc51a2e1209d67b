"""Makes sides of translation tasks: edges or grey versions of images, scenes by day and night, squares and circles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from condgen.data.synthetic.grammar import SHAPES
from condgen.data.synthetic.scenes import MOST, PALETTE, Layout, coverage, draw_layout, draw_scenes, render

LUMA = np.array((0.299, 0.587, 0.114), np.float32)
"""Weights of red, green and blue in grey (ITU-R BT.601), as PIL has them."""
SKY = np.array(((110, 170, 235), (215, 232, 245)), np.float32)
NIGHT = np.array(((8, 10, 34), (38, 36, 74)), np.float32)
"""RGB at the top and at the bottom of the sky."""
SUN, MOON = np.array((255, 236, 130), np.float32), np.array((232, 234, 220), np.float32)


def grey(images: np.ndarray) -> np.ndarray:
    """Converts uint8 (N, 3 or 1, S, S) to brightness, uint8 (N, 1, S, S)."""
    if images.shape[1] == 1:
        return images
    return np.rint(np.einsum("nchw,c->nhw", images.astype(np.float32), LUMA))[:, None].astype(np.uint8)


def edges(images: np.ndarray) -> np.ndarray:
    """Detects edges in uint8 (N, C, S, S); returns them dark on white, uint8 (N, 1, S, S).

    Uses Sobel's operator; darkness grows with the square root of the gradient, and a step from black to white is black.
    """
    x = np.pad(grey(images)[:, 0].astype(np.float32), ((0, 0), (1, 1), (1, 1)), mode="edge")
    columns, rows = x[:, :-2] + 2 * x[:, 1:-1] + x[:, 2:], x[..., :-2] + 2 * x[..., 1:-1] + x[..., 2:]
    slope = np.hypot(columns[..., 2:] - columns[..., :-2], rows[:, 2:] - rows[:, :-2]) / 4
    return np.rint(255 - np.sqrt(255 * slope.clip(0, 255)))[:, None].astype(np.uint8)


def squares_and_circles(n: int, seed: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws n scenes of squares and n other scenes of circles: one to four, in all colours, sizes and places.

    Squares are placed like circles, which take more room, so that the sides differ only in the shape.
    """
    layouts = [draw_layout(n, np.random.default_rng((seed, k)), kinds=("circle",)) for k in (0, 1)]
    square = replace(layouts[0], shape=np.where(layouts[0].shape >= 0, SHAPES.index("square"), -1))
    return render(square, size), render(layouts[1], size)


def day_and_night(n: int, seed: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws n scenes under the sky, by day and by night.

    The sun becomes a moon at its place; shapes become dark and shine in their colour onto the sky around
    them. The image by day determines the one by night.
    """
    layout, _ = draw_scenes(n, seed, None)
    rng = np.random.default_rng((seed, 1))
    sun = rng.uniform(0.12, 0.88, n).astype(np.float32), rng.uniform(0.1, 0.2, n).astype(np.float32)
    parts = [_sky(layout[rows], tuple(c[rows] for c in sun), size) for rows in _blocks(n)]
    day, night = (np.concatenate(both) for both in zip(*parts))
    return day, night


def _blocks(n: int, rows: int = 1024) -> list[slice]:
    return [slice(start, start + rows) for start in range(0, n, rows)]


def _sky(layout: Layout, sun: tuple[np.ndarray, np.ndarray], size: int) -> tuple[np.ndarray, np.ndarray]:
    n, down = len(layout), np.linspace(0, 1, size, dtype=np.float32)[None, None, :, None]
    day, night = (
        np.broadcast_to((1 - down) * top[:, None, None] + down * low[:, None, None], (n, 3, size, size)).copy()
        for top, low in (SKY, NIGHT)
    )
    x, y, r = (c * size for c in (*sun, np.full(n, 0.08, np.float32)))
    disc = coverage(np.zeros(n, int), x, y, r, size)[:, None]
    bite = coverage(np.zeros(n, int), x + 0.7 * r, y - 0.3 * r, r, size)[:, None]
    day += disc * (SUN[:, None, None] - day)
    night += disc * (1 - bite) * (MOON[:, None, None] - night)
    grid = np.arange(size, dtype=np.float32) + 0.5
    for rows, _, x, y, r, colour in _things(layout, size):
        away = np.hypot(grid[None, None] - x[:, None, None], grid[None, :, None] - y[:, None, None])
        light = 0.55 * np.exp(-((away / (1.6 * r[:, None, None])) ** 2))[:, None]
        night[rows] += light * (colour - night[rows])
    for rows, shape, x, y, r, colour in _things(layout, size):
        alpha, inner = (coverage(shape, x, y, radius, size)[:, None] for radius in (r, 0.6 * r))
        day[rows] += alpha * (colour - day[rows])
        night[rows] += alpha * (0.35 * colour - night[rows])
        night[rows] += inner * (colour - night[rows])
    return tuple(np.rint(images).clip(0, 255).astype(np.uint8) for images in (day, night))


def _things(layout: Layout, size: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Yields for the first things of all scenes, then the second ones and so on: which scenes have one, and its shape,
    place and radius in pixels, and colour, broadcastable to images."""
    for k in range(MOST):
        if (rows := np.flatnonzero(layout.shape[:, k] >= 0)).size:
            place = (c[rows, k] * size for c in (layout.x, layout.y, layout.r))
            yield rows, layout.shape[rows, k], *place, PALETTE[layout.colour[rows, k]][:, :, None, None]
