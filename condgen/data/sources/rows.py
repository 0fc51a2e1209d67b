"""Finds the rows of a data set, their splits and their faults: folders, tables, sidecar files. Opens no image."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from condgen.contracts import CondgenError, CondgenWarning
from condgen.data.formats.registry import is_shard, tables_among
from condgen.data.options import COLUMNS, DEFAULTS, ReadOptions
from condgen.data.sources.images import SUFFIXES, files_below
from condgen.data.sources.tables import (
    EXPECTED,
    SPLIT,
    Table,
    caption_notes,
    captioned_table,
    captions_of,
    clean,
    column_names,
    locate,
    matches,
    records,
    row_count,
)
from condgen.data.sources.webdataset import shard_files
from condgen.text import printable

if TYPE_CHECKING:
    from condgen.data.sources.rows import Row, Source


_SPLIT = re.compile(r"(train|val|test)(ing|id|idation)?(?![a-z])|(dev|eval)(?![a-z])", re.I)
_SHARD = re.compile(r"[-_.]?\d+(-of-\d+)?(-[0-9a-f]{8,})?$")
_ALIASES = {"training": "train", "valid": "val", "validation": "val", "dev": "val", "eval": "val", "testing": "test"}


@dataclass(frozen=True)
class Row:
    """One row of the data, before its image is opened.

    Args:
        key: name of the image inside the data, for messages and for the hash that assigns splits.
        image: path of the image, or its bytes.
        captions: distinct, non-empty captions.
        split: name of the split, "" if unknown.
        fault: why the row cannot be used, "" if no reason is known.
        detail: details of the fault.
        kept: whether the filter keeps the row.
        cells: cells of the label and the attributes of a labelled image, see `columns`.
        notes: what is unusual about its captions.
    """

    key: str
    image: Path | bytes | None = None
    captions: tuple[str, ...] = ()
    split: str = ""
    fault: str = ""
    detail: str = ""
    kept: bool = True
    cells: tuple[object, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def described(self) -> str:
        """The key, with the detail of its fault."""
        return f"{self.key} ({self.detail})" if self.detail else self.key

    def belongs(self, split: str) -> bool:
        """Whether the row is kept and belongs to a split; an unusable row without a split belongs to every split."""
        return self.kept and (in_split(self.split, split) or bool(self.fault and not self.split))


@dataclass(frozen=True)
class Source:
    """The location of the rows of a data set: tables, images with caption files, class folders, or a folder of
    images.

    Args:
        path: path as the user gave it.
        home: folder that keys are relative to.
        images: the image files in the folder.
        by_name: whether the split comes from names of files or folders if no column gives it.
        left_out: shards that have no split, by name or column, although others do.
        conditions: (column, value) pairs that a row must equal.
        classes: names of the class folders, in order.
        above: whether the class folders lie in folders of splits.
    """

    path: Path
    home: Path
    form: Literal["metadata", "parquet", "shards", "sidecars", "classes", "plain"]
    tables: tuple[Table, ...] = ()
    images: tuple[Path, ...] = ()
    by_name: bool = False
    left_out: tuple[str, ...] = ()
    conditions: tuple[tuple[str, str], ...] = ()
    classes: tuple[str, ...] = ()
    above: bool = False

    @property
    def name(self) -> str:
        """The name of the data: that of the folder, or of the file without its suffix."""
        path = self.path.resolve()
        return path.name if path.is_dir() else path.stem

    @property
    def rule(self) -> str:
        """How the split of a row is determined."""
        if any(table.split for table in self.tables):
            return "a column"
        return "the names of files and folders" if self.by_name else "a hash of the file name, 95 to 5"


# Where the rows are ---------------------------------------------------------------------------------------------------


def open_source(
    path: str | os.PathLike[str],
    options: ReadOptions = DEFAULTS,
    choose: Callable[[Path, ReadOptions, str], Table] = captioned_table,
) -> Source:
    """Detects the layout of the data and chooses the columns; opens no image.

    Args:
        path: a folder, a metadata file, a shard, or a pattern that names shards, see `webdataset.shard_files`.
        options: the columns and the filter.
        choose: (file, options, split in its name) -> the table with its chosen columns.

    Raises:
        CondgenError: there is no readable data, there are labels instead of captions, or a column does not exist.
    """
    named_files = shard_files(os.fspath(path))
    path = Path(os.path.expanduser(path))
    if named_files is not None:
        home, files = Path(os.path.commonpath([file.parent for file in named_files])), named_files
    elif not os.path.exists(path):
        raise CondgenError(f"{path} is not there. {EXPECTED}")
    else:
        home, files = (path, files_below(path)) if path.is_dir() else (path.parent, [path])
    images = [file for file in files if file.suffix.lower() in SUFFIXES]
    form, tables = _form(path, files, images)
    named = {file: named_split(file.relative_to(home), own=bool(tables)) for file in tables or images}
    by_name = any(name and not name.startswith("train") for name in named.values())
    left_out = [file for file in tables if form in ("parquet", "shards") and by_name and not named[file]]
    left_out = [file for file in left_out if not {options.split_column, *SPLIT}.intersection(column_names(file))]
    conditions = options.conditions
    if form == "sidecars" and (conditions or any(getattr(options, name) for name in COLUMNS)):
        raise CondgenError(f"{path} holds images with .txt files, which have no columns to choose or to filter by.")
    chosen = [choose(file, options, named[file]) for file in tables if file not in left_out]
    names = tuple(file.name for file in left_out)
    return Source(path, home, form, tuple(chosen), tuple(images), by_name, names, conditions)


def plain_folder(path: Path) -> Source | None:
    """Opens a folder that holds only images; None if it has none."""
    images = [file for file in files_below(path) if file.suffix.lower() in SUFFIXES] if path.is_dir() else []
    if not images:
        return None
    named = [named_split(file.relative_to(path), own=False) for file in images]
    by_name = any(name and not name.startswith("train") for name in named)
    return Source(path, path, "plain", (), tuple(images), by_name)


def _form(path: Path, files: list[Path], images: list[Path]) -> tuple[str, list[Path]]:
    """Detects the layout of the data, and lists its tables."""
    tables = tables_among(files, path)
    shards = [file for file in tables if is_shard(file)]
    if meta := [file for file in tables if file.stem == "metadata" or (file == path and file not in shards)]:
        if twice := [file for file, after in pairwise(meta) if file.parent == after.parent]:
            raise CondgenError(f"{twice[0].parent} has more than one metadata file. Keep one of them.")
        return "metadata", meta
    if tars := [file for file in shards if file.suffix.lower() == ".tar"]:
        return "shards", tars  # tables of the same name beside them are descriptions without images
    if shards:
        return "parquet", shards
    if any(file.with_suffix(".txt").is_file() for file in images):
        return "sidecars", []
    if labels := [file.name for file in files if is_idx(file)]:
        raise CondgenError(f"{path}: {labels[0]} looks like labels or images in idx form, without captions. {EXPECTED}")
    if tables:
        raise CondgenError(
            f"{path} has {tables[0].name}: name it metadata{tables[0].suffix}, or give its own path. {EXPECTED}"
        )
    if folders := sorted({file.parent.name for file in images if file.parent != path}):
        there = ", ".join(folders[:5])
        raise CondgenError(f"{path} has images in folders ({there}), which look like labels, not captions. {EXPECTED}")
    there = f"{len(images)} images and no captions" if images else "nothing that can be read as captioned images"
    raise CondgenError(f"{path} holds {there}. {EXPECTED}")


def is_idx(path: Path) -> bool:
    """Whether a file is in MNIST's idx format, gzipped or not: two zero bytes, then 8 for unsigned bytes."""
    if path.suffix != ".gz" and "idx" not in path.name:
        return False
    with suppress(OSError, EOFError, zlib.error), (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        return file.read(3) == b"\0\0\x08"
    return False


# Splits ---------------------------------------------------------------------------------------------------------------


def split_name(name: str) -> str:
    """Normalises the name of a split: lower case; validation, dev, valid and eval become val."""
    name = name.strip().lower()
    return _ALIASES.get(name, name)


def named_split(relative: Path, own: bool) -> str:
    """The split in the name of a file (if `own`) or of its nearest folder; "" if there is none."""
    for name in ([relative.stem] if own else []) + [folder.name for folder in relative.parents]:
        if _SPLIT.match(name):
            return split_name(_SHARD.sub("", name))
    return ""


def hashed_split(key: str, test: int = 5) -> str:
    """Assigns splits to data without any: `test` percent of the keys, by their SHA-256, are test."""
    number = int.from_bytes(hashlib.sha256(key.encode("utf-8", "replace")).digest()[:8], "big")
    return "test" if number % 100 < test else "train"


def in_split(own: str, asked: str) -> bool:
    """Whether a row of the split `own` is in the split `asked`; `test` includes `test_iid`, `test_comp` ..."""
    return asked in ("all", own) or own.startswith((f"{asked}_", f"{asked}-"))


# Rows -----------------------------------------------------------------------------------------------------------------


def rows(source: Source, split: str = "all") -> Iterator[Row]:
    """Yields all rows in the order of the files. Parquet shards of other splits are not read."""
    if make := {"sidecars": _sidecar_row, "classes": _class_row, "plain": _plain_row}.get(source.form):
        yield from (make(source, image) for image in source.images)
        return
    named = set()
    for table in _tables(source, split):
        for number, record in enumerate(records(table.path, wanted_columns(source, table)), 1):
            row = row_of(source, table, number, record)
            if source.form == "metadata" and isinstance(row.image, Path):
                named.add(row.image)
            yield row
    if source.form == "metadata" and source.path.is_dir():
        for image in source.images:
            if image not in named:
                key = image.relative_to(source.home).as_posix()
                own = "" if any(table.split for table in source.tables) else _split_of(source, image, key)
                yield Row(key, image, split=own, fault="image absent from metadata", kept=not source.conditions)


def _tables(source: Source, split: str) -> list[Table]:
    """The tables to read for a split. Metadata is always read, to know which images it names."""
    every = split == "all" or source.form == "metadata" or not source.by_name
    return [table for table in source.tables if every or table.split or in_split(table.named, split)]


def expected_rows(source: Source, split: str) -> int:
    """Approximate number of rows to read, for the progress bar."""
    return sum(row_count(table.path) for table in _tables(source, split)) or len(source.images)


def _split_of(source: Source, file: Path, key: str) -> str:
    return named_split(file.relative_to(source.home), own=False) if source.by_name else hashed_split(key)


def _plain_row(source: Source, image: Path) -> Row:
    key = image.relative_to(source.home).as_posix()
    return Row(key, image, split=_split_of(source, image, key))


def _sidecar_row(source: Source, image: Path) -> Row:
    """Makes a row of an image; its captions are the lines of the .txt beside it."""
    row, text = _plain_row(source, image), image.with_suffix(".txt")
    if not text.is_file():  # a named pipe would block
        return replace(row, fault="no caption", detail=f"no {image.stem}.txt beside it")
    try:
        lines = text.read_text("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        return replace(row, fault="no caption", detail=f"{image.stem}.txt is not UTF-8 text: {error}")
    captions = tuple(dict.fromkeys(caption for line in lines if (caption := clean(line))))
    return replace(row, captions=captions, fault="" if captions else "no caption")


def _class_row(source: Source, image: Path) -> Row:
    """Makes a row of an image; its class is its folder, below that of the split, and its cell the class's number."""
    place = image.relative_to(source.home)
    folders, key = place.parts[source.above : -1], place.as_posix()
    split = named_split(Path(place.parts[0]), own=True) if source.by_name else hashed_split(key)
    if not folders:
        return Row(key, image, split=split, fault="image outside the classes")
    return Row(key, image, split=split, cells=(source.classes.index(folders[0]),))


def wanted_columns(source: Source, table: Table) -> tuple[str, ...]:
    """The columns of a table that are read; "" for a missing one."""
    return (table.image, *table.text, *table.cells, table.split, *(column for column, _ in source.conditions))


def row_of(source: Source, table: Table, number: int, record: dict | None) -> Row:
    """Converts record `number` of a table, counted from 1, to a row."""
    place = table.path.relative_to(source.home)
    if record is None:
        return Row(f"{place.as_posix()}:{number}", fault="broken metadata line", kept=not source.conditions)
    key, image, fault = locate(record.get(table.image), source.home, place, number)
    captions = captions_of(record, table.text, table.as_text)
    if table.split:
        split = split_name(str(record.get(table.split) or ""))
    else:
        split = table.named if source.by_name else hashed_split(key)
    kept = matches(record, source.conditions)
    fault = fault or ("" if captions or table.cells else "no caption")
    cells, notes = tuple(map(record.get, table.cells)), caption_notes(record, table.text, table.as_text)
    return Row(key, image, captions, split, fault, kept=kept, cells=cells, notes=notes)


MAX_BAD_HINT = "(train: --data.max_bad_fraction F)"


@dataclass
class Tally:
    """Counts by reason, and the first ten examples of each."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, example: str) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + 1
        if len(own := self.examples.setdefault(reason, [])) < 10:
            own.append(printable(example[:200]))

    def total(self) -> int:
        return sum(self.counts.values())

    def lines(self, most: int = 10) -> list[str]:
        """One line for every reason, the most frequent first."""
        by_count = sorted(self.counts.items(), key=lambda item: -item[1])
        return [f"{count} {reason}: {', '.join(self.examples[reason][:most])}" for reason, count in by_count]


@dataclass
class RowTally:
    """Counts rows while they are read: unusable rows by reason, and unusual images."""

    bad: Tally = field(default_factory=Tally)
    unusual: Tally = field(default_factory=Tally)
    total: int = 0

    def add(self, row: Row, notes: tuple[str, ...] = ()) -> bool:
        """Counts a row; returns whether it is usable."""
        self.total += 1
        if row.fault:
            self.bad.add(row.fault, row.described)
        for note in notes if not row.fault else ():
            self.unusual.add(note, row.key)
        return not row.fault

    def check(self, source: Source, max_bad_fraction: float) -> None:
        """Raises `CondgenError` for too many unusable rows; warns of rows and shards that are left out."""
        path, bad, total = source.path, self.bad, self.total
        if bad.total() > max_bad_fraction * total or bad.total() == total:
            listed = "\n  ".join(bad.lines(most=3))
            raise CondgenError(
                f"{path}: {bad.total()} of {total} rows cannot be used (the limit is {max_bad_fraction:.3g} of them):\n"
                f"  {listed}\n`condgen data check {path}` lists more. Repair them, or allow more to be left out "
                f"{MAX_BAD_HINT}."
            )
        notes = []
        if bad.total():
            notes.append(f"{bad.total()} of {total} rows left out: {'; '.join(bad.lines(most=3))}")
        if source.left_out:
            notes.append(f"left out {', '.join(source.left_out)}: no split in the name, unlike other files.")
        if "animated" in self.unusual.counts:
            notes.append(f"{self.unusual.counts['animated']} animated images; only their first frame is used.")
        for note in notes:
            warnings.warn(f"{path}: {note}", CondgenWarning, stacklevel=4)
