"""`condgen export MODEL --to LIBRARY -o DIR`: an encoder for open_clip or transformers, verified before it is kept."""

from __future__ import annotations

import argparse
from pathlib import Path

from condgen.cli.terminal import check_folder, show_json
from condgen.contracts import CondgenError

HELP = "write an encoder for open_clip or transformers"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, the library and the folder."""
    text = "a model or run with an encoder: a name that `condgen list` shows, or a path"
    parser.add_argument("model", nargs="?", metavar="MODEL", help=text)
    parser.add_argument("--to", choices=("open_clip", "transformers"), help="the library that will read it")
    parser.add_argument("-o", "--out", type=Path, metavar="DIR", help="folder to write, which must not exist")
    parser.add_argument("--json", action="store_true", help="print the differences as JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Prints the folder and the largest difference between the embeddings of both libraries."""
    if args.to is None or args.out is None:
        raise CondgenError("Give the library with --to open_clip or transformers, and the folder with -o DIR.")
    check_folder(args.out)
    from condgen.data.embeddings.compute import load_encoder
    from condgen.encoders.interop.convert import export

    differences = export(*load_encoder(args.model), args.to, args.out)
    if args.json:
        show_json({"path": str(args.out), "largest_difference": differences})
    else:
        print(f"{args.out}  largest difference: text {differences['text']:.1e}, image {differences['image']:.1e}")
    return 0
