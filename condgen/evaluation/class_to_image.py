"""The judge of images that are painted by label, or by attributes.

An independent classifier, trained on the real training images, says whether an image shows what was asked; its
accuracy on real test images stands beside. In its features the generated images are held against test images,
and beside every distance stands the same between as many training and test images: what a perfect model would get.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from torch import Tensor

from condgen.contracts import CondgenError, ProgressCallback
from condgen.data.attributes import Attribute
from condgen.data.datasets.labels import LabelledImages
from condgen.evaluation.class_to_image_protocol import Exam, like, read_exam, said
from condgen.evaluation.classifier import (
    Classifier,
    ClassifierRun,
    features_of,
    kept_classifier,
    seen_in,
    space_of,
    train_classifier,
)
from condgen.evaluation.distribution import (
    FEWEST,
    Extractors,
    Report,
    held_against,
    neighbours,
    over_seeds,
    pixels,
    rgb,
)
from condgen.evaluation.embed import Example, generate_prompts
from condgen.evaluation.inception import Inception
from condgen.metrics.fid_kid import frechet_distance
from condgen.metrics.prdc import closeness, memorisation

BATCH = 100
SHOWN = 24
"""Levels of a table of confusions, and labels on the sheet, at most."""


def evaluate_labels(
    model, train: LabelledImages, test: LabelledImages, per_label: int = 100, seeds: Sequence[int] = (0, 1, 2),
    judge: Path | None = None, combined: Sequence[str] = (), inception: Path | None = None,
    run: ClassifierRun | None = None, progress: ProgressCallback = lambda share, what: None,
) -> tuple[dict, dict[str, list[Example]]]:  # fmt: skip
    """Judges a model of labelled images.

    Args:
        model: a ClassToImage.
        train, test: real images; the classifier learns from the first and has never seen the second.
        per_label: images of every class. Where several attributes have values, test images are asked for again: ten
            times as many with combinations that training has shown, and as many with others.
        seeds: every one paints all images anew; means are reported, with their standard deviation.
        judge: folder to keep classifiers in, so that several evaluations share them.
        combined: names of the attributes whose values make up a combination; by default all that have values.
        inception: file with the weights of the Inception network, see `evaluation.inception`.
        run: how classifiers are trained.
        progress: called with progress.

    Returns:
        (report, sheets): `sheet` shows what was asked for, `neighbours` the images nearest to a training image,
        each beside it.

    Raises:
        CondgenError: the data has not the attributes of the model, or there is nothing to judge.
    """
    exam = read_exam(model.attributes, train, test, per_label, combined)
    network = None if inception is None else Inception.read(inception)
    run = run or ClassifierRun()
    classifier = kept_classifier(exam.train, judge, run, lambda share, what: progress(0.25 * share, what))
    classifier = classifier.to(model.device)
    space = space_of(classifier, exam.train.name)
    extractors: Extractors = {
        (f"frechet ({space})", f"kernel ({space})"): lambda images: features_of(classifier, images)
    }
    if network is not None:
        extractors[network.names] = network.to(model.device).extract
    truth = Truth(classifier, exam, extractors)
    rounds, sheets, confusion = [], {}, []
    for k, seed in enumerate(seeds):
        at = 0.25 + 0.75 * k / len(seeds)
        progress(at, f"painting {len(exam.targets):,} images, seed {seed}")
        began = time.perf_counter()
        generated = _painted(model, exam, seed)
        seconds = time.perf_counter() - began
        progress(at + 0.5 / len(seeds), "judging them")
        features = features_of(classifier, generated)
        seen = seen_in(classifier, features)
        near, rows = closeness(pixels(generated[exam.held]), truth.pixels)
        found = truth.accuracy(seen) | truth.distances(generated, seed)
        found["memorisation"] = {"memorised": memorisation(near, truth.near) | {"N": len(near)}}
        progress(at + 0.6 / len(seeds), "a classifier trained on them")
        found["classifier_trained_on_generated"] = _trained_on(generated, exam, replace(run, seed=seed), judge)
        found["speed"] = {"painting": {"images a second": len(generated) / seconds, "N": len(generated)}}
        rounds.append(found)
        confusion.append(seen)
        if not sheets:
            sheets = {"sheet": _sheet(exam, generated, seen)}
            sheets["neighbours"] = neighbours(
                generated[exam.held], lambda i: _told(exam, exam.held[i]), exam.train.images, near, rows
            )
    report: dict = {"kind": "labels", "data": exam.test.name, "seeds": list(seeds)}
    report["judge"] = {
        "features": space,
        "training images": len(exam.train),
        "test images": len(exam.test),
        **{f"{name}, right on real test images": share for name, share in truth.right.items()},
    }
    report |= over_seeds(rounds)
    if len(exam.judged) == 1 and exam.attributes[exam.judged[0]].cardinality <= SHOWN:
        report["confusion"] = _confusion(exam, np.concatenate(confusion), len(seeds))
    return report, sheets


READ = {"image_column": "", "label_column": "", "split_column": "", "resize": "crop", "filter": "", "name": ""}
READ |= {"max_bad_fraction": 0.01, "attribute_columns": (), "names": ()}
"""How labelled images are read, see `data.labels.open_labelled`."""


def read_labelled(model, data: str, split: str, asked: dict[str, str | None]) -> tuple[LabelledImages, LabelledImages]:
    """Training and test images, read as those of the training were where nothing else is asked for.

    Args:
        model: a ClassToImage; `about["data"]` names its data and `about["reading"]` how it was read.
        data: another place where the images are; '' for that of the training.
        split: which part of the data is the test.
        asked: some of READ; None as in the training.

    Raises:
        CondgenError: there are none, or they cannot be read.
    """
    source = data or model.about.get("data")
    if not source or not isinstance(source, str):
        raise CondgenError(f"{model.name} does not say what it was trained on: name the images with --data.")
    from condgen.data.sources.labels import open_labelled

    trained = model.about.get("reading")
    trained = trained if isinstance(trained, dict) else {}
    chosen = READ | {name: trained[name] for name in READ if isinstance(trained.get(name), str | list | float)}
    chosen |= {name: value for name, value in asked.items() if value is not None}
    chosen |= {name: tuple(chosen[name]) for name in ("attribute_columns", "names")}
    try:
        train, test = (
            open_labelled(source, model.size, model.image_channels, split=part, **chosen) for part in ("train", split)
        )
    except CondgenError as error:
        hint = "" if data else " The images to judge on are those of the training unless --data names others."
        raise CondgenError(f"{error}{hint}") from None
    return train, test


class Truth:
    """Real images as the judge sees them, each thing computed once and when it is needed.

    Args:
        classifier: the judge.
        exam: what is asked.
        extractors: see Extractors; the first are those of the classifier.
    """

    def __init__(self, classifier: Classifier, exam: Exam, extractors: Extractors):
        self.exam, self.extractors = exam, extractors
        self.seen = seen_in(classifier, features_of(classifier, exam.test.images))
        self.right = right_of(self.seen, exam.test.targets, exam.attributes)
        held = exam.test.images[exam.against]
        self.held = {name: features(held) for name, features in extractors.items()} if len(held) >= FEWEST else {}

    @cached_property
    def pixels(self) -> Tensor:
        """The training images, see `against.pixels`."""
        return pixels(self.exam.train.images)

    @cached_property
    def near(self) -> Tensor:
        """How close the test images that are held against come to training images."""
        return closeness(pixels(self.exam.test.images[self.exam.against]), self.pixels)[0]

    def accuracy(self, seen: np.ndarray) -> Report:
        """How often the judge sees what was asked, on every side, and how often on real images."""
        exam, out = self.exam, {}
        if len(exam.judged) == 1:
            k = exam.judged[0]
            rows = {"overall": (slice(None), slice(None))}
            for value, name in enumerate(exam.attributes[k].values):
                rows[name] = (exam.targets[:, k] == value, exam.test.targets[:, k] == value)
            table = {name: self._line(seen, k, asked, real) for name, (asked, real) in rows.items()}
            return {"accuracy": table}
        for side, asked in exam.sides.items():
            real = exam.against[asked]
            table = {exam.attributes[k].name: self._line(seen, k, asked, real) for k in exam.judged}
            own = [self.hits(seen, k, asked, exam.targets) for k in exam.judged]
            true = [self.hits(self.seen, k, real, exam.test.targets) for k in exam.judged]
            table["all of them"] = _line(np.stack(own).all(0), np.stack(true).all(0))
            out[f"accuracy_{side}"] = table
        return out

    def _line(self, seen: np.ndarray, k: int, asked, real) -> dict:
        own = self.hits(seen, k, asked, self.exam.targets)
        true = self.hits(self.seen, k, real, self.exam.test.targets)
        known = ~np.isnan(self.exam.targets[asked, k]), ~np.isnan(self.exam.test.targets[real, k])
        return _line(own[known[0]], true[known[1]])

    @staticmethod
    def hits(seen: np.ndarray, k: int, rows, targets: np.ndarray) -> np.ndarray:
        """bool: whether attribute k is seen as the codes say; what they do not say is right."""
        return (seen[rows, k] == targets[rows, k]) | np.isnan(targets[rows, k])

    def distances(self, generated: np.ndarray, seed: int) -> Report:
        """Generated against test images, and beside it as many training images against the same ones."""
        if not self.held:
            return {}
        held, real = generated[self.exam.held], self.exam.train.images[self.exam.real(seed)]
        return held_against(self.held, held, real, self.extractors, seed)


class Quick:
    """A small examination, for curves: what of a few images a label the judge recognises, and how far they lie.

    Args:
        train, test: real images, see `evaluate_labels`.
        per_label: images of every label.
        judge: folder to keep the classifier in.
        seed: of the images; none that `evaluate_labels` paints by default.
    """

    def __init__(
        self,
        train: LabelledImages,
        test: LabelledImages,
        per_label: int = 30,
        judge: Path | None = None,
        seed: int = 7,
    ):
        self.train, self.test, self.per_label, self.judge, self.seed = train, test, per_label, judge, seed
        self._known: tuple[Classifier, Truth] | None = None

    def __call__(self, model, **options: float) -> dict[str, float]:
        """Shares and distances of a ClassToImage, and what an image costs; `options` are for `model.paint`."""
        if self._known is None:
            exam = read_exam(model.attributes, self.train, self.test, self.per_label)
            classifier = kept_classifier(exam.train, self.judge)
            self._known = classifier, Truth(classifier, exam, {("frechet", "kernel"): partial(features_of, classifier)})
        classifier, truth = self._known
        exam = truth.exam
        began = time.perf_counter()
        generated = _painted(model, exam, self.seed, **options)
        took = time.perf_counter() - began
        features = features_of(classifier, generated)
        seen = seen_in(classifier, features)
        shares = [truth.hits(seen, k, slice(None), exam.targets).mean() for k in exam.judged]
        told = {"accuracy": float(np.mean(shares))} if shares else {}
        if truth.held:
            told["frechet"] = frechet_distance(features[exam.held], truth.held[("frechet", "kernel")])
        return told | {"milliseconds an image": 1000 * took / len(generated), "N": len(generated)}


def right_of(seen: np.ndarray, targets: np.ndarray, attributes: Sequence[Attribute]) -> dict[str, float]:
    """For every attribute with values, the share of the images of which it is known that show it; NaN where none is."""
    out = {}
    for k, attribute in enumerate(attributes):
        if attribute.values:
            known = ~np.isnan(targets[:, k])
            out[attribute.name] = float((seen[known, k] == targets[known, k]).mean()) if known.any() else math.nan
    return out


def _painted(model, exam: Exam, seed: int, **options: float) -> np.ndarray:
    """uint8 (N, C, S, S). Image i of seed s has seed 1,000,000 s + i, so that no two seeds share one."""
    wanted = [said(exam.attributes, row) for row in exam.targets]
    starts = range(0, len(wanted), BATCH)
    parts = [wanted[k : k + BATCH] for k in starts]
    first = [seed * 1_000_000 + k for k in starts]
    return np.concatenate(
        [generate_prompts(model, part, [*range(k, k + len(part))], **options) for k, part in zip(first, parts)]
    )


def _trained_on(painted: np.ndarray, exam: Exam, run: ClassifierRun, judge: Path | None) -> Report:
    """Accuracy on real test images of a classifier trained on generated ones, and of one trained on as many real.

    References:
        Classification Accuracy Score for Conditional Generative Models (Ravuri, Vinyals, 2019)
    """
    generated = LabelledImages(painted, exam.attributes, exam.targets, "generated images")
    rows = like(exam.train.targets, exam.targets, exam.judged, np.random.default_rng((run.seed, 5)))
    real = replace(exam.train, images=exam.train.images[rows], targets=exam.train.targets[rows])
    scores = []
    for classifier in (train_classifier(generated, run), kept_classifier(real, judge, run)):
        seen = seen_in(classifier, features_of(classifier, exam.test.images))
        scores.append(right_of(seen, exam.test.targets, exam.attributes))
    own, true = scores
    return {name: {"generated": own[name], "real": true[name], "N": len(painted), "N real": len(real)} for name in own}


def _line(own: np.ndarray, true: np.ndarray) -> dict:
    shares = [float(hits.mean()) if len(hits) else math.nan for hits in (own, true)]
    return {"generated": shares[0], "real": shares[1], "N": len(own), "N real": len(true)}


def _confusion(exam: Exam, seen: np.ndarray, rounds: int) -> Report:
    """What was asked for, what was seen: shares of every row, over all seeds."""
    k = exam.judged[0]
    asked = np.tile(exam.targets[:, k], rounds)
    names = exam.attributes[k].values
    return {
        f"asked {name}": {other: float((seen[asked == value, k] == i).mean()) for i, other in enumerate(names)}
        for value, name in enumerate(names)
    }


def _sheet(exam: Exam, generated: np.ndarray, seen: np.ndarray) -> list[Example]:
    """Eight images of every class, or of every side; what the judge sees otherwise is marked."""
    if len(exam.judged) == 1:
        asked = exam.targets[:, exam.judged[0]]
        rows = [i for value in np.unique(asked)[:SHOWN] for i in np.flatnonzero(asked == value)[:8]]
    else:
        rows = [i for own in exam.sides.values() for i in own[:SHOWN]]
    known = ~np.isnan(exam.targets) & [bool(attribute.values) for attribute in exam.attributes]
    right = ((seen == exam.targets) | ~known).all(1)
    return [(_told(exam, i), rgb(generated[i]), bool(right[i])) for i in rows]


def _told(exam: Exam, i: int) -> str:
    return ", ".join(
        attribute.format_target(code)
        for attribute, code in zip(exam.attributes, exam.targets[i])
        if not math.isnan(code)
    )
