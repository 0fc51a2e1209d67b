"""`condgen data check PATH`: checks captioned or labelled images before training on them."""

from __future__ import annotations

import argparse

from condgen.cli.terminal import comma_separated, show_json

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
    "resize": (None, "how images become square"),
    "max_bad_fraction": ("F", "largest fraction of unusable rows (default 0.01)"),
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
    add_read_options(
        check, "image_column caption_column split_column label_column attribute_columns filter column_types"
    )
    check.add_argument("-o", dest="out", default="", metavar="PNG", help="write a sheet: some images of every class")
    check.add_argument("--json", action="store_true", help="print the report as JSON on stdout")


def add_read_options(parser: argparse._ActionsContainer, names: str, note: str = "") -> None:
    """Adds options for fields of `ReadOptions`; `note` describes the default."""
    for name in names.split():
        metavar, text = READ_OPTIONS[name]
        kind = {"attribute_columns": comma_separated, "max_bad_fraction": float}.get(name, str)
        choices = ("crop", "pad") if name == "resize" else None
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=kind, metavar=metavar, choices=choices, help=f"{text}{note}"
        )


def read_options_of(args: argparse.Namespace) -> dict[str, object]:
    """The fields of `ReadOptions` that the command line sets."""
    given = {name: getattr(args, name, None) for name in READ_OPTIONS}
    return {name: value for name, value in given.items() if value is not None}


def run(args: argparse.Namespace) -> int:
    """0 when training would take the data, 1 when not."""
    from condgen.data.audit.check import check

    report = check(args.path, sheet=args.out, **read_options_of(args))
    if args.json:
        show_json(report.as_dict() | {"ready": report.ok()})
    else:
        print("\n".join(report.lines()))
    return 0 if report.ok() else 1
