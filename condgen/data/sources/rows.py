"""Finds the rows of a data set, their splits and their faults: folders, tables, sidecar files. Opens no image."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from pathlib import Path, PurePosixPath
from typing import Literal

from condgen.contracts import CondgenError
from condgen.data.formats.registry import FAULT, Listing, is_shard, is_table, tables_among
from condgen.data.options import COLUMNS, DEFAULTS, ReadOptions
from condgen.data.sources.images import list_files
from condgen.data.sources.tables import (
    EXPECTED,
    IMAGE,
    SPLIT,
    TEXT,
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

NEWER = (".json", ".tsv", ".txt", ".token")
"""Suffixes of tables that are read only where there is no other table, and may have a split within their names."""
NOT_DOWNLOADED, NOT_NAMED = "not downloaded by img2dataset", "image in no table"
_SPLIT = re.compile(r"(train|val|test)(ing|id|idation)?(?![a-z])|(dev|eval)(?![a-z])", re.I)
_SHARD = re.compile(r"[-_.]?\d+(-of-\d+)?(-[0-9a-f]{8,})?$")
CAPTION_SUFFIXES = (".txt", ".caption")
"""Suffixes of the files of captions beside images; sd-scripts writes .caption."""
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
        unread: files that are named like images and are not read, by the reason, see `registry.list_files`.
    """

    path: Path
    home: Path
    form: Literal["metadata", "parquet", "arrow", "shards", "sidecars", "classes", "plain"]
    tables: tuple[Table, ...] = ()
    images: tuple[Path, ...] = ()
    by_name: bool = False
    left_out: tuple[str, ...] = ()
    conditions: tuple[tuple[str, str], ...] = ()
    classes: tuple[str, ...] = ()
    above: bool = False
    unread: dict[str, list[str]] = field(default_factory=dict)

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
    if not isinstance(path, str | os.PathLike):
        from condgen.data.sources.objects import as_path

        path = as_path(path)
    pattern, path = os.fspath(path), Path(os.path.expanduser(path))
    named_files = None if path.exists() else shard_files(pattern)
    if named_files is not None:
        listing = Listing(Path(os.path.commonpath([file.parent for file in named_files])), named_files)
    elif not path.exists():
        raise CondgenError(f"{path} is not there. {EXPECTED}")
    else:
        listing = list_files(path) if path.is_dir() else Listing(path.parent, [path])
    home, images = listing.folder, listing.images
    form, tables = _form(path, listing, images, options)
    named = {file: named_split(file.relative_to(home), own=bool(tables)) for file in tables or images}
    if form == "metadata":
        named |= {file: named[file] or _split_in(file.stem) for file in tables if file.suffix.lower() in NEWER}
    by_name = any(name and not name.startswith("train") for name in named.values())
    left_out = [file for file in tables if form in ("parquet", "shards", "arrow") and by_name and not named[file]]
    left_out = [file for file in left_out if not {options.split_column, *SPLIT}.intersection(column_names(file))]
    conditions = options.conditions
    if form == "sidecars" and (conditions or any(getattr(options, name) for name in COLUMNS)):
        raise CondgenError(f"{path} holds images with .txt files, which have no columns to choose or to filter by.")
    chosen = [choose(file, options, named[file]) for file in tables if file not in left_out]
    chosen = [_with_images(table, listing) for table in chosen]
    names = tuple(file.name for file in left_out)
    unread = listing.unread
    return Source(path, home, form, tuple(chosen), tuple(images), by_name, names, conditions, unread=unread)


def _with_images(table: Table, listing: Listing) -> Table:
    """Finds where the images of a table lie if not beside it, and its column of failed downloads."""
    if {"status", "key", "url"} <= set(column_names(table.path)):
        table = replace(table, status="status")
    if is_shard(table.path):
        return table
    asked = (record.get(table.image) for record in islice(records(table.path, [table.image]), 50) if record)
    asked = [name for name in asked if isinstance(name, str) and name.strip() and "\0" not in name][:20]
    if not asked or any(not name.startswith("/") and (table.path.parent / name).is_file() for name in asked):
        return table
    images = listing.images or list_files(listing.folder).images
    below = {file.relative_to(listing.folder).as_posix() for file in images}
    tails = ["/".join(PurePosixPath(asked[0]).parts[skip:]) for skip in range(len(PurePosixPath(asked[0]).parts))]
    for tail in tails:
        homes = [file[: -len(tail)] for file in below if f"/{file}".endswith(f"/{tail}")]
        start = asked[0][: -len(tail)]
        found = [
            home for home in homes if 2 * sum(home + name.removeprefix(start) in below for name in asked) > len(asked)
        ]
        if len(found) > 1:  # a folder for each split
            found = [one for one in found if named_split(Path(one, "a"), own=False) == table.named]
        if found:
            return replace(table, home=found[0], prefix=start) if len(found) == 1 else table
    return table


def plain_folder(path: Path) -> Source | None:
    """Opens a folder that holds only images; None if it has none."""
    listing = list_files(path) if path.is_dir() else Listing(path)
    images = listing.images
    if not images:
        return None
    named = [named_split(file.relative_to(path), own=False) for file in images]
    by_name = any(name and not name.startswith("train") for name in named)
    return Source(path, path, "plain", (), tuple(images), by_name, unread=listing.unread)


def _form(path: Path, listing: Listing, images: list[Path], options: ReadOptions) -> tuple[str, list[Path]]:
    """Detects the layout of the data, and lists its tables."""
    files = listing.files
    tables = tables_among(files, path)
    shards = [file for file in tables if is_shard(file)]
    if meta := [file for file in tables if file.stem == "metadata" or (file == path and file not in shards)]:
        meta = [file for file in meta if file.suffix.lower() not in NEWER] or meta
        if twice := [file for file, after in pairwise(meta) if file.parent == after.parent]:
            raise CondgenError(f"{twice[0].parent} has more than one metadata file. Keep one of them.")
        return "metadata", meta
    if tars := [file for file in shards if file.suffix.lower() == ".tar"]:
        return "shards", tars  # tables of the same name beside them are descriptions without images
    sidecars = any(caption_file(file) for file in images)
    if shards and (options.image_column or not _is_download_log(shards[0])):
        return "arrow" if shards[0].suffix.lower() == ".arrow" else "parquet", shards
    if sidecars:
        return "sidecars", []
    tables = [file for file in files if is_table(file)]
    if captioned := _captioned_tables(tables, path):
        return "metadata", captioned
    from condgen.data.sources.refusals import no_captions

    raise no_captions(path, listing, tables)


def _captioned_tables(tables: list[Path], path: Path) -> list[Path]:
    """The tables beside the images that have a column of file names and one of captions: one, or one for each split."""
    near = [table for table in tables if table.parent in (path, path / "annotations")]
    found = []
    for table in near[:20] if len(tables) <= 100 else []:
        with suppress(CondgenError):
            names = column_names(table)
            texts = tuple(name for name in names if name.lower() in TEXT)
            if {name.lower() for name in names}.intersection(IMAGE) and texts:
                rows = islice(records(table, texts), 20)
                found += [table] * any(captions_of(row, texts) for row in rows if row)
    splits = [_split_in(table.stem) for table in found]
    return found if len(set(splits)) == len(found) and ("" not in splits or len(found) == 1) else []


def _split_in(stem: str) -> str:
    """The split in the name of a table of annotations, such as captions_train2017."""
    return named_split(Path(re.sub(r"^(captions|annotations|dataset|metadata)[-_.]", "", stem, flags=re.I)), own=True)


def _is_download_log(table: Path) -> bool:
    """Whether a table is what img2dataset notes on its downloads, whose images lie beside it."""
    names = set(column_names(table))
    return {"key", "status"} <= names and not names.intersection(IMAGE)


def caption_file(image: Path) -> Path | None:
    """The file of captions beside an image: of the same name, with the suffix .txt or .caption; None without one."""
    files = (image.with_suffix(suffix) for suffix in CAPTION_SUFFIXES)
    return next((file for file in files if file.is_file()), None)  # a named pipe would block


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
                fault = "image absent from metadata" if source.tables[0].path.stem == "metadata" else NOT_NAMED
                yield Row(key, image, split=own, fault=fault, kept=not source.conditions)


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
    """Makes a row of an image; its captions are the lines of the .txt or .caption beside it."""
    row, text = _plain_row(source, image), caption_file(image)
    if text is None:
        return replace(row, fault="no caption", detail=f"no {image.stem}.txt beside it")
    try:
        lines = text.read_text("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        return replace(row, fault="no caption", detail=f"{text.name} is not UTF-8 text: {error}")
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
    conditions = (column for column, _ in source.conditions)
    return (table.image, *table.text, *table.cells, table.split, table.status, *conditions)


def row_of(source: Source, table: Table, number: int, record: dict | None) -> Row:
    """Converts record `number` of a table, counted from 1, to a row."""
    place = table.path.relative_to(source.home)
    if record is None:
        return Row(f"{place.as_posix()}:{number}", fault="broken metadata line", kept=not source.conditions)
    if FAULT in record:
        fault, _, detail = record[FAULT].partition(": ")
        return Row(f"{place.as_posix()}:{number}", fault=fault, detail=detail, kept=not source.conditions)
    if table.home is not None:
        place = Path(table.home, place.name)
    cell = record.get(table.image)
    cell = cell.removeprefix(table.prefix) if isinstance(cell, str) else cell
    key, image, fault = locate(cell, source.home, place, number)
    captions = captions_of(record, table.text, table.as_text)
    if table.split:
        split = split_name(str(record.get(table.split) or ""))
    else:
        split = table.named if source.by_name else hashed_split(key)
    kept = matches(record, source.conditions)
    if table.status and record.get(table.status) not in (None, "", "success"):
        return Row(key, None, split=split, fault=NOT_DOWNLOADED, detail=str(record[table.status]), kept=kept)
    fault = fault or ("" if captions or table.cells else "no caption")
    cells, notes = tuple(map(record.get, table.cells)), caption_notes(record, table.text, table.as_text)
    return Row(key, image, captions, split, fault, kept=kept, cells=cells, notes=notes)
