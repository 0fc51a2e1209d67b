"""Reads images of two kinds, paired or unpaired, in the common layouts.

    folder/a/x.png, folder/b/x.png       a folder for each side; partners have the same name, up to the suffix.
    folder/train/a/x.png                 Folders of splits may lie above or below.
    folder/trainA/x.png, folder/testB    the same in the folders of CycleGAN
    folder/x.png                         images twice as wide as high: a is the left half, b the right, as pix2pix has
                                         it; for pairs only
    one.parquet, other.parquet           two tables, or one filtered by `filter_a` and `filter_b`; partners have the
                                         same cell in the column `match`

Splits come from a column or from the names of files or folders; otherwise a fixed hash puts 5 % in test. A pair is in
the split of its image a. Transparent pixels become white. A side whose images are all grey has one channel.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from condgen.contracts import CondgenError, CondgenWarning, listed
from condgen.data.datasets.pairs import Pairs, Unpaired
from condgen.data.formats.registry import is_table, unread_lines
from condgen.data.options import ReadOptions, Resize
from condgen.data.progress import check_depth
from condgen.data.sources import tables
from condgen.data.sources.images import Range, decode, fit, list_files, open_image
from condgen.data.sources.rows import hashed_split, in_split, named_split, open_source, rows

FORMS = (
    "Expected folders a/ and b/ (or trainA/ and trainB/), images twice as wide as high with a on the left and b on "
    "the right, or tables named with --data.a and --data.b."
)
_SIDE = re.compile(r"(?:(train|val|test)[-_]?)?([ab])", re.I)


@dataclass(frozen=True)
class SideOptions:
    """The locations of the two sides below a path, and how to read them.

    Args:
        size: edge S of the images.
        a, b: folder or table of each side; `a` and `b` if both are empty.
        filter_a, filter_b: keep only these rows of the table, e.g. `vendor=noto`.
        match: column of the tables that identifies partners.
        resize: how images become square.
        value_range: see `ReadOptions`.
    """

    size: int = 32
    a: str = ""
    b: str = ""
    filter_a: str = ""
    filter_b: str = ""
    match: str = ""
    resize: Resize = "crop"
    value_range: Range = ()

    def __post_init__(self) -> None:
        ReadOptions(value_range=self.value_range)


@dataclass(frozen=True)
class _Found:
    """An image with its split and its key, which its partner shares."""

    key: str
    split: str
    image: Path | bytes

    @property
    def name(self) -> str:
        """The file or key, for messages."""
        return str(self.image) if isinstance(self.image, Path) else self.key


def open_pairs(
    path: str | Path, asked: SideOptions, split: str = "train", sides: tuple[str, str] = ("a", "b")
) -> Pairs:
    """Reads the pairs of a split into memory; this module's docstring lists the layouts and the rule for splits.

    Raises:
        CondgenError: there is no readable data, an image is unreadable or has no partner (the message names it), or
            the split does not exist.
    """
    path = _there(path)
    if not _is_table(asked) and not asked.a and not _folders(path, "a"):
        images = _side_by_side(path, asked, split)
        return Pairs(*(plain(side) for side in images), sides, path.name)
    found = [_side(path, asked, side) for side in "ab"]
    a, b = ({one.key: one for one in side} for side in found)
    for side, own, other in (("a", a, b), ("b", b, a)):
        alone = [key for key in own if key not in other]
        if alone and not _is_table(asked):  # tables are joined: rows without a partner are dropped
            raise CondgenError(
                f"{path}: {len(alone)} of {len(own)} images of side {side} have no partner of the same name on the "
                f"other side: {listed(alone, 5)}. Add the partners, or remove these images."
            )
    partners = [(one, b[key]) for key, one in a.items() if key in b]
    if not partners:
        raise CondgenError(f"{path}: no image of side a has a partner on side b: {listed(a, 3)}; {listed(b, 3)}.")
    chosen = _chosen([one for one, _ in partners], split, path)
    images = [_read([pair[k] for pair, keep in zip(partners, chosen) if keep], asked) for k in (0, 1)]
    return Pairs(*(plain(side) for side in images), sides, path.stem)


def open_unpaired(
    path: str | Path, asked: SideOptions, split: str = "train", sides: tuple[str, str] = ("a", "b")
) -> Unpaired:
    """Reads both sides of a split into memory without pairing them, see `open_pairs`. If one side has colours, both
    have three channels.
    """
    path, images = _there(path), []
    for side in "ab":
        found = _side(path, asked, side)
        images.append(_read([one for one, keep in zip(found, _chosen(found, split, path)) if keep], asked))
    images = [plain(side) for side in images]
    most = max(side.shape[1] for side in images)
    return Unpaired(*(np.repeat(side, most // side.shape[1], 1) for side in images), sides, path.stem)


def plain(images: np.ndarray) -> np.ndarray:
    """Reduces uint8 (N, 3, S, S) to (N, 1, S, S) if all images are grey."""
    return images[:, :1].copy() if (images == images[:, :1]).all() else images


def _there(path: str | Path) -> Path:
    path = Path(path).expanduser()
    if not path.exists():
        raise CondgenError(f"{path} is not there. {FORMS}")
    return path


def _is_table(asked: SideOptions) -> bool:
    return any(is_table(Path(name)) for name in (asked.a, asked.b))


def _side(path: Path, asked: SideOptions, side: str) -> list[_Found]:
    """Finds the images of one side, a or b, in all splits."""
    name = getattr(asked, side)
    if is_table(Path(name)):
        return _rows_of(path / name, getattr(asked, f"filter_{side}"), asked.match)
    folders = [(path / name, "")] if name else _folders(path, side)
    if not folders or not all(folder.is_dir() for folder, _ in folders):
        raise CondgenError(f"{path} has no folder {name or side}. {FORMS}")
    return _files(path, folders)


def _folders(path: Path, side: str) -> list[tuple[Path, str]]:
    """Finds the folders of a side, each with the split in its name."""
    if not path.is_dir():
        return []
    found = []
    for folder in sorted(child for child in path.iterdir() if child.is_dir()):
        name = _SIDE.fullmatch(folder.name)
        if name and name[2].lower() == side:
            found.append((folder, (name[1] or "").lower()))
        split = named_split(Path(folder.name), own=True)
        if split:
            found += [(below, split) for below in sorted(folder.iterdir()) if below.name.lower() == side]
    return found


def _files(path: Path, folders: list[tuple[Path, str]]) -> list[_Found]:
    places = [
        (file, file.relative_to(folder).with_suffix("").as_posix(), split)
        for folder, split in folders
        for file in _images(folder)
    ]
    named = [split or named_split(file.relative_to(path), own=False) for file, _, split in places]
    found: dict[str, _Found] = {}
    for (file, name, above), split in zip(places, _splits(named, [name for _, name, _ in places])):
        key = f"{above}/{name}" if above else name
        if key in found:
            raise CondgenError(f"{file} and {found[key].image} have the same name, up to the suffix. Keep one of them.")
        found[key] = _Found(key, split, file)
    if not found:
        raise CondgenError(f"{folders[0][0]} holds no images. {FORMS}")
    return list(found.values())


def _images(folder: Path) -> list[Path]:
    """The images below a folder; warns of files that are named like images and are not read."""
    listing = list_files(folder)
    for line in unread_lines(listing.unread):
        warnings.warn(f"{folder}: {line}", CondgenWarning, stacklevel=2)
    return listing.images


def _rows_of(table: Path, filter: str, match: str) -> list[_Found]:
    """The rows of a table that the filter keeps, with the cell of `match` as key."""

    def choose(file: Path, options: ReadOptions, named: str) -> tables.Table:
        names = tables.column_names(file)
        image, split = tables.image_and_split(file, names, options)
        if not image:
            raise CondgenError(f"{file} has the columns {listed(names)}; none of them is known to hold images.")
        cells = (tables.pick(match, (), names, "partners", file),) if match else ("",)
        return tables.Table(file, image, (), split, named, cells)

    found: dict[str, _Found] = {}
    for row in rows(open_source(table, ReadOptions(filter=filter), choose)):
        if not row.kept:
            continue
        if row.fault or row.image is None:
            raise CondgenError(f"{table}: {row.key} cannot be used ({row.fault or 'no image'}). Repair or remove it.")
        key = tables.spelled(row.cells[0]) if match else row.key
        if key is None:
            raise CondgenError(f"{table}: {row.key} has no {match}. Fill in the cell, or remove the row.")
        if key in found:
            raise CondgenError(f"{table} has two rows whose {match} is {key!r}. Choose one of them by a filter.")
        found[key] = _Found(key, row.split, row.image)
    if not found:
        raise CondgenError(f"{table} has no rows with {filter or 'images'}.")
    return list(found.values())


def _splits(named: list[str], keys: list[str]) -> list[str]:
    """The split of every image: its named split if any image is named in a split other than train, else by a hash."""
    if any(name and not name.startswith("train") for name in named):
        return [name or "train" for name in named]
    return [hashed_split(key) for key in keys]


def _chosen(found: list[_Found], split: str, path: Path) -> list[bool]:
    """Mask of the images in a split; raises `CondgenError` if there are none."""
    chosen = [in_split(one.split, split) for one in found]
    if not any(chosen):
        there = listed(sorted({one.split for one in found}))
        raise CondgenError(f"{path} has no images in the split {split!r}; it has {there}.")
    return chosen


def _read(found: list[_Found], asked: SideOptions) -> np.ndarray:
    """Reads images, uint8 (N, 3, S, S)."""
    images, counts = [], Counter()
    for one in found:
        image, notes = decode(one.image, value_range=asked.value_range, name=one.name)
        counts.update(notes)
        images.append(fit(image, asked.size, asked.resize))
    check_depth(str(Path(found[0].name).parent), counts)
    return np.stack(images)


def _side_by_side(path: Path, asked: SideOptions, split: str) -> list[np.ndarray]:
    """Reads both halves of images that are twice as wide as high."""
    files = _images(path) if path.is_dir() else []
    if not files:
        raise CondgenError(f"{path} holds no images of two sides. {FORMS}")
    named = [named_split(file.relative_to(path), own=False) for file in files]
    keys = [file.relative_to(path).as_posix() for file in files]
    found = list(map(_Found, keys, _splits(named, keys), files))
    halves = [_halves(one, asked) for one, keep in zip(found, _chosen(found, split, path)) if keep]
    return [np.stack(side) for side in zip(*halves)]


def _halves(one: _Found, asked: SideOptions) -> list[np.ndarray]:
    image = open_image(one.image, value_range=asked.value_range)
    width, height = image.size
    if width != 2 * height:
        raise CondgenError(f"{one.image} is {width} x {height}, not twice as wide as high. {FORMS}")
    parts = (image.crop((left, 0, left + height, height)) for left in (0, height))
    return [fit(part, asked.size, asked.resize) for part in parts]
