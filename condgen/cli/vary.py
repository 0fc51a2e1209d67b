"""`condgen vary IMAGE...`: variations of images, and a sheet of them beside the images."""

from __future__ import annotations

import argparse

from condgen.cli.editing import add_editing_arguments, open_model, options_of, some_words
from condgen.cli.generate import line_of
from condgen.cli.terminal import MAX_ON_SHEET, counted, save_sheet, say

HELP = "generate variations of images"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The images, and how far variations are from them."""
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files")
    parser.add_argument("-n", type=int, default=4, metavar="N", help="variations of each image (default 4)")
    text = "from 0, the image itself, to 1, another image of about its subject (default 0.5; with --prompt 1)"
    parser.add_argument("--strength", type=float, metavar="S", help=text)
    text = "words that every variation should show; with them, variations can be stronger"
    parser.add_argument("--prompt", type=some_words, metavar="WORDS", help=text)
    add_editing_arguments(parser, "image")


def run(args: argparse.Namespace) -> int:
    """Writes the variations; every row of the sheet begins with the image."""
    model = open_model(args)
    from condgen.pipelines.editing.base import InputImage

    images = [InputImage.read(model, path) for path in args.images]
    options = options_of(args, model.decoder.sampling_options)
    made = model.vary(images, args.n, args.strength, args.seed, args.prompt or "", **options)
    cells, total = [], len(images) * args.n
    with counted(made, total) as (items, show):
        for k, generated in enumerate(items):
            show(line_of(generated, generated.save(args.out), args.json))
            if k % args.n == 0:
                image = images[k // args.n]
                cells.append((image.image(), image.name))
            cells.append((generated.image, f"seed {generated.seed}"))
    say(f"sheet: {save_sheet(cells[:MAX_ON_SHEET], len(cells), args.out, 1 + min(args.n, 19))}")
    return 0
