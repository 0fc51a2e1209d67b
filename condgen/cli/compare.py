"""`condgen compare RECIPE|MODEL ...`, see `condgen.benchmarks.compare`."""

from __future__ import annotations

import argparse
from pathlib import Path

from condgen.cli.terminal import add_training_device, check_folder, progress_bar, show_json
from condgen.contracts import CondgenError
from condgen.nn.devices import train_on

HELP = "train or take several models, evaluate them alike, and report them side by side"
BUDGET = ("minutes", "seed", "seeds", "per_label", "prompts")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `condgen.benchmarks.compare.compare`."""
    parser.add_argument("entries", nargs="+", metavar="RECIPE|MODEL", help="class-to-image recipes to train, or models")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="REPORT", help="folder for report and runs")
    parser.add_argument("--data", default="", metavar="PATH", help="labelled images (default: those of the models)")
    parser.add_argument("--minutes", type=float, default=2.0, metavar="M", help="minutes of every training (default 2)")
    parser.add_argument("--seed", type=int, default=0, help="seed of every training (default 0)")
    parser.add_argument("--seeds", type=int, default=3, metavar="K", help="number of evaluation rounds (default 3)")
    parser.add_argument("--per-label", type=int, default=100, metavar="N", help="images per class (default 100)")
    parser.add_argument("--prompts", type=int, default=25, metavar="N", help="prompts per task (default 25)")
    add_training_device(parser)
    parser.add_argument("--json", action="store_true", help="print the report as JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Prints the report as Markdown or JSON."""
    check_folder(args.out)
    budget = {name: getattr(args, name) for name in BUDGET}
    for name in ("minutes", "seeds", "per_label"):
        if not budget[name] > 0:
            raise CondgenError(f"--{name.replace('_', '-')} must be more than 0, got {budget[name]}.")
    train_on(args.device)
    from condgen.benchmarks.compare import compare

    with progress_bar("comparing") as progress:
        report = compare(args.entries, args.out, args.data, progress, **budget)
    if args.json:
        show_json(report)
    else:
        print((args.out / "report.md").read_text(encoding="utf-8"))
    return 0
