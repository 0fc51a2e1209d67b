"""`condgen translate MODEL PATH...`: images to images, by a model that was trained for it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from condgen.cli.generate import MOST_ON_SHEET, check_device, check_folder, progress, save_sheet
from condgen.cli.terminal import say
from condgen.contracts import CondgenError

HELP = "turn images into images: line art to colour, squares to circles"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which images, and what to make of them."""
    parser.add_argument("model", metavar="MODEL", help="a name that `condgen list` shows, or a path")
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="images, or folders of them")
    parser.add_argument("--to", default="", metavar="NAME", help="side to translate to, of models that go both ways")
    parser.add_argument("--edges", action="store_true", help="translate the edges of the images, as edges2picture")
    parser.add_argument("--resize", choices=("crop", "pad"), help="how they become square (default as in the training)")
    parser.add_argument("--device", default="cpu", help="where to compute: cpu (default), cuda, cuda:1, mps")
    parser.add_argument("-o", "--out", type=Path, default=Path("out"), help="folder, made if missing (default out)")
    parser.add_argument("--json", action="store_true", help="one JSON object an image on stdout")


def run(args: argparse.Namespace) -> int:
    """Prints the files that were written, and makes a sheet: each image, and beside it what became of it."""
    from condgen.files.registry import find

    check_folder(args.out)
    files = pictures_of(args.paths)
    folder = find(args.model)
    from condgen.pipelines.translator import Translator

    check_device(args.device)
    model = Translator.load(folder).to(args.device)
    model.net(args.to)
    shown = []
    done = model.translations(files, args.to, resize=args.resize, edges=args.edges)
    with progress(done, len(files)) as (translations, show):
        for one in translations:
            path = one.save(args.out)
            told = {"from": str(one.source), "to": one.to, "path": str(path)}
            show(json.dumps(told) if args.json else f"{path}  {one.to} from {one.source}")
            if len(shown) < MOST_ON_SHEET:
                shown += [(one.given, one.source.name), (one.image, f"to {one.to}")]
    if len(files) > 1:
        say(f"sheet: {save_sheet(shown, 2 * len(files), args.out, columns=8)}")
    return 0


def pictures_of(paths: list[Path]) -> list[Path]:
    """The files that are named, and the images in the folders that are.

    Raises:
        CondgenError: a path is not there, or a folder holds no images.
    """
    from condgen.data.sources.images import SUFFIXES
    from condgen.data.sources.rows import files_below

    files: list[Path] = []
    for path in paths:
        path = path.expanduser()
        if not path.exists():
            raise CondgenError(f"{path} is not there. Give images, or folders of them.")
        below = [file for file in files_below(path) if file.suffix.lower() in SUFFIXES] if path.is_dir() else [path]
        if not below:
            raise CondgenError(f"{path} holds no images ({', '.join(sorted(SUFFIXES))}).")
        files += below
    return files
