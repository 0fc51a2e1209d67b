"""Do generated images help a classifier that has few real ones? Trains it with and without them, and compares.

    python scripts/augment.py digits runs/augment --real 20 --generated 200 --minutes 1

The generator learns from the same few images and from nothing else, so that what is gained is not more data in
disguise. Both classifiers see the same number of images while they train; they are tested on real images that
neither they nor the generator ever saw. One line a seed, of the choice of images, of generator and classifiers;
running it again goes on where it stopped.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

import condgen
from condgen.contracts import CondgenError
from condgen.data.attributes import LABEL
from condgen.data.datasets.labels import LabelledImages
from condgen.data.export import Contents, writing
from condgen.data.sources.labels import open_labelled
from condgen.evaluation.classifier import ClassifierRun, features_of, seen_in, train_classifier
from condgen.pipelines.synthetic_dataset import label_batches
from condgen.recipes import find_recipe

SEEN = 20_000
"""Images that a classifier sees while it trains, some often."""


def only_labels(data: LabelledImages) -> LabelledImages:
    """The images with their classes and nothing else that is known of them."""
    place = [factor.name for factor in data.attributes].index(LABEL)
    return replace(data, attributes=(data.attributes[place],), targets=data.targets[:, place : place + 1])


def some_of(data: LabelledImages, each: int, seed: int) -> LabelledImages:
    """So many images of every class, drawn by the seed."""
    order = np.random.default_rng(seed).permutation(len(data))
    rows = np.concatenate([order[data.labels[order] == k][:each] for k in range(data.attributes[0].cardinality)])
    return replace(data, images=data.images[rows], targets=data.targets[rows])


def generated(real: LabelledImages, each: int, place: Path, recipe: str, minutes: float, seed: int) -> LabelledImages:
    """Images by a generator that learned from `real` alone."""
    names = real.attributes[0].values
    if not (place / "real.parquet").exists():
        counts = tuple(int((real.labels == k).sum()) for k in range(len(names)))
        with writing(place / "real.parquet", "parquet", Contents(names, counts, real.images.shape[1:], {})) as put:
            for k in range(len(names)):
                put(real.images[real.labels == k], k, 0)
    config = find_recipe(recipe).config(data=str(place / "real.parquet"), minutes=minutes, seed=seed, eval_count=2)
    config = replace(config, data=replace(config.data, split="all"))
    model = condgen.load(condgen.train(recipe, place / recipe, config))
    painted = list(label_batches(model, each, seed=seed))
    labels = np.concatenate([np.full(len(some.images), names.index(model.labels[some.label])) for some in painted])
    images = np.concatenate([some.images for some in painted])
    return replace(real, images=images, targets=labels[:, None].astype(np.float32), name="generated images")


def accuracy(train: LabelledImages, test: LabelledImages, seed: int) -> float:
    """Of a classifier trained on the one and tested on the other."""
    classifier = train_classifier(train, ClassifierRun(images=SEEN, epochs=10**6, seed=seed))
    return float((seen_in(classifier, features_of(classifier, test.images))[:, 0] == test.labels).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("out", type=Path)
    parser.add_argument("--real", type=int, default=20, help="real images of every class")
    parser.add_argument("--generated", type=int, default=200, help="generated images of every class")
    parser.add_argument("--recipe", default="labels-cvae")
    parser.add_argument("--minutes", type=float, default=1.0, help="that the generator learns")
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    train, test = (only_labels(open_labelled(args.data, split=split)) for split in ("train", "test"))
    if train.attributes != test.attributes:
        raise CondgenError(f"The training and the test images of {args.data} have other classes.")
    rows = []
    for seed in range(args.seeds):
        real = some_of(train, args.real, seed)
        place = args.out / f"seed-{seed}"
        more = generated(real, args.generated, place, args.recipe, args.minutes, seed)
        images, targets = (np.concatenate(pair) for pair in ((real.images, more.images), (real.targets, more.targets)))
        rows.append([accuracy(one, test, seed) for one in (real, more, replace(real, images=images, targets=targets))])
        told = "{:.4f} real, {:.4f} generated, {:.4f} both".format(*rows[-1])
        print(f"seed {seed}: test accuracy {told}", flush=True)
    gain = np.array(rows)[:, 2] - np.array(rows)[:, 0]
    means = ", ".join(f"{mean:.4f} {name}" for mean, name in zip(np.mean(rows, 0), ("real", "generated", "both")))
    spread = f" +- {gain.std(ddof=1):.4f}" if len(gain) > 1 else ""
    print(f"mean: {means}; gained {gain.mean():+.4f}{spread} over {len(gain)} seeds, {len(test):,} test images")


if __name__ == "__main__":
    main()
