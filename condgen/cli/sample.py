"""`condgen sample --model M --label NAME`: images from labels and attributes, a sheet of them, or a data set."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from condgen.cli.generate import sampling_options_of, save_images
from condgen.cli.terminal import (
    add_model_arguments,
    add_output_arguments,
    add_seed_argument,
    check_device,
    check_folder,
    key_values,
    progress_bar,
)
from condgen.contracts import CondgenError, ProgressCallback, to_json

HELP = "generate images from labels and attributes, or unconditionally"
EPILOG = "Further options are the model's sampling options, which `condgen info MODEL` lists: --guidance W, --steps K, \
--temperature T, --truncation R and so on, where it has them."
TASKS = ("class-to-image", "unconditional")
"""Tasks of the models that this command supports."""
UNCONDITIONAL_IMAGES = 16
"""Default number of images of an unconditional model."""
SECONDS = 5.0
"""Seconds between two lines of progress."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model's sampling options are parsed later, when the model is known, see `generate.sampling_options_of`."""
    parser.epilog = EPILOG
    parser.set_defaults(more=[])
    add_model_arguments(parser)
    parser.add_argument("--label", action="append", default=[], metavar="NAME[,NAME]", help="labels to generate")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help="attributes, such as smiling=1"
    )
    parser.add_argument("--all-labels", action="store_true", help="every label of the model, and a sheet of them")
    text = "images per label (default 1), or of an unconditional model (default 16)"
    parser.add_argument("-n", type=int, metavar="N", help=text)
    add_seed_argument(parser, "label")
    parser.add_argument("--per-label", type=int, metavar="N", help="write a data set with N images of every label")
    text = "of the data set: OUT/<label>/<index>.png (default), or one file"
    parser.add_argument("--format", choices=("folder", "npz", "parquet"), help=text)
    text = "number of images of the data set to generate at once (default 64)"
    parser.add_argument("--batch", type=int, metavar="B", help=text)
    add_output_arguments(parser, "print one JSON object per image, or one for the data set, on stdout")


def run(args: argparse.Namespace) -> int:
    """Checks the arguments before torch is imported, then generates."""
    from condgen.pipelines.auto import task_of

    attributes = key_values(args.set)
    check(args)
    folder = find_model(args.model)
    if task_of(folder) == "unconditional":
        return _sample_unconditional(args, folder)
    if args.per_label is not None:
        from condgen.data.export import place_of

        place_of(args.out, args.format or "folder")
    from condgen.nn.devices import adapt
    from condgen.pipelines.class_to_image import ClassToImage
    from condgen.pipelines.generation import SMALL

    check_device(args.device)
    model = ClassToImage.load(folder).to(args.device)
    if model.size <= SMALL and args.per_label is None:  # images that do not depend on the number of threads
        adapt()
    options = sampling_options_of(model.sampling_options, args.more, args.parser)
    if args.per_label is not None:
        return _write_dataset(args, model, attributes, options)
    conditions = conditions_of(args, model, attributes)
    n = 1 if args.n is None else args.n
    columns = n if 1 < n <= 20 and len(conditions) > 1 else 0
    images = model.sample(conditions, n=n, seed=args.seed, **options)
    save_images(images, len(conditions) * n, args.out, args.json, columns)
    return 0


def check(args: argparse.Namespace) -> None:
    """Raises `CondgenError` for options that exclude each other, or a folder that cannot be written."""
    if args.all_labels and args.label:
        raise CondgenError("--all-labels generates every label: leave --label out, or leave --all-labels out.")
    if args.per_label is not None and args.n is not None:
        raise CondgenError("--per-label sets the number of images per label: leave -n out.")
    for flag, value in (("--format", args.format), ("--batch", args.batch)):
        if value is not None and args.per_label is None:
            raise CondgenError(f"{flag} belongs to a data set: give --per-label N, too.")
    is_file = args.per_label is not None and args.out.suffix.lower() == f".{args.format}"
    check_folder(args.out.parent if is_file else args.out)


def find_model(name: str | None) -> Path:
    """The folder of a model; without a name, raises an error that lists suitable models."""
    from condgen.files.registry import find, found
    from condgen.pipelines.auto import task_of

    if name is not None:
        return find(name)
    models = ", ".join(known for known, folder in found().items() if task_of(folder) in TASKS)
    train = "a path; train one: condgen train digits-diffusion -o runs/digits"
    raise CondgenError(f"Give a model with --model M, {f'one of {models}, or a path' if models else train}.")


def conditions_of(args: argparse.Namespace, model, attributes: dict[str, str]) -> list[dict]:
    """Returns the conditions, one per label; raises `CondgenError` if there are none."""
    labels = labels_of(args, model)
    if labels and "label" in attributes:
        raise CondgenError("--set names a label, and so does --label: leave one of them out.")
    if not labels and not attributes:
        raise CondgenError(
            "Give a condition: --label NAME or --set NAME=VALUE. The attributes of this model are "
            f"{model.attribute_summary}."
        )
    return [attributes | {"label": one} for one in labels] if labels else [attributes]


def labels_of(args: argparse.Namespace, model) -> list[str]:
    """The given labels; a label of the model that contains a comma is not split."""
    if args.all_labels:
        if not model.labels:
            raise CondgenError("The labels of this model are numbers, which cannot be listed. Name some with --label.")
        return list(model.labels)
    if not args.label:
        return []
    known = {name.casefold() for name in model.labels}
    split = ([text] if text.casefold() in known else text.split(",") for text in args.label)
    return [one.strip() for texts in split for one in texts]


def _sample_unconditional(args: argparse.Namespace, folder: Path) -> int:
    given = {"--label": args.label, "--set": args.set, "--all-labels": args.all_labels, "--per-label": args.per_label}
    if wrong := [flag for flag, value in given.items() if value]:
        raise CondgenError(f"{folder} is unconditional: leave {', '.join(wrong)} out.")
    from condgen.nn.devices import adapt
    from condgen.pipelines.auto import load_folder
    from condgen.pipelines.generation import SMALL, GenerationPipeline

    check_device(args.device)
    model, options = load_folder(folder).to(args.device), {}
    if isinstance(model, GenerationPipeline):
        if model.size <= SMALL:  # images that do not depend on the number of threads
            adapt()
        options = sampling_options_of(model.sampling_options(), args.more, args.parser)
    elif args.more:
        args.parser.refuse(args.more)
    total = UNCONDITIONAL_IMAGES if args.n is None else args.n
    save_images(model.generate(total, args.seed, **options), total, args.out, args.json)
    return 0


def _write_dataset(args: argparse.Namespace, model, attributes: dict[str, str], options: dict[str, float]) -> int:
    from condgen.pipelines.synthetic_dataset import BATCH, write_set

    labels, kind = labels_of(args, model), args.format or "folder"
    batch = BATCH if args.batch is None else args.batch
    if "label" in attributes:
        raise CondgenError("--set names a label; name those of a data set with --label.")
    with progress_bar("generating") as progress:
        place = write_set(
            model, args.out, args.per_label, kind, labels, attributes, args.seed, batch, seldom(progress), **options
        )
    if args.json:
        print(to_json({"path": str(place), "format": kind, "labels": labels or list(model.labels),
                          "per_label": args.per_label, "seed": args.seed}))  # fmt: skip
    else:
        print(place)
    return 0


def seldom(progress: ProgressCallback) -> ProgressCallback:
    """Returns `progress` on a terminal; elsewhere, calls it every few seconds and at the end."""
    if sys.stderr.isatty():
        return progress
    last = time.monotonic()

    def sometimes(share: float, message: str) -> None:
        nonlocal last
        if share >= 1 or time.monotonic() - last >= SECONDS:
            last = time.monotonic()
            progress(share, message)

    return sometimes
