"""`condgen data check PATH`: checks captioned or labelled images before training on them."""

from __future__ import annotations

import argparse
import os
import shlex
from typing import TYPE_CHECKING

from condgen.cli.terminal import comma_separated, show_json

if TYPE_CHECKING:
    from condgen.data.audit.report import Report

HELP = "check captioned or labelled images before training on them"
TRAINED = " (default as in the training)"
READ_OPTIONS = {
    "image_column": ("COLUMN", "column of the image; guessed by default"),
    "caption_column": ("COLUMN", "column of the captions; guessed by default"),
    "split_column": ("COLUMN", "column of the split; guessed by default"),
    "label_column": ("COLUMN", "column of the class; guessed by default"),
    "attribute_columns": ("A,B", "columns of attributes beside the label"),
    "filter": ("COLUMN=VALUE", "keep only these rows; separate several by commas"),
    "column_types": ("COLUMN=TYPE", "what a column holds where the guess is wrong: text or number"),
    "value_range": ("LOW,HIGH", "values of 16-bit and float images that become black and white"),
    "resize": (None, "how images become square"),
    "max_bad_fraction": ("F", "largest fraction of unusable rows (default 0.01)"),
    "background": ("R,G,B", "colour under transparent pixels, as 0,0,0 or black (default white)"),
}
"""Metavar and help of the options that are fields of `ReadOptions`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The action `check` and its options."""
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    text = "read every row, open every image, and count what training could not use; exit code 1 when not ready"
    check = actions.add_parser("check", help=text, description=f"{text[0].upper()}{text[1:]}.")
    check.set_defaults(run=run, parser=check)
    check.add_argument(
        "path",
        metavar="PATH",
        help="a folder, a metadata file or shards (.parquet, .tar); or folders of classes, idx files, 'digits' ...",
    )
    columns = "image_column caption_column split_column label_column attribute_columns filter column_types value_range"
    add_read_options(check, f"{columns} max_bad_fraction background")
    text = "write a sheet of thumbnails: some images of every class, or some with their captions"
    check.add_argument("--sheet", "-o", dest="out", default="", metavar="PNG", help=text)
    check.add_argument("--json", action="store_true", help="print the report as JSON on stdout")


def add_read_options(parser: argparse._ActionsContainer, names: str, note: str = "") -> None:
    """Adds options for fields of `ReadOptions`; `note` describes the default."""
    kinds = {
        "attribute_columns": comma_separated, "max_bad_fraction": float, "background": colour, "value_range": _numbers,
    }  # fmt: skip
    for name in names.split():
        metavar, text = READ_OPTIONS[name]
        kind = kinds.get(name, str)
        choices = ("crop", "pad") if name == "resize" else None
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=kind, metavar=metavar, choices=choices, help=f"{text}{note}"
        )


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(map(float, text.split(",")))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not LOW,HIGH: expected two numbers, such as 0,4095") from None


def read_options_of(args: argparse.Namespace) -> dict[str, object]:
    """The fields of `ReadOptions` that the command line sets."""
    given = {name: getattr(args, name, None) for name in READ_OPTIONS}
    return {name: value for name, value in given.items() if value is not None}


def colour(text: str) -> tuple[int, int, int]:
    """Parses a colour: `0,0,0`, a name such as `black`, or `#000000`."""
    from PIL import ImageColor

    try:
        return ImageColor.getrgb(f"rgb({text})" if "," in text else text)[:3]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no colour; expected R,G,B from 0 to 255, or a name") from None


def uses(report: Report) -> str:
    """Names the recipes that train on the data of a report."""
    from condgen.recipes.choice import suited_to

    first, *others = suited_to(report)
    path = shlex.quote(report.path)
    return f"  condgen train {first} --data {path} -o runs/mine    (or {', '.join(others)}; see condgen train --help)"


def run(args: argparse.Namespace) -> int:
    """0 when training would take the data, 1 when not."""
    from condgen.data.audit.check import check

    report = check(args.path, sheet=args.out, **read_options_of(args))
    if args.json:
        show_json(report.as_dict() | {"ready": report.ok()})
    else:
        print("\n".join([*report.lines(), *([uses(report)] if report.ok() else [])]))
        if args.out and os.path.exists(args.out):
            print(f"sheet: {args.out}")
    return 0 if report.ok() else 1
