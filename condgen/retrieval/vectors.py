"""Files of unit vectors, each with its text or image, for other tools: .parquet, or .npy with JSON lines beside it.

embedding   list<float32> of length D
file        name of the image in its data; null for a text
text        the text; null for an image
caption     list<string>, the captions of the image
label       class or attributes of the image
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from condgen.contracts import CondgenError, to_json
from condgen.files.weights import whole

KEY = b"condgen"
GROUP = 2**14
"""Number of rows to read or write at once."""
COLUMNS = {
    "file": pa.string(), "text": pa.string(), "caption": pa.list_(pa.string()), "label": pa.string(),
    "number": pa.int64(),
}  # fmt: skip
"""Columns besides the vector; `number` is the index of the image in its data."""


class Vectors:
    """N vectors of D numbers.

    Args:
        table: table with the columns listed in this module's docstring.
    """

    def __init__(self, table: pa.Table):
        self.table = table

    @classmethod
    def of(cls, embeds: np.ndarray, rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> Vectors:
        """Makes vectors from an array, float32 (N, D), and the columns of each; columns that no row has are left out.

        Args:
            about: facts about all vectors.
        """
        chunks = [_lists(embeds[at : at + GROUP]) for at in range(0, len(embeds), GROUP)]
        cells = {name: [_sound(row.get(name)) for row in rows] for name in COLUMNS}
        columns: dict[str, Any] = {
            name: pa.array(values, COLUMNS[name])
            for name, values in cells.items()
            if any(v is not None for v in values)
        }
        columns["embedding"] = pa.chunked_array(chunks, pa.list_(pa.float32()))
        return cls(pa.table(columns).replace_schema_metadata({KEY: to_json(dict(about)).encode()}))

    def __len__(self) -> int:
        return self.table.num_rows

    @property
    def about(self) -> dict[str, Any]:
        """Facts about all vectors; {} if there are none."""
        return {name: value for name, value in self._stored().items() if name != "sha256"}

    def _stored(self) -> dict[str, Any]:
        try:
            about = json.loads((self.table.schema.metadata or {}).get(KEY, b"{}"))
        except ValueError:
            return {}
        return about if isinstance(about, dict) else {}

    def _digest(self) -> str:
        """Identifies the vectors, their rows and the facts."""
        digest = hashlib.sha256(to_json(self.about, sort_keys=True).encode())
        for name in sorted({*self.table.column_names} - {"embedding"}):
            digest.update(to_json([name, self.table[name].to_pylist()]).encode())
        digest.update(np.ascontiguousarray(self.embeds))
        return digest.hexdigest()

    @cached_property
    def embeds(self) -> np.ndarray:
        """float32 (N, D)."""
        flat = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in self.table["embedding"].chunks]
        return np.concatenate(flat).reshape(len(self), -1)

    def row(self, number: int) -> dict[str, Any]:
        """The non-empty cells of row `number`, without its vector."""
        (row,) = self.table.drop_columns(["embedding"]).slice(number, 1).to_pylist()
        return {name: value for name, value in row.items() if value is not None}

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yields the non-empty cells of every row."""
        for batch in self.table.drop_columns(["embedding"]).to_batches(GROUP):
            yield from ({k: v for k, v in row.items() if v is not None} for row in batch.to_pylist())

    def write(self, path: Path) -> None:
        """Writes a file atomically: .parquet, or .npy with .npy.jsonl beside it, one line per vector.

        Raises:
            CondgenError: the name has another suffix, or the file cannot be written.
        """
        check_name(path)
        if path.suffix == ".npy":
            with whole(path.with_name(f"{path.name}.jsonl")) as file, file.open("w", encoding="utf-8") as lines:
                lines.writelines(to_json(row, ensure_ascii=False) + "\n" for row in self.rows())
            with whole(path) as file, file.open("wb") as out:
                np.save(out, self.embeds)
            return
        marked = self.table.replace_schema_metadata({KEY: to_json(self.about | {"sha256": self._digest()}).encode()})
        with whole(path) as file:
            pq.write_table(marked, file, row_group_size=GROUP, use_dictionary=["label"])

    @classmethod
    def read(cls, path: Path) -> Vectors:
        """Reads a .parquet file of `write`; raises `CondgenError` if it is damaged or another kind of file."""
        try:
            vectors = cls(pq.read_table(path, partitioning=None))
            chunks = vectors.table["embedding"].chunks
            lengths = np.unique(np.concatenate([np.diff(chunk.offsets.to_numpy()) for chunk in chunks]))
            if len(lengths) != 1:
                raise ValueError("the vectors are of several lengths, or there are none")
            if vectors._stored().get("sha256", "") not in ("", vectors._digest()):  # earlier versions wrote none
                raise ValueError("their checksum is another")
        except Exception as error:  # pyarrow may raise almost any exception on arbitrary bytes
            message = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise CondgenError(f"{path} holds no readable embeddings ({message}). Make them again.") from None
        return vectors


def check_name(path: Path) -> None:
    """Raises `CondgenError` for a file name without a supported suffix."""
    if path.suffix not in (".npy", ".parquet"):
        raise CondgenError(f"Embeddings are written as .npy or .parquet, not as {path.name!r}. Give -o such a name.")


def _sound(value: Any) -> Any:
    """Converts a value for the table: None if it is empty; texts become valid UTF-8."""
    if isinstance(value, str):
        value = value.encode("utf-8", "replace").decode()
    elif isinstance(value, list | tuple):
        value = [_sound(one) for one in value]
    return None if value in ("", []) else value


def _lists(embeds: np.ndarray) -> pa.ListArray:
    flat = np.ascontiguousarray(embeds, np.float32)
    offsets = np.arange(0, flat.size + 1, flat.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, flat.reshape(-1))
