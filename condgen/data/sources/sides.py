"""Opens the two sides of a translation task: from files, computed from images, or drawn."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from condgen.contracts import CondgenError
from condgen.data.datasets.pairs import Pairs, Unpaired
from condgen.data.sources.open_images import open_any
from condgen.data.sources.pairs import SideOptions, open_pairs, open_unpaired, plain
from condgen.data.synthetic.pairs import day_and_night, edges, grey, squares_and_circles
from condgen.data.synthetic.scenes import scenes

Origin = Literal["files", "edges", "grey", "night", "shapes"]
DRAWN: dict[Origin, tuple[str, str]] = {
    "edges": ("edges", "images"),
    "grey": ("grey", "colour"),
    "night": ("day", "night"),
    "shapes": ("squares", "circles"),
}
"""Origin -> names of the sides: computed from images (edges, grey), or drawn."""
TEST = 2**40
"""Offset of the seed of drawn test images."""


def open_sides(
    data: str,
    paired: bool,
    split: str = "train",
    seed: int = 0,
    n: int = 10_000,
    *,
    origin: Origin = "files",
    names: tuple[str, ...] = (),
    **options: Any,
) -> Unpaired:
    """Reads or draws images of two kinds into memory.

    Args:
        data: files in a layout of `pairs`; for edges and grey, images in any format, or "" for drawn scenes.
        paired: whether to read pairs or unpaired sides.
        split: `train`, or another split of the files; drawn images of any other split are new ones.
        seed, n: seed of drawn images, and their number per side.
        origin: `files`, or how the pairs are made.
        names: names of the sides.
        options: fields of `pairs.SideOptions`.

    Raises:
        CondgenError: missing or unusable data, or a path although the images are drawn.
    """
    asked = SideOptions(**options)
    size = asked.size
    if origin == "files":
        if not data:
            raise CondgenError("There are no images to translate between: give their folder with --data.")
        sides = names if len(names) == 2 else (asked.a or "a", asked.b or "b")
        return (open_pairs if paired else open_unpaired)(data, asked, split, tuple(sides))
    if data and origin in ("night", "shapes"):
        raise CondgenError(f"These images are drawn. For {data} use the recipe pairs or unpaired.")
    seed += 0 if split == "train" else TEST
    if origin == "night":
        made, name = day_and_night(n, seed, size), "scenes by day and by night"
    elif origin == "shapes":
        made, name = squares_and_circles(n, seed, size), "squares and circles"
    else:
        images, name = _images(data, split, seed, n, asked)
        change, name = (edges, f"edges of {name}") if origin == "edges" else (grey, f"{name} in grey")
        made = change(images), images
    first, second = made
    if not paired and first.shape[1] != second.shape[1]:
        first = np.repeat(first, 3, 1)
    kind = Pairs if paired and origin != "shapes" else Unpaired
    return kind(first, second, tuple(names) if len(names) == 2 else DRAWN[origin], f"{name} {size}x{size}")


def _images(data: str, split: str, seed: int, n: int, asked: SideOptions) -> tuple[np.ndarray, str]:
    if not data:
        return scenes(n, seed, asked.size, None, "none").images, "scenes"
    found = open_any(data, asked.size, split=split, resize=asked.resize)
    return plain(np.repeat(found.images, 3 // found.image_channels, 1)), found.name
