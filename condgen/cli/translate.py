"""`condgen translate MODEL PATH...`: images to images, with a translator."""

from __future__ import annotations

import argparse
from pathlib import Path

from condgen.cli.terminal import (
    MAX_ON_SHEET,
    add_device_argument,
    add_output_arguments,
    check_device,
    check_folder,
    counted,
    save_sheet,
    say,
)
from condgen.contracts import CondgenError, to_json

HELP = "translate images to images: line art to colour, squares to circles"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The images, and the side to translate to."""
    parser.add_argument("model", metavar="MODEL", help="a name that `condgen list` shows, or a path")
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="images, or folders of them")
    parser.add_argument("--to", default="", metavar="NAME", help="side to translate to, for models with two directions")
    parser.add_argument("--edges", action="store_true", help="translate the edges of the images, as edges2picture does")
    text = "how images become square (default as in training)"
    parser.add_argument("--resize", choices=("crop", "pad"), help=text)
    add_device_argument(parser)
    add_output_arguments(parser, "print one JSON object per image on stdout")


def run(args: argparse.Namespace) -> int:
    """Prints the files that were written, and makes a sheet of inputs and outputs."""
    from condgen.files.registry import find

    check_folder(args.out)
    files = image_files(args.paths)
    folder = find(args.model)
    from condgen.pipelines.translator import Translator

    check_device(args.device)
    model = Translator.load(folder).to(args.device)
    model.net(args.to)
    shown = []
    translations = model.translations(files, args.to, args.resize, args.edges)
    with counted(translations, len(files)) as (translations, show):
        for one in translations:
            path = one.save(args.out)
            facts = {"from": str(one.source), "to": one.to, "path": str(path)}
            show(to_json(facts) if args.json else f"{path}  {one.to} from {one.source}")
            if len(shown) < MAX_ON_SHEET:
                shown += [(one.given, one.source.name), (one.image, f"to {one.to}")]
    if len(files) > 1:
        say(f"sheet: {save_sheet(shown, 2 * len(files), args.out, columns=8)}")
    return 0


def image_files(paths: list[Path]) -> list[Path]:
    """The files among the paths, and the images in the folders among them.

    Raises:
        CondgenError: a path does not exist, or a folder holds no images.
    """
    from condgen.data.formats.registry import SUFFIXES, Listing, unread_lines
    from condgen.data.sources.images import list_files

    files: list[Path] = []
    for path in map(Path.expanduser, paths):
        if not path.exists():
            raise CondgenError(f"{path} does not exist. Give images, or folders of them.")
        listing = list_files(path) if path.is_dir() else Listing(path.parent)
        unread = [f"{path}: {line}" for line in unread_lines(listing.unread)]
        below = listing.images if path.is_dir() else [path]
        if not below:
            raise CondgenError("\n".join([f"{path} holds no images ({', '.join(sorted(SUFFIXES))}).", *unread]))
        for line in unread:
            say(line)
        files += below
    return files
