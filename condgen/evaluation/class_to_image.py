"""Evaluation of class- and attribute-conditional models.

An independent classifier, trained on the real training images, measures whether an image shows its condition; its
accuracy on real test images is reported as a reference. Distances between generated and test images are measured in its
features. The reference of every distance is the one between as many training images and the test images, the score of
a perfect model.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from condgen.contracts import ProgressCallback
from condgen.data.datasets.labels import LabelledImages
from condgen.evaluation.base import Example, Findings, Report, register
from condgen.evaluation.class_to_image_protocol import Protocol, condition_of, make_protocol, matching_rows
from condgen.evaluation.classifier import (
    Classifier,
    ClassifierFitConfig,
    accuracies,
    cached_classifier,
    feature_space,
    features_of,
    predict,
    share_of,
    train_classifier,
)
from condgen.evaluation.distribution import RealImages, classifier_features, over_seeds, read_inception, rgb
from condgen.evaluation.embed import generate_prompts
from condgen.evaluation.options import ClassToImageOptions
from condgen.evaluation.reading import read_train_and_test
from condgen.metrics.fid_kid import frechet_distance
from condgen.pipelines.class_to_image import ClassToImage

BATCH = 100
SHOWN = 24
"""Maximum numbers of rows of a confusion matrix, and of classes on the sheet."""


@register(ClassToImage, options=ClassToImageOptions)
def evaluate_class_to_image(
    model, options: ClassToImageOptions, progress: ProgressCallback = lambda share, message: None
) -> Findings:
    """Evaluates a model on its training data or on other images, see `evaluate_on`."""
    return evaluate_on(model, *read_labelled(model, options), options, progress=progress)


def read_labelled(model, options) -> tuple[LabelledImages, LabelledImages]:
    """Training and test images, see `read_train_and_test`."""
    from condgen.data.sources.labels import open_labelled

    return read_train_and_test(model, options, open_labelled)


def evaluate_on(
    model, train: LabelledImages, test: LabelledImages, options: ClassToImageOptions,
    fit: ClassifierFitConfig | None = None, progress: ProgressCallback = lambda share, message: None,
) -> Findings:  # fmt: skip
    """Evaluates a class-to-image model on real images.

    Args:
        model: a ClassToImage.
        train, test: real images; the classifier is trained on `train` only.
        options: `per_label` images of every class are generated. Where several attributes have values, images are
            generated for the targets of test images: 10 `per_label` with combinations that occur in the training
            images, and as many with other combinations; `combined` names the attributes that make up a combination,
            by default all with values. Images are generated again for every seed; means and standard deviations over
            the seeds are reported.
        fit: options of the training of classifiers.
        progress: called with progress.

    Returns:
        Findings; the sheet `sheet` shows generated images with their conditions, `neighbours` the images that are
        nearest to a training image.

    Raises:
        CondgenError: the data lacks an attribute of the model, or there is nothing to evaluate by.
    """
    protocol = make_protocol(model.attributes, train, test, options.per_label, options.combined)
    inception = read_inception(options.inception, model.device)
    fit = fit or ClassifierFitConfig()
    seeds = range(options.seeds or 3)
    folder = options.classifiers
    classifier = cached_classifier(protocol.train, folder, fit, lambda share, text: progress(0.25 * share, text))
    classifier = classifier.to(model.device)
    space = feature_space(classifier, protocol.train.name)
    scores = Scores(classifier, protocol)
    real = RealImages(
        protocol.train.images,
        protocol.test.images[protocol.reference],
        classifier_features(classifier, space) | inception,
    )
    rounds, sheets, predictions = [], {}, []
    for k, seed in enumerate(seeds):
        at = 0.25 + 0.75 * k / len(seeds)
        progress(at, f"generating {len(protocol.targets):,} images, seed {seed}")
        began = time.perf_counter()
        generated = generate_all(model, protocol, seed)
        seconds = time.perf_counter() - began
        progress(at + 0.5 / len(seeds), "comparing them with real images")
        predicted = predict(classifier, features_of(classifier, generated))
        memorised, neighbours = real.memorisation(
            generated[protocol.compared], lambda i: protocol.caption(protocol.compared[i])
        )
        found = scores.accuracy(predicted)
        found |= real.compare(generated[protocol.compared], protocol.real_rows(seed), seed) | memorised
        progress(at + 0.6 / len(seeds), "training a classifier on them")
        found["classifier_trained_on_generated"] = _accuracy_score(generated, protocol, replace(fit, seed=seed), folder)
        found["speed"] = {"generation": {"images per second": len(generated) / seconds, "N": len(generated)}}
        rounds.append(found)
        predictions.append(predicted)
        sheets = sheets or {"sheet": _sheet(protocol, generated, predicted), "neighbours": neighbours}
    report: Report = {"kind": "class_to_image", "data": protocol.test.name, "seeds": list(seeds)}
    report["classifier"] = {
        "features": space,
        "training images": len(protocol.train),
        "test images": len(protocol.test),
        **{f"{name}, accuracy on test images": share for name, share in scores.on_test.items()},
    }
    report |= over_seeds(rounds)
    if len(protocol.categorical) == 1 and protocol.attributes[protocol.categorical[0]].cardinality <= SHOWN:
        report["confusion"] = _confusion(protocol, np.concatenate(predictions), len(seeds))
    return Findings(report, sheets)


class Scores:
    """Accuracy of a classifier on generated images and, as a reference, on real test images.

    Args:
        classifier, protocol: as in `evaluate_on`.
    """

    def __init__(self, classifier: Classifier, protocol: Protocol):
        self.protocol = protocol
        self.predicted = predict(classifier, features_of(classifier, protocol.test.images))
        self.on_test = accuracies(self.predicted, protocol.test.targets, protocol.attributes)

    def accuracy(self, predicted: np.ndarray) -> Report:
        """Tables of accuracy: with one attribute a row for every class, else a table for every group of conditions."""
        protocol, out = self.protocol, {}
        if len(protocol.categorical) == 1:
            k = protocol.categorical[0]
            rows = {"overall": (slice(None), slice(None))}
            for value, name in enumerate(protocol.attributes[k].values):
                rows[name] = (protocol.targets[:, k] == value, protocol.test.targets[:, k] == value)
            return {"accuracy": {name: self._line(predicted, k, *chosen) for name, chosen in rows.items()}}
        for group, rows in protocol.groups.items():
            real = protocol.reference[rows]
            table = {protocol.attributes[k].name: self._line(predicted, k, rows, real) for k in protocol.categorical}
            hits = [self.hits(predicted, k, rows, protocol.targets) for k in protocol.categorical]
            on_real = [self.hits(self.predicted, k, real, protocol.test.targets) for k in protocol.categorical]
            most = max(protocol.attributes[k].cardinality for k in protocol.categorical)
            table["all attributes"] = _line(np.stack(hits).all(0), np.stack(on_real).all(0), most)
            out[f"accuracy_{group}"] = table
        return out

    def _line(self, predicted: np.ndarray, k: int, rows, real) -> dict:
        hits = self.hits(predicted, k, rows, self.protocol.targets)
        on_real = self.hits(self.predicted, k, real, self.protocol.test.targets)
        known = ~np.isnan(self.protocol.targets[rows, k]), ~np.isnan(self.protocol.test.targets[real, k])
        return _line(hits[known[0]], on_real[known[1]], self.protocol.attributes[k].cardinality)

    @staticmethod
    def hits(predicted: np.ndarray, k: int, rows, targets: np.ndarray) -> np.ndarray:
        """bool, true where attribute k is predicted as in `targets`; an unknown target counts as right."""
        return (predicted[rows, k] == targets[rows, k]) | np.isnan(targets[rows, k])


@dataclass
class QuickEvaluation:
    """Accuracy, distance and speed on a few images of each class, for curves.

    Args:
        train, test: real images, see `evaluate_on`.
        per_label: images of every class.
        classifiers: folder that keeps the classifier.
        seed: seed of the images; not among the default seeds of `evaluate_on`.
    """

    train: LabelledImages
    test: LabelledImages
    per_label: int = 30
    classifiers: Path | None = None
    seed: int = 7

    def __call__(self, model, **options: float) -> dict[str, float]:
        """The scores of a ClassToImage and the time per image; `options` are those of `model.generate_batch`."""
        scores, classifier, real = self._prepared(model)
        protocol = scores.protocol
        began = time.perf_counter()
        generated = generate_all(model, protocol, self.seed, **options)
        took = time.perf_counter() - began
        features = features_of(classifier, generated)
        predicted = predict(classifier, features)
        shares = [scores.hits(predicted, k, slice(None), protocol.targets).mean() for k in protocol.categorical]
        found = {"accuracy": float(np.mean(shares))} if shares else {}
        for reference in real.features.values():
            found["frechet"] = frechet_distance(features[protocol.compared], reference)
        return found | {"milliseconds per image": 1000 * took / len(generated), "N": len(generated)}

    def _prepared(self, model) -> tuple[Scores, Classifier, RealImages]:
        if not hasattr(self, "_known"):
            protocol = make_protocol(model.attributes, self.train, self.test, self.per_label)
            classifier = cached_classifier(protocol.train, self.classifiers)
            test = protocol.test.images[protocol.reference]
            real = RealImages(protocol.train.images, test, classifier_features(classifier, ""))
            self._known = Scores(classifier, protocol), classifier, real
        return self._known


def generate_all(model, protocol: Protocol, seed: int, **options: float) -> np.ndarray:
    """uint8 (N, C, S, S). Image i of seed s has seed 1,000,000 s + i, so that no two seeds share one."""
    conditions = [condition_of(protocol.attributes, row) for row in protocol.targets]
    first = seed * 1_000_000
    parts = (slice(k, min(k + BATCH, len(conditions))) for k in range(0, len(conditions), BATCH))
    return np.concatenate([
        generate_prompts(model, conditions[part], [*range(first + part.start, first + part.stop)], **options)
        for part in parts
    ])  # fmt: skip


def _accuracy_score(generated: np.ndarray, protocol: Protocol, fit: ClassifierFitConfig, folder: Path | None) -> Report:
    """Accuracy on real test images of classifiers trained on generated images and on as many real images.

    References:
        Classification Accuracy Score for Conditional Generative Models (Ravuri, Vinyals, 2019)
    """
    synthetic = LabelledImages(generated, protocol.attributes, protocol.targets, "generated images")
    rng = np.random.default_rng((fit.seed, 5))
    rows = matching_rows(protocol.train.targets, protocol.targets, protocol.categorical, rng)
    real = replace(protocol.train, images=protocol.train.images[rows], targets=protocol.train.targets[rows])
    scores = []
    for classifier in (train_classifier(synthetic, fit), cached_classifier(real, folder, fit)):
        predicted = predict(classifier, features_of(classifier, protocol.test.images))
        scores.append(accuracies(predicted, protocol.test.targets, protocol.attributes))
    count = {"N": len(generated), "N real": len(real)}
    return {name: {"generated": scores[0][name], "real": scores[1][name]} | count for name in scores[0]}


def _line(generated: np.ndarray, real: np.ndarray, values: int) -> dict:
    shares = [share_of(hits, values) for hits in (generated, real)]
    return {"generated": shares[0], "real": shares[1], "N": len(generated), "N real": len(real)}


def _confusion(protocol: Protocol, predicted: np.ndarray, rounds: int) -> Report:
    """Confusion matrix, condition by prediction, as shares of every row over all seeds."""
    k = protocol.categorical[0]
    asked = np.tile(protocol.targets[:, k], rounds)
    names = protocol.attributes[k].values
    return {
        f"asked {name}": {other: float((predicted[asked == value, k] == i).mean()) for i, other in enumerate(names)}
        for value, name in enumerate(names)
    }


def _sheet(protocol: Protocol, generated: np.ndarray, predicted: np.ndarray) -> list[Example]:
    """Eight images of every class, or of every group; misclassified images are marked."""
    if len(protocol.categorical) == 1:
        asked = protocol.targets[:, protocol.categorical[0]]
        rows = [i for value in np.unique(asked)[:SHOWN] for i in np.flatnonzero(asked == value)[:8]]
    else:
        rows = [i for group in protocol.groups.values() for i in group[:SHOWN]]
    known = ~np.isnan(protocol.targets) & [bool(attribute.values) for attribute in protocol.attributes]
    right = ((predicted == protocol.targets) | ~known).all(1)
    return [(protocol.caption(i), rgb(generated[i]), bool(right[i])) for i in rows]
