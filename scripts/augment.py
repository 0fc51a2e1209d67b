"""Trains classifiers on few real images, with and without generated ones, and compares their accuracy.

    python scripts/augment.py digits runs/augment --real 20 --generated 200 --minutes 1

The generator is trained on the same few images. Both classifiers see the same number of images in training; they are
tested on real images that neither classifiers nor generator saw. One line per seed, which is that of the choice of
images, of generator and classifiers. The same command continues where it stopped.
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
from condgen.evaluation.classifier import ClassifierFitConfig, features_of, predict, train_classifier
from condgen.pipelines.synthetic_dataset import label_batches
from condgen.recipes import find_recipe

IMAGES_SEEN = 20_000
"""Images that a classifier sees in training, with repetitions."""


def only_labels(data: LabelledImages) -> LabelledImages:
    """The images with their classes alone."""
    place = [attribute.name for attribute in data.attributes].index(LABEL)
    return replace(data, attributes=(data.attributes[place],), targets=data.targets[:, place : place + 1])


def some_of(data: LabelledImages, each: int, seed: int) -> LabelledImages:
    """Random images, as many of every class."""
    order = np.random.default_rng(seed).permutation(len(data))
    rows = np.concatenate([order[data.labels[order] == k][:each] for k in range(data.attributes[0].cardinality)])
    return data.rows(rows)


def generated(real: LabelledImages, each: int, place: Path, recipe: str, minutes: float, seed: int) -> LabelledImages:
    """Images by a generator that is trained on `real` alone."""
    names = real.attributes[0].values
    if not (place / "real.parquet").exists():
        counts = tuple(int((real.labels == k).sum()) for k in range(len(names)))
        with writing(place / "real.parquet", "parquet", Contents(names, counts, real.images.shape[1:], {})) as put:
            for k in range(len(names)):
                put(real.images[real.labels == k], k, 0)
    config = find_recipe(recipe).config(data=str(place / "real.parquet"), minutes=minutes, seed=seed, eval_count=2)
    config = replace(config, data=replace(config.data, split="all"))
    model = condgen.load(condgen.train(recipe, place / recipe, config))
    batches = list(label_batches(model, each, seed=seed))
    labels = np.concatenate([np.full(len(some.images), names.index(model.labels[some.label])) for some in batches])
    images = np.concatenate([some.images for some in batches])
    return replace(real, images=images, targets=labels[:, None].astype(np.float32), name="generated images")


def accuracy(train: LabelledImages, test: LabelledImages, seed: int) -> float:
    """Accuracy of a classifier."""
    classifier = train_classifier(train, ClassifierFitConfig(images=IMAGES_SEEN, epochs=10**6, seed=seed))
    return float((predict(classifier, features_of(classifier, test.images))[:, 0] == test.labels).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("out", type=Path)
    parser.add_argument("--real", type=int, default=20, help="real images of every class")
    parser.add_argument("--generated", type=int, default=200, help="generated images of every class")
    parser.add_argument("--recipe", default="labels-cvae")
    parser.add_argument("--minutes", type=float, default=1.0, help="of the generator")
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
        print("seed {}: test accuracy {:.4f} real, {:.4f} generated, {:.4f} both".format(seed, *rows[-1]), flush=True)
    gain = np.array(rows)[:, 2] - np.array(rows)[:, 0]
    means = ", ".join(f"{mean:.4f} {name}" for mean, name in zip(np.mean(rows, 0), ("real", "generated", "both")))
    spread = f" +- {gain.std(ddof=1):.4f}" if len(gain) > 1 else ""
    print(f"mean: {means}; gained {gain.mean():+.4f}{spread} over {len(gain)} seeds, {len(test):,} test images")


if __name__ == "__main__":
    main()
