"""dSprites, one white shape on black for every combination of factors, and files of the same layout.

A .npz file with `imgs`, uint8 (N, S, S) of 0 and 1, and `latents_classes`, integers (N, K), the value of every factor.
Other arrays, such as its pickles, are never read. Only the images of the requested split are held in memory.

References:
    dSprites: Disentanglement testing Sprites dataset (Matthey, Higgins, Hassabis, Lerchner, 2017)
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from condgen.contracts import CondgenError
from condgen.data.formats.arrays import Arrays, Part, choose
from condgen.data.formats.parquet import MAX_UNPACKED
from condgen.data.formats.registry import LabelledFormat
from condgen.data.options import ReadOptions

IMAGES, LEVELS = "imgs", "latents_classes"
COLUMNS = ("colour", "shape", "scale", "orientation", "x", "y")
SHAPES = ("square", "ellipse", "heart")
TEST = 0.05
"""Fraction of the images in the test split, drawn with a fixed seed."""
MAX_RATIO = 200
"""Limit on the compression ratio of the images; that of dSprites is 113."""
CHUNK = 4096
"""Number of images to unpack at a time."""


def open_dsprites(word: str, options: ReadOptions, size: int = 0) -> Arrays:
    """Opens the images without reading them. Leaves out factors that never change, such as the colour.

    Args:
        word: path of the .npz file.
        options: choose factors by name, see `formats.arrays.choose`; the class is the shape by default.

    Raises:
        CondgenError: the file is damaged or of another kind, or a factor does not exist.
    """
    path = Path(word).expanduser()
    targets, varied = _factors(path)
    columns = choose(str(path), tuple(varied), options, "shape" if "shape" in varied else next(iter(varied)))
    chosen = [varied[name] for name in columns.values()]
    named = [name == "shape" and set(np.unique(targets[:, varied[name]])) <= {0, 1, 2} for name in columns.values()]
    names = tuple(SHAPES if own else () for own in named)
    order = np.random.default_rng(0).permutation(len(targets))
    cut = max(1, round(TEST * len(targets)))
    parts = tuple(
        Part(split, split, targets[rows][:, chosen], partial(_images, path, rows))
        for split, rows in (("train", np.sort(order[cut:])), ("test", np.sort(order[:cut])))
    )
    return Arrays(str(path), path.stem, "dsprites", tuple(columns), names, parts)


def _factors(path: Path) -> tuple[np.ndarray, dict[str, int]]:
    """The values of all factors, int64 (N, K), and name -> column of those that vary."""
    with _member(path, IMAGES) as (_, shape, dtype):
        if len(shape) != 3 or shape[1] != shape[2] or dtype != np.uint8:
            raise ValueError(f"it is {dtype} {shape}, expected uint8 (N, S, S)")
    with _member(path, LEVELS) as (file, held, dtype):
        if len(held) != 2 or held[0] != shape[0] or not 0 < held[1] < 100 or dtype.kind not in "iu":
            raise ValueError(f"it is {dtype} {held}, expected integers ({shape[0]}, K)")
        targets = np.frombuffer(file.read(), dtype).reshape(held).astype(np.int64)
    names = COLUMNS if held[1] == len(COLUMNS) else tuple(f"factor {k}" for k in range(held[1]))
    varied = {name: k for k, name in enumerate(names) if len(targets) and np.ptp(targets[:, k])}
    if not varied:
        raise CondgenError(f"{path}: none of the factors of its {shape[0]} images varies.")
    return targets, varied


def _images(path: Path, rows: np.ndarray) -> np.ndarray:
    """Reads the images `rows`, in the order of the file: uint8 (M, 1, S, S)."""
    with _member(path, IMAGES) as (file, shape, _):
        images = np.empty((len(rows), 1, *shape[1:]), np.uint8)
        for start in range(0, shape[0], CHUNK):
            n = min(CHUNK, shape[0] - start)
            chunk = np.frombuffer(file.read(n * shape[1] * shape[2]), np.uint8).reshape(n, *shape[1:])
            low, high = np.searchsorted(rows, (start, start + n))
            own = chunk[rows[low:high] - start]
            if own.max(initial=0) > 1:
                raise ValueError(f"pixels must be 0 or 1, one is {own.max()}")
            images[low:high, 0] = 255 * own
    return images


@contextmanager
def _member(path: Path, name: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype]]:
    """Opens a member of the file as a stream of its values; also gives the shape and type in its header.

    Raises:
        CondgenError: it is missing or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, in_columns, dtype = read[np.lib.format.read_magic(file)](file)
            if in_columns or dtype.hasobject:
                raise ValueError("it holds objects or is stored in column-major order")
            total, there = math.prod(shape) * dtype.itemsize, archive.getinfo(f"{name}.npy").file_size - file.tell()
            if total != there or total > max(MAX_UNPACKED, MAX_RATIO * path.stat().st_size):
                raise ValueError(f"its header announces {total:,} bytes, but there are {there:,}")
            yield file, shape, dtype
    except KeyError:
        raise CondgenError(f"{path} has no array {name}; dSprites has imgs and latents_classes.") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise CondgenError(f"{path}: {name} cannot be read ({error}). It should be dSprites as published.") from None


FORMAT = LabelledFormat(
    "a file of dSprites",
    lambda word, options: word.lower().endswith(".npz") and Path(word).expanduser().is_file(),
    open_dsprites,
    ("label_column", "attribute_columns"),
    lambda word: tuple(_factors(Path(word).expanduser())[1]),
)
