"""Tables of captioned pictures, .jsonl, .csv and .parquet: their columns, their rows one by one, and their cells."""

from __future__ import annotations

import csv
import difflib
import json
import os
import re
import shlex
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath, PureWindowsPath

from condgen import words
from condgen.contracts import CondgenError

IMAGE = ("image", "file_name", "picture", "img", "filename", "file", "path", "image_path", "jpg", "png", "webp")
TEXT = ("text", "captions", "caption", "texts", "prompts", "prompt", "descriptions", "description", "txt", "alt_text")
SPLIT = ("split", "subset")
LABELS = ("label", "labels", "class", "classes", "category", "target", "fine_label", "coarse_label", "digit")
FORMS = (
    "Expected a folder with metadata.jsonl, .csv or .parquet (columns file_name and text), "
    "parquet files with the columns image and text, or pictures with a .txt of captions beside each (a.png, a.txt)."
)
MAX_UNPACKED, MAX_RATIO = 2**28, 100
"""A column of one row group may unpack to so many bytes, or to so many times what it takes on disk."""


@dataclass(frozen=True)
class Table:
    """A metadata file or a parquet shard and the columns chosen in it; `named` is the split its name tells, or ""."""

    path: Path
    image: str
    text: tuple[str, ...]
    split: str
    named: str


# Columns --------------------------------------------------------------------------------------------------------------


def choose_columns(
    path: Path, image: str, text: str, split: str, *, conditions: tuple[tuple[str, str], ...], named: str
) -> Table:
    """Chooses the columns of a table, by name or, where that is empty, by guess."""
    names = column_names(path)
    beside = path.stem == "metadata" or path.suffix.lower() != ".parquet"
    image = _choose(image, ("file_name", *IMAGE) if beside else IMAGE, names, "picture", path)
    split = _choose(split, SPLIT, names, "split", path)
    wanted = [part.strip() for part in text.split(",")]
    texts = tuple(name for part in wanted if (name := _choose(part, TEXT, names, "captions", path)))
    for column, _ in conditions:
        _choose(column, (), names, "filter", path)
    there = ", ".join(names) or "none"
    if not texts:
        labels = [name for name in names if name.lower() in LABELS]
        what = f"'{labels[0]}' looks like labels, not captions" if labels else "none of them is known to hold captions"
        raise CondgenError(
            f"{path} has the columns {there}; {what}. Name the column of captions ({_options('text')}). {FORMS}"
        )
    if not image:
        raise CondgenError(
            f"{path} has the columns {there}; name the one that holds pictures ({_options('image')}). {FORMS}"
        )
    some = [caption for record in islice(records(path, texts), 50) for caption in captions_of(record or {}, texts)]
    if some and not text and all(re.fullmatch(r"[-+.\d]+", caption) for caption in some):
        raise CondgenError(
            f"{path}: the column '{texts[0]}' looks like labels: it holds only numbers ({', '.join(some[:3])} ...), "
            f"not captions. If these are the captions, say so ({_options('text', texts[0])}). {FORMS}"
        )
    return Table(path, image, texts, split, named)


def _options(which: str, name: str = "NAME") -> str:
    """How the two verbs that read data are told a column."""
    return f"train: --pictures.{which} {shlex.quote(name)}, data check: --{which} {shlex.quote(name)}"


def _choose(wanted: str, guesses: Iterable[str], names: list[str], what: str, path: Path) -> str:
    """The column that was named, else the first guess that is there, else ""."""
    if wanted and wanted not in names:
        close = difflib.get_close_matches(wanted, names, 1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        raise CondgenError(f"{path} has no column '{wanted}' ({what}); it has {', '.join(names) or 'none'}.{hint}")
    there = {name.lower(): name for name in reversed(names)}
    return wanted or next((there[guess] for guess in guesses if guess in there), "")


def conditions_of(where: str) -> tuple[tuple[str, str], ...]:
    """`vendor=noto,skin_tone=none` as pairs."""
    pairs = [part.partition("=") for part in where.split(",") if part.strip()]
    if any(not column.strip() or not equals for column, equals, _ in pairs):
        raise CondgenError(f"where={where!r} is not understood. Expected column=value, several with commas between.")
    return tuple((column.strip(), value.strip()) for column, _, value in pairs)


# Reading --------------------------------------------------------------------------------------------------------------


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what goes wrong inside a table into a `CondgenError` that names it."""
    try:
        yield
    except CondgenError:
        raise
    except Exception as error:  # pyarrow, fed with arbitrary bytes, raises nearly anything
        what = "is no UTF-8 text" if isinstance(error, UnicodeDecodeError) else "cannot be read"
        told = " ".join(str(error)[:300].split())
        raise CondgenError(f"{path} {what} ({told}). Save it anew, tables of text as UTF-8.") from None


def records(path: Path, wanted: Iterable[str]) -> Iterator[dict | None]:
    """Yields the rows of a table as dicts, None for one that cannot be read; parquet gives only the wanted columns."""
    with _readable(path):
        if path.suffix.lower() == ".parquet":
            yield from _parquet_records(path, [name for name in dict.fromkeys(wanted) if name])
        else:
            with path.open(encoding="utf-8-sig", newline="") as file:
                yield from _csv_records(file) if path.suffix.lower() == ".csv" else _jsonl_records(file)


def _parquet_records(path: Path, names: list[str]) -> Iterator[dict]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        _check_unpacked(path, file.metadata, names)
        for batch in file.iter_batches(16, columns=names):
            yield from batch.to_pylist()


def _check_unpacked(path: Path, metadata, names: list[str]) -> None:
    """Refuses a parquet file that says it unpacks to very much more than it is; pictures hardly shrink."""
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            name, packed, unpacked = column.path_in_schema, column.total_compressed_size, column.total_uncompressed_size
            if unpacked > max(MAX_UNPACKED, MAX_RATIO * packed) and {name, name.split(".")[0]} & set(names):
                raise CondgenError(
                    f"{path}: {packed:,} bytes of the column {name} would unpack to {unpacked:,}. No column of "
                    "pictures or captions does that: the file is damaged, or made to fill the memory."
                )


def _csv_records(file: Iterable[str]) -> Iterator[dict | None]:
    for record in csv.DictReader(file):
        # More cells than columns: a comma inside a caption that has no quotes.
        yield None if None in record else record


def _jsonl_records(file: Iterable[str]) -> Iterator[dict | None]:
    for line in file:
        if line.strip():
            record = None
            with suppress(ValueError, RecursionError):
                record = json.loads(line)
            yield record if isinstance(record, dict) else None


def column_names(path: Path) -> list[str]:
    """The columns of a table; of a jsonl file those of the first thousand lines."""
    if path.suffix.lower() == ".jsonl":
        return list(dict.fromkeys(name for record in islice(records(path, ()), 1000) for name in record or ()))
    with _readable(path):
        if path.suffix.lower() == ".csv":
            with path.open(encoding="utf-8-sig", newline="") as file:
                return next(csv.reader(file), [])
        import pyarrow.parquet as pq

        return pq.read_schema(path).names


def row_count(path: Path) -> int:
    """About how many rows a table has: its lines where it is text."""
    if path.suffix.lower() == ".parquet":
        import pyarrow.parquet as pq

        with _readable(path):
            return pq.read_metadata(path).num_rows
    with path.open("rb") as file:
        return sum(1 for _ in file)


# Cells ----------------------------------------------------------------------------------------------------------------


def locate(value: object, home: Path, table: Path, number: int) -> tuple[str, Path | bytes | None, str]:
    """Finds the picture of a cell: (key, where it is or its bytes, fault).

    Absolute paths, `..` and drive letters are never followed. Links that lie inside the folder are: whoever made the
    folder made them (the hub's cache consists of such links).
    """
    cell = value if isinstance(value, dict) else {"bytes": value} if isinstance(value, bytes) else {"path": value}
    name, content = cell.get("path"), cell.get("bytes")
    key = f"{table.as_posix()}:{number}"
    if isinstance(content, bytes):
        return name if isinstance(name, str) and name else key, content, ""
    if not isinstance(name, str) or not name.strip():
        return key, None, "missing file"
    key = (table.parent / name).as_posix()
    parts = PurePosixPath(name.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or PureWindowsPath(name).drive:
        return key, None, "outside the folder"
    file = home / table.parent / name
    return (key, file, "") if os.path.isfile(file) else (key, None, "missing file")


def captions_of(record: dict, columns: tuple[str, ...]) -> tuple[str, ...]:
    """The distinct captions of a record: every cell of the columns may hold one or a list (in CSV a JSON list)."""
    found = []
    for column in columns:
        cell = record.get(column)
        if isinstance(cell, str) and cell.startswith("["):
            with suppress(ValueError, RecursionError):
                cell = json.loads(cell)
        found += cell if isinstance(cell, list) else [cell]
    cleaned = (clean(str(text)) for text in found if isinstance(text, str | int | float) and text == text)
    return tuple(dict.fromkeys(text for text in cleaned if text))


def clean(text: str) -> str:
    """A caption on one line: NFC, single spaces, no NUL, no lone surrogates; "" where a model would read nothing."""
    if not words.clean(text):
        return ""
    text = text.encode("utf-8", "replace").decode().replace("\0", " ")
    return " ".join(unicodedata.normalize("NFC", text).split())


def matches(cell: object, wanted: str) -> bool:
    """Whether a cell is the value that was written on the command line; case does not count."""
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        with suppress(ValueError):
            return cell == float(wanted)
    return ("" if cell is None else str(cell).strip().lower()) == wanted.lower()
