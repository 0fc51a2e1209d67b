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
    for name, what in (("image", "picture"), ("text", "captions"), ("split", "split"), ("label", "label")):
        check.add_argument(f"--{name}", default="", metavar="COLUMN", help=f"column of the {what}; guessed if missing")
    check.add_argument(
        "--attributes", default="", metavar="COLUMN,COLUMN", help="columns of attributes beside the label"
    )
    check.add_argument("-o", dest="out", default="", metavar="PNG", help="write a sheet: some images of every class")
    check.add_argument("--where", default="", metavar="COLUMN=VALUE", help="keep only such rows; several with commas")
    check.add_argument("--json", action="store_true", help="the report as JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """0 when training would take the data, 1 when not."""
    from condgen.data.audit.captions import check
    from condgen.data.sources.rows import Columns

    attributes = tuple(name.strip() for name in args.attributes.split(",") if name.strip())
    columns = Columns(args.image, args.text, args.split, args.label, attributes)
    report = check(args.path, columns, where=args.where, sheet=args.out)
    if args.json:
        show_json(report.as_dict() | {"ready": report.ok()})
    else:
        print("\n".join(report.lines()))
    return 0 if report.ok() else 1
