"""`condgen benchmark -o DOCS`: trains small versions of all baselines and writes one illustrated page."""

from __future__ import annotations

import argparse
from pathlib import Path

from condgen.cli.terminal import check_folder, comma_separated, progress_bar
from condgen.contracts import CondgenError

HELP = "train every baseline for a minute, and write one illustrated page about them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Named as the arguments of `condgen.benchmarks.make_shelf`."""
    parser.add_argument("-o", "--out", type=Path, metavar="DOCS", help="folder of shelf.md and its images")
    parser.add_argument("--runs", type=Path, default=Path("runs/shelf"), help="of the trainings (default runs/shelf)")
    text = "digits, fashion, cifar10 or images (default digits)"
    parser.add_argument("--dataset", default="digits", metavar="NAME", help=text)
    parser.add_argument("--data", default="", metavar="PATH", help="where the images are; digits need none")
    parser.add_argument("--minutes", type=float, default=1.0, help="of every training (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of every training (default 0)")
    parser.add_argument("--chapters", type=comma_separated, default=(), metavar="A,B", help="only these (default all)")


def run(args: argparse.Namespace) -> int:
    """Prints the path of the page."""
    if args.out is None:
        raise CondgenError("Give the folder of the page: -o docs.")
    if not args.minutes > 0:
        raise CondgenError(f"--minutes must be above 0, got {args.minutes:g}.")
    for folder in (args.out, args.runs):
        check_folder(folder)
    from condgen.benchmarks import make_shelf

    with progress_bar("benchmark") as progress:
        chosen = (args.dataset, args.data, args.minutes, args.seed, args.chapters)
        print(make_shelf(args.out, args.runs, *chosen, progress=progress))
    return 0
