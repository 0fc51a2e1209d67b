"""`condgen import DIR -o MODEL`: an encoder of open_clip or transformers as a model of condgen."""

from __future__ import annotations

import argparse
from pathlib import Path

from condgen.cli.terminal import check_folder, say
from condgen.contracts import CondgenError

HELP = "convert an encoder of open_clip or transformers to a model of condgen"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The two folders."""
    parser.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="folder that the library wrote")
    parser.add_argument("-o", "--out", type=Path, metavar="MODEL", help="folder of the model, which must not exist")


def run(args: argparse.Namespace) -> int:
    """Prints the model's folder."""
    if args.folder is None or args.out is None:
        raise CondgenError("Give the folder that the library wrote, and the folder of the model with -o MODEL.")
    if args.out.exists():
        raise CondgenError(f"{args.out} exists. Choose another folder, or delete this one.")
    check_folder(args.out)
    from condgen.encoders.interop.convert import imported
    from condgen.pipelines.encoder import TextImageEncoder

    net, tokenizer, reason = imported(args.folder)
    name = args.out.resolve().name
    about = {"name": name, "recipe": "import", "data": f"unknown, imported from {args.folder.resolve().name}"}
    TextImageEncoder(net, tokenizer, about).save(args.out)
    say(f"kept in the format of its library: {reason}" if reason else "converted to towers of condgen")
    print(args.out)
    return 0
