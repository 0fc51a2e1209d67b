"""`condgen encode MODEL --text T --data PATH -o e.parquet`: embeddings of texts and images, for other tools."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from condgen.cli.search import add_reading, reading
from condgen.cli.terminal import check_device, check_folder, human, progress_bar, show_json
from condgen.contracts import CondgenError

HELP = "write the embeddings of texts and images, for other tools to read"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The encoder, texts and images, and the file to write."""
    parser.add_argument("model", metavar="MODEL", help="an encoder, or a text-to-image model")
    text = "a text; - reads texts from stdin, one per line"
    parser.add_argument("--text", action="append", default=[], metavar="T", help=text)
    add_reading(parser)
    text = "file: .parquet, or .npy with .npy.jsonl beside it; replaced if it exists"
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help=text)
    parser.add_argument("--json", action="store_true", help="print what was written as JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Prints the file."""
    if args.out is None or args.out.suffix not in (".npy", ".parquet") or args.out.is_dir():
        raise CondgenError("Give the file of the embeddings: -o e.parquet, or -o e.npy.")
    if not args.text and not args.data:
        raise CondgenError("There is nothing to encode. Give texts with --text, or images with --data PATH.")
    check_folder(args.out.parent)
    texts = texts_of(args.text)
    from condgen.retrieval.search import encode, encoder_of

    check_device(args.device)
    encoder = encoder_of(args.model).to(args.device)
    with progress_bar("encoding") as progress:
        vectors = encode(encoder, texts, args.data, **reading(args), progress=progress)
    vectors.write(args.out)
    facts = {"path": str(args.out), "rows": len(vectors), "texts": len(texts), "images": len(vectors) - len(texts)}
    facts |= {"embed_dim": vectors.embeds.shape[1], "bytes": args.out.stat().st_size} | vectors.about
    if args.json:
        show_json(facts)
    else:
        counts = f"{facts['texts']:,} texts, {facts['images']:,} images, {facts['embed_dim']} numbers each"
        print(f"{args.out}  {counts}, space {facts['space']}, {human(facts['bytes'])}")
    return 0


def texts_of(given: list[str]) -> list[str]:
    """The texts of the command line; - stands for the non-empty lines of stdin.

    Raises:
        CondgenError: stdin is not UTF-8 text, or empty.
    """
    texts: list[str] = []
    for text in given:
        if text != "-":
            texts.append(text)
            continue
        try:
            lines = [line for line in sys.stdin.read().splitlines() if line.strip()]
        except ValueError:
            raise CondgenError("Standard input is not UTF-8 text. Expected texts, one per line.") from None
        if not lines:
            raise CondgenError("Standard input is empty. Expected texts, one per line.")
        texts += lines
    return texts
