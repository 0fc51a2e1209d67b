"""Checks of single values that a page or an API client gives."""

from __future__ import annotations

from typing import Any

from condgen.contracts import CondgenError, short
from condgen.text import MAX_PROMPT, check_prompt


def check_text(name: str, text: Any, empty: bool = False) -> str:
    """A text of at most MAX_PROMPT characters without surrounding spaces; empty only if `empty`."""
    if not isinstance(text, str):
        raise CondgenError(f"{name} must be text, got {short(text)}.")
    if len(text) > MAX_PROMPT:
        raise CondgenError(f"{name} has {len(text):,} characters; at most {MAX_PROMPT:,} are allowed.")
    text = text.encode("utf-8", "replace").decode("utf-8").strip()
    if not (empty and not text):
        check_prompt(text)
    return text


def check_number(name: str, value: Any) -> None:
    """Raises `CondgenError` where a value is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e300 < value < 1e300:
        raise CondgenError(f"{name} must be a number, got {short(value)}.")


def check_integer(name: str, value: Any, low: int, high: int) -> int:
    """The value as an integer; `CondgenError` where it is not one from `low` to `high`."""
    check_number(name, value)
    if not low <= value <= high or value != int(value):
        raise CondgenError(f"{name} must be a whole number from {low} to {high}, got {short(value)}.")
    return int(value)


def number(text: Any) -> Any:
    """A seed that was typed as text, exact above 2**53, too; anything else as it is, for the checks."""
    digits = text.strip() if isinstance(text, str) else ""
    plain = digits.removeprefix("-")
    return int(digits) if plain.isdecimal() and plain.isascii() and len(digits) < 25 else text
