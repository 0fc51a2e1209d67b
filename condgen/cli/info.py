"""`condgen info MODEL`: what a model is, from its files; of a model that paints, no weights are loaded."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from condgen.cli.terminal import bytes_of, human, show_json, table

HELP = "tell what a model is: parts, options, labels or space, metrics"


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
    """Everything about a model that its files tell.

    Raises:
        CondgenError: the index or a part is missing or damaged.
    """
    from condgen.files.registry import LABELS, LATENTS, PAIRS, PICTURES, TRANSLATORS, kind_of
    from condgen.pipelines.base import model_id_of

    ways = {LABELS: of_labels, LATENTS: of_codes, TRANSLATORS: of_translator} | dict.fromkeys(
        (PAIRS, PICTURES), of_encoder
    )
    index, modules, own = ways.get(kind_of(folder), of_words)(folder)
    parts = sizes_of(folder, modules)
    options = {
        name.replace("_", " "): module.sampling_options
        for name, module in modules.items()
        if hasattr(module, "sampling_options")
    }
    return {
        "name": index.get("name", folder.name),
        "model_id": model_id_of(folder),
        "path": str(folder),
        "bytes": bytes_of(folder),
        "parameters": sum(part["parameters"] for part in parts.values()),
        "parts": parts,
        "options": {name: [asdict(option) for option in declared] for name, declared in options.items()},
        **own,
        "recipe": index.get("recipe"),
        "metrics": index.get("metrics"),
        "index": index,
    }


def of_words(folder: Path) -> tuple[dict, dict, dict]:
    """Index and parts of a model that paints words, and what only such a model has."""
    from condgen.encoders.interop.load import sketch_pair
    from condgen.pipelines.text_to_image import GIVEN, parts_of, read_index

    index = read_index(folder)
    modules = sketches(folder, parts_of(index))
    if index.get("encoder") != GIVEN:
        modules = {"clip": sketch_pair(folder)} | modules
    own = {"priors": [*index["priors"], "none"], "space": modules["normaliser"].spec.space}
    return index, modules, {"size": modules["decoder"].spec.size} | own


def of_labels(folder: Path) -> tuple[dict, dict, dict]:
    """Index and part of a model that paints labels, and what only such a model has."""
    from condgen.files.registry import INDEX
    from condgen.pipelines.class_to_image import factors_of, parts_of, read_index, span

    index = read_index(folder)
    modules = sketches(folder, parts_of(index))
    attributes = {attribute.name: span(attribute, most=100) for attribute in factors_of(index, folder / INDEX)}
    shape = modules["decoder"].spec
    return index, modules, {"size": shape.size, "attributes": attributes, "image_channels": shape.image_channels}


def of_translator(folder: Path) -> tuple[dict, dict, dict]:
    """Index and generators of a translator, and what it translates."""
    from condgen.pipelines.translator import parts_of, read_index

    index = read_index(folder)
    modules = sketches(folder, parts_of(index))
    size = next(iter(modules.values())).spec.size
    return index, modules, {"size": size, "translates": (" and " if len(modules) > 1 else " to ").join(index["sides"])}


def of_codes(folder: Path) -> tuple[dict, dict, dict]:
    """Index and parts of a model that is told nothing, and what only such a model has."""
    from condgen.files.registry import LATENTS
    from condgen.pipelines.base import index_of
    from condgen.pipelines.latent import parts_of

    index = index_of(folder, LATENTS)
    modules = sketches(folder, parts_of(index, folder))
    net = modules[index["net"]]
    shape = {"size": net.spec.size, "image_channels": net.spec.image_channels, "latent": net.config.latent}
    return index, modules, shape


def of_encoder(folder: Path) -> tuple[dict, dict, dict]:
    """Index and net of an encoder, and what only such a model has. Its weights are read, for they name its space."""
    from condgen.files.registry import about
    from condgen.pipelines.auto import open_model
    from condgen.pipelines.encoder import TextImageEncoder

    encoder = open_model(folder)
    own = {"size": encoder.size, "knows": "pictures", "space": encoder.space}
    if isinstance(encoder, TextImageEncoder):
        own |= {"knows": "images and words", "embed_dim": encoder.embed_dim, "context": encoder.tokenizer.context}
    return about(folder), {encoder.PART: encoder.net}, own


def sketches(folder: Path, parts: dict) -> dict:
    """Every part by the name of its folder, on the meta device: shape and options without numbers."""
    from condgen.files.weights import sketch_part

    return {name: sketch_part(kind, folder / name) for name, kind in parts.items()}


def sizes_of(folder: Path, modules: dict) -> dict[str, dict]:
    """Class, number of parameters and bytes of every part, from the headers of the weights."""
    from condgen.files.weights import WEIGHTS, parameter_count

    sizes = {}
    for name, module in modules.items():
        files = sorted((folder / name).glob("*.safetensors")) or [folder / name / WEIGHTS]
        count, size = sum(map(parameter_count, files)), sum(file.stat().st_size for file in files)
        sizes[name] = {"class": type(module).__name__, "parameters": count, "bytes": size}
    return sizes


def lines_of(facts: dict) -> list[str]:
    """The facts for people."""
    index = facts["index"]
    head = [
        ("name", facts["name"]),
        ("path", f"{facts['path']} ({human(facts['bytes'])})"),
        ("pictures", f"{facts['size']} x {facts['size']}{', grey' if facts.get('image_channels') == 1 else ''}"),
        ("priors", ", ".join(facts.get("priors", ()))),
        ("knows", facts.get("knows")),
        ("translates", facts.get("translates")),
        ("latent", facts.get("latent")),
        ("embed_dim", facts.get("embed_dim")),
        ("context", facts.get("context")),
        ("model_id", facts["model_id"]),
        ("space", facts.get("space")),
        *((key, index.get(key)) for key in ("recipe", "data")),
        ("parameters", f"{facts['parameters']:,}"),
    ]
    head = [(what, told) for what, told in head if told]
    parts = [(n, f"{p['parameters']:,}", human(p["bytes"]), p["class"]) for n, p in facts["parts"].items()]
    attributes = ["labels and attributes", *table(facts["attributes"].items())] if "attributes" in facts else []
    lines = [*table(head, indent=0), *attributes, "parts", *table(parts)]
    lines += ["options", *_option_lines(facts["options"])] if facts["options"] else []
    if isinstance(facts["metrics"], dict):
        lines += ["metrics", *table(_metric_rows(facts["metrics"]))]
    return lines


def _option_lines(options: dict[str, list[dict]]) -> list[str]:
    rows = []
    for part, declared in options.items():
        for option in declared:
            flag = f"--{option['name'].replace('_', '-')}"
            span = f"{option['low']:g} to {option['high']:g}, default {option['default']:g}"
            rows.append((flag, span, part, option["help"]))
    return table(rows)


def _metric_rows(metrics: dict, before: str = "") -> list[tuple[str, str]]:
    """Numbers that belong together in a line, named by the way to them."""
    plain = {name: value for name, value in metrics.items() if not isinstance(value, dict)}
    told = ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in plain.items()
    )
    rows = [(before, told)] if told else []
    for name, value in metrics.items():
        if isinstance(value, dict):
            rows += _metric_rows(value, f"{before}, {name}" if before else name)
    return rows
