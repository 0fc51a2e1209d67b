"""The result of a tool: tables of numbers and sheets of images."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from condgen.contracts import CondgenWarning
from condgen.files.images import TEXTS, gif, grid, make_folder, png_bytes, tile, write_bytes
from condgen.pipelines.base import to_pil

Numbers = dict[str, dict]
"""Section -> row -> column -> number."""
Row = tuple[str, Tensor, Sequence[str]]
"""A row of a sheet: its title, images (N, C, S, S), and their captions ('' or missing for none)."""


def no_progress(share: float, message: str) -> None:
    """A `ProgressCallback` that does nothing."""


@dataclass(frozen=True)
class Analysis:
    """The result of a tool.

    Args:
        numbers: tables, see Numbers.
        sheets: PNG or GIF files by name, the most important first.
    """

    numbers: Numbers
    sheets: dict[str, bytes]

    @property
    def first_sheet(self) -> Image.Image:
        """The first sheet as an image."""
        return Image.open(io.BytesIO(next(iter(self.sheets.values()))))

    def save(self, folder: Path | str) -> list[Path]:
        """Writes the sheets into a folder, which is created if missing; returns their paths."""
        folder = make_folder(folder)
        for name, data in self.sheets.items():
            write_bytes(folder / name, data)
        return [folder / name for name in self.sheets]


def sheet(rows: Sequence[Row], cell: int = 80) -> bytes:
    """A PNG with one row of images for each title; short rows are filled with empty cells."""
    columns = 1 + max(len(images) for _, images, _ in rows)
    cells: list[Image.Image | None] = []
    labels: list[str] = []
    for title, images, captions in rows:
        cells += [tile(title, cell), *to_pil(images), *[None] * (columns - 1 - len(images))]
        labels += ["", *captions, *[""] * (columns - 1 - len(captions))]
    made = grid(cells, labels, columns, cell)
    if TEXTS in made.info:
        from condgen.files.fonts import HINT

        warnings.warn(f"No font here has some letters of the titles of a sheet. {HINT}", CondgenWarning, stacklevel=2)
    return png_bytes(made)


def animation(frames: Sequence[Tensor], titles: Sequence[str], cell: int = 128, ms: int = 80) -> bytes:
    """A GIF that plays forwards and backwards in a loop.

    Args:
        frames: the images shown side by side in each frame, (K, C, S, S) each.
        titles: titles of the K images.
        cell: edge of an image in pixels.
        ms: duration of a frame in milliseconds; the first and the last frame last half a second.
    """
    return gif([grid(to_pil(frame), list(titles), len(frame), cell) for frame in frames], ms)


def figure_png(figure) -> bytes:
    """A matplotlib figure as PNG; the figure is closed."""
    from matplotlib import pyplot

    out = io.BytesIO()
    figure.tight_layout()
    figure.savefig(out, format="png", metadata={"Software": None})
    pyplot.close(figure)
    return out.getvalue()


def evenly_spaced(n: int, most: int) -> Tensor:
    """int64: at most `most` of n row numbers, evenly spaced."""
    return torch.arange(n) if n <= most else torch.linspace(0, n - 1, most).round().long()
