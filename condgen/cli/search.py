"""`condgen search MODEL --data PATH QUERY...`: the images nearest to words or to an image, and a sheet of them."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path

from condgen.cli.data import add_columns
from condgen.cli.terminal import check_device, check_folder, progress_bar, say, show_json, table
from condgen.contracts import CondgenError

HELP = "find images by words, or by an image"
ON_SHEET = 50, 200
"""Queries, and images in all, that a sheet shows."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to look for, and where; queries behind an option come as `more`, for argparse takes them at one place."""
    parser.set_defaults(more=[])
    parser.add_argument("model", metavar="MODEL", help="an encoder, or a model that paints words")
    parser.add_argument("queries", nargs="*", metavar="QUERY", help="words, or the path of an image")
    parser.add_argument("--text", action="append", default=[], metavar="WORDS", help="a query that is words")
    parser.add_argument("--image", action="append", default=[], metavar="FILE", help="a query that is an image")
    add_reading(parser)
    parser.add_argument("-n", type=int, default=9, metavar="N", help="images for every query (default 9)")
    text = "sheet of what was found (default search.png; none with --json)"
    parser.add_argument("-o", "--out", type=Path, metavar="PNG", help=text)
    text = "keeps the embeddings of the images (default: search in condgen's own cache)"
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help=text)
    parser.add_argument("--json", action="store_true", help="what was found, as JSON on stdout")


def add_reading(parser: argparse.ArgumentParser) -> None:
    """The images and how they are read, and where to compute."""
    text = "a folder of images; captioned or labelled ones; shards"
    parser.add_argument("--data", default="", metavar="PATH", help=text)
    parser.add_argument("--split", default="all", help="which part of the data (default all)")
    add_columns(parser)
    parser.add_argument("--filter", default="", metavar="COLUMN=VALUE", help="only such rows; several with commas")
    text = "how images become square (default as in the training)"
    parser.add_argument("--resize", choices=("crop", "pad"), help=text)
    parser.add_argument("--device", default="cpu", help="where to compute: cpu (default), cuda, cuda:1, mps")


def reading(args: argparse.Namespace) -> dict:
    """How images are read, as `retrieval.search.gallery_of` calls it."""
    from condgen.data.sources.rows import Columns

    columns = Columns(args.image_column, args.caption_column, args.split_column, args.label_column)
    return {"split": args.split, "resize": args.resize, "columns": columns, "filter": args.filter}


def run(args: argparse.Namespace) -> int:
    """Prints the names of what was found, and writes the sheet."""
    if any(word.startswith("-") for word in args.more):
        args.parser.refuse(args.more)
    if not args.data:
        raise CondgenError("Say where to look: --data PATH, for example a folder of images.")
    if not (args.queries or args.more or args.text or args.image):
        raise CondgenError("There is no query. Give words, for example 'a red circle', or the path of an image.")
    out = args.out or (None if args.json else Path("search.png"))
    if out is not None:
        check_sheet(out)
    from condgen.retrieval.search import Finder, Words, encoder_of, gallery_of

    check_device(args.device)
    encoder = encoder_of(args.model).to(args.device)
    finder = Finder(encoder, gallery_of(encoder, args.data, **reading(args)))
    queries = [*args.queries, *args.more, *map(Words, args.text), *map(Path, args.image)]
    finder.check(queries, args.n)
    with progress_bar("embedding") as told:
        finder.embed(args.cache, told)
    found = finder.find(queries, args.n)
    if args.json:
        show_json([asdict(one) for one in found])
    else:
        print("\n".join(line for one in found for line in lines_of(one)))
    if out is not None:
        say(f"sheet: {write_sheet(finder, found, queries, out)}")
    return 0


def check_sheet(path: Path) -> None:
    """Raises `CondgenError` when no sheet could be written there."""
    if path.suffix.lower() != ".png" or path.is_dir():
        raise CondgenError(f"The sheet is a PNG, and cannot be {str(path)!r}. Give -o such a name: search.png.")
    check_folder(path.parent)


def lines_of(found) -> list[str]:
    """What one query found, for people."""
    return [found.query, *table([(f"{hit.score:.3f}", hit.file, hit.text) for hit in found.hits])]


def write_sheet(finder, found: list, queries: list, path: Path) -> Path:
    """Writes the sheet, see `paintings.write_beside`; tells what it leaves out."""
    from condgen.files.images import make_folder, png_bytes, write_beside

    shown = found[: ON_SHEET[0]]
    each = max(1, ON_SHEET[1] // len(shown))
    if len(shown) < len(found) or len(shown[0].hits) > each:
        say(f"The sheet shows {len(shown)} of {len(found)} queries, with {each} images at most.")
    make_folder(path.parent)
    sheet = finder.sheet([replace(one, hits=one.hits[:each]) for one in shown], queries)
    return write_beside(path, png_bytes(sheet))
