"""Converts columns of a table to attributes, and their cells to targets.

    label                          every value is a class; numbers in their order, text in alphabetical order
    0/1, true/false, at most 32    values, named by their numbers (true is 1)
    different whole numbers
    other numbers                  a real number, standardised
    text                           values

A column is a column of numbers if all of its cells are written like numbers. Codes such as 007, and classes such as
1e2 or 1.10, make it text, whose values are named as written. The option `column_types` says otherwise: `number` also
reads 1,234.5 and 3,5.

Values may be named by the column NAME_name beside NAME, by the features of a parquet file, or by the caller.
Empty cells, NaN, NA, N/A and null are unknown, except NA among codes of two letters. A row without a label cannot be
used.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from condgen.contracts import CondgenError, listed, short
from condgen.data.attributes import LABEL, Attribute
from condgen.data.formats.arrays import LONG, checked_names
from condgen.data.formats.arrow import arrow_schema
from condgen.data.sources.tables import clean, spelled
from condgen.text import printable

FEW = 32
"""Maximum number of distinct whole numbers that count as values; more make a real number."""
MANY = 1000
"""Maximum number of distinct texts of an attribute."""
UNKNOWN = frozenset({"", "nan", "na", "n/a", "null"})
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?")
_THOUSANDS_AND_COMMA = re.compile(r"[-+]?(\d{1,3}(\.\d{3})+|\d+),\d+")
_LEADING_ZERO = re.compile(r"[-+]?0\d+.*")
_PLAIN = re.compile(r"-?(0|[1-9]\d*)(\.0+|\.\d*[1-9])?")
_LETTERS = re.compile("[A-Z]{2}")


def cell_text(cell: object) -> str | None:
    """A cell as text: texts as written, with single spaces; "3" for 3 and 3.0; "true"; None for an empty cell.

    Raises:
        ValueError: a list, a dict, bytes or a long text, which cannot be a class or an attribute.
    """
    if isinstance(cell, int) and abs(cell) > 10**300:
        raise ValueError("a number too large")
    text = spelled(cell)
    if text is None and cell is not None and not isinstance(cell, float):
        raise ValueError(f"a {type(cell).__name__}")
    text = clean(text or "") if len(text or "") < 10 * LONG else text or ""
    if len(text) > LONG:
        raise ValueError(f"a text of {len(text)} characters")
    return text or None


def cell_value(cell: object) -> str | None:
    """Converts a cell to canonical text: 3, 3.0 and "3" become "3", true becomes "1"; None means unknown.

    Raises:
        ValueError: see `cell_text`.
    """
    if isinstance(cell, bool):
        return str(int(cell))
    text = cell_text(cell)
    if text is None or text.casefold() in UNKNOWN:
        return None
    number = number_of(text)
    if number is None:
        return text
    return str(int(number)) if number.is_integer() else repr(number)


def amount_of(text: str) -> float | None:
    """Parses a number that may have separators: 1,234.5 (thousands), 1.234,5 and 3,5 (a decimal comma)."""
    if _THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    elif _THOUSANDS_AND_COMMA.fullmatch(text):
        text = text.replace(".", "").replace(",", ".")
    return number_of(text)


def number_of(text: str) -> float | None:
    """Parses a finite number; None for other texts, including "inf" and "1_000"."""
    if not text.isascii() or "_" in text:
        return None
    with suppress(ValueError):
        number = float(text)
        return number if math.isfinite(number) else None
    return None


Kind = Literal["text", "number", "amount", "bool", "lower"]
"""What the texts of a column are taken for: values as written, numbers, numbers with separators, truth values."""


def canonical(text: str, kind: Kind) -> str | None:
    """The text by which equal cells of a column are known; None where it is not of this kind."""
    if kind == "text":
        return text
    truth = {"true": "1", "false": "0"}.get(text.casefold())
    if kind == "lower":
        return text.casefold()
    if kind == "amount" and truth is None:
        number = amount_of(text)
        return None if number is None else cell_value(number)
    return truth or cell_value(text)


@dataclass
class Column:
    """The distinct texts of a column, each with its count in training and the place where it first occurs.

    Args:
        as_type: `text` or `number` where the user says so.
        missing: the same for texts that mean an unknown value, unless the column holds text.
    """

    name: str
    label: bool = False
    as_type: str = ""
    values: dict[str, list] = field(default_factory=dict)
    missing: dict[str, list] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def add(self, cell: object, named: object, place: str, training: bool) -> None:
        """Adds a cell, and the cell of the column with its name.

        Raises:
            CondgenError: a value has two names.
        """
        try:
            value = cell_text(cell)
        except ValueError as error:
            self.faults.append(f"{place}: {error}")
            return
        if value is None:
            return
        missing = value.casefold() in UNKNOWN and self.as_type != "text"
        (self.missing if missing else self.values).setdefault(value, [0, place])[0] += training
        if isinstance(named, str) and (text := clean(named)[:LONG]):
            self._name(value, text, place)

    def _name(self, value: str, text: str, place: str) -> None:
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
        if len(self.values) > 1 and all(map(_LETTERS.fullmatch, self.values)) and "NA" in self.missing:
            self.values["NA"] = self.missing["NA"]  # a code of two letters like the others: Namibia, North America
        if not self.values:
            hint = f" The first fault: {self.faults[0]}." if self.faults else ""
            raise CondgenError(f"{source}: the column {self.name!r} has no value for any image.{hint}")
        notes, kind = self._notes(), self._kind(bool(names))
        one = self._merged(kind)
        if not one.values:
            text = next(iter(self.values))
            raise CondgenError(f"{source}: the column {self.name!r} holds no number, for example {short(text)}.")
        return replace(one._coder(names, source, kind), kind=kind, notes=notes)

    def _kind(self, named: bool) -> Kind:
        if self.as_type:
            return "amount" if self.as_type == "number" else "text"
        if {text.casefold() for text in self.values} <= {"true", "false"} and (named or self.names or self.label):
            return "bool" if named or self.names else "lower"
        numbers = all(number_of(text) is not None for text in self.values)
        return "number" if numbers and not any(map(self._is_code, self.values)) else "text"

    def _is_code(self, text: str) -> bool:
        """Whether a text is a number that is not written like one: 007, and as a class 1e2, 1.10 and +5."""
        if _LEADING_ZERO.fullmatch(text):
            return True
        return self.label and not _PLAIN.fullmatch(text) and text != cell_value(text)

    def _merged(self, kind: Kind) -> Column:
        """The column with one value for all texts that mean the same."""
        out = Column(self.name, self.label, self.as_type, faults=self.faults)
        for text, (count, place) in self.values.items():
            value = canonical(text, kind)
            if value is not None:
                out.values.setdefault(value, [0, place])[0] += count
                if text in self.names:
                    out._name(value, self.names[text], place)
        return out

    def _notes(self) -> tuple[str, ...]:
        """What the column was taken for where it could be meant otherwise, and how to say so."""

        def otherwise(kind: str) -> str:
            return f"--column-types {shlex.quote(self.name)}={kind}"

        found, texts, kind = [], list(self.values), self._kind(False)
        numbers = [text for text in texts if number_of(text) is not None]
        unusual = [text for text in numbers if not _PLAIN.fullmatch(text) and text != cell_value(text)]
        if kind == "text" and not self.as_type and unusual and 2 * len(numbers) > len(texts):
            found.append(f"{listed(unusual[:3])} taken as text, as written ({otherwise('number')} reads numbers)")
        elif kind == "number" and (unusual := [text for text in unusual if "e" in text.lower()]):
            found.append(f"{listed(unusual[:3])} taken as numbers ({otherwise('text')} keeps them as written)")
        parted = [text for text in texts if number_of(text) is None and amount_of(text) is not None]
        if parted and kind == "text" and not self.as_type:
            found.append(f"{listed(parted[:3])} taken as text ({otherwise('number')} reads numbers with separators)")
        for text, (count, _) in self.missing.items():
            if text in self.values:
                found.append(f"{text} ({count} rows) taken as a value, a code of two letters like the others")
            else:
                found.append(f"{text} ({count} rows) taken as unknown ({otherwise('text')} makes it a value)")
        folded: dict[str, str] = {}
        twice = [(first, text) for text in texts if (first := folded.setdefault(text.casefold(), text)) != text]
        if twice and kind == "text":
            found.append(f"{listed(twice[0])} are two values")
        return tuple(f"{self.name}: {note}" for note in found)

    def _coder(self, names: tuple[str, ...], source: str, kind: Kind) -> Coder:
        numbers = {value: None if kind == "text" else number_of(value) for value in self.values}
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
        if not self.label and not self.as_type and set(map(str.casefold, self.values)) <= {"true", "false", "0", "1"}:
            both = {value: str(int(value.casefold() in ("true", "1"))) for value in self.values}
            levels = sorted(set(both.values()))
            return Coder(Attribute(name, tuple(levels)), {value: levels.index(one) for value, one in both.items()})
        return self._texts(name, source)

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

    def _texts(self, name: str, source: str) -> Coder:
        count, texts = len(self.values), [value for value in self.values if number_of(value) is None]
        if count > FEW and not self.as_type and texts and len(texts) < count / 10:
            raise CondgenError(
                f"{source}: the column {self.name!r} holds numbers, and {short(texts[0])} at "
                f"{self.values[texts[0]][1]}. Leave cells of unknown values empty, or say what the column holds "
                f"(column_types: {self.name}=text, or {self.name}=number, which reads 1,234 too)."
            )
        rows = sum(seen for seen, _ in self.values.values())
        if count > FEW and not self.as_type and (2 * count > rows or (count > MANY and not self.label)):
            number = " numbers with separators" if all(amount_of(text) is not None for text in self.values) else ""
            raise CondgenError(
                f"{source}: the column {self.name!r} has {count:,} different texts in {rows:,} rows of training, for "
                f"example {short(next(iter(self.values)))}. These look like{number or ' captions or file names'}, not "
                f"like {'classes' if self.label else 'an attribute'}. Say what the column holds if they are "
                f"(column_types: {self.name}=text, or {self.name}=number)."
            )
        order = sorted(self.values)
        return _values(name, order, order, source)


@dataclass(frozen=True)
class Coder:
    """An attribute and the target of each cell value; `places` is empty for a real number.

    Args:
        kind: what the texts of the cells are.
        notes: what the column was taken for where it could be meant otherwise.
    """

    attribute: Attribute
    places: dict[str, int] = field(default_factory=dict)
    kind: Kind = "number"
    notes: tuple[str, ...] = ()

    def encode(self, cell: object) -> float:
        """The target of a cell, NaN if unknown.

        Raises:
            ValueError: the cell is not one of the values; the message describes it.
        """
        text = cell_text(cell)
        if text is None:
            return math.nan
        value = canonical(text, self.kind)
        if self.attribute.values and value in self.places:
            return float(self.places[value])
        if text.casefold() in UNKNOWN:
            return math.nan
        if value is None:
            raise ValueError(f"{short(text)}, not a number")
        if self.attribute.values:
            raise ValueError(f"{short(value)}, out of range")
        return (float(value) - self.attribute.mean) / self.attribute.sd


def _values(name: str, order: list[str], called: list[str], source: str) -> Coder:
    if not order:
        raise CondgenError(f"{source}: the given names fit no value of {name}.")
    names = checked_names([printable(one) for one in called], f"{source}: the column {name!r}")
    return Coder(Attribute(name, tuple(names)), {value: i for i, value in enumerate(order)})


def names_in_schema(path: Path, columns: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Reads names of the values 0, 1, 2 ... of columns from Hugging Face's features (ClassLabel) in a parquet or arrow
    file.
    """
    if path.suffix.lower() not in (".parquet", ".arrow"):
        return {}
    import pyarrow.parquet as pq

    found = {}
    with suppress(Exception):  # names are optional, so broken features are ignored
        schema = arrow_schema(path) if path.suffix.lower() == ".arrow" else pq.read_schema(path)
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        for column in columns:
            names = features.get(column, {}).get("names")
            if isinstance(names, list) and names and all(isinstance(name, str) and clean(name) for name in names):
                found[column] = tuple(clean(name)[:LONG] for name in names)
    return found
