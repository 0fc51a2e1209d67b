"""Options that can be varied in a comparison, and lists of their values as people type them."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from condgen.contracts import CondgenError, SamplingOption, short
from condgen.pipelines.base import Pipeline
from condgen.pipelines.class_to_image import ClassToImage
from condgen.pipelines.text_to_image import TextToImage
from condgen.studio.session import check_text, presets_of, priors_of, sampling_options_of, sizes_of

MAX_CELLS = 64
"""Images of a comparison."""
MAX_MODELS = 4
"""Models that are compared side by side; so many are in memory."""
MAX_TEXT = 10_000
"""Characters of a list of values."""
USUAL = {
    "steps": (2, 4, 8, 12, 24),
    "guidance": (1, 1.5, 2, 3),
    "temperature": (0.2, 0.6, 1),
    "truncation": (0.5, 1, 2),
}
"""Values that are suggested for an option."""


@dataclass(frozen=True)
class Axis:
    """An option that can be varied.

    Args:
        name: its name; attributes of a label model are called `labels.NAME`.
        label: its name for people.
        kind: `number`, `integer`, `choice` or `words`.
        choices: the values of a `choice`.
        usual: the values that are suggested, as text.
    """

    name: str
    label: str
    kind: str
    choices: tuple[str, ...] = ()
    usual: str = ""

    def values(self, given: Any) -> list[Any]:
        """The values of a text such as '1, 2, 4', '1..5', '0..1 by 0.25' or 'red > blue, green', or of a list.

        Raises:
            CondgenError: there is none, too many, or one twice, or one is no value of this option.
        """
        parts = [part for part in _parts(given) if part != ""] if isinstance(given, str) else given
        if not isinstance(parts, list | tuple):
            raise CondgenError(f"The values of {self.label} must be a list or text, got {short(given)}.")
        numeric = self.kind in ("number", "integer")
        values: list[Any] = []
        for part in parts:
            values += self._numbers(part) if numeric else [self._text(part)]
            check_cells(len(values))
        if self.kind == "words":
            values = _replacements(given, values)
        if not values:
            raise CondgenError(f"There are no values of {self.label}. Give some, such as {self.usual or '1, 2, 4'}.")
        for k, value in enumerate(values):
            if value in values[:k]:
                raise CondgenError(f"The value {short(value)} of {self.label} is listed twice.")
        return values

    def _text(self, value: Any) -> str:
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        text = check_text(f"A value of {self.label}", text)
        if self.kind == "choice" and text not in self.choices:
            raise CondgenError(f"{self.label} must be one of {', '.join(self.choices)}, got {short(text)}.")
        return text

    def _numbers(self, part: Any) -> list[float]:
        """A number, or all numbers of a range."""
        if not isinstance(part, str):
            return [self._number(part)]
        match = re.fullmatch(r"(.+?)\s*\.\.\s*(.+?)(?:\s+by\s+(.+))?", part)
        if not match:
            return [self._number(part)]
        low, high = self._number(match[1]), self._number(match[2])
        step = self._number(match[3]) if match[3] else 1
        if step <= 0 or high < low:
            raise CondgenError(f"The range {short(part)} of {self.label} is empty: write it as 1..5 or 0..1 by 0.25.")
        if all(isinstance(x, int) for x in (low, high, step)):
            check_cells((high - low) // step + 1)
            return list(range(low, high + 1, step))
        count = math.floor((high - low) / step + 1e-9) + 1
        check_cells(count)
        return [float(f"{low + k * step:.10g}") for k in range(count)]

    def _number(self, value: Any) -> float:
        whole = isinstance(value, str) and re.fullmatch(r"\s*[+-]?[0-9]{1,25}\s*", value)
        try:
            number = int(value) if whole else float(value) if isinstance(value, str) else value
        except ValueError:
            number = None
        if isinstance(number, bool) or not isinstance(number, int | float) or not abs(number) < 1e300:
            raise CondgenError(f"A value of {self.label} must be a number, got {short(value)}.")
        if self.kind == "integer" or isinstance(number, int):
            if number != int(number):
                raise CondgenError(f"A value of {self.label} must be a whole number, got {short(value)}.")
            return int(number)
        return number


def axes_of(model: Pipeline, models: Sequence[str] = ()) -> dict[str, Axis]:
    """The options of a model that can be varied, by name.

    Args:
        models: names of models of the same task.
    """
    reads_text, priors = isinstance(model, TextToImage), priors_of(model)
    presets, sizes = presets_of(model), sizes_of(model)
    axes = [Axis("seed", "Seed", "integer", usual="1..4")]
    if reads_text:
        axes.append(Axis("words", "Words of the prompt", "words", usual="red > blue, green"))
    for attribute in model.attributes if isinstance(model, ClassToImage) else ():
        name, values = attribute.name.replace("_", " ").capitalize(), attribute.values
        low, high = (attribute.mean + k * attribute.sd for k in (-1, 1))
        kind, usual = ("choice", listed(values)) if values else ("number", f"{low:g}, {attribute.mean:g}, {high:g}")
        axes.append(Axis(f"labels.{attribute.name}", name, kind, values, usual))
    options = {one.name: one for prior in priors or [""] for one in sampling_options_of(model, prior)}
    axes += [
        Axis(one.name, one.name.replace("_", " ").capitalize(), "integer" if one.kind == "int" else "number",
             usual=_usual(one))
        for one in options.values()
    ]  # fmt: skip
    if len(priors) > 1:
        axes.append(Axis("prior", "Prior", "choice", tuple(priors), listed(priors)))
    if len(presets) > 1:
        axes.append(Axis("preset", "Speed", "choice", tuple(presets), listed(presets)))
    if reads_text:
        axes.append(Axis("candidates", "Candidates", "integer", usual="1, 2, 4"))
    if len(sizes) > 1:
        axes.append(Axis("size", "Size", "integer", usual=", ".join(map(str, sizes))))
    if len(models) > 1:
        axes.append(Axis("model", "Model", "choice", tuple(models), listed(models[:MAX_MODELS])))
    return {axis.name: axis for axis in axes}


def _usual(option: SamplingOption) -> str:
    values = [value for value in USUAL.get(option.name, ()) if option.low <= value <= option.high]
    values = values or dict.fromkeys((option.low, option.default, option.high))
    return ", ".join(f"{value:g}" for value in values)


def listed(texts: Iterable[str]) -> str:
    """Texts as one, separated by commas; those that contain a comma in quotes."""
    out = io.StringIO()
    csv.writer(out).writerow(list(texts))
    return out.getvalue().strip().replace(",", ", ") if '"' not in out.getvalue() else out.getvalue().strip()


def _parts(text: str) -> list[str]:
    """The inverse of `listed`."""
    if len(text) > MAX_TEXT:
        raise CondgenError(f"The values have {len(text):,} characters, which is too much.")
    try:
        return [part.strip() for row in csv.reader(io.StringIO(text), skipinitialspace=True) for part in row]
    except csv.Error as error:
        raise CondgenError(f"The values {short(text)} cannot be read ({error}).") from None


def _replacements(given: Any, parts: list[str]) -> list[tuple[str, str]]:
    """'red > blue', 'green' -> (red, red), (red, blue), (red, green): the words as they are come first."""
    first, arrow, second = parts[0].partition(">") if parts else ("", "", "")
    old, new = first.strip(), second.strip()
    if not old or not arrow or not new:
        raise CondgenError(f"Write replacements as red > blue, green; got {short(given)}.")
    words = [new, *parts[1:]]
    return [(old, word) for word in (words if old in words else [old, *words])]


def check_cells(count: int) -> None:
    """Raises `CondgenError` for more images than a comparison has."""
    if count > MAX_CELLS:
        raise CondgenError(f"These are {count:,} images; a comparison has at most {MAX_CELLS}. Leave some values out.")


def seeds_of(seeds: Any) -> list[int]:
    """The seeds of '1, 2, 5..8', or of a list."""
    return Axis("seed", "Seed", "integer", usual="1..4").values(seeds)


def heading(value: Any) -> str:
    """A value as the heading of a row or column."""
    if isinstance(value, tuple):
        return value[1]
    return f"{value:g}" if isinstance(value, float) else "" if value is None else str(value)
