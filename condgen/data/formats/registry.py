"""Registry of data formats: each is one module with one call of `register_format`, and then every command reads it.

A `TableFormat` reads the rows of one kind of file, such as `.csv`, with captions, labels or attributes. A
`LabelledFormat` opens labelled images that are not a table, such as MNIST's idx files or the word `digits`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from condgen.data.formats.arrays import Arrays
    from condgen.data.options import ReadOptions
    from condgen.data.sources.label_rows import LabelledRows


@dataclass(frozen=True)
class TableFormat:
    """A kind of file that holds rows.

    Args:
        suffix: suffix of its files, such as `.csv`.
        records: (path, columns) -> the rows as dicts, None for a row that cannot be read; may leave out other columns.
        column_names: path -> the names of the columns.
        row_count: path -> approximate number of rows; 0 if that requires reading all of them.
        holds_images: whether a file contains its images ("a shard"); otherwise it names image files beside it.
    """

    suffix: str
    records: Callable[[Path, list[str]], Iterable[dict | None]]
    column_names: Callable[[Path], list[str]]
    row_count: Callable[[Path], int]
    holds_images: bool = False


@dataclass(frozen=True)
class LabelledFormat:
    """A format of labelled images, given by a path or a word.

    Args:
        name: name in messages.
        matches: (path or word, options) -> whether the data is of this format.
        open: (path or word, options, size) -> the images, not read yet; `size` is for images that are drawn.
        takes: the fields of `ReadOptions.selected` that it supports.
        attributes: path or word -> the names of all attributes, for data that by default has only its class.
    """

    name: str
    matches: Callable[[str, ReadOptions], bool]
    open: Callable[[str, ReadOptions, int], Arrays | LabelledRows]
    takes: tuple[str, ...] = ()
    attributes: Callable[[str], tuple[str, ...]] = lambda word: ()


TABLES: dict[str, TableFormat] = {}
_LABELLED: list[LabelledFormat] = []


def register_format(*formats: TableFormat | LabelledFormat) -> None:
    """Registers formats; labelled formats that are registered later are tried first."""
    for one in formats:
        if isinstance(one, TableFormat):
            TABLES[one.suffix] = one
        else:
            _LABELLED.insert(0, one)


def labelled_formats() -> Iterator[LabelledFormat]:
    """Yields the formats of labelled images in the order in which they are tried."""
    yield from _LABELLED


def is_table(file: Path) -> bool:
    """Whether a file is a table, by its suffix."""
    return file.suffix.lower() in TABLES


def tables_among(files: Iterable[Path], path: Path) -> list[Path]:
    """The tables among the files of a folder, or the file `path` itself.

    Many other things are called .json: only metadata.json is a table, unless another metadata file is beside it.
    """
    tables = [file for file in files if is_table(file)]
    homes = {file.parent for file in tables if file.stem == "metadata" and file.suffix.lower() != ".json"}
    return [
        file
        for file in tables
        if file.suffix.lower() != ".json" or file == path or (file.stem == "metadata" and file.parent not in homes)
    ]


def is_shard(file: Path) -> bool:
    """Whether a file is a table that contains its images."""
    return is_table(file) and TABLES[file.suffix.lower()].holds_images
