"""`condgen edit IMAGE --from T0 --to T1`: changes in an image what differs between two sentences."""

from __future__ import annotations

import argparse
from pathlib import Path

from condgen.cli.editing import add_editing_arguments, open_model, options_of, some_words
from condgen.cli.generate import line_of
from condgen.cli.terminal import MAX_ON_SHEET, counted, save_sheet, say

HELP = "change in an image what differs between two sentences"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Writes the images and, if there are several, a sheet of them beside the original."""
    parser.add_argument("image", type=Path, metavar="IMAGE", help="an image file")
    parser.add_argument("--from", dest="source", type=some_words, metavar="T0", help="what it shows, in words")
    parser.add_argument("--to", dest="target", required=True, metavar="T1", help="what it should show")
    text = "prior-diff (default): difference of what a prior predicts for the sentences; text-diff: that of the paper"
    parser.add_argument("--method", choices=("prior-diff", "text-diff"), default="prior-diff", help=text)
    text = "how far to go, from 0 to 1; several make a strip (default 1, of text-diff 0.35)"
    parser.add_argument("--theta", type=float, nargs="+", metavar="THETA", help=text)
    text = "noise level at which generation begins; lower keeps more of the layout (default: chosen of several)"
    parser.add_argument("--noise", type=float, metavar="T", help=text)
    parser.add_argument("--prior", metavar="P", help="a prior of the model (default regression)")
    parser.add_argument("-n", type=int, default=1, metavar="N", help="images of every theta (default 1)")
    add_editing_arguments(parser, "theta")


def run(args: argparse.Namespace) -> int:
    """Edits the image with every theta."""
    model = open_model(args)
    from condgen.pipelines.base import seeds_from
    from condgen.pipelines.editing.base import Editor, InputImage
    from condgen.pipelines.editing.edit import edit, edits

    image, seeds, editor = InputImage.read(model, args.image), seeds_from(args.seed, args.n), Editor(model)
    options = options_of(args, model.sampling_options(args.prior))
    thetas, source = args.theta or [None], args.source or ""
    wanted = [edits(model, image, source, args.target, theta, args.method, args.noise, args.prior) for theta in thetas]
    images = (one for operation in wanted for one in edit(editor, operation, seeds, args.noise is None, **options))
    shown = [(image.image(), image.name)]
    with counted(images, len(wanted) * args.n) as (images, show):
        for generated in images:
            show(line_of(generated, generated.save(args.out), args.json))
            theta = generated.recipe.get("theta", 0)
            shown.append((generated.image, f"theta {theta:g}, seed {generated.seed}"))
    columns = 1 + len(wanted) if args.n == 1 else 1 + args.n
    say(f"sheet: {save_sheet(shown[:MAX_ON_SHEET], len(shown), args.out, min(columns, 10))}")
    return 0
