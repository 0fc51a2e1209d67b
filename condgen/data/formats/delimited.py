"""Tables as text: `.csv`, `.tsv`, `.jsonl` with one JSON object per line, and `.json` with a list of objects.

Cells stay text as written: `007`, `1e2`, `NA` and `true` are not converted here. Text is UTF-8, with or without a byte
order mark, or UTF-16 with one. A `.csv` may have semicolons, tabs or bars between its cells.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from condgen.data.formats.registry import FAULT, TableFormat, register_format

_MARKS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
SEPARATORS = "".join(_MARKS)


def encoding_of(path: Path) -> str:
    """The encoding of a text file by its byte order mark; UTF-8 without one."""
    with path.open("rb") as file:
        return "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def separator_of(path: Path) -> str:
    """The character between the cells of a table.

    It divides the header into at least two cells, and most of the first hundred rows into as many cells; a table of
    one column has commas.
    """
    with path.open(encoding=encoding_of(path), newline="") as file:
        some = list(islice(file, 200))
    best, most = ",", 0.0
    for separator in SEPARATORS:
        rows = list(islice(csv.reader(some, delimiter=separator, skipinitialspace=True), 100))
        cells = len(rows[0]) if rows else 0
        if cells > 1:
            alike = sum(len(row) == cells for row in rows) / len(rows)
            if alike > most:
                best, most = separator, alike
    return best


def csv_records(path: Path, columns: list[str]) -> Iterator[dict | None]:
    """Yields the rows of a .csv; a row with more cells than columns, e.g. after an unquoted comma, has a fault."""
    separator = separator_of(path)
    rows = _rows(path, separator)
    names, mark = _header(rows), _MARKS[separator]
    for row in rows:
        if len(row) > len(names):
            yield {
                FAULT: f"broken metadata line: {len(row)} cells for {len(names)} columns; texts with {mark} need quotes"
            }
        elif row:
            yield dict(zip(names, row + [None] * (len(names) - len(row))))


def csv_columns(path: Path) -> list[str]:
    """The header of a .csv."""
    return _header(_rows(path, separator_of(path)))


def _header(rows: Iterator[list[Any]]) -> list[str]:
    return [name.strip() for name in next(rows, [])]


def _rows(path: Path, separator: str) -> Iterator[list[Any]]:
    with path.open(encoding=encoding_of(path), newline="") as file:
        yield from csv.reader(file, delimiter=separator, skipinitialspace=True)


def jsonl_records(path: Path, columns: list[str]) -> Iterator[dict | None]:
    """Yields the objects of a .jsonl; None for a line that is not a JSON object."""
    with path.open(encoding=encoding_of(path), newline="") as file:
        for line in file:
            if line.strip():
                record = None
                with suppress(ValueError, RecursionError):
                    record = json.loads(line)
                yield record if isinstance(record, dict) else None


def jsonl_columns(path: Path) -> list[str]:
    """The keys in the first thousand lines."""
    return list(dict.fromkeys(name for record in islice(jsonl_records(path, []), 1000) for name in record or ()))


def json_records(path: Path, columns: list[str]) -> Iterator[dict | None]:
    """Yields the objects of a .json: a list of them, one per line, or columns as `DataFrame.to_json` writes them.

    A file of another content has no rows.
    """
    try:
        content = json.loads(path.read_text(encoding_of(path)))
    except (ValueError, RecursionError):
        yield from jsonl_records(path, columns)
        return
    if isinstance(content, dict) and content:  # {"text": {"0": "a cat", "1": "a dog"}, "file_name": {"0": ...}}
        parts = list(content.values())
        if all(isinstance(part, dict) and part.keys() == parts[0].keys() for part in parts):
            content = [{name: part[key] for name, part in content.items()} for key in parts[0]]
        elif all(isinstance(part, list) and len(part) == len(parts[0]) for part in parts):
            content = [dict(zip(content, row)) for row in zip(*parts)]
    for record in content if isinstance(content, list) else ():
        yield record if isinstance(record, dict) else None


def line_count(path: Path) -> int:
    """Number of lines of a file."""
    with path.open("rb") as file:
        return sum(1 for _ in file)


register_format(
    TableFormat(".csv", csv_records, csv_columns, line_count),
    TableFormat(".tsv", csv_records, csv_columns, line_count),
    TableFormat(".jsonl", jsonl_records, jsonl_columns, line_count),
)
