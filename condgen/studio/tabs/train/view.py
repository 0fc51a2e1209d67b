"""What the Train tab shows: recipe cards, rows of runs, and the details of a run."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condgen.recipes import RECIPES
from condgen.recipes.choice import typical_minutes
from condgen.studio.tabs.train.curves import figure
from condgen.studio.tabs.train.data_check import DataCheck
from condgen.studio.tabs.train.runs import Run, Stage, sheets_of
from condgen.studio.tabs.train.trainings import Trainings

DATA = re.compile(r"; --data is (.+?)(?=, by |$)")


def recipe_groups() -> list[dict[str, Any]]:
    """All recipes, grouped by what they make, for `components.recipe_cards`."""
    groups: dict[str, list[dict[str, str]]] = {}
    for name, recipe in RECIPES.items():
        text = (
            DATA.sub("", recipe.help).replace("or --data images", "or your own images").replace("by --kind", "a choice")
        )
        needs = (found := DATA.search(recipe.help)) and found[1]
        data = f"Needs data: {needs or 'your own'}." if recipe.needs_data else "Needs no data."
        minutes = typical_minutes(name)
        time = f"About {minutes} minute{'s' * (minutes > 1)} on one CPU core."
        text = text if any(map(str.isdigit, text.split()[0])) else f"{text[:1].upper()}{text[1:]}"
        card = {"name": name, "text": f"{text}.", "data": data, "time": time}
        groups.setdefault(recipe.family, []).append(card)
    return [{"label": f"{family[:1].upper()}{family[1:]}", "recipes": cards} for family, cards in groups.items()]


@dataclass(frozen=True)
class Shown:
    """The list of trainings and the details of one: rows, HTML, sample sheets, what it has printed."""

    rows: dict[str, Any]
    details: str = ""
    frames: tuple[dict[str, str], ...] = ()
    log: str = ""
    active: bool = False


def shown(trainings: Trainings, selected: str, with_folder: bool, url: Callable[[Path], str]) -> Shown:
    """What the list of trainings shows; the first one if the selected one is not there.

    Args:
        with_folder: whether its folder may be shown.
        url: the address of a file.
    """
    runs = trainings.list()
    chosen = next((run for run in runs if run.name == selected), runs[0] if runs else None)
    rows = {"runs": [run_row(run) for run in runs], "selected": chosen.name if chosen else ""}
    if chosen is None:
        return Shown(rows)
    stages, log = trainings.stages(chosen.name), trainings.log(chosen.name)
    text = details(chosen, stages, str(chosen.folder.resolve()) if with_folder else "")
    printed = f'<pre class="tr-text" tabindex="0">{html.escape(log)}</pre>' if log else ""
    return Shown(rows, text, tuple(frames(chosen, stages, url)), printed, any(run.active for run in runs))


def run_row(run: Run) -> dict[str, Any]:
    """A run for `components.run_list`."""
    has_checkpoint = any(True for _ in run.folder.glob("checkpoints/*/step-*"))
    usable = run.model or (has_checkpoint and (run.folder / "parts" / "unfinished").is_dir())
    return {
        "name": run.name, "state": run.state, "recipe": run.recipe, "progress": run.progress,
        "text": described(run, has_checkpoint), "message": run.message, "usable": usable,
    }  # fmt: skip


def described(run: Run, has_checkpoint: bool) -> str:
    """A run in one line."""
    parts = [run.stage] if run.stage else ["starting"] if run.active else ["not begun"]
    if run.images:
        parts.append(f"{run.images:,} images")
    if run.seconds:
        parts.append(f"{duration(run.seconds)} of training")
    if run.left is not None and run.state == "running":
        parts.append(f"about {duration(run.left)} left")
    if run.loss is not None:
        parts.append(f"loss {run.loss:.4g}")
    if run.state == "stopping":
        parts.append("it ends its step and saves a checkpoint")
    if run.state == "stopped":
        parts.append("goes on from its last checkpoint" if has_checkpoint else "has no checkpoint")
    return " · ".join(parts)


def duration(seconds: float) -> str:
    """Seconds in words: 40 s, 12 min, 3 h 20 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def details(run: Run, stages: dict[str, Stage], folder: str = "") -> str:
    """The losses and the scores of a run as HTML; its folder where it may be shown."""
    parts = [f"<h3>{html.escape(run.name)}</h3>"]
    if folder:
        parts.append(f'<p class="cg-info">Folder: <code>{html.escape(folder)}</code></p>')
    for stage in reversed(list(stages.values())):
        parts.append(figure(f"Loss of {stage.name}", stage.losses))
        rows = "".join(
            f'<tr><th scope="row">{html.escape(curve.name)}</th><td>{curve.y[0]:.4g}</td><td>{curve.y[-1]:.4g}</td>'
            f"<td>{curve.x[-1]:,.0f}</td></tr>"
            for curve in stage.scores
        )
        head = "".join(f'<th scope="col">{title}</th>' for title in (stage.name, "first", "last", "after images"))
        head = head.replace(stage.name, html.escape(stage.name))
        parts.append(f'<table class="tr-scores"><thead><tr>{head}</tr></thead>{rows}</table>' if rows else "")
    if not stages:
        parts.append("<p>Losses appear here after the first seconds of training.</p>")
    return "".join(parts)


def frames(run: Run, stages: dict[str, Stage], url: Callable[[Path], str]) -> list[dict[str, str]]:
    """The sample sheets of a run for `components.film`; `url` gives the address of a file."""
    return [
        {"url": url(file), "caption": f"{stage}, {images:,} images"}
        for file, stage, images in sheets_of(run.folder, stages)
        if not file.is_symlink()
    ]


def report(found: DataCheck, url: str) -> str:
    """The report of a data check as HTML; `url` is the address of the sheet."""
    sheet = (
        f'<div class="tr-sheet" tabindex="0"><img src="{html.escape(url)}" alt="Some of the images"></div>'
        if url
        else ""
    )
    return f'<div class="tr-report"><pre class="tr-text" tabindex="0">{html.escape(found.text)}</pre>{sheet}</div>'


def note(text: str) -> str:
    """A message below a control."""
    return f'<p role="status">{html.escape(text)}</p>' if text else ""
