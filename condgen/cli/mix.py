"""`condgen mix A B...`: interpolation between two prompts or images, or a mixture of several with weights."""

from __future__ import annotations

import argparse
from pathlib import Path

from condgen.cli.editing import add_editing_arguments, open_model, options_of
from condgen.cli.generate import line_of
from condgen.cli.terminal import MAX_ON_SHEET, comma_separated, counted, save_sheet, say
from condgen.contracts import CondgenError

HELP = "mix prompts and images: interpolation between two, or several with weights"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The ends, their weights, and the number of images."""
    text = "a prompt, or an image file"
    parser.add_argument("ends", nargs="+", metavar="END", help=text)
    text = "a weight for each end, such as 2,1,1; without weights, two ends are interpolated"
    parser.add_argument("--weights", type=comma_separated, metavar="W,W", help=text)
    text = "images between the ends, with both (default 8); or images of one mixture (default 4)"
    parser.add_argument("-n", type=int, metavar="N", help=text)
    text = "noise of the decoder: slerp (default) mixes the inverted noises of images, so that the ends are the images"
    parser.add_argument("--noise", choices=("slerp", "fixed"), default="slerp", help=text)
    parser.add_argument("--prior", metavar="P", help="the prior of the prompts, or `none`")
    add_editing_arguments(parser, "mixture")


def run(args: argparse.Namespace) -> int:
    """Writes the images, a sheet, and for an interpolation an animation."""
    ends, weights = [end_of(text) for text in args.ends], args.weights and numbers(args.weights)
    if len(ends) < 2:
        raise CondgenError("A mixture has two ends or more, prompts or image files; got one.")
    model = open_model(args)
    options = options_of(args, model.sampling_options(args.prior))
    given = {"seed": args.seed, "noise": args.noise, "prior": args.prior} | options
    between = len(ends) == 2 and weights is None
    if between:
        total = 8 if args.n is None else args.n
        images = model.interpolate(*ends, n=total, **given)
    else:
        total = 4 if args.n is None else args.n
        images = model.mix(ends, weights, n=total, **given)
    frames = []
    with counted(images, total) as (items, show):
        for generated in items:
            show(line_of(generated, generated.save(args.out), args.json))
            share = f"{generated.recipe['weights'][1]:.0%}" if between else f"seed {generated.seed}"
            frames.append((generated.image, share))
    columns = min(total, 12) if between else 0
    say(f"sheet: {save_sheet(frames[:MAX_ON_SHEET], total, args.out, columns)}")
    if between:
        from condgen.files.images import gif, grid, write_beside

        animation = gif([grid([image], [""]) for image, _ in frames], ms=120)
        say(f"animation: {write_beside(args.out / 'mix.gif', animation)}")
    return 0


def end_of(text: str) -> str | Path:
    """A prompt, or the path of an image file.

    Raises:
        CondgenError: the text is the name of an image, and there is no such file.
    """
    from condgen.data.formats.registry import IMAGE_NAMES

    path = Path(text).expanduser()
    try:
        if path.is_file():
            return path
    except OSError:  # too long for a name
        return text
    if path.suffix.lower() in IMAGE_NAMES and " " not in path.suffix:
        raise CondgenError(f"There is no image {text}. Give the path of an image file, or words.")
    return text


def numbers(texts: tuple[str, ...]) -> list[float]:
    """The weights; `CondgenError` for a text that is no number."""
    try:
        return [float(text) for text in texts]
    except ValueError:
        raise CondgenError(f"--weights expects numbers separated by commas, got {','.join(texts)}.") from None
