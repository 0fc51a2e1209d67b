"""Tables of captioned images, .jsonl, .csv, .parquet and .tar: their columns, their rows, and their cells."""

from __future__ import annotations

import csv
import difflib
import json
import os
import re
import shlex
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath, PureWindowsPath

from condgen import text as words
from condgen.contracts import CondgenError, listed
from condgen.data.sources import webdataset

IMAGE = ("image", "file_name", "picture", "img", "filename", "file", "path", "image_path", "jpg", "png", "webp")
TEXT = ("text", "captions", "caption", "texts", "prompts", "prompt", "descriptions", "description", "txt", "alt_text")
SPLIT = ("split", "subset")
SHARDS = (".parquet", ".tar")
LABELS = ("label", "labels", "class", "classes", "category", "target", "fine_label", "coarse_label", "digit")
FORMS = (
    "Expected a folder with metadata.jsonl, .csv or .parquet (columns file_name and text), "
    "parquet files with the columns image and text, webdataset shards (.tar), or images with a .txt of captions "
    "beside each (a.png, a.txt)."
)
MAX_UNPACKED, MAX_RATIO = 2**28, 100
"""A column of one row group may unpack to so many bytes, or to so many times what it takes on disk."""


@dataclass(frozen=True)
class Table:
    """A metadata file or shard and the columns chosen in it.

    Args:
        named: the split that its name tells, or "".
        cells: the columns of the label and the attributes; where there are any, captions are not asked for.
        label: whether the first of these is the label.
    """

    path: Path
    image: str
    text: tuple[str, ...]
    split: str
    named: str
    cells: tuple[str, ...] = ()
    label: bool = False


# Columns --------------------------------------------------------------------------------------------------------------


def choose_columns(
    path: Path, image: str, text: str, split: str, *, conditions: tuple[tuple[str, str], ...], named: str
) -> Table:
    """Chooses the columns of a table file, by name or, where that is empty, by guess."""

    def first(columns: Iterable[str]) -> Iterator[dict | None]:
        return records(path, columns)

    return choose(path, column_names(path), first, (image, text, split), conditions, named)


def choose(
    path: Path,
    names: list[str],
    rows: Callable[[Iterable[str]], Iterable[dict | None]],
    wanted: tuple[str, str, str],
    conditions: tuple[tuple[str, str], ...] = (),
    named: str = "",
) -> Table:
    """As `choose_columns`, of any table: what it is called, its columns, what gives its rows; image, text, split."""
    image, text, split = wanted
    beside = path.stem == "metadata" or path.suffix.lower() not in SHARDS
    image = pick(image, ("file_name", *IMAGE) if beside else IMAGE, names, "image", path)
    split = pick(split, SPLIT, names, "split", path)
    guesses = ("txt", *TEXT) if path.suffix.lower() == ".tar" else TEXT
    parts = [part.strip() for part in text.split(",")]
    texts = tuple(name for part in parts if (name := pick(part, guesses, names, "captions", path)))
    for column, _ in conditions:
        pick(column, (), names, "filter", path)
    there = listed(names)
    if not texts:
        labels = [name for name in names if name.lower() in LABELS]
        what = f"'{labels[0]}' looks like labels, not captions" if labels else "none of them is known to hold captions"
        raise CondgenError(
            f"{path} has the columns {there}; {what}. Name the column of captions ({options('text')}). {FORMS}"
        )
    if not image:
        raise CondgenError(
            f"{path} has the columns {there}; name the one that holds images ({options('image')}). {FORMS}"
        )
    some = [caption for record in islice(rows(texts), 50) for caption in captions_of(record or {}, texts)]
    if some and not text and all(re.fullmatch(r"[-+.\d]+", caption) for caption in some):
        raise CondgenError(
            f"{path}: the column '{texts[0]}' looks like labels: it holds only numbers ({listed(some[:3])} ...), "
            f"not captions. If these are the captions, say so ({options('text', texts[0])}). {FORMS}"
        )
    return Table(path, image, texts, split, named)


def options(which: str, name: str = "NAME") -> str:
    """The options that name a column: of the recipes and of `data check`."""
    column = "caption" if which == "text" else which
    return f"train: --data.{column}_column {shlex.quote(name)}, data check: --{column}-column {shlex.quote(name)}"


def pick(wanted: str, guesses: Iterable[str], names: list[str], what: str, path: Path) -> str:
    """The column that was named, else the first guess that is there, else ""."""
    if wanted and wanted not in names:
        close = difflib.get_close_matches(wanted, names, 1)
        hint = f" Did you mean '{listed(close)}'?" if close else ""
        raise CondgenError(f"{path} has no column '{wanted}' ({what}); it has {listed(names)}.{hint}")
    there = {name.lower(): name for name in reversed(names)}
    return wanted or next((there[guess] for guess in guesses if guess in there), "")


def conditions_of(filter: str) -> tuple[tuple[str, str], ...]:
    """`vendor=noto,skin_tone=none` as pairs."""
    pairs = [part.partition("=") for part in filter.split(",") if part.strip()]
    if any(not column.strip() or not equals for column, equals, _ in pairs):
        raise CondgenError(f"filter={filter!r} is not understood. Expected column=value, several with commas between.")
    return tuple((column.strip(), value.strip()) for column, _, value in pairs)


# Reading --------------------------------------------------------------------------------------------------------------


@contextmanager
def readable(path: Path) -> Iterator[None]:
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
    with readable(path):
        if path.suffix.lower() == ".parquet":
            yield from _parquet_records(path, [name for name in dict.fromkeys(wanted) if name])
        elif path.suffix.lower() == ".tar":
            kept = [name for name in dict.fromkeys(wanted) if name]
            yield from (record for _, record in webdataset.samples(path, kept, images="image" in kept))
        else:
            with path.open(encoding="utf-8-sig", newline="") as file:
                yield from _csv_records(file) if path.suffix.lower() == ".csv" else _jsonl_records(file)


def _parquet_records(path: Path, names: list[str]) -> Iterator[dict]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        check_unpacked(path, file.metadata, names)
        for batch in file.iter_batches(16, columns=names):
            yield from batch.to_pylist()


def parquet_slice(path: Path, names: Iterable[str], first: int, count: int) -> list[dict]:
    """Rows `first` to `first + count` of a parquet file, which must lie in one row group; no other group is read."""
    import pyarrow.parquet as pq

    found: list[dict] = []
    with readable(path), pq.ParquetFile(path, buffer_size=1 << 20) as file:
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        group, before = 0, 0
        while group < len(sizes) and first >= before + sizes[group]:
            group, before = group + 1, before + sizes[group]
        skip = first - before
        for batch in file.iter_batches(64, row_groups=[group][: len(sizes) - group], columns=list(names)):
            if skip < batch.num_rows:
                found += batch.slice(skip, count - len(found)).to_pylist()
            skip = max(0, skip - batch.num_rows)
            if len(found) == count:
                return found
    raise CondgenError(f"{path} has changed: it had {first + count} rows and more. Start anew, with the data at rest.")


def check_unpacked(path: Path, metadata, names: list[str]) -> None:
    """Refuses a parquet file that says it unpacks to very much more than it is; images hardly shrink."""
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            name, packed, unpacked = column.path_in_schema, column.total_compressed_size, column.total_uncompressed_size
            if unpacked > max(MAX_UNPACKED, MAX_RATIO * packed) and {name, name.split(".")[0]} & set(names):
                raise CondgenError(
                    f"{path}: {packed:,} bytes of the column {name} would unpack to {unpacked:,}. No column of "
                    "images or captions does that: the file is damaged, or made to fill the memory."
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
    """The columns of a table; of jsonl and of shards those of the first thousand lines or hundred samples."""
    if path.suffix.lower() in (".jsonl", ".tar"):
        some = islice(records(path, ()), 1000 if path.suffix.lower() == ".jsonl" else 100)
        return list(dict.fromkeys(name for record in some for name in record or ()))
    with readable(path):
        if path.suffix.lower() == ".csv":
            with path.open(encoding="utf-8-sig", newline="") as file:
                return next(csv.reader(file), [])
        import pyarrow.parquet as pq

        return pq.read_schema(path).names


def row_count(path: Path) -> int:
    """About how many rows a table has: its lines where it is text, none where only reading it would tell."""
    if path.suffix.lower() == ".tar":
        return 0
    if path.suffix.lower() == ".parquet":
        import pyarrow.parquet as pq

        with readable(path):
            return pq.read_metadata(path).num_rows
    with path.open("rb") as file:
        return sum(1 for _ in file)


# Cells ----------------------------------------------------------------------------------------------------------------


def locate(value: object, home: Path, table: Path, number: int) -> tuple[str, Path | bytes | None, str]:
    """Finds the image of a cell: (key, where it is or its bytes, fault).

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
