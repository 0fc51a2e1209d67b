"""The report of a comparison: JSON, Markdown, and one HTML file with embedded images."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path

from PIL import Image

from condgen.contracts import to_json
from condgen.evaluation.base import Report
from condgen.evaluation.report import cell, table_of
from condgen.files.images import png_bytes, write_bytes
from condgen.files.plots import Curve, plot

FILES = ("report.json", "report.md", "report.html", "side_by_side.png", "time.png", "cost.png")
EXPLAINED = {
    "models": "What was trained, and for how long.",
    "scores": "Each model evaluated alike, means over the seeds; *real* is the score of real images.",
    "accuracy": "Of the images of each class, the share that the classifier recognises.",
    "options": "A smaller evaluation with one option changed: the cost of an image, and its quality.",
    "scene_eval_seen": "SceneEval on combinations that training showed.",
    "scene_eval_held_out": "SceneEval on combinations that it never showed.",
}
Figures = dict[str, tuple[str, bytes]]
"""File name -> (title, PNG)."""


def write(out: Path, report: Report, sheet: Image.Image) -> None:
    """Writes FILES into a folder; omits plots without points."""
    measure = "accuracy" if report["kind"] == "class_to_image" else "overall"
    time_curves = [Curve(name, *points) for name, points in report["time"].items() if points[0]]
    cost_curves = []
    for name, rows in report["options"].items():
        chosen = [row for setting, row in rows.items() if setting.startswith("steps")] or [rows["default"]]
        cost_curves.append(Curve(name, [row["milliseconds per image"] for row in chosen], [r[measure] for r in chosen]))
    cost = plot(cost_curves, "milliseconds per image", measure, log=True)
    figures = {
        "side_by_side.png": ("The same conditions and seeds", png_bytes(sheet)),
        "time.png": (f"{measure} over the minutes of training", plot(time_curves, "minutes of training", measure)),
        "cost.png": (f"{measure} against the cost of an image", cost),
    }
    figures = {name: (title, png) for name, (title, png) in figures.items() if png}
    write_bytes(out / "report.json", (to_json(report, indent=2) + "\n").encode())
    write_bytes(out / "report.md", markdown(report, figures).encode())
    write_bytes(out / "report.html", html(report, figures).encode())
    for name, (_, png) in figures.items():
        write_bytes(out / name, png)


def _head(report: Report) -> list[str]:
    lines = [f"{len(report['compared'])} models, {len(report['seeds'])} seeds."]
    if "classifier" in report:
        lines += [f"Data: {report['data']}."]
        lines += [f"{name}: {cell(value)}." for name, value in report["classifier"].items()]
    return lines


def _tables(report: Report) -> dict[str, dict[str, dict]]:
    """The tables of the report: title -> rows."""
    tables = {name: report[name] for name in EXPLAINED if report.get(name) and name != "options"}
    options = {f"{name}, {setting}": row for name, rows in report["options"].items() for setting, row in rows.items()}
    return tables | {"options": options}


def markdown(report: Report, figures: Figures) -> str:
    """The report as Markdown; figures are files in the same folder."""
    lines = [f"# {' · '.join(report['compared'])}", "", *_head(report), ""]
    for name, (title, _) in figures.items():
        lines += [f"![{title}]({name})", ""]
    for name, rows in _tables(report).items():
        lines += [f"## {name.replace('_', ' ')}", "", EXPLAINED[name], "", *table_of(rows)]
    return "\n".join(lines)


def html(report: Report, figures: Figures) -> str:
    """The report as one HTML file with embedded figures."""
    parts = [f"<h1>{escape(' · '.join(report['compared']))}</h1>", *[f"<p>{escape(one)}</p>" for one in _head(report)]]
    for title, png in figures.values():
        data = base64.b64encode(png).decode()
        parts += [f"<h2>{escape(title)}</h2>", f'<img alt="{escape(title)}" src="data:image/png;base64,{data}">']
    for name, rows in _tables(report).items():
        columns = list(dict.fromkeys(column for row in rows.values() for column in row))
        head = _html_row("th", ["", *columns])
        body = "".join(_html_row("td", [cell(row.get(c, "")) for c in columns], title) for title, row in rows.items())
        parts.append(f"<h2>{escape(name.replace('_', ' '))}</h2><p>{escape(EXPLAINED[name])}</p>")
        parts.append(f"<div class=wide><table>{head}{body}</table></div>")
    return PAGE.format(title=escape(" · ".join(report["compared"])), body="\n".join(parts))


def _html_row(tag: str, cells: list[str], title: str | None = None) -> str:
    first = "" if title is None else f"<th>{escape(title)}</th>"
    return f"<tr>{first}{''.join(f'<{tag}>{escape(one)}</{tag}>' for one in cells)}</tr>"


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
img {{ max-width: 100% }} table {{ border-collapse: collapse; font-size: 13px }} .wide {{ overflow-x: auto }}
th, td {{ padding: .3rem .6rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap }}
th:first-child {{ text-align: left }}
</style></head><body>
{body}
</body></html>
"""
