"""Reads `.arrow` files, as `datasets.save_to_disk` writes them: rows with their images, and features as metadata."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from condgen.data.formats.registry import TableFormat, register_format


@contextmanager
def _opened(path: Path) -> Iterator:
    """Yields a reader of the batches of a file, in either of the two layouts of Arrow."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as file:
        if file.read(6) == b"ARROW1":
            reader = pa.ipc.open_file(file)
            yield reader.schema, (reader.get_batch(i) for i in range(reader.num_record_batches))
        else:
            file.seek(0)
            reader = pa.ipc.open_stream(file)
            yield reader.schema, reader


def arrow_schema(path: Path):
    """The schema of a file, with the features of `datasets` in its metadata."""
    with _opened(path) as (schema, _):
        return schema


def _records(path: Path, columns: list[str]) -> Iterator[dict]:
    with _opened(path) as (schema, batches):
        wanted = [name for name in columns if name in schema.names]
        for batch in batches:
            for first in range(0, batch.num_rows, 16):
                yield from batch.slice(first, 16).select(wanted).to_pylist()


def _columns(path: Path) -> list[str]:
    return arrow_schema(path).names


def _rows(path: Path) -> int:
    with _opened(path) as (_, batches):
        return sum(batch.num_rows for batch in batches)


def _is_data(path: Path) -> bool:
    """Caches of `datasets` (cache-0123.arrow) lie beside its data, and are none."""
    return not path.name.startswith(("cache-", "tmp"))


register_format(TableFormat(".arrow", _records, _columns, _rows, holds_images=True, accepts=_is_data))
