"""`condgen info MODEL`: what a model is, from its files; no weights are loaded."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from condgen.cli.terminal import bytes_of, human, show_json, table

HELP = "tell what a model is: parts, dials, space, metrics"
SHOWN = ("name", "size", "priors", "recipe", "data")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which model."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="a name that `condgen list` shows, or a path")
    parser.add_argument("--json", action="store_true", help="as JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Prints the facts."""
    from condgen.models import find

    facts = facts_of(find(args.model))
    if args.json:
        show_json(facts)
    else:
        print("\n".join(lines_of(facts)))
    return 0


def facts_of(folder: Path) -> dict:
    """Everything about a model that its files tell.

    Raises:
        CondgenError: the index or a part is missing or damaged.
    """
    from condgen.nn.storage import CONFIG, read_json
    from condgen.pipeline import model_id_of, read_index

    index = read_index(folder)
    parts = parts_of(folder)
    return {
        "name": index.get("name", folder.name),
        "model_id": model_id_of(folder),
        "path": str(folder),
        "bytes": bytes_of(folder),
        "parameters": sum(part["parameters"] for part in parts.values()),
        "parts": parts,
        "size": read_json(folder / "decoder" / CONFIG).get("size"),
        "priors": [*index.get("priors", []), "none"],
        "dials": dials_of(folder, index.get("priors", [])),
        "space": read_json(folder / "normaliser" / CONFIG).get("space"),
        "recipe": index.get("recipe"),
        "metrics": index.get("metrics"),
        "index": index,
    }


def parts_of(folder: Path) -> dict[str, dict]:
    """Class, number of parameters and bytes of every part."""
    from condgen.nn.storage import CONFIG, WEIGHTS, parameter_count, read_json

    parts = {}
    for weights in sorted(folder.glob(f"*/{WEIGHTS}")):
        count = parameter_count(weights)
        name, kind = weights.parent.name, read_json(weights.parent / CONFIG).get("class")
        parts[name] = {"class": kind, "parameters": count, "bytes": weights.stat().st_size}
    return parts


def dials_of(folder: Path, priors: list[str]) -> dict[str, list[dict]]:
    """The dials of the decoder and of every prior, with range and default.

    They are asked of modules on the meta device, which hold no numbers.
    """
    import torch

    from condgen.decoders.diffusion import DiffusionDecoder, DiffusionDecoderConfig
    from condgen.nn.storage import CONFIG, config_from, read_json
    from condgen.pipeline import PRIORS

    path = folder / "decoder" / CONFIG
    values = {name: value for name, value in read_json(path).items() if name != "class"}
    with torch.device("meta"):
        decoder = DiffusionDecoder(config_from(DiffusionDecoderConfig, values, path))
    dials = {"decoder": decoder.knobs} | {f"prior {name}": PRIORS[name].knobs for name in priors if name in PRIORS}
    return {part: [asdict(knob) for knob in knobs] for part, knobs in dials.items()}


def lines_of(facts: dict) -> list[str]:
    """The facts for people."""
    index = facts["index"]
    head = [
        ("name", facts["name"]),
        ("path", f"{facts['path']} ({human(facts['bytes'])})"),
        ("pictures", f"{facts['size']} x {facts['size']}"),
        ("priors", ", ".join(facts["priors"])),
        ("model_id", facts["model_id"]),
        ("space", facts["space"]),
        *((key, index[key]) for key in ("recipe", "data") if index.get(key)),
        ("parameters", f"{facts['parameters']:,}"),
    ]
    parts = [(n, f"{p['parameters']:,}", human(p["bytes"]), p["class"]) for n, p in facts["parts"].items()]
    lines = [*table(head, indent=0), "parts", *table(parts), "dials", *_dial_lines(facts["dials"])]
    if isinstance(facts["metrics"], dict):
        lines += ["metrics", *table(facts["metrics"].items())]
    return lines


def _dial_lines(dials: dict[str, list[dict]]) -> list[str]:
    rows = []
    for part, knobs in dials.items():
        for knob in knobs:
            flag = f"--{knob['name'].replace('_', '-')}"
            span = f"{knob['low']:g} to {knob['high']:g}, default {knob['default']:g}"
            rows.append((flag, span, part, knob["help"]))
    return table(rows)
