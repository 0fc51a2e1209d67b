"""`condgen sample --model M --label NAME`: images of labels and attributes, a sheet of them, or a data set."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from condgen.cli.evaluate import telling
from condgen.cli.generate import (
    MOST_ON_SHEET,
    add_model_arguments,
    check_folder,
    label,
    load_model,
    progress,
    save_sheet,
)
from condgen.cli.terminal import Parser, say
from condgen.contracts import CondgenError

HELP = "paint images from labels and attributes, or from nothing but a seed"
OPTIONS = "Further options are the model's own options, which `condgen info MODEL` lists: --guidance W, --steps K, \
--temperature T, --truncation R and so on, where it has them."
FEW = 16
"""Images of a model that is told nothing."""
SECONDS = 5.0
"""Between two lines of progress."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model's own options are not here: they are read when it is known, see `options_of`."""
    parser.epilog = OPTIONS
    parser.set_defaults(more=[])
    add_model_arguments(parser)
    parser.add_argument("--label", action="append", default=[], metavar="NAME[,NAME]", help="what to paint")
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="NAME=VALUE", help="attributes, such as smiling=1"
    )
    parser.add_argument("--all-labels", action="store_true", help="every label of the model, and a sheet of them")
    parser.add_argument("-n", type=int, metavar="N", help="images of a label (default 1), or of nothing (default 16)")
    parser.add_argument("--seed", type=int, default=0, help="of the first image of a label; then +1 (default 0)")
    parser.add_argument("--per-label", type=int, metavar="N", help="write a data set with N images of every label")
    text = "of the data set: OUT/<label>/<index>.png (default), or one file"
    parser.add_argument("--format", choices=("folder", "npz", "parquet"), help=text)
    parser.add_argument("--batch", type=int, metavar="B", help="images of the data set painted at a time (default 64)")
    parser.add_argument("-o", "--out", type=Path, default=Path("out"), help="folder, made if missing (default out)")
    parser.add_argument("--json", action="store_true", help="one JSON object an image, or one of the set, on stdout")


def run(args: argparse.Namespace) -> int:
    """Everything that can be refused without the model is refused before torch is imported."""
    from condgen.files.registry import LATENTS, kind_of

    also = pairs(args.set)
    check(args)
    folder = find_model(args.model)
    if kind_of(folder) == LATENTS:
        return _paint_codes(args, folder)
    if args.per_label is not None:
        from condgen.data.export import place_of

        place_of(args.out, args.format or "folder")
    from condgen.pipelines.class_to_image import ClassToImage

    model = load_model(ClassToImage.load, folder, args.device)
    options = options_of(model.sampling_options, args.more, args.parser)
    if args.per_label is not None:
        return _write_set(args, model, also, options)
    return _paint(args, model, also, options)


def pairs(texts: list[str], flag: str = "--set") -> dict[str, str]:
    """`smiling=1` and so on as a dict; `CondgenError` for what has no =, or a name that comes twice."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise CondgenError(f"{flag} {text} is not understood. Expected NAME=VALUE, several with spaces between.")
        if name in found:
            raise CondgenError(f"{flag} names {name} twice, as {found[name]!r} and {value!r}.")
        found[name] = value
    return found


def check(args: argparse.Namespace) -> None:
    """Raises `CondgenError` for options that do not go together, and a folder that cannot be written."""
    if args.all_labels and args.label:
        raise CondgenError("--all-labels paints every label: leave --label out, or name some with it alone.")
    if args.per_label is not None and args.n is not None:
        raise CondgenError("--per-label says how many images of a label there will be: leave -n out.")
    for flag, value in (("--format", args.format), ("--batch", args.batch)):
        if value is not None and args.per_label is None:
            raise CondgenError(f"{flag} belongs to a data set: give --per-label N, too.")
    is_file = args.per_label is not None and args.out.suffix.lower() == f".{args.format}"
    check_folder(args.out.parent if is_file else args.out)


def find_model(name: str | None) -> Path:
    """The folder of a model; without a name, an error that lists the models of labels."""
    from condgen.files.registry import LABELS, LATENTS, find, found, kind_of

    if name is not None:
        return find(name)
    there = ", ".join(known for known, folder in found().items() if kind_of(folder) in (LABELS, LATENTS))
    hint = f"one of {there}, or a path" if there else "a path; train one: condgen train digits-diffusion -o runs/digits"
    raise CondgenError(f"Say which model paints: --model M, {hint}.")


def options_of(options: Iterable, more: list[str], parser: Parser) -> dict[str, float]:
    """The values of the model's own options among the arguments that nothing else took.

    Raises:
        CondgenError: the model has no such option, or the value is no number.
    """
    options = list(options)
    own = Parser(prog=parser.prog, add_help=False)
    for option in options:
        kind = int if option.kind == "int" else float
        own.add_argument(f"--{option.name.replace('_', '-')}", dest=option.name, type=kind, default=argparse.SUPPRESS)
        parser.add_argument(f"--{option.name.replace('_', '-')}", help=option.help)  # for `refuse` to suggest
    values, unknown = own.parse_known_args(more)
    if unknown:
        try:
            parser.refuse(unknown)
        except CondgenError as error:
            told = ", ".join(f"--{option.name.replace('_', '-')}" for option in options)
            raise CondgenError(f"{error} This model's options: {told}.") from None
    return vars(values)


def conditions(args: argparse.Namespace, model, also: dict[str, str]) -> list[dict]:
    """What to paint, label by label; `CondgenError` when nothing is named."""
    labels = labels_of(args, model)
    if labels and "label" in also:
        raise CondgenError("--set names a label, and so does --label: leave one of them out.")
    if not labels and not also:
        raise CondgenError(
            f"Say what to paint: --label NAME or --set NAME=VALUE. This model knows {model.known_attributes}."
        )
    return [also | {"label": one} for one in labels] if labels else [also]


def labels_of(args: argparse.Namespace, model) -> list[str]:
    """The labels that are named; one that holds a comma itself counts as one."""
    if args.all_labels:
        if not model.labels:
            raise CondgenError(
                "The labels of this model are numbers, of which there is no list. Name some with --label."
            )
        return list(model.labels)
    if not args.label:
        return []
    known = {name.casefold() for name in model.labels}
    split = ([text] if text.casefold() in known else text.split(",") for text in args.label)
    return [one.strip() for texts in split for one in texts]


def _paint_codes(args: argparse.Namespace, folder: Path) -> int:
    """Images of a model that is told nothing."""
    asked = {"--label": args.label, "--set": args.set, "--all-labels": args.all_labels, "--per-label": args.per_label}
    if wrong := [flag for flag, value in asked.items() if value]:
        raise CondgenError(f"{folder} is told nothing when it paints: leave {', '.join(wrong)} out.")
    if args.more:
        args.parser.refuse(args.more)
    from condgen.pipelines.latent import LatentModel

    model = load_model(LatentModel.load, folder, args.device)
    total = FEW if args.n is None else args.n
    return _save_all(args, model.generate_images(total, args.seed), total)


def _paint(args: argparse.Namespace, model, also: dict[str, str], options: dict[str, float]) -> int:
    wanted = conditions(args, model, also)
    n = 1 if args.n is None else args.n
    total = len(wanted) * n
    columns = n if 1 < n <= 20 and len(wanted) > 1 else 0
    return _save_all(args, model.sample(wanted, n=n, seed=args.seed, **options), total, columns)


def _save_all(args: argparse.Namespace, made: Iterable, total: int, columns: int = 0) -> int:
    """Writes paintings and a sheet of them, and tells of each."""
    shown = []
    with progress(made, total) as (paintings, show):
        for generated in paintings:
            show(line_of(generated, generated.save(args.out), args.json))
            if len(shown) < MOST_ON_SHEET:
                shown.append((generated.image, label(generated.prompt.removeprefix("label: "), generated.seed)))
    if total > 1:
        say(f"sheet: {save_sheet(shown, total, args.out, columns)}")
    return 0


def _write_set(args: argparse.Namespace, model, also: dict[str, str], options: dict[str, float]) -> int:
    from condgen.pipelines.synthetic_dataset import BATCH, write_set

    labels, how = labels_of(args, model), args.format or "folder"
    batch = BATCH if args.batch is None else args.batch
    if "label" in also:
        raise CondgenError("--set names a label; name those of a data set with --label.")
    with telling("painting") as told:
        place = write_set(
            model, args.out, args.per_label, how, labels, also, args.seed, batch, progress=seldom(told), **options
        )
    if args.json:
        print(json.dumps({"path": str(place), "format": how, "labels": labels or list(model.labels),
                          "per_label": args.per_label, "seed": args.seed}))  # fmt: skip
    else:
        print(place)
    return 0


def line_of(generated, path: Path, as_json: bool) -> str:
    """A line for stdout about one image."""
    if as_json:
        told = {"labels": generated.recipe["labels"], "seed": generated.seed, "path": str(path)}
        return json.dumps(told | {"ms": round(generated.ms, 1)})
    return f"{path}  {generated.prompt}  seed {generated.seed}  {generated.ms:.0f} ms"


def seldom(progress: Callable[[float, str], None]) -> Callable[[float, str], None]:
    """The same where it moves a bar; a line only every few seconds, and at the end, where it writes lines."""
    if sys.stderr.isatty():
        return progress
    last = time.monotonic()

    def sometimes(share: float, what: str) -> None:
        nonlocal last
        if share >= 1 or time.monotonic() - last >= SECONDS:
            last = time.monotonic()
            progress(share, what)

    return sometimes
