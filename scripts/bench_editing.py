"""Measures the operations on image embeddings with the bundled model on held-out scenes, see docs/results.md.

    python scripts/bench_editing.py vary --images 200 --seeds 2

Every subcommand prints a table in Markdown with the number of images and the seeds, or JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import condgen

Rows = list[dict[str, Any]]
"""Rows of a table, all with the same columns."""


def shown(rows: Rows) -> str:
    """The rows as a table in Markdown."""
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(row.values() for row in rows)]
    cells = [[f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


COMMANDS: dict[str, Callable[[Any, argparse.Namespace], Rows]] = {}
"""Subcommand -> the function that measures it; its docstring is the help."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=COMMANDS, help="; ".join(f"{k}: {v.__doc__}" for k, v in COMMANDS.items()))
    parser.add_argument("--model", help="a name or path (default the bundled model)")
    parser.add_argument("--images", type=int, default=200, help="held-out scenes (default 200)")
    parser.add_argument("--seeds", type=int, default=2, help="seeds of each (default 2)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = COMMANDS[args.what](condgen.load(args.model), args)
    print(json.dumps(rows, indent=2) if args.json else shown(rows))


if __name__ == "__main__":
    main()
