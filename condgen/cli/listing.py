"""`condgen list`: recipes that can be trained, and trained models."""

from __future__ import annotations

import argparse
from pathlib import Path

from condgen.cli.terminal import bytes_of, human, show_json, table
from condgen.files.registry import unfinished_runs
from condgen.pipelines.auto import KINDS

HELP = "list recipes and models"
GRID = 4
"""Networks with recipes for at least this many data sets are listed once, as DATASET-NETWORK."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The output format."""
    parser.add_argument("--json", action="store_true", help="as JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Prints recipes by family, then the models that were found."""
    recipes, models = recipe_rows(), model_rows()
    if args.json:
        show_json({"recipes": recipes, "models": models, "unfinished": [str(run) for run in unfinished_runs()]})
    else:
        print("\n".join([*recipe_lines(recipes), "", *model_lines(models), *run_lines(unfinished_runs())]))
    return 0


def recipe_rows() -> list[dict]:
    """Lists name, family, sizes and help of every recipe."""
    from condgen.recipes import RECIPES

    return [{"name": n, "family": r.family, "sizes": list(r.sizes), "help": r.help} for n, r in RECIPES.items()]


def recipe_lines(rows: list[dict]) -> list[str]:
    """Formats recipes by family; a grid of data sets and networks is listed as its two axes."""
    lines = ["Recipes (condgen train NAME -o runs/NAME):"]
    for family in dict.fromkeys(row["family"] for row in rows):
        members = [row for row in rows if row["family"] == family]
        networks = [_network(row) for row in members]
        grid = [row for row in members if _network(row) and networks.count(_network(row)) >= GRID]
        lines += [f"  {family}", *table([(r["name"], r["help"]) for r in members if r not in grid], indent=4)]
        if grid:
            axes: tuple[dict, dict] = ({}, {})
            for row in grid:
                dataset, _, network = row["name"].partition("-")
                axes[0][dataset], _, axes[1][f"-{network}"] = row["help"].rpartition(", by ")
            lines += ["    DATASET-NETWORK, as in " + grid[0]["name"]]
            lines += [line for axis in axes for line in table(axis.items(), indent=6)]
    return lines


def _network(row: dict) -> str:
    return row["name"].partition("-")[2]


def run_lines(runs: list[Path]) -> list[str]:
    """Formats the runs that are not finished."""
    heading = "Runs that are not finished (condgen export RUN makes a model of the last checkpoint):"
    return [heading, *table((run.name, run) for run in runs)] if runs else []


def model_rows() -> list[dict]:
    """Lists name, path, size on disk, task and some fields of the index of every model."""
    from condgen.files.registry import about, found

    return [model_row(name, folder, about(folder)) for name, folder in found().items()]


def model_row(name: str, folder: Path, index: dict) -> dict:
    """The facts about one model; the index may be damaged."""
    fields = {key: index.get(key) for key in ("recipe", "data", "size", "priors")}
    larger = index.get("upsamplers")
    fields["sizes"] = [fields["size"], *larger] if isinstance(larger, list) else [fields["size"]]
    fields["kind"] = kind = index.get("_class_name")
    fields["task"] = KINDS[kind].task if isinstance(kind, str) and kind in KINDS else None
    return {"name": name, "path": str(folder), "bytes": bytes_of(folder)} | fields


def model_lines(rows: list[dict]) -> list[str]:
    """Formats models by kind, unknown kinds last."""
    if not rows:
        return ["No models found. Train one: condgen train scenes32 -o runs/scenes32."]
    headings = {kind.task: f"{kind.title} (condgen {kind.command.format('NAME')}):" for kind in KINDS.values()}
    lines = []
    for task, heading in (headings | {None: "Models of unknown kind:"}).items():
        shown = [row for row in rows if row["task"] == task]
        sizes = [", ".join(map(str, r["sizes"])) for r in shown]
        cells = [
            (r["name"], f"{size} px" if r["size"] else "", human(r["bytes"]), r["path"])
            for r, size in zip(shown, sizes)
        ]
        lines += [heading, *table(cells)] if shown else []
    return lines


def _pixels(sizes: list) -> str:
    return f"{', '.join(map(str, sizes))} px" if sizes[0] else ""
