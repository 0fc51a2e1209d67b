"""Tables as text: `.csv`, and `.jsonl` with one JSON object per line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from condgen.data.formats.registry import TableFormat, register_format


def csv_records(path: Path, columns: list[str]) -> Iterator[dict | None]:
    """Yields the rows of a .csv; None for a row with more cells than columns, e.g. after an unquoted comma."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        for record in csv.DictReader(file):
            yield None if None in record else record


def csv_columns(path: Path) -> list[str]:
    """The header of a .csv."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return next(csv.reader(file), [])


def jsonl_records(path: Path, columns: list[str]) -> Iterator[dict | None]:
    """Yields the objects of a .jsonl; None for a line that is not a JSON object."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        for line in file:
            if line.strip():
                record = None
                with suppress(ValueError, RecursionError):
                    record = json.loads(line)
                yield record if isinstance(record, dict) else None


def jsonl_columns(path: Path) -> list[str]:
    """The keys in the first thousand lines."""
    return list(dict.fromkeys(name for record in islice(jsonl_records(path, []), 1000) for name in record or ()))


def line_count(path: Path) -> int:
    """Number of lines of a file."""
    with path.open("rb") as file:
        return sum(1 for _ in file)


register_format(
    TableFormat(".csv", csv_records, csv_columns, line_count),
    TableFormat(".jsonl", jsonl_records, jsonl_columns, line_count),
)
