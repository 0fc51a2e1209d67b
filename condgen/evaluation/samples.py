"""Evaluation of unconditional samples: realism, coverage of the data, and memorisation.

Where the data has classes, an independent classifier is trained on real training images. Distances are measured in its
features, and its predictions show which classes are missing among the samples. Without classes, the features are those
of the same network with random weights.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from condgen.baselines.gans import Codes
from condgen.contracts import CondgenError, ProgressCallback
from condgen.data.batches.base import to_uint8
from condgen.data.datasets.labels import LabelledImages
from condgen.evaluation.base import Findings, Report
from condgen.evaluation.classifier import (
    ClassifierFitConfig,
    accuracies,
    cached_classifier,
    feature_space,
    features_of,
    predict,
    untrained_classifier,
)
from condgen.evaluation.distribution import (
    FEWEST,
    RealImages,
    classifier_features,
    over_seeds,
    pixels,
    read_inception,
    rgb,
)
from condgen.evaluation.embed import in_batches
from condgen.evaluation.options import SampleOptions
from condgen.metrics.diversity import best_matching, entropy, mean_distance, missing, purity, shares

MOST, SHOWN, MOST_VALUES = 2_000, 40, 24
"""Maximum numbers of images generated for every seed, of images on the sheet, and of values shown in a table."""


def evaluate_samples(
    model, train: LabelledImages, test: LabelledImages, options: SampleOptions,
    fit: ClassifierFitConfig | None = None, progress: ProgressCallback = lambda share, message: None,
) -> Findings:  # fmt: skip
    """Evaluates the samples of an unconditional model.

    Args:
        model: an unconditional model; the categories of an InfoGAN are compared with the classes.
        train, test: real images; the classifier is trained on `train` only. As many images are generated as there are
            test images, at most MOST.
        options: images are generated again for every seed; means and standard deviations over seeds are reported.
        fit: options of the training of the classifier.
        progress: called with progress.

    Returns:
        Findings; the sheet `samples` shows real images above generated ones, `neighbours` the generated images that are
        nearest to a training image.

    Raises:
        CondgenError: too few images to compare with.
    """
    if min(len(train), len(test)) < FEWEST:
        raise CondgenError(
            f"{test.name} has {len(train)} training and {len(test)} test images; {FEWEST} of each are needed to "
            "compare samples with. Name another split with --split, or other images with --data."
        )
    inception = read_inception(options.inception, model.device)
    folder, seeds = options.classifiers, range(options.seeds or 3)
    observer = Observer(train, test, folder, fit, lambda share, message: progress(0.3 * share, message))
    classifier = observer.classifier.to(model.device)
    reference = test.images[_some(len(test), min(MOST, len(test)), 0)]
    real = RealImages(train.images, reference, classifier_features(classifier, observer.space) | inception)
    on_real = observer.predict(reference)
    rounds, sheets, drawn = [], {}, []
    for k, seed in enumerate(seeds):
        progress(0.3 + 0.7 * k / len(seeds), f"generating {len(reference):,} images, seed {seed}")
        began = time.perf_counter()
        rows = range(1_000_000 * seed, 1_000_000 * seed + len(reference))
        generated = to_uint8(model.sample(rows))
        seconds = time.perf_counter() - began
        progress(0.3 + 0.7 * (k + 0.5) / len(seeds), "comparing them with real images")
        predicted = observer.predict(generated)
        memorised, neighbours = real.memorisation(generated, lambda i: "generated")
        found = real.compare(generated, _some(len(train), len(reference), seed), seed) | memorised
        found |= observer.diversity(generated, reference, predicted, on_real)
        found["speed"] = {"generation": {"images per second": len(generated) / seconds, "N": len(generated)}}
        rounds.append(found)
        drawn.append((rows, predicted))
        if not sheets:
            shown = [("real", rgb(one), True) for one in reference[:8]]
            shown += [("generated", rgb(one), True) for one in generated[:SHOWN]]
            sheets = {"samples": shown, "neighbours": neighbours}
    report: Report = {"samples": observer.facts | {"images of every seed": len(reference), "seeds": len(seeds)}}
    report |= over_seeds(rounds)
    if getattr(model, "critic", None) is not None and model.net.config.categories and observer.categorical:
        report |= observer.match_categories(model, train, test, drawn)
    return Findings(report, sheets)


class Observer:
    """The classifier, or random network, whose features and predictions samples are compared in.

    Args:
        train, test: real images.
        folder: where the classifier is saved.
        fit: options of its training.
        progress: called with progress.
    """

    def __init__(
        self, train: LabelledImages, test: LabelledImages, folder: Path | None, fit: ClassifierFitConfig | None,
        progress: ProgressCallback,
    ):  # fmt: skip
        self.attributes = train.attributes
        usable = [k for k, a in enumerate(self.attributes) if a.values and not np.isnan(train.targets[:, k]).any()]
        self.categorical = usable if train.attributes == test.attributes else []
        facts: dict[str, object] = {"training images": len(train), "test images": len(test)}
        if self.categorical:
            self.classifier = cached_classifier(train, folder, fit, progress)
            self.space = feature_space(self.classifier, train.name)
            found = accuracies(self.predict(test.images), test.targets, self.attributes)
            facts |= {f"{name}, accuracy on test images": share for name, share in found.items()}
        else:
            self.classifier, self.space = untrained_classifier(train)
        self.facts = {"features": self.space} | facts

    def predict(self, images: np.ndarray) -> np.ndarray:
        """uint8 (N, C, S, S) -> int64 (N, A), see `classifier.predict`."""
        return predict(self.classifier, features_of(self.classifier, images))

    def diversity(self, generated: np.ndarray, real: np.ndarray, predicted: np.ndarray, on_real: np.ndarray) -> Report:
        """Table of the diversity of images and of the number of missing values."""
        both = {"generated": generated, "real": real}
        lines: dict[str, dict] = {
            "mean distance of two images, intensities in [0, 1]": {n: mean_distance(pixels(i)) for n, i in both.items()}
        }
        out: Report = {"diversity": lines}
        for k in self.categorical:
            attribute = self.attributes[k]
            found, true = (shares(torch.from_numpy(x[:, k]), attribute.cardinality) for x in (predicted, on_real))
            lines[f"{attribute.name}: entropy in nats, of {math.log(attribute.cardinality):.2f}"] = {
                "generated": entropy(found), "real": entropy(true)
            }  # fmt: skip
            lines[f"{attribute.name}: missing values"] = {"generated": missing(found, true), "real": 0}
            if attribute.cardinality <= MOST_VALUES:
                out[f"shares_of_{attribute.name}"] = {
                    name: {"generated": found[i].item(), "real": true[i].item()}
                    for i, name in enumerate(attribute.values)
                }
        for line in lines.values():
            line |= {"N": len(generated), "N real": len(real)}
        return out

    def match_categories(
        self, model, train: LabelledImages, test: LabelledImages, drawn: list[tuple[range, np.ndarray]]
    ) -> Report:
        """Compares the categories of an InfoGAN with classes that its training did not use.

        Categories are assigned to classes by the best one-to-one matching on training images; the assignment is scored
        on test images, and on the classifier's predictions for images generated from a category.
        """
        kinds = model.net.config.categories
        read = [_category(model, part.images) for part in (train, test)]
        asked = torch.cat([Codes.of(model.draw(rows), model.net.config).category.argmax(1) for rows, _ in drawn])
        out: Report = {"categories": {}}
        for k in self.categorical:
            count, name = self.attributes[k].cardinality, self.attributes[k].name
            labels = [torch.from_numpy(part.targets[:, k]).long() for part in (train, test)]
            shown = torch.from_numpy(np.concatenate([predicted[:, k] for _, predicted in drawn]))
            known = labels[1] >= 0
            assigned = best_matching(read[0], labels[0], kinds, count)
            rows = (("inferred from test images", read[1][known], labels[1][known]), ("generated from", asked, shown))
            for title, found, true in rows:
                out["categories"][f"{name}, {title}"] = {
                    "accuracy": (assigned[found] == true).double().mean().item(),
                    "purity": purity(found, true, kinds, count),
                    "majority class": shares(true, count).max().item(),
                    "N": len(true),
                }
            if len(self.categorical) == 1 and count <= MOST_VALUES:
                called = [self.attributes[k].values[i] if i >= 0 else "nothing" for i in assigned.tolist()]
                out["classes_of_test_images_by_category"] = {
                    f"category {c}, assigned to {called[c]}": {
                        value: (labels[1][read[1] == c] == i).double().mean().item()
                        for i, value in enumerate(self.attributes[k].values)
                    }
                    for c in range(kinds)
                }
        return out


@torch.inference_mode()
def _category(model, images: np.ndarray) -> Tensor:
    """int64 (N,), the category that the critic infers from images."""
    return in_batches(model.critic.category, images, model.device).argmax(1).cpu()


def _some(n: int, most: int, seed: int) -> np.ndarray:
    """At most `most` of n rows, at random."""
    return np.random.default_rng((seed, 4)).permutation(n)[:most]
