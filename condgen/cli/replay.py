"""`condgen replay FILE.png`: paints an image again from the recipe inside it, and says whether it is the same."""

from __future__ import annotations

import argparse
import io
from functools import partial
from pathlib import Path

from condgen.cli.generate import add_model_arguments, check_folder, load_model
from condgen.cli.terminal import show_json
from condgen.contracts import CondgenError

HELP = "paint an image again from the recipe in its file; exit code 0 if equal, 1 if not"
NOT_OPTIONS = ("prompt", "labels", "seed", "prior", "size", "model", "model_id")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model is found by the name in the recipe, or given."""
    parser.add_argument("file", type=Path, metavar="FILE.png", help="an image that condgen wrote")
    parser.add_argument("-o", "--out", type=Path, default=Path("out"), help="folder, made if missing (default out)")
    add_model_arguments(parser)
    parser.add_argument("--json", action="store_true", help="the result as JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """0 when the new image equals the file byte for byte, 1 when not."""
    from condgen.files.images import read_recipe
    from condgen.files.registry import find

    recipe = read_recipe(args.file)
    of_labels = "labels" in recipe
    for name in ("model", "model_id", *(() if of_labels else ("prompt", "prior"))):
        if not isinstance(recipe[name], str):
            raise CondgenError(f"The recipe in {args.file} is damaged: {name} is {recipe[name]!r}.")
    check_folder(args.out)
    try:
        folder = find(recipe["model"] if args.model is None else args.model)
    except CondgenError as error:
        raise CondgenError(
            f"{args.file} was painted by {recipe['model']}. {error} Name the model with --model."
        ) from None
    model = load_model(partial(opened, of_labels), folder, args.device)
    if model.model_id != recipe["model_id"]:
        raise CondgenError(
            f"{args.file} was painted by {recipe['model']} with the weights {recipe['model_id']}, but {folder} holds "
            f"the weights {model.model_id}. Give the right model with --model."
        )
    options = {name: value for name, value in recipe.items() if name not in NOT_OPTIONS}
    declared = getattr(model, "sampling_options", ()) if of_labels else model.sampling_options(recipe["prior"])
    known = [option.name for option in declared]
    if strange := sorted(set(options) - set(known)):
        raise CondgenError(
            f"The recipe in {args.file} holds {', '.join(strange)}, which {folder} cannot turn; its options are "
            f"{', '.join(known) or 'none'}. Another program changed the file."
        )
    if hasattr(model, "generate_images"):
        (generated,) = model.generate_images(seed=recipe["seed"])
    elif of_labels:
        (generated,) = model.sample(recipe["labels"], seed=recipe["seed"], **options)
    else:
        (generated,) = model.generate(recipe["prompt"], seed=recipe["seed"], prior=recipe["prior"], **options)
    before = args.file.read_bytes()
    path = generated.save(args.out)
    return _tell(args, path, generated, before)


def opened(of_labels: bool, folder: Path):
    """The model in a folder, which must be one that paints words, or one that does not."""
    from condgen.files.registry import LATENTS, kind_of
    from condgen.pipelines.class_to_image import ClassToImage
    from condgen.pipelines.latent import LatentModel
    from condgen.pipelines.text_to_image import TextToImage

    if not of_labels:
        return TextToImage.load(folder)
    return (LatentModel if kind_of(folder) == LATENTS else ClassToImage).load(folder)


def _tell(args: argparse.Namespace, path: Path, generated, before: bytes) -> int:
    equal = generated.png() == before
    difference = 0 if equal else largest_difference(before, generated.image)
    if args.json:
        told = {"file": str(args.file), "path": str(path), "equal": equal, "largest_difference": difference}
        show_json(told | {"recipe": generated.recipe})
    elif equal:
        print(f"{path} equals {args.file} byte for byte.")
    elif difference == 0:
        print(f"{path} has the pixels of {args.file}, but other bytes.")
    else:
        by = "" if difference is None else f": values differ by up to {difference} of 255"
        print(f"{path} differs from {args.file}{by}.")
    return 0 if equal else 1


def largest_difference(before: bytes, image) -> int | None:
    """Between the pixels of two images, 0 to 255; None when their sizes differ."""
    from PIL import Image, ImageChops

    with Image.open(io.BytesIO(before)) as picture:
        old = picture.convert("RGB")
    if old.size != image.size:
        return None
    return max(high for _, high in ImageChops.difference(old, image.convert("RGB")).getextrema())
