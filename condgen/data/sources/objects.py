"""Takes `datasets.Dataset` objects, and objects like them, where a path is expected.

    load_captions(datasets.load_dataset("imagefolder", data_dir="photos", split="train"), 32)

The rows are written once to parquet files in a temporary folder, which is removed when the process ends. Encoded images
stay as they are, and names of classes are kept.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from condgen.contracts import CondgenError, short

AT_ONCE = 256
"""Rows written at once."""
_FOLDERS: list[tempfile.TemporaryDirectory] = []
_WRITTEN: dict[int, tuple[Any, Path]] = {}
"""Identity of an object -> the object, so that the identity stays its own, and its folder."""


def as_path(data: Any) -> str | os.PathLike[str]:
    """The path of data that are given as a path, or as rows in memory.

    Args:
        data: a path; or rows with a length, `column_names`, and row i as a dict (`datasets.Dataset`); or a dict of
            splits of such rows (`datasets.DatasetDict`).

    Raises:
        CondgenError: another kind of object, or a dataset that was opened with streaming.
    """
    if isinstance(data, str | os.PathLike):
        return data
    if id(data) in _WRITTEN:
        return _WRITTEN[id(data)][1]
    splits = dict(data) if isinstance(data, dict) else {"": data}
    if not splits or not all(map(_holds_rows, splits.values())):
        raise CondgenError(
            f"Data are a path, or rows with a length and column_names as a datasets.Dataset has them; got "
            f"{type(data).__name__} {short(str(data))}. Load a dataset without streaming=True, or save it with "
            "save_to_disk and give its folder."
        )
    _FOLDERS.append(tempfile.TemporaryDirectory(prefix="condgen-"))
    name = getattr(getattr(data, "info", None), "dataset_name", None) or "dataset"
    folder = Path(_FOLDERS[-1].name, "".join(c if c.isalnum() or c in "-_." else "_" for c in name))
    folder.mkdir()
    for split, rows in splits.items():
        _write(rows, folder / f"{split or 'data'}.parquet")
    _WRITTEN[id(data)] = (data, folder)
    return folder


def _holds_rows(rows: Any) -> bool:
    return all(hasattr(rows, name) for name in ("__len__", "__getitem__", "column_names"))


def _write(rows: Any, file: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    features, writer = dict(getattr(rows, "features", None) or {}), None
    for name, feature in features.items():
        if type(feature).__name__ == "Image":
            rows = rows.cast_column(name, type(feature)(decode=False))
    names = {name: {"names": list(one.names), "_type": "ClassLabel"} for name, one in features.items() if _names(one)}
    metadata = {"huggingface": json.dumps({"info": {"features": names}})}
    for some in _batches(rows):
        table = pa.Table.from_pylist(some, schema=writer.schema if writer else None)
        if writer is None:
            table = table.replace_schema_metadata(metadata)
            writer = pq.ParquetWriter(file, table.schema)
        writer.write_table(table)
    if writer is None:
        raise CondgenError("The dataset has no rows.")
    writer.close()


def _names(feature: Any) -> bool:
    return type(feature).__name__ == "ClassLabel" and bool(getattr(feature, "names", None))


def _batches(rows: Any) -> Iterator[list[dict]]:
    for first in range(0, len(rows), AT_ONCE):
        some = (dict(rows[i]) for i in range(first, min(first + AT_ONCE, len(rows))))
        yield [{name: _plain(cell) for name, cell in row.items()} for row in some]


def _plain(cell: Any) -> Any:
    """Converts an image to its bytes; other cells stay."""
    if isinstance(cell, dict) and cell.get("bytes") is None and isinstance(cell.get("path"), str):
        path = cell["path"]
        return {"bytes": Path(path).read_bytes() if os.path.isfile(path) else None, "path": Path(path).name}
    if hasattr(cell, "save") and hasattr(cell, "size"):
        file = io.BytesIO()
        cell.save(file, "PNG")
        return {"bytes": file.getvalue(), "path": None}
    return cell
