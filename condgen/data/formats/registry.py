"""The formats of data sets: each is one file with one call of `register_format`, and is known to every command.

A `TableFormat` reads the rows of one kind of file, such as `.csv`, with captions, labels or attributes. A
`LabelledFormat` opens labelled images that are no table, such as MNIST's idx files or the word `digits`.
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
        suffix: of its files, such as `.csv`.
        records: (path, columns) -> the rows as dicts, None for a row that cannot be read; may leave out other columns.
        column_names: path -> the names of the columns.
        row_count: path -> about how many rows there are; 0 where only reading all of them would show it.
        holds_images: whether a file stands alone with images inside it ("a shard"); else it names files beside it.
    """

    suffix: str
    records: Callable[[Path, list[str]], Iterable[dict | None]]
    column_names: Callable[[Path], list[str]]
    row_count: Callable[[Path], int]
    holds_images: bool = False


@dataclass(frozen=True)
class LabelledFormat:
    """Labelled images that are found by a path or a word.

    Args:
        name: in messages.
        matches: (path or word, options) -> whether the data is of this format.
        open: (path or word, options, size) -> the images, found but not read; `size` is for images that are drawn.
        takes: the fields of `ReadOptions.selected` that make sense for it.
        attributes: path or word -> the names of all attributes, of data that has only its class by default.
    """

    name: str
    matches: Callable[[str, ReadOptions], bool]
    open: Callable[[str, ReadOptions, int], Arrays | LabelledRows]
    takes: tuple[str, ...] = ()
    attributes: Callable[[str], tuple[str, ...]] = lambda word: ()


TABLES: dict[str, TableFormat] = {}
_LABELLED: list[LabelledFormat] = []


def register_format(*formats: TableFormat | LabelledFormat) -> None:
    """Makes formats known; of labelled ones, those that are registered later are tried first."""
    for one in formats:
        if isinstance(one, TableFormat):
            TABLES[one.suffix] = one
        else:
            _LABELLED.insert(0, one)


def labelled_formats() -> Iterator[LabelledFormat]:
    """The formats of labelled images, in the order in which they are tried."""
    yield from _LABELLED


def is_table(file: Path) -> bool:
    """Whether a file holds rows, by its suffix."""
    return file.suffix.lower() in TABLES


def is_shard(file: Path) -> bool:
    """Whether a file holds rows and the images of these."""
    return is_table(file) and TABLES[file.suffix.lower()].holds_images
