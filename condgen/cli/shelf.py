"""`condgen shelf -o DOCS`: trains the whole shelf small and writes one illustrated page."""

from __future__ import annotations

import argparse
from pathlib import Path

from condgen.cli.evaluate import names, telling
from condgen.cli.generate import check_folder
from condgen.contracts import CondgenError

HELP = "train every baseline for a minute, and write one illustrated page about them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Named as the arguments of `condgen.benchmarks.make_shelf`."""
    parser.add_argument("-o", "--out", type=Path, metavar="DOCS", help="folder of shelf.md and its images")
    parser.add_argument("--runs", type=Path, default=Path("runs/shelf"), help="of the trainings (default runs/shelf)")
    text = "images: digits, fashion, cifar10 or images (default digits)"
    parser.add_argument("--collection", default="digits", metavar="NAME", help=text)
    parser.add_argument("--data", default="", metavar="PATH", help="where they are; digits need none")
    parser.add_argument("--minutes", type=float, default=1.0, help="of every training (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of every training (default 0)")
    parser.add_argument("--chapters", type=names, default=(), metavar="A,B", help="only these (default all)")


def run(args: argparse.Namespace) -> int:
    """Prints the page's path."""
    if args.out is None:
        raise CondgenError("Say where the page goes: -o docs.")
    if not args.minutes > 0:
        raise CondgenError(f"--minutes must be above 0, got {args.minutes:g}.")
    for folder in (args.out, args.runs):
        check_folder(folder)
    from condgen.benchmarks import make_shelf

    with telling("shelf") as told:
        chosen = (args.collection, args.data, args.minutes, args.seed, args.chapters)
        print(make_shelf(args.out, args.runs, *chosen, progress=told))
    return 0
