"""Captioned pictures in the forms people have them.

    folder/metadata.jsonl, .csv or .parquet   `file_name`, `text`; several captions: a list, or several rows of one file
    shards/*.parquet, or one .parquet         `image` = struct(bytes, path), bytes or a path; and a text column
    folder/a.png + folder/a.txt               every line of a.txt that is not empty is a caption

Subfolders may hold more of the same. Splits come from the first of these that is there:

    a split column; the names of files or folders (train.parquet, test_iid.parquet, val/metadata.jsonl: at least one
    that is not train); else a fixed hash of the file name (or of `shard:row`) puts 95 % in train and 5 % in test.

Asked for `test`, names such as `test_iid` and `test_comp` both answer; `all` takes everything.

`read` is the one reader of rows: `load_captions` fills memory from it, `check` only counts.
"""

from __future__ import annotations

import csv
import difflib
import gzip
import hashlib
import json
import os
import re
import time
import unicodedata
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal

import numpy as np
from PIL import Image

from condgen.contracts import CondgenError, CondgenWarning
from condgen.data.captions import CaptionedPictures, intern_captions
from condgen.data.pictures import RGB, SUFFIXES, WHITE, PictureError, decode, fit

IMAGE = ("image", "file_name", "picture", "img", "filename", "file", "path", "image_path", "jpg", "png", "webp")
TEXT = ("text", "captions", "caption", "texts", "prompts", "prompt", "descriptions", "description", "txt", "alt_text")
SPLIT = ("split", "subset")
LABELS = ("label", "labels", "class", "classes", "category", "target", "fine_label", "coarse_label", "digit")
FORMS = (
    "Expected a folder with metadata.jsonl, .csv or .parquet (columns file_name and text), "
    "parquet files with the columns image and text, or pictures with a .txt of captions beside each (a.png, a.txt)."
)
_SPLIT = re.compile(r"(train|val|test)(ing|id|idation)?(?![a-z])|(dev|eval)(?![a-z])", re.I)
_SHARD = re.compile(r"[-_.]?\d+(-of-\d+)?(-[0-9a-f]{8,})?$")
_ALIASES = {"training": "train", "valid": "val", "validation": "val", "dev": "val", "eval": "val", "testing": "test"}


@dataclass(frozen=True)
class Columns:
    """Which columns hold what; an empty name means: guess.

    Args:
        image: the picture, or the name of its file (guess: image, file_name, picture ...).
        text: the captions, one column or several with commas between; lists are taken apart
            (guess: text, captions, caption ...).
        split: the split (guess: split, subset).
    """

    image: str = ""
    text: str = ""
    split: str = ""


GUESSED = Columns()


@dataclass(frozen=True)
class Row:
    """What one row of the data says, before its picture is opened.

    Args:
        key: name of the picture inside the data; messages use it, and the hash that splits.
        picture: where the picture is, or its bytes.
        captions: distinct, not empty.
        split: "" where it is not known.
        fault: why the row cannot be used, "" where nothing is known against it.
        detail: more on the fault.
        kept: whether the filter `where` keeps the row.
    """

    key: str
    picture: Path | bytes | None = None
    captions: tuple[str, ...] = ()
    split: str = ""
    fault: str = ""
    detail: str = ""
    kept: bool = True


@dataclass(frozen=True)
class Table:
    """A metadata file or a parquet shard and the columns chosen in it; `named` is the split its name tells, or ""."""

    path: Path
    image: str
    text: tuple[str, ...]
    split: str
    named: str


@dataclass(frozen=True)
class Source:
    """Where the rows of one data set are: in tables, or in pictures with captions beside them.

    Args:
        path: what the user gave.
        home: the folder to which keys are relative.
        pictures: the picture files in the folder.
        by_name: whether names of files or folders tell the split, where no column does.
        left_out: parquet files that tell no split, by name or column, although the names of others do.
        where: (column, value) pairs that a row must equal.
    """

    path: Path
    home: Path
    form: Literal["metadata", "parquet", "sidecars"]
    tables: tuple[Table, ...] = ()
    pictures: tuple[Path, ...] = ()
    by_name: bool = False
    left_out: tuple[str, ...] = ()
    where: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """What the data is called: the name of the folder, or of the file without its suffix."""
        path = self.path.resolve()
        return path.name if path.is_dir() else path.stem

    @property
    def rule(self) -> str:
        """What tells the split of a row."""
        if any(table.split for table in self.tables):
            return "a column"
        return "the names of files and folders" if self.by_name else "a hash of the file name, 95 to 5"


@dataclass
class Tally:
    """Counts by reason, and the first ten examples of each."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, example: str) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + 1
        if len(own := self.examples.setdefault(reason, [])) < 10:
            # Names come from the data: nothing in them may steer a terminal or fail to print.
            own.append("".join(letter if letter.isprintable() else "?" for letter in example[:200]))

    def total(self) -> int:
        return sum(self.counts.values())

    def lines(self, most: int = 10) -> list[str]:
        """One line for every reason, the commonest first."""
        by_count = sorted(self.counts.items(), key=lambda item: -item[1])
        return [f"{count} {reason}: {', '.join(self.examples[reason][:most])}" for reason, count in by_count]


def load_captions(
    path: str | os.PathLike[str],
    size: int,
    *,
    columns: Columns = GUESSED,
    split: str = "train",
    how: Literal["crop", "pad"] = "crop",
    background: RGB = WHITE,
    max_bad: float = 0.01,
    where: str = "",
) -> CaptionedPictures:
    """Reads captioned pictures into memory; the forms and the rule for splits are at the top of this module.

    Args:
        path: a folder, a parquet file or a metadata file.
        size: edge length S of the pictures, in pixels.
        columns: names of the columns, guessed where empty.
        split: `train`, `test`, another split that the data has, or `all`.
        how: `crop` to the centred square or `pad` to it.
        background: RGB, 0 to 255, under transparent pixels and around padded pictures.
        max_bad: share of rows, 0 to 1, that may be unusable; those are left out with a `CondgenWarning`.
        where: keeps rows by their columns: `vendor=noto,heldout_pair=false`.

    Returns:
        N pictures, uint8 (N, 3, S, S), with their captions.

    Raises:
        CondgenError: no captioned pictures there, a column or split that is not there, or too many bad rows.
    """
    source = open_source(path, columns, where)
    pixels, captions, places = bytearray(), [], {}
    bad, odd, total = Tally(), Tally(), 0
    for row, picture, oddities in read(source, split, background=background):
        total += 1
        if row.fault:
            bad.add(row.fault, row.key)
        elif picture is None:
            captions[places[row.picture]] += row.captions
        else:
            if isinstance(row.picture, Path):
                places[row.picture] = len(captions)
            pixels += fit(picture, size, how, background=background).tobytes()
            captions.append(list(row.captions))
            for oddity in oddities:
                odd.add(oddity, row.key)
    _judge(source, bad, odd, total, max_bad)
    images = np.frombuffer(pixels, np.uint8).reshape(-1, 3, size, size)
    texts, index = intern_captions(captions)
    return CaptionedPictures(images, texts, index, name=source.name)


def _judge(source: Source, bad: Tally, odd: Tally, total: int, max_bad: float) -> None:
    """Refuses data with too many bad rows; warns of what was left out or cut short."""
    path = source.path
    if bad.total() > max_bad * total or bad.total() == total:
        listed = "\n  ".join(bad.lines(most=3))
        raise CondgenError(
            f"{path}: {bad.total()} of {total} rows cannot be used (the limit is {max_bad:.3g} of them):\n  {listed}\n"
            f"`condgen data check {path}` shows more. Mend them, or raise max_bad to leave them out."
        )
    if bad.total():
        message = f"{path}: {bad.total()} of {total} rows left out: {'; '.join(bad.lines(most=3))}"
        warnings.warn(message, CondgenWarning, stacklevel=3)
    if source.left_out:
        message = f"{path}: left out {', '.join(source.left_out)}: the name tells no split, as those of other files do."
        warnings.warn(message, CondgenWarning, stacklevel=3)
    if "animated" in odd.counts:
        message = f"{path}: {odd.counts['animated']} animated pictures; only their first frame is used."
        warnings.warn(message, CondgenWarning, stacklevel=3)


def read(
    source: Source, split: str = "all", *, background: RGB = WHITE
) -> Iterator[tuple[Row, Image.Image | None, tuple[str, ...]]]:
    """Reads the rows of a split one by one and opens their pictures.

    Yields:
        (row, picture, oddities). The picture is RGB; it is None where the row has a `fault`, and where the same file
        was yielded before: the captions of this row then belong to that picture.

    Raises:
        CondgenError: the data has no such split, or nothing in it.
    """
    split, seen, splits = split_name(split), {}, set()
    found = 0
    for row in _progress(rows(source, split), _length(source, split)):
        splits.add(row.split)
        # A row too broken to tell its split counts in any of them.
        if row.kept and (_in_split(row.split, split) or (row.fault and not row.split)):
            found += 1
            yield _opened(row, seen, background)
    if not found:
        raise _empty(source, split, splits)


def _empty(source: Source, split: str, splits: set[str]) -> CondgenError:
    if not splits and not source.by_name:
        return CondgenError(f"{source.path} has no rows. {FORMS}")
    if source.by_name:
        splits |= {table.named for table in source.tables if table.named}
    where = ",".join("=".join(pair) for pair in source.where)
    return CondgenError(
        f"{source.path} has no rows in the split '{split}'{f' with {where}' if where else ''}. Splits there, told by "
        f"{source.rule}: {', '.join(sorted(splits - {''})) or 'none'}. Choose one of them or 'all'"
        f"{', and check the values of the filter' if where else ''}."
    )


def _opened(row: Row, seen: dict[Path, Row], background: RGB) -> tuple[Row, Image.Image | None, tuple[str, ...]]:
    """Opens the picture of a row, once for every file; `seen` remembers what became of each file."""
    if row.fault:
        return row, None, ()
    first = seen.get(row.picture) if isinstance(row.picture, Path) else None
    if first is not None:
        if first.fault:
            return replace(row, fault=first.fault, detail=first.detail), None, ()
        if set(row.captions) <= set(first.captions):
            return replace(row, fault="duplicate row", detail="same file, same caption"), None, ()
        seen[row.picture] = replace(first, captions=first.captions + row.captions)
        return row, None, ()
    picture, oddities = None, ()
    try:
        picture, oddities = decode(row.picture, background=background, name=row.key)
    except PictureError as error:
        row = replace(row, fault=error.reason, detail=error.detail)
    if isinstance(row.picture, Path):
        seen[row.picture] = row
    return row, picture, oddities


# Where the rows are ---------------------------------------------------------------------------------------------------


def open_source(path: str | os.PathLike[str], columns: Columns = GUESSED, where: str = "") -> Source:
    """Finds out in which form the data is and which columns hold what; opens no picture.

    Raises:
        CondgenError: nothing there that can be read, labels in the place of captions, or a column that is not there.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise CondgenError(f"{path} is not there. {FORMS}")
    home, files = (path, files_below(path)) if path.is_dir() else (path.parent, [path])
    pictures = [file for file in files if file.suffix.lower() in SUFFIXES]
    form, tables = _form(path, files, pictures)
    named = {file: _named_split(file.relative_to(home), own=bool(tables)) for file in tables or pictures}
    by_name = any(name and not name.startswith("train") for name in named.values())
    left_out = [file for file in tables if form == "parquet" and by_name and not named[file]]
    left_out = [file for file in left_out if not {columns.split, *SPLIT}.intersection(_column_names(file))]
    conditions = _conditions(where)
    if form == "sidecars" and (conditions or columns != GUESSED):
        raise CondgenError(f"{path} holds pictures with .txt files, which have no columns to choose or to filter by.")
    chosen = [_table(file, columns, conditions, named[file]) for file in tables if file not in left_out]
    names = tuple(file.name for file in left_out)
    return Source(path, home, form, tuple(chosen), tuple(pictures), by_name, names, conditions)


def files_below(folder: Path) -> list[Path]:
    """All files below a folder in a fixed order, without hidden ones."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return sorted(
        f for f in files if not any(part.startswith((".", "__MACOSX")) for part in f.relative_to(folder).parts)
    )


def _form(path: Path, files: list[Path], pictures: list[Path]) -> tuple[str, list[Path]]:
    """The form of the data and its tables."""
    tables = [file for file in files if file.suffix.lower() in (".jsonl", ".csv", ".parquet")]
    shards = [file for file in tables if file.suffix.lower() == ".parquet"]
    if meta := [file for file in tables if file.stem == "metadata" or (file == path and file not in shards)]:
        if twice := [file for file, after in pairwise(meta) if file.parent == after.parent]:
            raise CondgenError(f"{twice[0].parent} has more than one metadata file. Keep one of them.")
        return "metadata", meta
    if shards:
        return "parquet", shards
    if any(file.with_suffix(".txt").is_file() for file in pictures):
        return "sidecars", []
    if labels := [file.name for file in files if _is_idx(file)]:
        raise CondgenError(f"{path}: {labels[0]} looks like labels or pictures in idx form, without captions. {FORMS}")
    if tables:
        raise CondgenError(
            f"{path} has {tables[0].name}: name it metadata{tables[0].suffix}, or give its own path. {FORMS}"
        )
    if folders := sorted({file.parent.name for file in pictures if file.parent != path}):
        there = ", ".join(folders[:5])
        raise CondgenError(f"{path} has pictures in folders ({there}), which look like labels, not captions. {FORMS}")
    there = (
        f"{len(pictures)} pictures and no captions" if pictures else "nothing that can be read as captioned pictures"
    )
    raise CondgenError(f"{path} holds {there}. {FORMS}")


def _is_idx(path: Path) -> bool:
    """Whether a file is of MNIST's idx form, packed or not: two zero bytes, then 8 for unsigned bytes."""
    if path.suffix != ".gz" and "idx" not in path.name:
        return False
    with suppress(OSError, EOFError, zlib.error), (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        return file.read(3) == b"\0\0\x08"
    return False


def _table(path: Path, columns: Columns, conditions: tuple[tuple[str, str], ...], named: str) -> Table:
    """Chooses the columns of a table, by name or by guess."""
    names = _column_names(path)
    beside = path.stem == "metadata" or path.suffix.lower() != ".parquet"
    image = _choose(columns.image, ("file_name", *IMAGE) if beside else IMAGE, names, "picture", path)
    split = _choose(columns.split, SPLIT, names, "split", path)
    wanted = [part.strip() for part in columns.text.split(",")]
    text = tuple(name for part in wanted if (name := _choose(part, TEXT, names, "captions", path)))
    for column, _ in conditions:
        _choose(column, (), names, "filter", path)
    there = ", ".join(names) or "none"
    if not text:
        labels = [name for name in names if name.lower() in LABELS]
        what = f"'{labels[0]}' looks like labels, not captions" if labels else "none of them is known to hold captions"
        raise CondgenError(
            f"{path} has the columns {there}; {what}. Name the column of captions with columns.text. {FORMS}"
        )
    if not image:
        raise CondgenError(
            f"{path} has the columns {there}; name the one that holds pictures with columns.image. {FORMS}"
        )
    some = [caption for record in islice(_records(path, text), 50) for caption in _captions(record or {}, text)]
    if some and not columns.text and all(re.fullmatch(r"[-+.\d]+", caption) for caption in some):
        raise CondgenError(
            f"{path}: the column '{text[0]}' looks like labels: it holds only numbers ({', '.join(some[:3])} ...), "
            f"not captions. If these are the captions, say so with columns.text='{text[0]}'. {FORMS}"
        )
    return Table(path, image, text, split, named)


def _choose(wanted: str, guesses: Iterable[str], names: list[str], what: str, path: Path) -> str:
    """The column that was named, else the first guess that is there, else ""."""
    if wanted and wanted not in names:
        close = difflib.get_close_matches(wanted, names, 1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        raise CondgenError(f"{path} has no column '{wanted}' ({what}); it has {', '.join(names) or 'none'}.{hint}")
    there = {name.lower(): name for name in reversed(names)}
    return wanted or next((there[guess] for guess in guesses if guess in there), "")


def _conditions(where: str) -> tuple[tuple[str, str], ...]:
    """`vendor=noto,skin_tone=none` as pairs."""
    pairs = [part.partition("=") for part in where.split(",") if part.strip()]
    if any(not column.strip() or not equals for column, equals, _ in pairs):
        raise CondgenError(f"where={where!r} is not understood. Expected column=value, several with commas between.")
    return tuple((column.strip(), value.strip()) for column, _, value in pairs)


# Splits ---------------------------------------------------------------------------------------------------------------


def split_name(name: str) -> str:
    """The name of a split in lower case, and one name for the same thing: validation, dev, valid and eval are val."""
    name = name.strip().lower()
    return _ALIASES.get(name, name)


def _named_split(relative: Path, own: bool) -> str:
    """The split that the name of a file (where `own`) or of its nearest folder tells; "" where none does."""
    for name in ([relative.stem] if own else []) + [folder.name for folder in relative.parents]:
        if _SPLIT.match(name):
            return split_name(_SHARD.sub("", name))
    return ""


def _hashed_split(key: str) -> str:
    """The fixed rule for data without splits: 5 of 100 values of the key's SHA-256 are test."""
    number = int.from_bytes(hashlib.sha256(key.encode("utf-8", "replace")).digest()[:8], "big")
    return "test" if number % 100 < 5 else "train"


def _in_split(own: str, asked: str) -> bool:
    return asked in ("all", own) or own.startswith((f"{asked}_", f"{asked}-"))


# Rows -----------------------------------------------------------------------------------------------------------------


def rows(source: Source, split: str = "all") -> Iterator[Row]:
    """All rows, in the order of the files. Parquet shards that belong to another split are not read."""
    if source.form == "sidecars":
        yield from (_sidecar_row(source, picture) for picture in source.pictures)
        return
    named = set()
    for table in _tables(source, split):
        for row in _table_rows(source, table):
            if source.form == "metadata" and isinstance(row.picture, Path):
                named.add(row.picture)
            yield row
    if source.form == "metadata" and source.path.is_dir():
        for picture in source.pictures:
            if picture not in named:
                key = picture.relative_to(source.home).as_posix()
                own = "" if any(table.split for table in source.tables) else _split_of(source, picture, key)
                yield Row(key, split=own, fault="picture absent from metadata", kept=not source.where)


def _tables(source: Source, split: str) -> list[Table]:
    """The tables to read for a split. Metadata is read whole: it must be known which pictures it names."""
    every = split == "all" or source.form == "metadata" or not source.by_name
    return [table for table in source.tables if every or table.split or _in_split(table.named, split)]


def _length(source: Source, split: str) -> int:
    """About how many rows will be read, for the progress bar."""
    return sum(_row_count(table.path) for table in _tables(source, split)) or len(source.pictures)


def _split_of(source: Source, file: Path, key: str) -> str:
    return _named_split(file.relative_to(source.home), own=False) if source.by_name else _hashed_split(key)


def _sidecar_row(source: Source, picture: Path) -> Row:
    """The captions of a picture are the lines of the .txt beside it."""
    key = picture.relative_to(source.home).as_posix()
    row = Row(key, picture, split=_split_of(source, picture, key))
    try:
        lines = picture.with_suffix(".txt").read_text("utf-8-sig").splitlines()
    except FileNotFoundError:
        return replace(row, fault="no caption", detail=f"no {picture.stem}.txt beside it")
    except (OSError, ValueError) as error:
        return replace(row, fault="no caption", detail=f"{picture.stem}.txt is no UTF-8 text: {error}")
    captions = tuple(dict.fromkeys(text for line in lines if (text := clean(line))))
    return replace(row, captions=captions, fault="" if captions else "no caption")


def _table_rows(source: Source, table: Table) -> Iterator[Row]:
    wanted = (table.image, *table.text, table.split, *(column for column, _ in source.where))
    place = table.path.relative_to(source.home)
    for number, record in enumerate(_records(table.path, wanted), 1):
        if record is None:
            yield Row(f"{place.as_posix()}:{number}", fault="broken metadata line", kept=not source.where)
            continue
        key, picture, fault = _locate(record.get(table.image), source.home, place, number)
        captions = _captions(record, table.text)
        if table.split:
            split = split_name(str(record.get(table.split) or ""))
        else:
            split = table.named if source.by_name else _hashed_split(key)
        kept = all(_equals(record.get(column), value) for column, value in source.where)
        yield Row(key, picture, captions, split, fault or ("" if captions else "no caption"), kept=kept)


def _locate(value: object, home: Path, table: Path, number: int) -> tuple[str, Path | bytes | None, str]:
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


def _captions(record: dict, columns: tuple[str, ...]) -> tuple[str, ...]:
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
    """A caption on one line: NFC, single spaces, no NUL, no lone surrogates."""
    text = text.encode("utf-8", "replace").decode().replace("\0", " ")
    return " ".join(unicodedata.normalize("NFC", text).split())


def _equals(cell: object, wanted: str) -> bool:
    """Whether a cell is the value that was written on the command line; case does not count."""
    if isinstance(cell, int | float) and not isinstance(cell, bool):
        with suppress(ValueError):
            return cell == float(wanted)
    return ("" if cell is None else str(cell).strip().lower()) == wanted.lower()


# Tables ---------------------------------------------------------------------------------------------------------------


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns what goes wrong inside a table into a `CondgenError` that names it."""
    try:
        yield
    except (OSError, ValueError, NotImplementedError, csv.Error) as error:  # pyarrow's errors are among these
        what = "is no UTF-8 text" if isinstance(error, UnicodeDecodeError) else "cannot be read"
        raise CondgenError(f"{path} {what} ({error}). Save it anew, tables of text as UTF-8.") from None


def _records(path: Path, wanted: Iterable[str]) -> Iterator[dict | None]:
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
        for batch in file.iter_batches(16, columns=names):
            yield from batch.to_pylist()


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


def _column_names(path: Path) -> list[str]:
    """The columns of a table; of a jsonl file those of the first thousand lines."""
    if path.suffix.lower() == ".jsonl":
        return list(dict.fromkeys(name for record in islice(_records(path, ()), 1000) for name in record or ()))
    with _readable(path):
        if path.suffix.lower() == ".csv":
            with path.open(encoding="utf-8-sig", newline="") as file:
                return next(csv.reader(file), [])
        import pyarrow.parquet as pq

        return pq.read_schema(path).names


def _row_count(path: Path) -> int:
    if path.suffix.lower() == ".parquet":
        import pyarrow.parquet as pq

        return pq.read_metadata(path).num_rows
    with path.open("rb") as file:
        return sum(1 for _ in file)


def _progress(items: Iterable[Row], total: int) -> Iterator[Row]:
    """Passes rows on; after two seconds of work a bar appears on stderr, and goes when the work is done."""
    start, bar = time.monotonic(), None
    try:
        for number, item in enumerate(items, 1):
            yield item
            if bar is None and time.monotonic() - start > 2:
                from rich.console import Console
                from rich.progress import Progress

                bar = Progress(console=Console(stderr=True), transient=True)
                task = bar.add_task("reading pictures", total=total)
                bar.start()
            if bar is not None:
                bar.update(task, completed=number)
    finally:
        if bar is not None:
            bar.stop()
