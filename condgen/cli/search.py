"""`condgen search MODEL --data PATH QUERY...`: the images nearest to a text or to an image, and a sheet of them."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path

from condgen.cli.data import TRAINED, add_read_options, read_options_of
from condgen.cli.terminal import add_device_argument, check_device, check_folder, progress_bar, say, show_json, table
from condgen.contracts import CondgenError

HELP = "find images by text, or by an image"
ON_SHEET = 50, 200
"""Maximum number of queries, and of images, on a sheet."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The queries and the images; queries after an option arrive as `more`, since argparse takes them in one place."""
    parser.set_defaults(more=[])
    parser.add_argument("model", metavar="MODEL", help="an encoder, or a text-to-image model")
    parser.add_argument("queries", nargs="*", metavar="QUERY", help="a text, or the path of an image")
    parser.add_argument("--text", action="append", default=[], metavar="T", help="a query that is text")
    parser.add_argument("--image", action="append", default=[], metavar="FILE", help="a query that is an image")
    add_reading(parser)
    parser.add_argument("-n", type=int, default=9, metavar="N", help="images per query (default 9)")
    text = "file for a sheet of the results (default search.png; none with --json)"
    parser.add_argument("-o", "--out", type=Path, metavar="PNG", help=text)
    text = "folder that keeps the embeddings (default: `search` in condgen's cache)"
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help=text)
    parser.add_argument("--json", action="store_true", help="print the results as JSON on stdout")


def add_reading(parser: argparse.ArgumentParser) -> None:
    """The images and how they are read, and where to compute."""
    text = "a folder of images; captioned or labelled ones; shards"
    parser.add_argument("--data", default="", metavar="PATH", help=text)
    parser.add_argument("--split", default="all", help="split of the data (default all)")
    add_read_options(
        parser, "image_column caption_column split_column label_column filter column_types value_range resize", TRAINED
    )
    add_device_argument(parser)


def reading(args: argparse.Namespace) -> dict:
    """Arguments of `retrieval.search.gallery_of`: the split and how to read the data."""
    return {"split": args.split} | read_options_of(args)


def run(args: argparse.Namespace) -> int:
    """Prints the files found, and writes the sheet."""
    if any(word.startswith("-") for word in args.more):
        args.parser.refuse(args.more)
    if not args.data:
        raise CondgenError("Give the images with --data PATH, for example a folder.")
    if not (args.queries or args.more or args.text or args.image):
        raise CondgenError("There is no query. Give a text, for example 'a red circle', or the path of an image.")
    out = args.out or (None if args.json else Path("search.png"))
    if out is not None:
        check_sheet(out)
    from condgen.retrieval.search import Finder, TextQuery, encoder_of, gallery_of

    check_device(args.device)
    encoder = encoder_of(args.model).to(args.device)
    finder = Finder(encoder, gallery_of(encoder, args.data, **reading(args)))
    queries = [*args.queries, *args.more, *map(TextQuery, args.text), *map(Path, args.image)]
    finder.check(queries, args.n)
    with progress_bar("embedding") as progress:
        finder.embed(args.cache, progress)
    found = finder.find(queries, args.n)
    if args.json:
        show_json([asdict(one) for one in found])
    else:
        print("\n".join(line for one in found for line in lines_of(one)))
    if out is not None:
        say(f"sheet: {write_sheet(finder, found, queries, out)}")
    return 0


def check_sheet(path: Path) -> None:
    """Raises `CondgenError` if no sheet can be written to the path."""
    if path.suffix.lower() != ".png" or path.is_dir():
        raise CondgenError(f"The sheet is a PNG, and cannot be {str(path)!r}. Give -o such a name: search.png.")
    check_folder(path.parent)


def lines_of(found) -> list[str]:
    """Formats the hits of one query."""
    return [found.query, *table([(f"{hit.score:.3f}", hit.file, hit.text) for hit in found.hits])]


def write_sheet(finder, found: list, queries: list, path: Path) -> Path:
    """Writes the sheet, see `files.images.write_beside`; reports what it leaves out."""
    from condgen.files import images

    shown = found[: ON_SHEET[0]]
    each = max(1, ON_SHEET[1] // len(shown))
    if len(shown) < len(found) or len(shown[0].hits) > each:
        say(f"The sheet shows {len(shown)} of {len(found)} queries, with {each} images at most.")
    images.make_folder(path.parent)
    sheet = finder.sheet([replace(one, hits=one.hits[:each]) for one in shown], queries)
    return images.write_sheet(path, sheet, keep=True)
