"""`condgen encode MODEL --text T --data PATH -o e.parquet`: embeddings of texts and images, for other tools."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from condgen.cli.evaluate import telling
from condgen.cli.generate import check_device, check_folder
from condgen.cli.search import add_reading, reading
from condgen.cli.terminal import human, show_json
from condgen.contracts import CondgenError

HELP = "write the embeddings of texts and images, for other tools to read"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to encode, and where to."""
    parser.add_argument("model", metavar="MODEL", help="an encoder, or a model that paints words")
    text = "a text; - reads texts from stdin, one a line"
    parser.add_argument("--text", action="append", default=[], metavar="T", help=text)
    add_reading(parser)
    text = "file: .parquet, or .npy with .npy.jsonl beside it; one that is there is replaced"
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help=text)
    parser.add_argument("--json", action="store_true", help="what was written, as JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Prints the file."""
    if args.out is None or args.out.suffix not in (".npy", ".parquet") or args.out.is_dir():
        raise CondgenError("Say where to write the embeddings: -o e.parquet, or -o e.npy.")
    if not args.text and not args.data:
        raise CondgenError("There is nothing to encode. Give texts with --text, or images with --data PATH.")
    check_folder(args.out.parent)
    texts = texts_of(args.text)
    from condgen.retrieval.search import encode, encoder_of

    check_device(args.device)
    encoder = encoder_of(args.model).to(args.device)
    with telling("encoding") as told:
        vectors = encode(encoder, texts, args.data, **reading(args), progress=told)
    vectors.write(args.out)
    told = {"path": str(args.out), "rows": len(vectors), "texts": len(texts), "images": len(vectors) - len(texts)}
    told |= {"embed_dim": vectors.embeds.shape[1], "bytes": args.out.stat().st_size} | vectors.about
    if args.json:
        show_json(told)
    else:
        what = f"{told['texts']:,} texts, {told['images']:,} images, {told['embed_dim']} numbers each"
        print(f"{args.out}  {what}, space {told['space']}, {human(told['bytes'])}")
    return 0


def texts_of(given: list[str]) -> list[str]:
    """The texts of the command line, where - stands for the lines of stdin that are not empty.

    Raises:
        CondgenError: stdin is no UTF-8 text, or holds none.
    """
    texts: list[str] = []
    for text in given:
        if text != "-":
            texts.append(text)
            continue
        try:
            lines = [line for line in sys.stdin.read().splitlines() if line.strip()]
        except ValueError:
            raise CondgenError("What came on stdin is not UTF-8 text. Expected texts, one a line.") from None
        if not lines:
            raise CondgenError("No text came on stdin. Expected texts, one a line.")
        texts += lines
    return texts
