"""What every tool gives: numbers, images to look at, and how both are measured and drawn."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from condgen.files.images import grid, make_folder, png_bytes, tile, write_bytes
from condgen.pipelines.base import to_pil

Numbers = dict[str, dict]
"""Section -> row -> column -> number."""
Row = tuple[str, Tensor, Sequence[str]]
"""A row of a sheet: its title, images (N, C, S, S), and what stands below them ('' or missing for nothing)."""


def quiet(share: float, what: str) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class Analysis:
    """What a tool found.

    Args:
        numbers: tables, see Numbers.
        sheets: PNG or GIF by file name, the most important first.
    """

    numbers: Numbers
    sheets: dict[str, bytes]

    @property
    def picture(self) -> Image.Image:
        """The first sheet."""
        return Image.open(io.BytesIO(next(iter(self.sheets.values()))))

    def save(self, folder: Path | str) -> list[Path]:
        """Writes the sheets into a folder, which is made if missing; gives their paths."""
        folder = make_folder(folder)
        for name, data in self.sheets.items():
            write_bytes(folder / name, data)
        return [folder / name for name in self.sheets]


# Measures -------------------------------------------------------------------------------------------------------------


def apart(x: Tensor, y: Tensor) -> Tensor:
    """Root mean square difference of images (N, ...), on the scale of [-1, 1]: (N,)."""
    return (x - y).flatten(1).square().mean(1).sqrt()


def mean_of(**columns: Tensor) -> dict[str, float]:
    """A row of a table: the mean of each; spaces stand for underscores."""
    return {name.replace("_", " "): value.double().mean().item() for name, value in columns.items()}


# Images -------------------------------------------------------------------------------------------------------------


def sheet(rows: Sequence[Row], cell: int = 80) -> bytes:
    """A PNG of rows of images, each with its title at the left; short rows leave places empty."""
    columns = 1 + max(len(images) for _, images, _ in rows)
    pictures: list[Image.Image | None] = []
    labels: list[str] = []
    for title, images, told in rows:
        gap = columns - 1 - len(images)
        pictures += [tile(title, cell), *to_pil(images), *[None] * gap]
        labels += ["", *told, *[""] * (columns - 1 - len(told))]
    return png_bytes(grid(pictures, labels, columns, cell))


def film(frames: Sequence[Tensor], titles: Sequence[str], cell: int = 128, ms: int = 80) -> bytes:
    """A GIF that goes there and back.

    Args:
        frames: of every moment the images that are shown side by side, (K, C, S, S).
        titles: below them.
        cell: edge of an image in pixels.
        ms: milliseconds a frame; the two ends stand still for half a second.
    """
    drawn = [grid(to_pil(one), list(titles), len(one), cell) for one in frames]
    still = [500, *[ms] * (len(drawn) - 2), 500][: len(drawn)]
    out = io.BytesIO()
    there, pace = drawn + drawn[-2:0:-1], still + still[-2:0:-1]
    there[0].save(out, "GIF", save_all=True, append_images=there[1:], duration=pace, loop=0)
    return out.getvalue()


def seen(direction: Tensor) -> Tensor:
    """Directions among images, (N, C, S, S), as images: grey where nothing changes, at most black or white."""
    return direction / direction.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12)


def figure_png(figure) -> bytes:
    """A figure of matplotlib as PNG, closed."""
    from matplotlib import pyplot

    out = io.BytesIO()
    figure.tight_layout()
    figure.savefig(out, format="png", metadata={"Software": None})
    pyplot.close(figure)
    return out.getvalue()


def evenly(n: int, most: int) -> Tensor:
    """int64: at most so many of n rows, evenly spread."""
    return torch.arange(n) if n <= most else torch.linspace(0, n - 1, most).round().long()
