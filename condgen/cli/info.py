"""`condgen info MODEL`: describes a model from its files; loads the weights only of encoders."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from condgen.cli.terminal import bytes_of, human, show_json, table

HELP = "describe a model: parts, options, labels or space, metrics"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which model."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="a name that `condgen list` shows, or a path")
    parser.add_argument("--json", action="store_true", help="as JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Prints the facts."""
    from condgen.files.registry import find

    facts = facts_of(find(args.model))
    if args.json:
        show_json(facts)
    else:
        print("\n".join(lines_of(facts)))
    return 0


def facts_of(folder: Path) -> dict:
    """Collects the facts about a model from its files.

    Raises:
        CondgenError: the index or a part is missing or damaged.
    """
    from condgen.files.registry import INDEX
    from condgen.pipelines.auto import kind_of
    from condgen.pipelines.base import model_id_of

    pipeline = kind_of(folder).pipeline_class
    index = pipeline.read_index(folder)
    modules = pipeline.sketch(folder, index)
    parts = sizes_of(folder, modules)
    options = {
        name.replace("_", " "): [asdict(option) for option in module.sampling_options]
        for name, module in modules.items()
        if hasattr(module, "sampling_options")
    }
    return {
        "name": index.get("name", folder.name),
        "model_id": model_id_of(folder, pipeline.part_types(index, folder / INDEX)),
        "path": str(folder),
        "bytes": bytes_of(folder),
        "parameters": sum(part["parameters"] for part in parts.values()),
        "parts": parts,
        "options": options,
        **pipeline.facts(folder, index, modules),
        "recipe": index.get("recipe"),
        "metrics": index.get("metrics"),
        "index": index,
    }


def sizes_of(folder: Path, modules: dict) -> dict[str, dict]:
    """Reads class, number of parameters and bytes of every part.

    Raises:
        CondgenError: weights are missing or damaged, do not fit the config of their part, or are not finite.
    """
    from condgen.files.weights import WEIGHTS, read_tensors, tensors_of

    sizes = {}
    for name, module in modules.items():
        file = folder / name / WEIGHTS
        is_sketched = any(True for _ in module.parameters())  # not an encoder of another library
        tensors = tensors_of(module, folder / name) if is_sketched else read_tensors(file)
        count = sum(tensor.numel() for tensor in tensors.values())
        sizes[name] = {"class": type(module).__name__, "parameters": count, "bytes": file.stat().st_size}
    return sizes


def lines_of(facts: dict) -> list[str]:
    """Formats the facts as text."""
    index = facts["index"]
    head = [
        ("name", facts["name"]),
        ("path", f"{facts['path']} ({human(facts['bytes'])})"),
        ("images", f"{facts['size']} x {facts['size']}{', grey' if facts.get('image_channels') == 1 else ''}"),
        ("sizes", ", ".join(map(str, sizes)) if len(sizes := facts.get("sizes", [])) > 1 else ""),
        ("priors", ", ".join(facts.get("priors", ()))),
        ("embeds", facts.get("embeds")),
        ("translates", facts.get("translates")),
        ("latent", facts.get("latent")),
        ("embed_dim", facts.get("embed_dim")),
        ("context", facts.get("context")),
        ("model_id", facts["model_id"]),
        ("space", facts.get("space")),
        *((key, index.get(key)) for key in ("recipe", "data")),
        ("parameters", f"{facts['parameters']:,}"),
    ]
    head = [(name, value) for name, value in head if value]
    parts = [(n, f"{p['parameters']:,}", human(p["bytes"]), p["class"]) for n, p in facts["parts"].items()]
    lines = table(head, indent=0)
    lines += ["labels and attributes", *table(facts["attributes"].items())] if "attributes" in facts else []
    lines += ["parts", *table(parts)]
    lines += ["options", *_option_lines(facts["options"])] if facts["options"] else []
    if isinstance(facts["metrics"], dict):
        lines += ["metrics", *table(_metric_rows(facts["metrics"]))]
    return lines


def _option_lines(options: dict[str, list[dict]]) -> list[str]:
    rows = []
    for part, declared in options.items():
        for option in declared:
            flag = f"--{option['name'].replace('_', '-')}"
            limits = f"{option['low']:g} to {option['high']:g}, default {option['default']:g}"
            rows.append((flag, limits, part, option["help"]))
    return table(rows)


def _metric_rows(metrics: dict, prefix: str = "") -> list[tuple[str, str]]:
    """One row per dict of numbers, named by its keys from the root."""
    numbers = {name: value for name, value in metrics.items() if not isinstance(value, dict)}
    text = ", ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in numbers.items())
    rows = [(prefix, text)] if text else []
    for name, value in metrics.items():
        if isinstance(value, dict):
            rows += _metric_rows(value, f"{prefix}, {name}" if prefix else name)
    return rows
