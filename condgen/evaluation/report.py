"""A report on disk: JSON for scripts, Markdown for people, a sheet of images for everybody."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

from PIL import Image

from condgen.contracts import CondgenError
from condgen.evaluation.embed import Example
from condgen.files.images import grid, make_folder, png_bytes, write_bytes

SCORES = "## Scores"
FILES = ("report.json", "report.md", "sheet.png", "neighbours.png", "space.png", "samples.png")
KEPT = (
    *("scene_eval", "pictures_judged", "swap_accuracy", "retrieval", "parts"),
    *("judge", "accuracy", "accuracy_seen", "accuracy_never_seen", "distances", "classifier_trained_on_generated"),
    *("features", "collapse", "new_head", "coverage", "variety", "categories"),
    *("translation", "there_and_back", "attributes"),
)


def finite(value):
    """The same report with None in the place of numbers that are none: JSON knows no NaN."""
    if isinstance(value, dict):
        return {name: finite(one) for name, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_out(out: Path) -> None:
    """`CondgenError` where a report could not be written because a folder has the name of one of its files."""
    if taken := [name for name in FILES if os.path.isdir(out / name)]:
        raise CondgenError(f"{out / taken[0]} is a folder; the report goes there. Move it, or choose another with -o.")


def write(out: Path, report: dict, sheets: dict[str, list[Example]], pictures: dict[str, bytes] | None = None) -> None:
    """Writes `report.json`, `report.md` and every sheet and image, as PNG of that name, into a folder."""
    make_folder(out)
    write_bytes(out / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    write_bytes(out / "report.md", markdown(report).encode())
    for name, shown in sheets.items():
        cells = [Image.fromarray(picture.transpose(1, 2, 0)) for _, picture, _ in shown]
        labels = [("" if ok else "(wrong) ") + caption for caption, _, ok in shown]
        write_bytes(out / f"{name}.png", png_bytes(grid(cells, labels, columns=8, cell=128)))
    for name, png in (pictures or {}).items():
        write_bytes(out / f"{name}.png", png)


def record(folder: Path, report: dict) -> None:
    """Writes the scores into a model folder: the last section of its card, and `metrics` of its index."""
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8") if card.exists() else f"# {report['model']}\n"
    text = text.split(SCORES)[0].rstrip()
    write_bytes(card, f"{text}\n\n{SCORES}\n\n{markdown(report, 2)}".encode())
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    index["metrics"] = {k: v for k, v in report.items() if k in KEPT}
    write_bytes(folder / "model_index.json", (json.dumps(index, indent=2) + "\n").encode())


def markdown(report: dict, level: int = 1) -> str:
    """A report as Markdown: one table for every group of equal keys."""
    lines = [f"{'#' * level} {report['model']} ({report['model_id']})", ""] if level == 1 else []
    for name, value in report.items():
        if not isinstance(value, dict):
            continue
        lines += [f"{'#' * (level + 1)} {name.replace('_', ' ')}", ""]
        rows = {k: v for k, v in value.items() if isinstance(v, dict)}
        if rows and all(isinstance(x, dict) for row in rows.values() for x in row.values()):
            lines.append(markdown(value, level + 1))
        elif rows:
            lines += table_of(rows)
        else:
            lines += table_of({"": value})
    return "\n".join(lines) + "\n"


def table_of(rows: dict[str, dict[str, float | str | None]]) -> list[str]:
    """Lines of a Markdown table, one for each row and an empty one."""
    columns = list(dict.fromkeys(c for row in rows.values() for c in row))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(cell(row[c]) if c in row else "" for c in columns) + " |")
    return [*lines, ""]


def cell(value: float | str | None) -> str:
    """Shares have three digits, small numbers three that count; counts are whole; what cannot be said is n/a."""
    if not isinstance(value, float):
        return "n/a" if value is None else str(value)
    return f"{value:.3g}" if 0 < abs(value) < 0.01 else f"{value:.3f}"
