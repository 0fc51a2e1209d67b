"""`condgen evaluate MODEL`: judges a model, see `condgen.evaluation`."""

from __future__ import annotations

import argparse
from pathlib import Path

from condgen.cli.data import add_columns
from condgen.cli.terminal import check_folder, comma_separated, progress_bar, show_json
from condgen.contracts import CondgenError

HELP = "judge a model: does it paint what the words or the label say, and what do its features know?"
READING = ("image_column", "caption_column", "split_column", "filter", "resize")
OF_LABELS = ("per_label", "seeds", "judge", "combined", "inception")
OF_FEATURES = ("features", "label_column", "templates", "train_pictures", "tune")
CHOSEN = ("out", "data", "split", *READING, "prompts", "pictures", "ablate", "against", "parts")
CHOSEN += (*OF_LABELS, *OF_FEATURES, "importance")
TRAINED = " (default as in the training)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Named as the arguments of `condgen.evaluation.evaluate`."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="a name that `condgen list` shows, or a path")
    parser.add_argument("-o", "--out", type=Path, metavar="REPORT", help="folder for report.json, report.md, sheet.png")
    parser.add_argument("--data", default="", metavar="PATH", help="images to judge on; scenes and labels need none")
    parser.add_argument("--split", default="test", help="which part of the data (default test)")
    add_columns(parser, "image caption split", None, f"'' guesses{TRAINED}")
    parser.add_argument("--filter", metavar="COLUMN=VALUE", help=f"judge only such rows; several with commas{TRAINED}")
    parser.add_argument("--resize", choices=("crop", "pad"), help=f"how images become square{TRAINED}")
    parser.add_argument("--pictures", type=int, default=4, metavar="N", help="images of every prompt (default 4)")
    parser.add_argument("--prompts", type=int, default=50, metavar="N", help="prompts of every task (default 50)")
    parser.add_argument("--ablate", type=int, default=20, metavar="N", help="prompts of every ablation; 0 for none")
    parser.add_argument("--against", action="append", default=[], metavar="MODEL", help="a model to judge beside it")
    parser.add_argument("--parts", default="", metavar="FILE", help="parquet of the layers that images are made of")
    labels = parser.add_argument_group("models of labels")
    labels.add_argument("--per-label", type=int, default=100, metavar="N", help="images of a class (default 100)")
    labels.add_argument("--seeds", type=int, metavar="K", help="paint them K times (default 3); of features see --tune")
    labels.add_argument("--judge", type=Path, metavar="FOLDER", help="keep classifiers here (default REPORT/judge)")
    labels.add_argument(
        "--combined", default=(), type=comma_separated, metavar="A,B", help="attributes that are a combination"
    )
    labels.add_argument("--inception", type=Path, metavar="FILE", help="Inception weights, for FID")
    seen = parser.add_argument_group("encoders, and others by --features")
    seen.add_argument("--features", action="store_true", help="judge what the model sees, not what it paints")
    seen.add_argument("--label-column", metavar="COLUMN", help="column of the classes")
    seen.add_argument(
        "--template",
        dest="templates",
        action="append",
        default=[],
        metavar="TEXT",
        help="sentence for zero-shot, as 'a photo of a {}'; several, or those that go with the data",
    )
    seen.add_argument("--train-pictures", type=int, default=0, metavar="N", help="fit on N images; 0 for all")
    seen.add_argument(
        "--tune",
        type=int,
        default=20_000,
        metavar="N",
        help="images seen with 1, 10 and 100 %% of the labels, --seeds times (default 20000, once); 0 for none",
    )
    text = "codes an image for the likelihood of a VAE (default 50); 0 for none"
    parser.add_argument("--importance", type=int, default=50, metavar="K", help=text)
    parser.add_argument("--card", action="store_true", help="write the scores into the model's card, too")
    parser.add_argument("--json", action="store_true", help="the report as JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Prints the report as Markdown or JSON."""
    from condgen import distributed
    from condgen.files.registry import find, is_foreign

    for folder in (args.out, args.judge):
        if folder is not None:
            check_folder(folder)
    foreign = is_foreign(args.model)
    if foreign and args.card:
        raise CondgenError(f"{args.model} is no model of condgen, with a card to write into: leave --card out.")
    folder = args.model if foreign else find(args.model)
    from condgen.evaluation import evaluate, markdown

    chosen = {name: getattr(args, name) for name in CHOSEN}
    distributed.join()
    try:
        with progress_bar("judging", quiet=distributed.rank() > 0) as told:
            report = evaluate(folder, **chosen, progress=told)
        if distributed.rank():
            return 0
    finally:
        distributed.leave()
    if args.card:
        from condgen.evaluation.report import record

        record(folder, report)
    if args.json:
        show_json(report)
    else:
        print(markdown(report))
    return 0
