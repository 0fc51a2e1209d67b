"""`condgen benchmark -o DOCS`, see `condgen.benchmarks`."""

from __future__ import annotations

import argparse
from pathlib import Path

from condgen.cli.terminal import add_training_device, check_folder, comma_separated, progress_bar
from condgen.contracts import CondgenError
from condgen.nn.devices import train_on

HELP = "train every baseline for a minute, evaluate it, and write one illustrated page"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `condgen.benchmarks.run_benchmark`."""
    parser.add_argument("-o", "--out", type=Path, metavar="DOCS", help="folder of baselines.md and its images")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/benchmark"), help="folder of the runs (default runs/benchmark)"
    )
    text = "digits, fashion, cifar10 or pictures (default digits)"
    parser.add_argument("--dataset", default="digits", metavar="NAME", help=text)
    parser.add_argument("--data", default="", metavar="PATH", help="path of the images; not needed for digits")
    parser.add_argument("--minutes", type=float, default=1.0, help="minutes of every training (default 1)")
    add_training_device(parser)
    parser.add_argument("--seed", type=int, default=0, help="seed of every training (default 0)")
    parser.add_argument(
        "--sections", type=comma_separated, default=(), metavar="A,B", help="train only these (default all)"
    )


def run(args: argparse.Namespace) -> int:
    """Prints the page's path."""
    if args.out is None:
        raise CondgenError("Name the folder of the page: -o docs.")
    if not args.minutes > 0:
        raise CondgenError(f"--minutes must be above 0, got {args.minutes:g}.")
    for folder in (args.out, args.runs):
        check_folder(folder)
    train_on(args.device)
    from condgen.benchmarks import Benchmark, run_benchmark

    with progress_bar("benchmark") as progress:
        benchmark = Benchmark(args.out, args.runs, args.dataset, args.data, args.minutes, args.seed, progress)
        print(run_benchmark(benchmark, args.sections))
    return 0
