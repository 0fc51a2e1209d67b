"""Converts columns of a table to attributes, and their cells to targets.

    label                          every value is a class; numbers in their order, text in alphabetical order
    0/1, true/false, at most 32    values, named by their numbers (true is 1)
    different whole numbers
    other numbers                  a real number, standardised
    text                           values

Values may be named by the column NAME_name beside NAME, by the features of a parquet file, or by the caller.
Empty cells, NaN, NA, N/A and null are unknown. A row without a label cannot be used.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from condgen.contracts import CondgenError, short
from condgen.data.attributes import LABEL, Attribute
from condgen.data.formats.arrays import LONG, checked_names
from condgen.data.sources.tables import clean
from condgen.text import printable

FEW = 32
"""Maximum number of distinct whole numbers that count as values; more make a real number."""
MANY = 1000
"""Maximum number of distinct texts of an attribute."""
UNKNOWN = frozenset({"", "nan", "na", "n/a", "null"})


def cell_value(cell: object) -> str | None:
    """Converts a cell to canonical text: 3, 3.0 and "3" become "3", true becomes "1"; None means unknown.

    Raises:
        ValueError: a list, a dict, bytes or a long text, which cannot be a class or an attribute.
    """
    if cell is None:
        return None
    if isinstance(cell, bool):
        return str(int(cell))
    if isinstance(cell, int | float):
        with suppress(OverflowError, ValueError):
            number = float(cell)
            return None if not math.isfinite(number) else str(int(cell)) if number.is_integer() else repr(number)
        raise ValueError("a number too large")
    if not isinstance(cell, str):
        raise ValueError(f"a {type(cell).__name__}")
    text = clean(cell) if len(cell) < 10 * LONG else cell
    if len(text) > LONG:
        raise ValueError(f"a text of {len(text)} characters")
    if text.casefold() in UNKNOWN:
        return None
    number = number_of(text)
    return text if number is None else cell_value(number)


def number_of(text: str) -> float | None:
    """Parses a finite number; None for other texts, including "inf" and "1_000"."""
    if not text.isascii() or "_" in text:
        return None
    with suppress(ValueError):
        number = float(text)
        return number if math.isfinite(number) else None
    return None


@dataclass
class Column:
    """The distinct values of a column, each with its count in training and the place where it first occurs."""

    name: str
    label: bool = False
    values: dict[str, list] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def add(self, cell: object, named: object, place: str, training: bool) -> None:
        """Adds a cell, and the cell of the column with its name.

        Raises:
            CondgenError: a value has two names.
        """
        try:
            value = cell_value(cell)
        except ValueError as error:
            self.faults.append(f"{place}: {error}")
            return
        if value is None:
            return
        self.values.setdefault(value, [0, place])[0] += training
        if isinstance(named, str) and (text := clean(named)[:LONG]):
            before = self.names.setdefault(value, text)
            if before != text:
                raise CondgenError(f"{place}: {self.name} {value} is called {text!r}, and {before!r} elsewhere.")

    def coder(self, names: tuple[str, ...], source: str) -> Coder:
        """Makes an attribute of the column.

        Args:
            names: names of the values 0, 1, 2 ..., if known.
            source: name of the data in messages.

        Raises:
            CondgenError: the column is empty, labels are fractions, numbers and texts are mixed, or nearly all
                texts are distinct.
        """
        if not self.values:
            hint = f" The first fault: {self.faults[0]}." if self.faults else ""
            raise CondgenError(f"{source}: the column {self.name!r} has no value for any image.{hint}")
        numbers = {value: number_of(value) for value in self.values}
        whole = all(number is not None and number.is_integer() for number in numbers.values())
        name = LABEL if self.label else self.name
        if whole and (names or self.names or self.label or len(self.values) <= FEW):
            order = sorted(self.values, key=int)
            if names:
                order = [value for value in order if 0 <= int(value) < len(names)]
            called = [names[int(value)] if names else self.names.get(value, value) for value in order]
            return _values(name, order, called, source)
        if None not in numbers.values():
            return self._real(name, numbers, source)
        if not self.label and set(map(str.casefold, self.values)) <= {"true", "false", "0", "1"}:
            both = {value: str(int(value.casefold() in ("true", "1"))) for value in self.values}
            levels = sorted(set(both.values()))
            return Coder(Attribute(name, tuple(levels)), {value: levels.index(one) for value, one in both.items()})
        return self._texts(name, numbers, source)

    def _real(self, name: str, numbers: dict[str, float], source: str) -> Coder:
        if self.label:
            first = next(value for value, number in numbers.items() if not number.is_integer())
            raise CondgenError(
                f"{source}: the column {self.name!r} holds fractions ({first} at {self.values[first][1]}), which are "
                "not classes. Use it as an attribute, and name another column for the label."
            )
        training = [(numbers[value], count) for value, (count, _) in self.values.items() if count]
        training = training or [(number, 1) for number in numbers.values()]
        n = sum(count for _, count in training)
        mean = sum(number * (count / n) for number, count in training)
        sd = math.sqrt(sum((number - mean) * (number - mean) * (count / n) for number, count in training))
        if not math.isfinite(sd) or not math.isfinite(mean):
            raise CondgenError(f"{source}: the column {self.name!r} holds numbers that are too large.")
        low, high = min(number for number, _ in training), max(number for number, _ in training)
        return Coder(Attribute(name, (), mean, sd or 1.0, low, high))

    def _texts(self, name: str, numbers: dict[str, float | None], source: str) -> Coder:
        count, text = len(self.values), next(value for value, number in numbers.items() if number is None)
        if count > FEW and any(number is not None for number in numbers.values()):
            raise CondgenError(
                f"{source}: the column {self.name!r} holds numbers, and {short(text)} at {self.values[text][1]}. Leave "
                "cells of unknown values empty."
            )
        rows = sum(seen for seen, _ in self.values.values())
        if count > FEW and (2 * count > rows or (count > MANY and not self.label)):
            raise CondgenError(
                f"{source}: the column {self.name!r} has {count:,} different texts in {rows:,} rows of training, for "
                f"example {short(text)}. These look like captions or file names, not like "
                f"{'classes' if self.label else 'an attribute'}."
            )
        order = sorted(self.values)
        return _values(name, order, order, source)


@dataclass(frozen=True)
class Coder:
    """An attribute and the target of each cell value; `places` is empty for a real number."""

    attribute: Attribute
    places: dict[str, int] = field(default_factory=dict)

    def encode(self, cell: object) -> float:
        """The target of a cell, NaN if unknown.

        Raises:
            ValueError: the cell is not one of the values; the message describes it.
        """
        value = cell_value(cell)
        if value is None:
            return math.nan
        if not self.attribute.values:
            return (float(value) - self.attribute.mean) / self.attribute.sd
        if value not in self.places:
            raise ValueError(f"{short(value)}, out of range")
        return float(self.places[value])


def _values(name: str, order: list[str], called: list[str], source: str) -> Coder:
    if not order:
        raise CondgenError(f"{source}: the given names fit no value of {name}.")
    names = checked_names([printable(one) for one in called], f"{source}: the column {name!r}")
    return Coder(Attribute(name, tuple(names)), {value: i for i, value in enumerate(order)})


def names_in_schema(path: Path, columns: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Reads names of the values 0, 1, 2 ... of columns from Hugging Face's features (ClassLabel) in a parquet file."""
    if path.suffix.lower() != ".parquet":
        return {}
    import pyarrow.parquet as pq

    found = {}
    with suppress(Exception):  # names are optional, so broken features are ignored
        features = json.loads(pq.read_schema(path).metadata[b"huggingface"])["info"]["features"]
        for column in columns:
            names = features.get(column, {}).get("names")
            if isinstance(names, list) and names and all(isinstance(name, str) and clean(name) for name in names):
                found[column] = tuple(clean(name)[:LONG] for name in names)
    return found
