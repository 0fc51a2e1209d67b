"""Reads rows of labelled images: class folders, and tables with a column of labels or attributes."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from condgen.contracts import CondgenError, CondgenWarning, listed
from condgen.data.attributes import LABEL, Attribute
from condgen.data.formats.arrays import names_beside
from condgen.data.formats.registry import HIDDEN, unread_lines
from condgen.data.options import RGB, WHITE, ReadOptions
from condgen.data.sources.captions import read
from condgen.data.sources.columns import Coder, Column, names_in_schema
from condgen.data.sources.images import Range, is_output, list_files
from condgen.data.sources.rows import Row, Source, named_split, open_source, split_name
from condgen.data.sources.tables import (
    IMAGE,
    LABELS,
    TEXT,
    Table,
    clean,
    column_names,
    flags,
    image_and_split,
    matches,
    pick,
    records,
)
from condgen.text import printable

NO_ATTRIBUTE = frozenset({"id", "index", "idx", "key", "name", "url", "license", "source", "md5", "sha256"})
"""Columns that are never guessed as attributes."""
EXPECTED = "Expected a column of images (image, file_name) and one of labels (label, class), or attributes."


class NothingLabelled(CondgenError):
    """The data does not look like labelled images."""


class NoClasses(CondgenError):
    """The images are not in two or more class folders."""


@dataclass(frozen=True)
class LabelledRows:
    """Labelled images in rows, not read yet.

    Args:
        source: location of the rows.
        coders: convert cells to targets.
        empty: attribute -> names of values that no image has.
    """

    source: Source
    coders: tuple[Coder, ...] = ()
    empty: dict[str, list[str]] = field(default_factory=dict)

    path = property(lambda self: str(self.source.path))
    name = property(lambda self: self.source.name)
    form = property(lambda self: self.source.form)
    rule = property(lambda self: self.source.rule)

    @property
    def taken(self) -> list[str]:
        """What columns were taken for where they could be meant otherwise."""
        return [note for coder in self.coders for note in coder.notes]

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """The attributes of the images, shared by all splits."""
        return tuple(coder.attribute for coder in self.coders)

    def targets(self, row: Row) -> tuple[Row, np.ndarray]:
        """The row and its targets, float32 (A,). An unreadable cell or a missing label sets the fault of the row."""
        targets = np.full(len(self.coders), math.nan, np.float32)
        for i, (cell, coder) in enumerate(zip(row.cells, self.coders)):
            what = "label" if coder.attribute.name == LABEL else "attribute"
            try:
                targets[i] = coder.encode(cell)
            except ValueError as error:
                row = replace(row, fault=row.fault or f"unusable {what}", detail=f"{coder.attribute.name}: {error}")
            if what == "label" and math.isnan(targets[i]) and not row.fault:
                row = replace(row, fault="no label")
        return row, targets

    def each(
        self, split: str, background: RGB = WHITE, value_range: Range = ()
    ) -> Iterator[tuple[Row, Image.Image | None, tuple[str, ...], np.ndarray]]:
        """Like `captions.read`, with the targets of every row."""
        for row, image, notes in read(self.source, split, background=background, value_range=value_range):
            row, targets = self.targets(row)
            yield row, image, notes, targets


# Folders of classes ---------------------------------------------------------------------------------------------------


def labels_of_folders(path: Path) -> dict[str, str]:
    """Folder -> label in the order of the labels, as `data.export` writes it to `about.json`; {} for other folders.

    Names of folders are safe for every file system: the label `T-shirt/top` is in the folder `T-shirt_top`.
    """
    try:
        about = json.loads((path / "about.json").read_text(encoding="utf-8"))
        pairs = list(zip(about["folders"], about["names"], strict=True))
    except (OSError, ValueError, TypeError, LookupError):
        return {}
    return dict(pairs) if all(isinstance(text, str) for pair in pairs for text in pair) else {}


def open_classes(path: Path) -> LabelledRows:
    """Opens a folder with one subfolder per class, optionally below `train` and `test`.

    The top folders are splits if all of them that contain folders of images are named like splits.

    Raises:
        NoClasses: fewer than two classes.
        CondgenError: two classes have the same name.
    """
    listing = list_files(path)
    images = tuple(listing.images)
    tops = {file.relative_to(path).parts[0]: len(file.relative_to(path).parts) for file in images}
    tops = {top: depth for top, depth in tops.items() if depth > 1}
    above = bool(tops) and all(depth > 2 and named_split(Path(top), own=True) for top, depth in tops.items())
    used = {file.relative_to(path).parts[above] for file in images if len(file.relative_to(path).parts) > above + 1}
    if len(used) < 2:
        there = f"images of one class only ({printable(next(iter(used)))})" if used else "no folders with images"
        unread = "".join(f" {line}." for line in unread_lines(listing.unread))
        raise NoClasses(f"{path} has {there}. Expected one folder for every class, with its images inside.{unread}")
    homes = [path / top for top in tops] if above else [path]
    folders = {folder.name for home in homes for folder in home.iterdir() if folder.is_dir() and not is_output(folder)}
    empty = sorted(printable(name) for name in folders - used if not name.startswith(HIDDEN))
    own = labels_of_folders(path)
    classes = (
        [name for name in own if name in used]
        if used <= own.keys()
        else sorted(used, key=lambda name: (0, int(name), name) if name.isdecimal() else (1, 0, name))
    )
    names = [clean(own.get(name, name)) or printable(name) for name in classes]
    if twice := [name for name in names if names.count(name) > 1]:
        raise CondgenError(f"{path} has two folders whose names read {twice[0]!r}. Rename one of them.")
    by_name = above and any(not named_split(Path(top), own=True).startswith("train") for top in tops)
    source = Source(
        path, path, "classes", (), images, by_name, classes=tuple(classes), above=above, unread=listing.unread
    )
    coder = Coder(Attribute(LABEL, tuple(names)), {str(i): i for i in range(len(classes))})
    return LabelledRows(source, (coder,), {LABEL: empty} if empty else {})


# Tables ---------------------------------------------------------------------------------------------------------------


def open_table(path: str | os.PathLike[str], options: ReadOptions) -> LabelledRows:
    """Opens tables with a column of labels or attributes, see `columns`. Reads the cells of all splits, but no image.

    Args:
        path: see `rows.open_source`.
        options: columns, filter and class names. If neither a label nor an attribute is named and no column is named
            like a label, every suitable column becomes an attribute, with a warning, unless `guess_attributes` is
            off.

    Raises:
        NothingLabelled: there is no column of labels and none of attributes.
        CondgenError: a column does not exist, tables differ in their columns, or cells can be neither classes nor
            attributes.
    """
    source = open_source(path, options, _choose)
    cells, label = source.tables[0].cells, source.tables[0].label
    if other := next((table for table in source.tables if table.cells != cells), None):
        raise CondgenError(
            f"{other.path} has the labels {listed(other.cells)}, but {source.tables[0].path} has "
            f"{listed(cells)}. Name the columns that both have ({flags('label')})."
        )
    columns = [Column(name, label and i == 0, options.types.get(name, "")) for i, name in enumerate(cells)]
    for table in source.tables:
        _survey(source, table, columns)
    names = names_in_schema(source.tables[0].path, cells)
    if label and (options.class_names or cells[0] not in names):
        names[cells[0]] = options.class_names or (() if columns[0].names else names_beside(source.home))
    guessing = not label and not options.attribute_columns
    coders: dict[str, Coder] = {}
    for column in columns:
        try:
            coders[column.name] = column.coder(names.get(column.name, ()), str(source.path))
        except CondgenError:
            if not guessing:
                raise
    if guessing:
        _warn_of_guess(source, list(coders), [name for name in cells if name not in coders])
        source = replace(source, tables=tuple(replace(table, cells=tuple(coders)) for table in source.tables))
    unused = {
        coder.attribute.name: [one for one in names.get(name, ()) if one not in coder.attribute.values]
        for name, coder in coders.items()
    }
    return LabelledRows(source, tuple(coders.values()), {name: missing for name, missing in unused.items() if missing})


def _choose(file: Path, options: ReadOptions, named: str) -> Table:
    """Chooses the columns of a table of labelled images."""
    names = column_names(file)
    image, split = image_and_split(file, names, options)
    label = pick(options.label_column, LABELS, names, "label", file)
    cells = [pick(name, (), names, "attribute", file) for name in options.attribute_columns]
    if not image:
        raise CondgenError(
            f"{file} has the columns {listed(names)}; name the one that holds images ({flags('image')}). {EXPECTED}"
        )
    if options.guess_attributes and not label and not cells:
        cells = [name for name in names if name not in (image, split) and _may_be_attribute(name, names)]
    if not label and not cells:
        raise NothingLabelled(
            f"{file} has the columns {listed(names)}; name the one of the label ({flags('label')}). {EXPECTED}"
        )
    cells = list(dict.fromkeys([label] * bool(label) + cells))
    if label and LABEL in cells[1:]:
        raise CondgenError(f"{file}: {label!r} is the label, so the column 'label' cannot be an attribute.")
    return Table(file, image, (), split, named, tuple(cells), bool(label))


def _may_be_attribute(name: str, names: list[str]) -> bool:
    known = name.lower() in NO_ATTRIBUTE or name.lower() in TEXT or name.lower() in IMAGE
    return bool(name) and not known and _named_by(name, names) is None


def _named_by(name: str, names: list[str]) -> str | None:
    """The column whose value names are in column `name`: `head_name` names the values of `head`."""
    own, _, last = name.rpartition("_")
    return own if last in ("name", "names") and own in names else None


def _survey(source: Source, table: Table, found: list[Column]) -> None:
    """Adds the cells of a table to the columns."""
    names = column_names(table.path)
    beside = {own: name for name in names if (own := _named_by(name, names)) in table.cells}
    wanted = (*table.cells, *beside.values(), table.split, *(column for column, _ in source.conditions))
    for number, record in enumerate(records(table.path, wanted), 1):
        if record is None or not matches(record, source.conditions):
            continue
        own = split_name(str(record.get(table.split) or "")) if table.split else table.named if source.by_name else ""
        place, training = f"{table.path.name}:{number}", not own or own.startswith("train")
        for column in found:
            column.add(record.get(column.name), record.get(beside.get(column.name, "")), place, training)


def _warn_of_guess(source: Source, chosen: list[str], left: list[str]) -> None:
    if not chosen:
        raise CondgenError(
            f"{source.path}: none of the columns {listed(left)} can be an attribute. Name the label ({flags('label')})."
        )
    message = f"{source.path}: no column of labels, so taken as attributes: {listed(chosen)}" + (
        f"; ignored: {listed(left)}." if left else "."
    )
    warnings.warn(message, CondgenWarning, stacklevel=2)
