"""`condgen export MODEL --to LIBRARY -o DIR`: an encoder for open_clip or transformers, compared before it counts."""

from __future__ import annotations

import argparse
from pathlib import Path

from condgen.cli.generate import check_folder
from condgen.cli.terminal import show_json
from condgen.contracts import CondgenError

HELP = "write an encoder for open_clip or transformers"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What, for whom and where to."""
    text = "a model or run with an encoder: a name that `condgen list` shows, or a path"
    parser.add_argument("model", nargs="?", metavar="MODEL", help=text)
    parser.add_argument("--to", choices=("open_clip", "transformers"), help="the library that shall read it")
    parser.add_argument("-o", "--out", type=Path, metavar="DIR", help="folder to write, which is not there yet")
    parser.add_argument("--json", action="store_true", help="the differences as JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Prints the folder and how far its vectors are from ours."""
    if args.to is None or args.out is None:
        raise CondgenError("Give the library with --to open_clip or transformers, and the folder with -o DIR.")
    check_folder(args.out)
    from condgen.data.embeddings.compute import load_encoder
    from condgen.encoders.interop.convert import export

    told = export(*load_encoder(args.model), args.to, args.out)
    if args.json:
        show_json({"path": str(args.out), "largest_difference": told})
    else:
        print(f"{args.out}  largest difference: text {told['text']:.1e}, image {told['image']:.1e}")
    return 0
