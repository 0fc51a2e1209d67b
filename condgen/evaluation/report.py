"""A report on disk: JSON for scripts, Markdown for people, a sheet of pictures for everybody."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from condgen.evaluation.embeds import Example
from condgen.paintings import grid, make_folder, write_bytes

SCORES = "## Scores"


def write(out: Path, report: dict, shown: list[Example]) -> None:
    """Writes `report.json`, `report.md` and `sheet.png` into a folder."""
    make_folder(out)
    write_bytes(out / "report.json", (json.dumps(report, indent=2) + "\n").encode())
    write_bytes(out / "report.md", markdown(report).encode())
    pictures = [Image.fromarray(picture.transpose(1, 2, 0)) for _, picture, _ in shown]
    labels = [("" if ok else "(wrong) ") + caption for caption, _, ok in shown]
    grid(pictures, labels, columns=8, cell=128).save(out / "sheet.png")


def record(folder: Path, report: dict) -> None:
    """Writes the scores into a model folder: the last section of its card, and `metrics` of its index."""
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8") if card.exists() else f"# {report['model']}\n"
    text = text.split(SCORES)[0].rstrip()
    write_bytes(card, f"{text}\n\n{SCORES}\n\n{markdown(report, 2)}".encode())
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    index["metrics"] = {k: v for k, v in report.items() if k in ("scene_eval", "swap_accuracy", "retrieval", "parts")}
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
            lines += _table(rows)
        else:
            lines += _table({"": value})
    return "\n".join(lines) + "\n"


def _table(rows: dict[str, dict[str, float]]) -> list[str]:
    columns = list(dict.fromkeys(c for row in rows.values() for c in row))
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(f"{row[c]:.3f}" if c in row else "" for c in columns) + " |")
    return [*lines, ""]
