"""`condgen evaluate MODEL`: judges a model, see `condgen.evaluation`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from condgen.cli.generate import check_folder
from condgen.cli.terminal import say

HELP = "judge a model: does it paint what the words say?"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Named as the arguments of `condgen.evaluation.evaluate`."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="a name that `condgen list` shows, or a path")
    parser.add_argument("-o", "--out", type=Path, metavar="REPORT", help="folder for report.json, report.md, sheet.png")
    parser.add_argument("--data", default="", metavar="PATH", help="captioned pictures to judge on; scenes need none")
    parser.add_argument("--split", default="test", help="which part of the data (default test)")
    parser.add_argument("--pictures", type=int, default=4, metavar="N", help="pictures of every prompt (default 4)")
    parser.add_argument("--prompts", type=int, default=50, metavar="N", help="prompts of every task (default 50)")
    parser.add_argument("--ablate", type=int, default=20, metavar="N", help="prompts of every ablation; 0 for none")
    parser.add_argument("--parts", default="", metavar="FILE", help="parquet of the layers that pictures are made of")
    parser.add_argument("--card", action="store_true", help="write the scores into the model's card, too")
    parser.add_argument("--json", action="store_true", help="the report as JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Prints the report as Markdown or JSON."""
    from condgen.models import find

    if args.out is not None:
        check_folder(args.out)
    folder = find(args.model)
    from condgen.evaluation import evaluate, markdown

    chosen = {name: getattr(args, name) for name in ("out", "data", "split", "prompts", "pictures", "ablate", "parts")}
    with telling() as told:
        report = evaluate(folder, **chosen, told=told)
    if args.card:
        from condgen.evaluation.report import record

        record(folder, report)
    print(json.dumps(report, indent=2) if args.json else markdown(report))
    return 0


@contextmanager
def telling() -> Iterator[Callable[[float, str], None]]:
    """A function for progress: moves a bar on a terminal, writes lines elsewhere."""
    if not sys.stderr.isatty():
        yield lambda share, what: say(f"{share:.0%} {what}")
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("judging", total=1.0)
        yield lambda share, what: bar.update(task, completed=share, description=what)
