"""`condgen manifold interpolate|traverse|... MODEL`: looks at the space of codes behind images."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from condgen.cli import disentangle
from condgen.cli.evaluate import telling
from condgen.cli.generate import check_device, check_folder
from condgen.cli.terminal import say, show_json
from condgen.contracts import CondgenError

HELP = "look at a model's space of codes: lines, directions, tangents, holes, what is new to it"
PICTURE = "a file, the number of a row of the data, or seed:N, one that the model draws"

SEARCHED = 20
"""Real images whose codes are searched for where none are named."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One tool a question; each is the function of that name in `condgen.latent_space`."""
    tools = parser.add_subparsers(title="tools", dest="tool", metavar="TOOL", required=True)
    for name, (text, add, use) in TOOLS.items():
        own = tools.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        own.set_defaults(run=run, parser=own, use=use)
        own.add_argument("model", metavar="MODEL", help="an autoencoder, a GAN; or a CVAE or cGAN, see --told")
        add(own)
        own.add_argument("--data", default="", metavar="PATH", help="real images (default those of the training)")
        own.add_argument("--split", default="test", help="which part of the data to look at (default test)")
        own.add_argument("--filter", metavar="COLUMN=VALUE", help="only such rows of a table; several with commas")
        own.add_argument(
            "--attribute-columns", type=names, default=(), metavar="A,B", help="columns of attributes of the data"
        )
        own.add_argument(
            "--told", action="append", default=[], metavar="NAME=VALUE", help="condition of a CVAE or cGAN; several"
        )
        own.add_argument("--device", default="cpu", help="where to compute: cpu (default), cuda, cuda:1, mps")
        text = "folder for the images, made if missing (default out)"
        own.add_argument("-o", "--out", type=Path, default=Path("out"), metavar="FOLDER", help=text)
        own.add_argument("--json", action="store_true", help="the numbers as JSON on stdout")


def names(text: str) -> tuple[str, ...]:
    """Words with commas between them."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def whole(text: str) -> tuple[int, ...]:
    """Integers with commas between them."""
    return tuple(int(word) for word in names(text))


def numbers(text: str) -> tuple[float, ...]:
    """Numbers with commas between them."""
    return tuple(float(word) for word in names(text))


def count(text: str) -> int:
    """An integer from 1."""
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {value}")
    return value


def run(args: argparse.Namespace) -> int:
    """Prints the numbers, and writes the images."""
    from condgen.cli.sample import pairs

    check_folder(args.out)
    told = pairs(args.told, "--told")
    from condgen.files.registry import find

    folder = find(args.model)
    check_device(args.device)
    from condgen.latent_space.adapters import as_space
    from condgen.latent_space.inputs import Pictures
    from condgen.pipelines.auto import open_model

    space = as_space(open_model(folder).to(args.device), told)
    pictures = Pictures(
        space, args.data, args.split, {"filter": args.filter, "attribute_columns": args.attribute_columns}
    )
    with telling(args.tool) as progress:
        found = args.use(args, space, pictures, progress)
    written = found.save(args.out)
    head = {"model": space.name, "model_id": space.model_id}
    if args.json:
        show_json(head | found.numbers | {"files": [str(path) for path in written]})
    else:
        from condgen.evaluation.report import markdown

        print(markdown(head | found.numbers).rstrip())
    say(f"images: {', '.join(map(str, written))}")
    return 0


def among(pictures):
    """Real images to measure by: of the training, where it is known what they are."""
    from condgen.latent_space.density import MOST

    return pictures.known.images[:MOST] if pictures.source else None


def _pictures_argument(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("pictures", nargs="*", metavar="PICTURE", help=f"{PICTURE} (default {default})")
    parser.set_defaults(more=[])


def _words(args: argparse.Namespace, pictures, default: int) -> list[str]:
    """The images that were named, behind options too; or so many of the data."""
    if any(word.startswith("-") for word in args.more):
        args.parser.refuse(args.more)
    return [*args.pictures, *args.more] or pictures.some(default)


# The tools ------------------------------------------------------------------------------------------------------------


def _interpolate_arguments(parser: argparse.ArgumentParser) -> None:
    _pictures_argument(parser, "three pairs of the data")
    parser.add_argument("--steps", type=int, default=9, metavar="K", help="images of a way (default 9)")
    text = "some of pixels, line (of codes), sphere (an arc of codes); default all"
    parser.add_argument("--ways", type=names, default=("pixels", "line", "sphere"), metavar="A,B", help=text)


def _interpolate(args, space, pictures, progress):
    from condgen.latent_space import interpolate

    ends = pictures.named(_words(args, pictures, 6))
    if len(ends) % 2:
        raise CondgenError(f"A way has two ends: name an even number of images, not {len(ends)}.")
    return interpolate(space, ends[::2], ends[1::2], args.steps, args.ways, among(pictures))


def _traverse_arguments(parser: argparse.ArgumentParser) -> None:
    _pictures_argument(parser, "the first of the data")
    text = "numbers of the code to move, from 0 (default all, the most informative first)"
    parser.add_argument("--latents", type=whole, default=(), metavar="K,K", help=text)
    text = "how far, in standard deviations (default 2.5)"
    parser.add_argument("--range", type=float, default=2.5, metavar="R", help=text)
    parser.add_argument("--steps", type=int, default=9, metavar="K", help="images of a row (default 9)")


def _traverse(args, space, pictures, progress):
    from condgen.latent_space import traverse

    start = pictures.named(_words(args, pictures, 1))
    return traverse(space, start, args.latents, args.range, args.steps, among(pictures))


def _arithmetic_arguments(parser: argparse.ArgumentParser) -> None:
    text = "a class or value (colour=red) of the data, or images with commas between them; several"
    parser.add_argument("--plus", action="append", default=[], metavar="SET", help=text)
    parser.add_argument("--minus", action="append", default=[], metavar="SET", help="the same, taken away")
    parser.add_argument("-n", type=count, default=100, metavar="N", help="images of a class (default 100)")


def _arithmetic(args, space, pictures, progress):
    from condgen.latent_space import arithmetic

    sides = [[pictures.set_of(word, args.n) for word in words] for words in (args.plus, args.minus)]
    return arithmetic(space, *sides, among(pictures))


def _edit_arguments(parser: argparse.ArgumentParser) -> None:
    text = "what to change, a class or attribute of the data (default label)"
    parser.add_argument("--attribute", default="label", metavar="NAME", help=text)
    parser.add_argument("--to", required=True, metavar="VALUE", help="what images shall become")
    text = "what they are (default anything else)"
    parser.add_argument("--from", dest="start", default="", metavar="VALUE", help=text)
    text = "how far; 1 is as far as the classes are apart (default 0,0.5,1,1.5,2)"
    parser.add_argument("--strengths", type=numbers, default=(0.0, 0.5, 1.0, 1.5, 2.0), metavar="S,S", help=text)
    text = "find the direction by the means (default), a probe's normal, or a linear discriminant"
    parser.add_argument("--how", choices=("means", "probe", "lda"), default="means", help=text)
    text = "judge by a classifier, which is trained first and kept here (default a linear probe on pixels)"
    parser.add_argument("--judge", type=Path, metavar="FOLDER", help=text)


def _edit(args, space, pictures, progress):
    from condgen.latent_space import edit

    judge = None if args.judge is None else classifier(pictures.known, args.judge, progress)
    return edit(
        space, pictures.known, pictures.held, args.attribute, args.to, args.start, args.strengths, args.how, judge
    )


def classifier(known, folder: Path, progress) -> Callable:
    """A classifier of labelled images as a judge of edits."""
    from condgen.data.batches.captions import to_uint8
    from condgen.evaluation.classifier import ClassifierRun, features_of, kept_classifier, seen_in

    check_folder(folder)
    judge = kept_classifier(known, folder, ClassifierRun(), progress)
    return lambda images: seen_in(judge, features_of(judge, to_uint8(images)))


def _jacobian_arguments(parser: argparse.ArgumentParser) -> None:
    _pictures_argument(parser, "64 of the data")
    text = "random directions across the surface to hold its tangents against (default 64)"
    parser.add_argument("--across", type=count, default=64, metavar="M", help=text)
    text = "how far the sheet goes along a tangent, a pixel on the scale of -1 to 1 (default .1)"
    parser.add_argument("--eps", type=float, default=0.1, metavar="E", help=text)


def _jacobian(args, space, pictures, progress):
    from condgen.latent_space import jacobian

    at = pictures.named(_words(args, pictures, 64))
    return jacobian(space, at, args.across, args.eps, among(pictures), progress=progress)


def _project_arguments(parser: argparse.ArgumentParser) -> None:
    _pictures_argument(parser, "100 of the data, 20 for a search")
    text = "take images off the manifold first: noise, occlusion, or pixels (any value)"
    parser.add_argument("--spoil", choices=("noise", "occlusion", "pixels"), help=text)
    text = "sd of the noise, or share of the edge or of the pixels (default .5)"
    parser.add_argument("--strength", type=float, default=0.5, metavar="S", help=text)
    parser.add_argument("--rounds", type=int, default=5, metavar="K", help="encode and decode K times (default 5)")
    parser.add_argument("--search", action="store_true", help="search for the code instead, as of GANs always")
    parser.add_argument("--starts", type=int, default=4, metavar="K", help="codes to search from (default 4)")
    parser.add_argument("--steps", type=int, default=200, metavar="K", help="steps of the search (default 200)")


def _project(args, space, pictures, progress):
    from condgen.latent_space import project, spoiled
    from condgen.latent_space.adapters import decoded, encodes

    words = _words(args, pictures, 100)
    if not encodes(space) and not (args.pictures or args.more):
        words = [str(row) for row in range(SEARCHED)]
    clean = pictures.named(words)
    clean = decoded(space, clean) if clean.dim() == 2 else clean
    images = spoiled(clean, args.spoil, args.strength) if args.spoil else clean
    search = True if args.search else None
    return project(space, images, clean if args.spoil else None, args.rounds, among(pictures), search, args.starts,
                   args.steps, progress=progress)  # fmt: skip


def _holes_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-n", type=count, default=2000, metavar="N", help="codes from each source (default 2000)")
    _false_alarms(parser, "codes of real images may count as in a hole")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default 0)")


def _false_alarms(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--false-alarms", type=float, default=0.05, metavar="P", help=f"share of {what} (default .05)")


def _holes(args, space, pictures, progress):
    from condgen.latent_space import holes

    return holes(space, pictures.known.images, pictures.held.images, args.n, args.false_alarms, args.seed, progress)


def _novelty_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--odd", default="", metavar="CLASS", help="class that is new to the model (default what its "
                        "training left out)")  # fmt: skip
    parser.add_argument("--against", default="", metavar="PATH", help="other data whose images are the odd ones")
    _false_alarms(parser, "normal images that may be called odd")


def _novelty(args, space, pictures, progress):
    from condgen.latent_space import novelty

    known, held, odd = pictures.odd(args.odd, args.against)
    return novelty(space, known, held, odd, args.false_alarms, progress=progress)


def _neighbours_arguments(parser: argparse.ArgumentParser) -> None:
    _pictures_argument(parser, "200 of the data")
    parser.add_argument("-k", type=count, default=6, metavar="K", help="neighbours of each (default 6)")


def _neighbours(args, space, pictures, progress):
    from condgen.latent_space import neighbours

    words = _words(args, pictures, 200)
    return neighbours(space, pictures.named(words), pictures.known, args.k, pictures.labels_of(words))


def _likelihood_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--samples", type=int, default=64, metavar="K", help="codes of every image (default 64)")
    parser.add_argument("-n", type=count, default=1000, metavar="N", help="images of the data (default 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the codes (default 0)")


def _likelihood(args, space, pictures, progress):
    from condgen.latent_space import importance_weighted

    return importance_weighted(space, pictures.named(pictures.some(args.n)), args.samples, args.seed, progress)


TOOLS: dict[str, tuple[str, Callable, Callable]] = {
    "interpolate": (
        "go from one image to another through pixels, along a line of codes, around a sphere of codes",
        _interpolate_arguments,
        _interpolate,
    ),
    "traverse": ("move one number of the code at a time, the most informative first", _traverse_arguments, _traverse),
    "arithmetic": ("add and subtract the mean codes of sets of images", _arithmetic_arguments, _arithmetic),
    "edit": ("change an attribute of held-out images along a direction of codes", _edit_arguments, _edit),
    "jacobian": (
        "find the tangents of the painted surface, and how the model answers to them",
        _jacobian_arguments,
        _jacobian,
    ),
    "project": ("bring images onto the manifold that are off it", _project_arguments, _project),
    "holes": ("draw codes, and look whether real images lie there", _holes_arguments, _holes),
    "novelty": ("tell images of a kind that the model never saw", _novelty_arguments, _novelty),
    "neighbours": ("find the nearest images by codes and by pixels", _neighbours_arguments, _neighbours),
    "disentangle": (disentangle.HELP, disentangle.add_arguments, disentangle.use),
    "likelihood": ("bound how likely a VAE finds images, by importance weights", _likelihood_arguments, _likelihood),
}
"""Name -> what it does, its arguments, and what to call with them."""
