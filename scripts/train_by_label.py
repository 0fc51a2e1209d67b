"""Trains a class-conditional model and generates a sheet with a row per label.

    python scripts/train_by_label.py runs/digits --minutes 1
    python scripts/train_by_label.py runs/mine --recipe labels-cvae --data my/classes --minutes 10

Without --recipe it trains on the handwritten digits of scikit-learn, so nothing is downloaded. `condgen list` shows the
recipes; the same command again continues a stopped training.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import condgen
from condgen.files.images import grid
from condgen.recipes import find_recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--recipe", default="digits-diffusion")
    parser.add_argument(
        "--data", help="a folder of class folders, a table, idx files; see condgen/data/sources/labels.py"
    )
    parser.add_argument("--minutes", type=float, default=1.0)
    args = parser.parse_args()
    config = find_recipe(args.recipe).config(minutes=args.minutes, **({"data": args.data} if args.data else {}))
    model = condgen.load(condgen.train(args.recipe, args.out, config))
    generated = list(model.sample(model.labels, n=8))
    sheet = args.out / "labels.png"
    grid([one.image for one in generated], [one.recipe["labels"]["label"] for one in generated], 8, 64).save(sheet)
    print(f"{sheet}: {', '.join(model.labels)}, model {model.model_id}")


if __name__ == "__main__":
    main()
