"""`condgen evaluate MODEL`, see `condgen.evaluation`."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

from condgen.cli.terminal import add_device_argument, check_device, check_folder, progress_bar, show_json
from condgen.contracts import CondgenError
from condgen.evaluation.options import KINDS, Options, flag

HELP = "evaluate a model: samples, reconstructions, translations or features"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `condgen.evaluate`, in groups by the models that they apply to."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="a name that `condgen list` shows, or a path")
    parser.add_argument("-o", "--out", type=Path, metavar="REPORT", help="folder for report.json, report.md and sheets")
    parser.add_argument("--features", action="store_true", help="evaluate the features of the model")
    add_device_argument(parser)
    parser.add_argument("--card", action="store_true", help="also write the scores into the model's card")
    parser.add_argument("--json", action="store_true", help="print the report as JSON on stdout")
    for owner, names in option_groups().items():
        group = parser.add_argument_group(owner.title)
        for name in names:
            argument = {one.name: one for one in fields(owner)}[name].metadata["argument"]
            group.add_argument(flag(name), dest=name, default=argparse.SUPPRESS, **argument)


def option_groups() -> dict[type[Options], list[str]]:
    """The dataclasses that declare options, base classes first, with the names that each declares."""
    owners = dict.fromkeys(owner for kind in KINDS for owner in reversed(kind.__mro__) if issubclass(owner, Options))
    return {owner: names for owner in owners if (names := list(_declared(owner)))}


def _declared(owner: type[Options]) -> dict[str, object]:
    return {name: kind for name, kind in owner.__annotations__.items() if name != "title"}


def run(args: argparse.Namespace) -> int:
    """Prints the report as Markdown or JSON."""
    from condgen import distributed
    from condgen.files.registry import find, is_foreign

    options = {name: getattr(args, name) for kind in KINDS for name in _names(kind) if hasattr(args, name)}
    for folder in (args.out, options.get("classifiers")):
        if folder is not None:
            check_folder(folder)
    foreign = is_foreign(args.model)
    if foreign and args.card:
        raise CondgenError(f"{args.model} is no model of condgen, with a card to write into: leave --card out.")
    if args.card and options.get("scene_eval") == 2:
        raise CondgenError("--card writes the scores of SceneEval: leave out --scene-eval 2, or --card.")
    path = args.model if foreign else find(args.model)
    check_device(args.device)
    from condgen.evaluation import evaluate, load, markdown

    distributed.join()
    try:
        with progress_bar("evaluating", quiet=distributed.rank() > 0) as progress:
            model = path if args.device == "cpu" else load(path).to(args.device)
            report = evaluate(model, out=args.out, features=args.features, progress=progress, **options)
        if distributed.rank():
            return 0
    finally:
        distributed.leave()
    if args.card:
        from condgen.evaluation.report import record

        record(path, report)
    if args.json:
        show_json(report)
    else:
        print(markdown(report))
    return 0


def _names(kind: type[Options]) -> list[str]:
    return [one.name for one in fields(kind)]
