"""The report of `condgen data check` for the page, by a process of its own that can be stopped."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condgen.contracts import CondgenError, short
from condgen.data.audit.report import CaptionReport, LabelReport
from condgen.recipes.choice import suited_to
from condgen.studio.tabs.train.runs import error_in
from condgen.studio.tabs.train.trainings import environment


@dataclass(frozen=True)
class DataCheck:
    """What was found.

    Args:
        text: the report.
        ready: whether training would take the data.
        recipes: the recipes that train on them, the most obvious one first.
        sheet: a PNG of thumbnails; None where there is nothing to show.
    """

    text: str
    ready: bool
    recipes: tuple[str, ...]
    sheet: Path | None


def check_data(path: Any, folder: Path) -> Iterator[float | DataCheck]:
    """Yields the seconds so far, and at last what was found. Closing the generator ends the process.

    Args:
        path: of the data, see `condgen data check`.
        folder: where the sheet is written, below a name that cannot be guessed.

    Raises:
        CondgenError: the path holds no readable data.
    """
    if not isinstance(path, str) or not path.strip() or "\0" in path or len(path) > 4000:
        raise CondgenError(f"Give the path of a folder or a table with images, got {short(path)}.")
    sheet = folder / secrets.token_urlsafe(16) / "sheet.png"
    place = str(Path(path.strip()).expanduser())
    words = [sys.executable, "-m", "condgen", "data", "check", "--json", "--sheet", str(sheet), "--", place]
    began = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, env=environment())
        try:
            while process.poll() is None:
                yield time.monotonic() - began
                time.sleep(0.2)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        out.seek(0)
        errors.seek(0)
        printed, log = out.read(), errors.read().decode("utf-8", "replace")
    try:
        found = json.loads(printed)
    except ValueError:
        reason = error_in(log) or f"The check ended with status {process.returncode}."
        raise CondgenError(reason) from None
    ready = found.pop("ready")
    report = (CaptionReport if "captions" in found else LabelReport)(**found)
    yield DataCheck("\n".join(report.lines()), ready, tuple(suited_to(report)), sheet if sheet.is_file() else None)
