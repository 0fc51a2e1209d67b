"""Attributes of labelled images: classes, attributes with named values, and real numbers.

The class is the attribute called `label`; smiling yes or no is an attribute of two values; an age is an attribute
without values, a real number. The targets of an image are one row, float32 (A,): the index of the value, or the
standardised number; NaN where an attribute is unknown.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass

from condgen.contracts import CondgenError, short

LABEL = "label"
"""Name of the attribute that is the image's class."""


@dataclass(frozen=True)
class Attribute:
    """An attribute of images; its value may be known for some images only.

    Args:
        name: as in `--set name=value`.
        values: names of the values it can take, in the order of their targets; empty for a real number.
        mean, sd: mean and standard deviation of a real number over the training images; targets are standardised.
        low, high: the range of a real number over the training images.
    """

    name: str
    values: tuple[str, ...] = ()
    mean: float = 0.0
    sd: float = 1.0
    low: float = -math.inf
    high: float = math.inf

    @property
    def cardinality(self) -> int:
        """Number of values that it can take; 0 for a real number."""
        return len(self.values)

    def encode(self, value: object) -> float:
        """The target of a value's name, or of a number.

        Raises:
            CondgenError: the value is unknown (the message suggests the closest ones), or the number is not finite.
        """
        if self.values:
            text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
            if text in self.values:
                return float(self.values.index(text))
            folded = [value.casefold() for value in self.values]
            if folded.count(text.casefold()) == 1:
                return float(folded.index(text.casefold()))
            close = difflib.get_close_matches(text.casefold(), folded, n=3, cutoff=0.5)
            nearest = ", ".join(self.values[folded.index(one)] for one in close)
            hint = f" Nearest: {nearest}." if nearest else ""
            listed = ", ".join(self.values[:20]) + (", ..." if self.cardinality > 20 else "")
            raise CondgenError(f"{self.name} has no value {short(value)}.{hint} It has {listed}.")
        try:
            number = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise CondgenError(f"{self.name} must be a number, got {short(value)}.") from None
        if not math.isfinite(number):
            raise CondgenError(f"{self.name} must be a finite number, got {short(value)}.")
        return (number - self.mean) / self.sd

    def to_number(self, code: float) -> float:
        """Converts a target back to the real number, clipped to the range of the training images."""
        return min(max(code * self.sd + self.mean, self.low), self.high)

    def format_target(self, code: float) -> str:
        """Formats a target as text: the name of the value, the number, or `unknown` for NaN."""
        if math.isnan(code):
            return "unknown"
        return self.values[int(code)] if self.values else f"{code * self.sd + self.mean:.4g}"
