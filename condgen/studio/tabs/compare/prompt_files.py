"""Prompts from a file: text, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from condgen.contracts import CondgenError, short
from condgen.studio.session import check_text

MAX_FILE = 1_000_000
"""Bytes of a file of prompts."""


def read_prompts(path: Path) -> list[str]:
    """The prompts of a file: one per line, or the column `prompt` of CSV or JSON.

    Raises:
        CondgenError: it is no such file, or contains no prompt; the message names the line or entry.
    """
    if path.suffix.lower() not in (".txt", ".csv", ".json"):
        raise CondgenError(f"{path.name} must be a .txt, .csv or .json file.")
    try:
        if path.stat().st_size > MAX_FILE:
            raise CondgenError(f"{path.name} is too large; at most {MAX_FILE // 1000:,} kB are read.")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError):
        text = "\0"
    if "\0" in text:
        raise CondgenError(f"{path.name} is not UTF-8 text. Expected prompts, one per line.")
    readers = {".csv": _from_csv, ".json": _from_json}
    found = readers.get(path.suffix.lower(), str.splitlines)(text)
    prompts = [
        check_text(f"Prompt {k} of {path.name}", prompt, empty=True) for k, prompt in enumerate(found, 1) if prompt
    ]
    prompts = [prompt for prompt in prompts if prompt]
    if not prompts:
        raise CondgenError(f"{path.name} contains no prompts. Expected one per line, or a column called prompt.")
    return prompts


def _from_csv(text: str) -> list[Any]:
    try:
        rows = list(csv.DictReader(io.StringIO(text), skipinitialspace=True))
    except csv.Error as error:
        raise CondgenError(f"The CSV file cannot be read ({error}).") from None
    if rows and "prompt" not in rows[0]:
        raise CondgenError(f"The CSV file has no column prompt; its columns are {short(list(rows[0]))}.")
    return [row["prompt"] for row in rows]


def _from_json(text: str) -> list[Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise CondgenError("The JSON file is damaged.") from None
    if isinstance(value, dict) and "prompt" in value:  # columns
        value = value["prompt"]
    entries = value if isinstance(value, list) else [None]
    prompts = [entry.get("prompt") if isinstance(entry, dict) else entry for entry in entries]
    if any(not isinstance(prompt, str) for prompt in prompts):
        raise CondgenError("The JSON file must be a list of texts, or of entries with a field prompt.")
    return prompts
