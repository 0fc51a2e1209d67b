"""Reads rows of data too large for memory block by block, from shards and `datasets` objects.

A feed is scanned once, without its images, to find its blocks and their usable rows; then blocks can be fetched with
their images in any order.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Protocol

from condgen.contracts import CondgenError
from condgen.data.formats.parquet import check_unpacked, parquet_slice
from condgen.data.options import DEFAULTS, ReadOptions
from condgen.data.sources import webdataset
from condgen.data.sources.rows import Row, Source, row_of, wanted_columns
from condgen.data.sources.tables import Table, choose, locate, readable
from condgen.files.weights import file_hash

BLOCK_BYTES = 32_000_000
"""Approximate limit on the bytes of a block, since images may be of any size."""


class Feed(Protocol):
    """A source of rows: a shard, or an object with rows."""

    name: str
    mark: object
    """A value that changes when the number of bytes or rows changes."""

    def content(self) -> str:
        """The digest of all rows with their images, which are read for it."""
        ...

    def scan(self, size: int) -> Iterator[tuple[int, int, list[Row]]]:
        """Yields blocks of at most `size` rows: (place, index of the first row, rows). No image is read."""
        ...

    def fetch(self, place: int, first: int, count: int) -> list[Row]:
        """Reads the rows of a block that `scan` yielded, now with the bytes of their images, None for a missing one."""
        ...


def open_feeds(source: Source) -> list[Feed]:
    """Opens a feed for every shard.

    Raises:
        CondgenError: the data is not in shards. Rows of a folder may name an image twice and must be read as a whole.
    """
    suffixes = {table.path.suffix.lower() for table in source.tables}
    if source.form not in ("parquet", "shards") or not suffixes <= {".tar", ".parquet"}:
        raise CondgenError(
            f"{source.path} holds single files, which cannot be streamed. To stream images, pack them into shards "
            "(.tar or .parquet)."
        )
    return [_Shard(source, table) for table in source.tables]


class _Rows:
    """Base of feeds: converts records to rows, identically in `scan` and `fetch`, although `scan` sees no image."""

    cells: Literal["named", "unknown", "files"] = "named"
    """What `scan` sees of an image: its name, nothing, or its file. `fetch` must make the row from the same."""

    def __init__(self, source: Source, table: Table):
        self.source, self.table = source, table

    def scan(self, size: int) -> Iterator[tuple[int, int, list[Row]]]:
        place, block, first = 0, [], 0
        for at, fresh, record in self._records(size):
            if block and (len(block) == size or fresh or at - place > BLOCK_BYTES):
                yield place, first, block
                first, block = first + len(block), []
            place = at if not block else place
            block.append(self._row(first + len(block), record))
        if block:
            yield place, first, block

    def fetch(self, place: int, first: int, count: int) -> list[Row]:
        records = self._fetch(place, first, count)
        if len(records) != count:
            raise CondgenError(f"{self.table.path} has changed since it was opened. Start again with unchanging data.")
        rows = [self._row(first + i, record) for i, record in enumerate(records)]
        return [row if row.fault else self._with_image(row, record) for row, record in zip(rows, records)]

    def _row(self, number: int, record: dict | None) -> Row:
        if record is not None and self.cells != "files":
            cell = record.get(self.table.image) if self.cells == "named" else {}
            light = {"path": cell.get("path"), "bytes": b""} if isinstance(cell, dict) else None
            record = record | {self.table.image: light}
        return replace(row_of(self.source, self.table, number + 1, record), image=None)

    def _with_image(self, row: Row, record: dict) -> Row:
        place = self.table.path.relative_to(self.source.home)
        return replace(row, image=locate(record.get(self.table.image), self.source.home, place, 0)[1])

    def _records(self, size: int) -> Iterable[tuple[int, bool, dict | None]]:
        """Yields (place, whether a block must begin here, record) for every row, without the bytes of images."""
        raise NotImplementedError

    def _fetch(self, place: int, first: int, count: int) -> list[dict | None]:
        raise NotImplementedError


class _Shard(_Rows):
    """A .tar or .parquet file; a block of a parquet file lies within one row group."""

    def __init__(self, source: Source, table: Table):
        super().__init__(source, table)
        self.name = table.path.relative_to(source.home).as_posix()
        self.mark = os.path.getsize(table.path)
        self.opened = _stat(table.path)
        self.wanted = list(dict.fromkeys(name for name in wanted_columns(source, table) if name))
        self.tar = table.path.suffix.lower() == ".tar"
        self.light = self.wanted if self.tar else self._without_images()

    def content(self) -> str:
        digest = hashlib.sha256(file_hash(self.table.path).encode())
        if self.cells == "files":
            place = self.table.path.relative_to(self.source.home)
            for _, _, record in self._records(1024):
                file = locate((record or {}).get(self.table.image), self.source.home, place, 0)[1]
                digest.update(file_hash(file).encode() if isinstance(file, Path) else b"-")
        return digest.hexdigest()

    def _without_images(self) -> list[str]:
        """The columns to read from a parquet file, without the bytes of its images."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        image = self.table.image
        with readable(self.table.path):
            kind = pq.read_schema(self.table.path).field(image).type
        rest = [name for name in self.wanted if name != image]
        if pa.types.is_struct(kind):
            names = [kind.field(i).name for i in range(kind.num_fields)]
            self.cells = "named" if "path" in names else "unknown"
            return [*rest, f"{image}.path"] if self.cells == "named" else rest
        text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        self.cells = "files" if text else "unknown"
        return [*rest, image] if text else rest

    def _records(self, size: int) -> Iterable[tuple[int, bool, dict | None]]:
        if self.tar:
            yield from ((at, False, r) for at, r in webdataset.samples(self.table.path, self.wanted, images=False))
            return
        import pyarrow.parquet as pq

        with readable(self.table.path), pq.ParquetFile(self.table.path, buffer_size=1 << 20) as file:
            check_unpacked(self.table.path, file.metadata, self.wanted)
            for group in range(file.num_row_groups):
                about = file.metadata.row_group(group)
                most, number = max(1, BLOCK_BYTES * about.num_rows // max(about.total_byte_size, 1)), 0
                for batch in file.iter_batches(1024, row_groups=[group], columns=self.light):
                    for record in batch.to_pylist():
                        yield 0, number % min(most, size) == 0, record
                        number += 1

    def _fetch(self, place: int, first: int, count: int) -> list[dict | None]:
        if os.path.exists(self.table.path) and _stat(self.table.path) != self.opened:
            raise CondgenError(f"{self.table.path} has changed since it was opened. Start again with unchanging data.")
        if self.tar:
            return [record for _, record in islice(webdataset.samples(self.table.path, self.wanted, place), count)]
        with readable(self.table.path):
            return parquet_slice(self.table.path, self.wanted, first, count)


def _stat(path: Path) -> tuple[int, int]:
    about = os.stat(path)
    return about.st_size, about.st_mtime_ns


class _Object(_Rows):
    """An object with `column_names`, a length and indexed rows."""

    cells = "unknown"

    def __init__(self, source: Source, rows: Any):
        super().__init__(source, source.tables[0])
        self.name, self.rows, self.mark = source.path.name, rows, len(rows)

    def content(self) -> str:
        digest, names = hashlib.sha256(), [name for name in wanted_columns(self.source, self.table) if name]
        for number in range(len(self.rows)):
            record = dict(self.rows[number])
            digest.update(repr([record.get(name) for name in names]).encode("utf-8", "replace"))
        return digest.hexdigest()

    def _records(self, size: int) -> Iterable[tuple[int, bool, dict | None]]:
        names = [name for name in wanted_columns(self.source, self.table) if name and name != self.table.image]
        light = self.rows.select_columns(names) if hasattr(self.rows, "select_columns") else self.rows
        for number in range(len(light)):
            record = dict(light[number])
            yield 0, False, {name: record.get(name) for name in names}

    def _fetch(self, place: int, first: int, count: int) -> list[dict | None]:
        return [dict(self.rows[number]) for number in range(first, min(first + count, len(self.rows)))]


def feed_of(
    rows: Any, options: ReadOptions = DEFAULTS, name: str = "dataset", **changes: Any
) -> tuple[Source, list[Feed]]:
    """Makes a source and its feed from a `datasets.Dataset` or a similar object.

    Args:
        rows: has `column_names`, a length, and gives row i as a dict; its images are bytes, or dicts of `bytes` and
            `path` (a file below the working folder). Columns of the feature `Image` of `datasets` are read undecoded.
        options: columns and filter; `changes` replace fields of it.
        name: name of the data.

    Raises:
        CondgenError: the rows have no length (a dataset opened with streaming), or a column does not exist.
    """
    if not hasattr(rows, "__len__") or not hasattr(rows, "__getitem__") or not hasattr(rows, "column_names"):
        raise CondgenError(
            f"{name} is a {type(rows).__name__}: expected rows with a length and column_names, as datasets.Dataset has "
            "them. Load it without streaming=True, or choose one of its splits."
        )
    names, path = list(rows.column_names), Path(f"{name}.parquet")

    def first(wanted: Iterable[str]) -> Iterator[dict]:
        kept = rows.select_columns(list(wanted)) if hasattr(rows, "select_columns") else rows
        return (dict(kept[number]) for number in range(min(len(kept), 50)))

    options = options.but(**changes)
    table = choose(path, names, first, options)
    feature = (getattr(rows, "features", None) or {}).get(table.image)
    if type(feature).__name__ == "Image":
        from datasets import Image

        rows = rows.cast_column(table.image, Image(decode=False))
    source = Source(path, Path(), "parquet", (table,), conditions=options.conditions)
    return source, [_Object(source, rows)]
