"""`condgen list`: what can be trained, what can paint, and what can search."""

from __future__ import annotations

import argparse
from pathlib import Path

from condgen.cli.terminal import bytes_of, human, show_json, table
from condgen.files.registry import LABELS, LATENTS, PAIRS, PICTURES, TRANSLATORS, WORDS

HELP = "list recipes and models"
KINDS = {
    "words": ("Models of words", "generate PROMPT --model NAME"),
    "labels": ("Models of labels", "sample --label L --model NAME"),
    "codes": ("Models of codes", "sample --model NAME"),
    "pictures": ("Models of images", "translate NAME PICTURE"),
    "": ("Encoders", "search NAME --data PATH QUERY"),
}
"""What a model paints from, nothing or something: a title, and a command."""
FROM = {WORDS: "words", LABELS: "labels", LATENTS: "codes", TRANSLATORS: "pictures", PAIRS: "", PICTURES: ""}


CROSSED = 4
"""Kinds that so many collections have are listed once."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Only how to print it."""
    parser.add_argument("--json", action="store_true", help="as JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Prints recipes by family, then the models that were found."""
    recipes, models = recipe_rows(), model_rows()
    if args.json:
        show_json({"recipes": recipes, "models": models})
        return 0
    print("\n".join([*recipe_lines(recipes), "", *model_lines(models)]))
    return 0


def recipe_rows() -> list[dict]:
    """name, family, sizes and help of every recipe."""
    from condgen.recipes import RECIPES

    return [{"name": n, "family": r.family, "sizes": list(r.sizes), "help": r.help} for n, r in RECIPES.items()]


def recipe_lines(rows: list[dict]) -> list[str]:
    """Recipes for people, by family; where each of several collections has each of several kinds, either once."""
    lines = ["Recipes (condgen train NAME -o runs/NAME):"]
    for family in dict.fromkeys(row["family"] for row in rows):
        own = [row for row in rows if row["family"] == family]
        crossed = [row for row in own if _kind(row) and sum(_kind(row) == _kind(one) for one in own) >= CROSSED]
        lines += [f"  {family}", *table([(r["name"], r["help"]) for r in own if r not in crossed], indent=4)]
        if crossed:
            kinds = {_kind(row): row["help"].rpartition(", by ")[2] for row in crossed}
            collections = {row["name"].partition("-")[0]: row["help"].rpartition(", by ")[0] for row in crossed}
            lines += ["    COLLECTION-KIND, as in " + crossed[0]["name"], *table(collections.items(), indent=6)]
            lines += table([(f"-{kind}", told) for kind, told in kinds.items()], indent=6)
    return lines


def _kind(row: dict) -> str:
    return row["name"].partition("-")[2]


def model_rows() -> list[dict]:
    """name, path, size on disk and what the index says of every model."""
    from condgen.files.registry import about, found

    return [_model_row(name, folder, about(folder)) for name, folder in found().items()]


def _model_row(name: str, folder: Path, index: object) -> dict:
    index = index if isinstance(index, dict) else {}
    kept = {key: index.get(key) for key in ("recipe", "data", "size", "priors")}
    kept["kind"] = kind = index.get("_class_name")
    kept["paints"] = FROM.get(kind, "words") if isinstance(kind, str) else "words"
    return {"name": name, "path": str(folder), "bytes": bytes_of(folder)} | kept


def model_lines(rows: list[dict]) -> list[str]:
    """Models for people."""
    if not rows:
        return ["No models found. Train one: condgen train scenes32 -o runs/scenes32."]
    lines = []
    for paints, (title, command) in KINDS.items():
        own = [row for row in rows if row["paints"] == paints]
        shown = [(r["name"], f"{r['size']} px" if r["size"] else "", human(r["bytes"]), r["path"]) for r in own]
        lines += [f"{title} (condgen {command}):", *table(shown)] if own else []
    return lines
