"""Reports on disk: JSON for scripts, Markdown for people, sheets of images.

Importing this module imports nothing heavy.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condgen.contracts import CondgenError, to_json

if TYPE_CHECKING:
    from condgen.evaluation.base import Example, Report

SCORES = "## Scores"
FILES = ("report.json", "report.md", "sheet.png", "neighbours.png", "space.png", "samples.png")
KEPT = (
    *("detector", "re_ranking", "scene_eval", "images_evaluated", "swap_accuracy", "retrieval", "layers"),
    *("words", "clip_score", "memorisation"),
    *("classifier", "accuracy", "accuracy_seen", "accuracy_unseen", "distances", "classifier_trained_on_generated"),
    *("features", "collapse", "fine_tuning", "coverage", "diversity", "categories"),
    *("translation", "cycle", "attributes"),
)
"""Sections that are kept in the index of a model."""


UNDEFINED = "not_defined"
"""Section of a report: names of scores that are not defined -> why."""


def reasons(report: dict, above: str = "") -> dict[str, str]:
    """Scores of a report that are not finite -> why they are not defined."""
    found = {}
    for name, value in report.items():
        place = f"{above}, {name}".strip(", ").replace("_", " ")
        if isinstance(value, dict):
            found |= reasons(value, place)
        elif isinstance(value, float) and not math.isfinite(value):
            usual = "too few or equal images" if math.isnan(value) else "infinite"
            found[place] = getattr(value, "reason", usual)
    return found


def check_out(out: Path) -> None:
    """Raises `CondgenError` where a file of the report has the name of a folder."""
    if taken := [name for name in FILES if (out / name).is_dir()]:
        raise CondgenError(f"{out / taken[0]} is a folder; the report goes there. Move it, or choose another with -o.")


def write(out: Path, report: Report, sheets: dict[str, list[Example]], figures: dict[str, bytes]) -> None:
    """Writes `report.json`, `report.md` and every sheet and figure as PNG into a folder."""
    from PIL import Image

    from condgen.files.images import grid, make_folder, write_bytes, write_sheet

    make_folder(out)
    write_bytes(out / "report.json", (to_json(report, indent=2) + "\n").encode())
    write_bytes(out / "report.md", markdown(report).encode())
    for name, examples in sheets.items():
        cells = [Image.fromarray(image.transpose(1, 2, 0)) for _, image, _ in examples]
        labels = [("" if right else "(wrong) ") + caption for caption, _, right in examples]
        write_sheet(out / f"{name}.png", grid(cells, labels, columns=8, cell=128))
    for name, png in figures.items():
        write_bytes(out / f"{name}.png", png)


def record(folder: Path, report: Report) -> None:
    """Writes the scores into a model folder: the last section of its card, and `metrics` of its index."""
    from condgen.files.images import write_bytes

    card, index = folder / "README.md", folder / "model_index.json"
    text = card.read_text(encoding="utf-8") if card.exists() else f"# {report['model']}\n"
    text = text.split(SCORES)[0].rstrip()
    write_bytes(card, f"{text}\n\n{SCORES}\n\n{markdown(report, 2)}".encode())
    metrics = {"metrics": {name: section for name, section in report.items() if name in KEPT}}
    content = json.loads(index.read_text(encoding="utf-8")) | metrics
    write_bytes(index, (to_json(content, indent=2) + "\n").encode())


def markdown(report: Report, level: int = 1) -> str:
    """A report as Markdown: a heading and a table for every section, nested ones a level deeper."""
    lines = [f"{'#' * level} {report['model']} ({report['model_id']})", ""] if level == 1 else []
    for name, value in report.items():
        if name == UNDEFINED:
            lines += [f"{'#' * (level + 1)} not defined", "", *(f"- {one}: {why}" for one, why in value.items()), ""]
        if name == UNDEFINED or not isinstance(value, dict):
            continue
        rows = {k: v for k, v in value.items() if isinstance(v, dict)}
        if rows and all(isinstance(cell, dict) for row in rows.values() for cell in row.values()):
            lines += [f"{'#' * (level + 1)} {name.replace('_', ' ')}", "", markdown(value, level + 1)]
        else:
            lines += section(name, rows or {"": value}, "#" * (level + 1))
    return "\n".join(lines) + "\n"


def section(name: str, rows: dict[str, dict], marks: str = "") -> list[str]:
    """Lines of Markdown: the name as a heading, or in bold type, and the table."""
    title = name.replace("_", " ")
    return [f"{marks} {title}" if marks else f"**{title}**", "", *table_of(rows)]


def table_of(rows: dict[str, dict[str, Any]]) -> list[str]:
    """Lines of a Markdown table, one for each row, and an empty line."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(cell(row[c]) if c in row else "" for c in columns) + " |")
    return [*lines, ""]


def cell(value: float | str | None) -> str:
    """Formats a value: three decimals, small numbers with three significant digits, integers whole; None is n/a."""
    if not isinstance(value, float):
        return "n/a" if value is None else str(value)
    return f"{value:.3g}" if 0 < abs(value) < 0.01 else f"{value:.3f}"
