"""`condgen data check PATH`: looks through captioned or labelled images before anybody trains on them."""

from __future__ import annotations

import argparse

from condgen.cli.terminal import show_json

HELP = "look through captioned or labelled images before training on them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One action so far: check."""
    actions = parser.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    text = "read every row, open every image, and count what training could not use; exit code 1 when not ready"
    check = actions.add_parser("check", help=text, description=f"{text[0].upper()}{text[1:]}.")
    check.set_defaults(run=run, parser=check)
    check.add_argument(
        "path",
        metavar="PATH",
        help="a folder, a metadata file or shards (.parquet, .tar); or folders of classes, idx files, 'digits' ...",
    )
    add_columns(check)
    check.add_argument(
        "--attribute-columns", default="", metavar="COLUMN,COLUMN", help="columns of attributes beside the label"
    )
    check.add_argument("-o", dest="out", default="", metavar="PNG", help="write a sheet: some images of every class")
    check.add_argument("--filter", default="", metavar="COLUMN=VALUE", help="keep only such rows; several with commas")
    check.add_argument("--json", action="store_true", help="the report as JSON on stdout")


def add_columns(
    parser: argparse.ArgumentParser, names: str = "image caption split label", default: str | None = "", note: str = ""
) -> None:
    """Options that name the columns of a table."""
    for name in names.split():
        text = f"column of the {'captions' if name == 'caption' else name}; {note or 'guessed if missing'}"
        parser.add_argument(f"--{name}-column", default=default, metavar="COLUMN", help=text)


def run(args: argparse.Namespace) -> int:
    """0 when training would take the data, 1 when not."""
    from condgen.data.audit.captions import check
    from condgen.data.sources.rows import Columns

    attributes = tuple(name.strip() for name in args.attribute_columns.split(",") if name.strip())
    columns = Columns(args.image_column, args.caption_column, args.split_column, args.label_column, attributes)
    report = check(args.path, columns, filter=args.filter, sheet=args.out)
    if args.json:
        show_json(report.as_dict() | {"ready": report.ok()})
    else:
        print("\n".join(report.lines()))
    return 0 if report.ok() else 1
