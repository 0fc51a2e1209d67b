"""`condgen invert IMAGE...`: the image embedding and the noise from which a model generates an image."""

from __future__ import annotations

import argparse

from condgen.cli.editing import add_editing_arguments, open_model
from condgen.cli.terminal import MAX_ON_SHEET, counted, save_sheet, say
from condgen.contracts import to_json

HELP = "find the embedding and the noise from which a model generates an image"
CURVE = (5, 12, 25, 50)
"""Numbers of steps of --curve."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Writes the reconstruction as PNG, and z and x_T beside it as .safetensors."""
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files")
    parser.add_argument("--steps", type=int, metavar="K", help="steps of the inversion (default 25)")
    curve = f"compare {', '.join(map(str, CURVE))} steps; prints the error of each"
    parser.add_argument("--curve", action="store_true", help=curve)
    add_editing_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Inverts every image; a sheet shows several reconstructions beside the images."""
    if args.curve and args.steps is not None:
        args.parser.error("--curve compares numbers of steps: leave --steps out")
    if args.more:
        args.parser.refuse(args.more)
    model = open_model(args)
    from condgen.pipelines.editing.base import InputImage

    images = [InputImage.read(model, path) for path in args.images]
    counts = CURVE if args.curve else (args.steps,)
    wanted = [(image, steps) for image in images for steps in counts]
    shown = []
    with counted(wanted, len(wanted)) as (items, show):
        for image, steps in items:
            result = model.invert(image, steps)
            path, took = result.save(args.out), result.reconstruction.recipe["steps"]
            facts = {"image": image.name, "steps": took, "psnr": round(result.psnr, 2), "path": str(path)}
            show(to_json(facts) if args.json else f"{path}  {took} steps  PSNR {result.psnr:.1f} dB")
            if len(shown) % (1 + len(counts)) == 0:
                shown.append((image.image(), image.name))
            shown.append((result.reconstruction.image, f"{took} steps, {result.psnr:.1f} dB"))
    if len(wanted) > 1:
        sheet = save_sheet(shown[:MAX_ON_SHEET], len(shown), args.out, 1 + len(counts))
        say(f"sheet: {sheet}")
    return 0
