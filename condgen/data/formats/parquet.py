"""Reads `.parquet` tables: columns, rows, and slices of rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from condgen.contracts import CondgenError
from condgen.data.formats.registry import TableFormat, register_format

MAX_UNPACKED, MAX_RATIO = 2**28, 100
"""Limits on a column of one row group: unpacked bytes, and compression ratio."""


def parquet_records(path: Path, columns: list[str]) -> Iterator[dict]:
    """Yields the rows of a file, with only these columns."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        check_unpacked(path, file.metadata, columns)
        for batch in file.iter_batches(16, columns=columns):
            yield from batch.to_pylist()


def parquet_columns(path: Path) -> list[str]:
    """The names of the columns."""
    import pyarrow.parquet as pq

    return pq.read_schema(path).names


def parquet_rows(path: Path) -> int:
    """Number of rows."""
    import pyarrow.parquet as pq

    return pq.read_metadata(path).num_rows


def names_files(path: Path, column: str) -> bool:
    """Whether a column of images holds file names, not the images themselves."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pq.read_schema(path).field(column).type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def parquet_slice(path: Path, columns: Iterable[str], first: int, count: int) -> list[dict]:
    """Reads rows `first` to `first + count`, which must lie in one row group; other groups are not read."""
    import pyarrow.parquet as pq

    found: list[dict] = []
    with pq.ParquetFile(path, buffer_size=1 << 20) as file:
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        group, before = 0, 0
        while group < len(sizes) and first >= before + sizes[group]:
            group, before = group + 1, before + sizes[group]
        skip = first - before
        for batch in file.iter_batches(64, row_groups=[group][: len(sizes) - group], columns=list(columns)):
            if skip < batch.num_rows:
                found += batch.slice(skip, count - len(found)).to_pylist()
            skip = max(0, skip - batch.num_rows)
            if len(found) == count:
                return found
    raise CondgenError(f"{path} has changed: it had at least {first + count} rows. Start again with unchanging data.")


def check_unpacked(path: Path, metadata, columns: list[str]) -> None:
    """Refuses a file that would unpack to far more than its size; encoded images hardly compress."""
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            name, packed, unpacked = column.path_in_schema, column.total_compressed_size, column.total_uncompressed_size
            if unpacked > max(MAX_UNPACKED, MAX_RATIO * packed) and {name, name.split(".")[0]} & set(columns):
                raise CondgenError(
                    f"{path}: {packed:,} bytes of the column {name} would unpack to {unpacked:,}. Columns of "
                    "images or captions do not compress that well: the file is damaged, or made to exhaust the memory."
                )


register_format(TableFormat(".parquet", parquet_records, parquet_columns, parquet_rows, holds_images=True))
