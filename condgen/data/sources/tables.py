"""Reads tables of images in any registered format: columns, rows and cells."""

from __future__ import annotations

import ast
import difflib
import json
import math
import os
import re
import shlex
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from itertools import islice
from pathlib import Path, PurePosixPath, PureWindowsPath

from condgen import text as words
from condgen.contracts import CondgenError, listed
from condgen.data.formats import annotations, arrow, delimited, parquet  # noqa: F401 (they register themselves)
from condgen.data.formats.registry import TABLES, is_shard
from condgen.data.options import ReadOptions
from condgen.data.sources import webdataset  # noqa: F401

IMAGE = (
    *("image", "file_name", "picture", "img", "filename", "file", "path", "image_path", "jpg", "png", "webp"),
    *("image_name", "image_file", "image_file_name", "filepath", "img_path", "jpeg"),
)
TEXT = (
    *("text", "captions", "caption", "texts", "prompts", "prompt", "descriptions", "description", "txt", "alt_text"),
    *("title", "comment", "comments", "sentences"),
)
SPLIT = ("split", "subset")
LABELS = ("label", "labels", "class", "classes", "category", "target", "fine_label", "coarse_label", "digit", "cls")
MISSING = frozenset({"nan", "na", "n/a", "null", "none"})
"""Texts by which programs mean that there is no value."""
EXPECTED = (
    "Expected a folder with metadata.jsonl, .json, .csv, .tsv or .parquet (columns file_name and text), "
    "parquet files with the columns image and text, webdataset shards (.tar), or images with a .txt of captions "
    "beside each (a.png, a.txt)."
)


@dataclass(frozen=True)
class Table:
    """A metadata file or shard and the columns chosen in it; an empty name means no column.

    Args:
        named: the split in its file name, or "".
        home: folder of the images, relative to that of the data, if they do not lie beside the table.
        prefix: what names of images begin with that is no part of their place below `home`.
        status: column that tells whether the image was downloaded, as img2dataset writes it.
        cells: the columns of the label and the attributes; if there are any, captions are optional.
        label: whether the first of `cells` is the label.
        as_text: the columns whose cells are text as written, never a list of captions.
    """

    path: Path
    image: str
    text: tuple[str, ...]
    split: str
    named: str
    cells: tuple[str, ...] = ()
    label: bool = False
    as_text: tuple[str, ...] = ()
    home: str | None = None
    prefix: str = ""
    status: str = ""


# Columns --------------------------------------------------------------------------------------------------------------


def captioned_table(path: Path, options: ReadOptions, named: str) -> Table:
    """Chooses the columns of a table of captioned images: the named ones, otherwise guesses."""
    return choose(path, column_names(path), lambda columns: records(path, columns), options, named)


def choose(
    path: Path,
    names: list[str],
    rows: Callable[[Iterable[str]], Iterable[dict | None]],
    options: ReadOptions,
    named: str = "",
) -> Table:
    """Like `captioned_table`, for any object with a name, columns and a function that yields rows."""
    image, split = image_and_split(path, names, options)
    guesses = ("txt", *TEXT) if path.suffix.lower() == ".tar" else TEXT
    parts = [part.strip() for part in options.caption_column.split(",")]
    texts = tuple(name for part in parts if (name := pick(part, guesses, names, "captions", path)))
    if not texts:
        labels = [name for name in names if name.lower() in LABELS]
        what = f"'{labels[0]}' looks like labels, not captions" if labels else "none of them is known to hold captions"
        raise CondgenError(
            f"{path} has the columns {listed(names)}; {what}. Name the one of captions ({flags('caption')}). {EXPECTED}"
        )
    if not image:
        raise CondgenError(
            f"{path} has the columns {listed(names)}; name the one that holds images ({flags('image')}). {EXPECTED}"
        )
    as_text = tuple(name for name, kind in options.types.items() if kind == "text")
    some = [caption for record in islice(rows(texts), 50) for caption in captions_of(record or {}, texts, as_text)]
    if some and not options.caption_column and all(re.fullmatch(r"[-+.\d]+", caption) for caption in some):
        raise CondgenError(
            f"{path}: the column '{texts[0]}' looks like labels: it holds only numbers ({listed(some[:3])} ...), "
            f"not captions. If these are the captions, name it ({flags('caption', texts[0])}). {EXPECTED}"
        )
    return Table(path, image, texts, split, named, as_text=as_text)


def image_and_split(path: Path, names: list[str], options: ReadOptions) -> tuple[str, str]:
    """Chooses the columns of the image and of the split; checks those of the filter and of the types."""
    beside = path.stem == "metadata" or not is_shard(path)
    image = pick(options.image_column, ("file_name", *IMAGE) if beside else IMAGE, names, "image", path)
    for column, what in [(column, "filter") for column, _ in options.conditions] + [
        (column, "column_types") for column in options.types
    ]:
        pick(column, (), names, what, path)
    return image, pick(options.split_column, SPLIT, names, "split", path)


def flags(which: str, name: str = "NAME") -> str:
    """Describes the options that name a column, for training and for `data check`."""
    return f"train: --data.{which}_column {shlex.quote(name)}, data check: --{which}-column {shlex.quote(name)}"


def pick(wanted: str, guesses: Iterable[str], names: list[str], what: str, path: Path) -> str:
    """The named column, otherwise the first guess that exists, otherwise ""."""
    if wanted and wanted not in names:
        close = difflib.get_close_matches(wanted, names, 1)
        hint = f" Did you mean '{listed(close)}'?" if close else ""
        raise CondgenError(f"{path} has no column '{wanted}' ({what}); it has {listed(names)}.{hint}")
    there = {name.lower(): name for name in reversed(names)}
    return wanted or next((there[guess] for guess in guesses if guess in there), "")


# Reading --------------------------------------------------------------------------------------------------------------


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns errors inside a table into a `CondgenError` that names it."""
    try:
        yield
    except CondgenError:
        raise
    except Exception as error:  # libraries may raise almost any exception on arbitrary bytes
        what = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else "cannot be read"
        message = " ".join(str(error)[:300].split())
        raise CondgenError(f"{path} {what} ({message}). Save it again; text must be UTF-8.") from None


def records(path: Path, wanted: Iterable[str]) -> Iterator[dict | None]:
    """Yields the rows of a table as dicts, None for an unreadable row; unwanted columns may be missing."""
    with readable(path):
        yield from TABLES[path.suffix.lower()].records(path, [name for name in dict.fromkeys(wanted) if name])


def column_names(path: Path) -> list[str]:
    """The columns of a table."""
    with readable(path):
        return TABLES[path.suffix.lower()].column_names(path)


def row_count(path: Path) -> int:
    """Approximate number of rows of a table; 0 if that requires reading all of them."""
    with readable(path):
        return TABLES[path.suffix.lower()].row_count(path)


# Cells ----------------------------------------------------------------------------------------------------------------


def locate(value: object, home: Path, table: Path, number: int) -> tuple[str, Path | bytes | None, str]:
    """Finds the image of a cell: (key, path or bytes, fault).

    Absolute paths, `..` and drive letters are never followed. Links inside the folder are followed, since they are part
    of the data (the hub's cache consists of links).
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
    if "\\" in name and not os.path.isfile(file):  # written on Windows
        key, file = (table.parent / parts).as_posix(), home / table.parent / parts
    return (key, file, "") if os.path.isfile(file) else (key, None, "missing file")


def captions_of(record: dict, columns: tuple[str, ...], as_text: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The distinct captions of a record. Every cell may hold a caption or a list of them, see `listed_in`.

    Args:
        as_text: the columns whose texts are one caption, also if they look like a list.
    """
    found: list[object] = []
    for column in columns:
        cell = record.get(column)
        inside = listed_in(cell) if isinstance(cell, str) and column not in as_text else None
        found += inside if inside is not None else cell if isinstance(cell, list) else [cell]
    cleaned = (clean(text) for cell in found if (text := spelled(cell)) is not None)
    return tuple(dict.fromkeys(text for text in cleaned if text))


def caption_notes(record: dict, columns: tuple[str, ...], as_text: tuple[str, ...] = ()) -> tuple[str, ...]:
    """What a caption cell was taken for where it could be meant otherwise."""
    found = []
    for column in columns:
        cell = record.get(column)
        if not isinstance(cell, str) or column in as_text:
            continue
        text, other = cell.strip(), f"(as text: --column-types {shlex.quote(column)}=text)"
        if (inside := listed_in(text)) is not None:
            if len(inside) != 1 or not text.startswith('["'):
                found.append(f"lists written as text, taken as several captions {other}")
        elif re.match(r"""[\[({]\s*['"]""", text):
            found.append("captions like lists, which cannot be read as such: taken as text")
        elif text.casefold() in MISSING:
            found.append("captions like a missing value, taken as text")
    return tuple(dict.fromkeys(found))


def listed_in(text: str) -> list | None:
    """Reads a list that is written as text; None for other text.

    JSON (`["a cat", "a pet"]`), Python as pandas writes lists to a CSV (`['a cat', "a cat's bed"]`), numpy arrays
    (`['a cat' 'a pet']`), tuples and sets of at least two.
    """
    text = text.strip()
    if text[:1] not in _BRACKETS or text[-1:] != _BRACKETS[text[0]]:
        return None
    if text[0] == "[":
        with suppress(ValueError, RecursionError):
            found = json.loads(text)
            return found if isinstance(found, list) else None
    inside, found, at = text[1:-1].strip(), [], 0
    while at < len(inside):
        item = _ITEM.match(inside, at)
        if item is None:
            return None
        with suppress(ValueError, SyntaxError):
            found.append(None if item[1] in _NOTHING else ast.literal_eval(item[1]))
        at = item.end()
    return found if found and (text[0] == "[" or len(found) > 1) else None


_BRACKETS = {"[": "]", "(": ")", "{": "}"}
_NOTHING = ("None", "nan", "null")
_ITEM = re.compile(r"""((?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|None|nan|null)(?:\s*,\s*|\s+|(?=['"])|$)""", re.S)


def spelled(cell: object) -> str | None:
    """A cell as text: texts as written, true and false, 3 for 3.0, dates as 2024-12-31; None for other objects."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, float | Decimal):
        if not math.isfinite(cell):
            return None
        return str(int(cell)) if cell == int(cell) and abs(cell) < 1e16 else str(cell)
    if isinstance(cell, datetime):
        return str(cell).removesuffix(" 00:00:00")
    return str(cell) if isinstance(cell, int | date | time) else None


def clean(text: str) -> str:
    """Normalises a caption: one line, NFC, single spaces, no NUL, no lone surrogates; "" if no visible text is left."""
    if not words.clean(text):
        return ""
    text = text.encode("utf-8", "replace").decode().replace("\0", " ")
    return " ".join(unicodedata.normalize("NFC", text).split())


def matches(record: dict, conditions: tuple[tuple[str, str], ...]) -> bool:
    """Whether the cells of a record equal the values of a filter, ignoring case."""
    return all(_equals(record.get(column), value) for column, value in conditions)


def _equals(cell: object, wanted: str) -> bool:
    if isinstance(cell, int | float | Decimal) and not isinstance(cell, bool):
        with suppress(ValueError):
            return cell == float(wanted)
    return (spelled(cell) or "").strip().lower() == wanted.lower()
