"""Tables of `.parquet`: their columns, their rows, and a few rows from the middle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from condgen.contracts import CondgenError
from condgen.data.formats.registry import TableFormat, register_format

MAX_UNPACKED, MAX_RATIO = 2**28, 100
"""A column of one row group may unpack to so many bytes, or to so many times its size on disk."""


def parquet_records(path: Path, columns: list[str]) -> Iterator[dict]:
    """The rows of a file, with these columns alone."""
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
    """How many rows there are."""
    import pyarrow.parquet as pq

    return pq.read_metadata(path).num_rows


def names_files(path: Path, column: str) -> bool:
    """Whether a column of images is text: names of files, not the images themselves."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pq.read_schema(path).field(column).type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def parquet_slice(path: Path, columns: Iterable[str], first: int, count: int) -> list[dict]:
    """Rows `first` to `first + count` of a file, which must lie in one row group; no other group is read."""
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
    """Refuses a file that claims to unpack to very much more than its size; images hardly shrink."""
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            name, packed, unpacked = column.path_in_schema, column.total_compressed_size, column.total_uncompressed_size
            if unpacked > max(MAX_UNPACKED, MAX_RATIO * packed) and {name, name.split(".")[0]} & set(columns):
                raise CondgenError(
                    f"{path}: {packed:,} bytes of the column {name} would unpack to {unpacked:,}. No column of "
                    "images or captions does that: the file is damaged, or made to fill the memory."
                )


register_format(TableFormat(".parquet", parquet_records, parquet_columns, parquet_rows, holds_images=True))
