"""The judge of representations: what can be read off the features of a model, beside raw pixels and random weights.

Probes are fitted on training images and told on test images. On captioned images, what an encoder of images and
words finds is told in both directions, beside chance.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache

import numpy as np
import torch
from torch import Tensor

from condgen.contracts import CondgenError, CondgenWarning, ProgressCallback, listed
from condgen.data.attributes import LABEL, Attribute
from condgen.data.batches.captions import to_float
from condgen.data.datasets.captions import CaptionedImages
from condgen.data.sources.label_rows import NothingLabelled
from condgen.data.sources.labels import find, open_labelled
from condgen.data.sources.rows import Columns
from condgen.data.templates import class_captions, templates_of
from condgen.evaluation.embed import Example
from condgen.evaluation.embedding_plot import space_sheet
from condgen.evaluation.features import Components, OfCode, Row, rows_of, see
from condgen.evaluation.finetune import SHARES, some_of, tune
from condgen.evaluation.text_to_image import read_pictures
from condgen.metrics.probes import (
    Probe,
    accuracy,
    accuracy_by_class,
    alignment,
    class_embeddings,
    collapse_report,
    knn,
    linear_probe,
    zero_shot,
)
from condgen.metrics.retrieval import retrieval
from condgen.pipelines.base import BATCH_ROWS
from condgen.pipelines.encoder import TextImageEncoder

NEIGHBOURS, TEMPERATURE = 200, 0.1
SPACE, SHOWN, QUERIES, NEAREST = 800, 2000, 12, 8
"""Images in the image of the space, those that a rank is taken of, rows and columns of the sheet of retrieval."""
COMPONENTS_OF = 10_000
"""Images that principal components are fitted to, at most."""
WITH_WEIGHTS = 3
"""A training step costs as much as so many looks."""


@dataclass(frozen=True)
class Split:
    """Images, uint8 (N, C, S, S), and their classes, int64 (N,)."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Asked:
    """Where the images are, and how they are read.

    Args:
        data: labelled or captioned images.
        split: which part of them is the test.
        columns: `label_column`, `caption_column`, `image_column`, `split_column`, `filter`, `resize`; None
            or missing where nothing is given.
        train_pictures: at most so many are fitted on; 0 for all.
    """

    data: str
    split: str
    columns: dict[str, str | None]
    train_pictures: int = 0

    def labelled(self, words: bool) -> bool:
        """Whether to judge by classes: where a column of them is named, or there is one and no captions are named; and
        where nobody knows words.
        """
        if not words:
            return True
        if self.columns.get("label_column") or self.columns.get("caption_column"):
            return bool(self.columns.get("label_column"))
        try:
            columns = Columns(self._of("image_column"), "", self._of("split_column"))
            find(self.data, columns, self._of("filter"), guess=False)
        except NothingLabelled:
            return False
        return True

    def read(self, size: int, image_channels: int) -> tuple[Split, Split, Attribute, str]:
        """Training and test images whose class is known, the classes, and the name of the data."""
        if self.split.startswith(("train", "all")):
            raise CondgenError(f"--split {self.split}: probes are fitted on those images. Name one to judge on.")
        options = {name: self._of(name) for name in ("image_column", "label_column", "split_column", "filter")}
        options["resize"] = self._of("resize") or "crop"
        train, test = (
            open_labelled(self.data, size, image_channels, split=split, **options) for split in ("train", self.split)
        )
        attribute = _classes(train)
        k, parts = train.attributes.index(attribute), []
        for data in (train, test):
            known = ~np.isnan(data.targets[:, k])
            parts.append(Split(data.images[known], data.targets[known, k].astype(np.int64)))
        if self.train_pictures and self.train_pictures < len(parts[0]):
            chosen = np.sort(np.random.default_rng(0).permutation(len(parts[0]))[: self.train_pictures])
            parts[0] = Split(parts[0].images[chosen], parts[0].labels[chosen])
        seen = len(np.unique(parts[0].labels))
        if seen < 2 or not len(parts[1]):
            raise CondgenError(
                f"{test.name} has {seen} classes to train on and {len(parts[1])} images in the split {self.split}. A "
                "probe needs two classes, and images to be judged on."
            )
        return parts[0], parts[1], attribute, test.name

    def _of(self, name: str) -> str:
        return self.columns.get(name) or ""


def _classes(data) -> Attribute:
    """What the probes are to tell: the label, or the only attribute with values."""
    valued = [attribute for attribute in data.attributes if attribute.values]
    named = next((attribute for attribute in valued if attribute.name == LABEL), None)
    if named is None and len(valued) != 1:
        there = ", ".join(attribute.name for attribute in valued) or "no classes"
        raise CondgenError(f"{data.name} has {there}; name the column to judge by with --label-column.")
    return named or valued[0]


class Clock:
    """Tells now and then how much is done, and how long the rest will take."""

    def __init__(self, progress: ProgressCallback, total: float):
        self.progress, self.total, self.done = progress, max(total, 1), 0.0
        self.began = self.last_report = time.monotonic()

    def of(self, what: str, each: float = 1) -> Callable[[int], None]:
        """To be told how many images more were looked at, each so often."""
        return lambda n: self.add(each * n, what)

    def add(self, looks: float, what: str) -> None:
        """So many looks at images more."""
        self.done += looks
        now = time.monotonic()
        if now - self.last_report > 3:
            self.last_report = now
            left = (now - self.began) / self.done * max(self.total - self.done, 0)
            self.progress(min(self.done / self.total, 1), f"{what}, {timedelta(seconds=round(left))} left")


def evaluate_features(
    models: Sequence, asked: Asked, templates: Sequence[str] = (), images: int = 20_000, seeds: int = 1,
    progress: ProgressCallback = lambda share, what: None,
) -> tuple[dict, dict[str, list[Example]], dict[str, bytes]]:  # fmt: skip
    """Judges what models see in images.

    Args:
        models: see `eyes.features_of`; each is a line of every table, and the first has its space drawn.
        asked: on what.
        templates: sentences with a gap for a class; none are those of `data.templates`.
        images: images that an encoder is trained on, with every share of the labels; 0 leaves that out.
        seeds: how often, each time with other labels.
        progress: called with progress.

    Returns:
        (report, sheets, images): `space` is a PNG of the embedding space; of captioned images `sheet` shows what
        some texts find.

    Raises:
        CondgenError: see `eyes.features_of` and `Asked.read`; captions are named, and no model knows words.
    """
    if not asked.data:
        raise CondgenError("Features are judged on images: name labelled or captioned ones with --data.")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows, notes = rows_of(list(models))
    for note in notes:
        warnings.warn(note, CondgenWarning, stacklevel=2)
    report: dict = {"kind": "features", "notes": notes}
    trained = getattr(models[0], "about", {}).get("reading")
    if not asked.columns.get("resize") and isinstance(trained, dict) and trained.get("resize") in ("crop", "pad"):
        asked = replace(asked, columns=asked.columns | {"resize": trained["resize"]})
    words, captions = any(row.words for row in rows), asked.columns.get("caption_column")
    if captions and not words:
        raise CondgenError(
            f"--caption-column {captions}: {rows[0].name} knows no words. Name the column of "
            "classes with --label-column."
        )
    sheets, pictures, labelled = {}, {}, asked.labelled(words)
    if labelled:
        judge = ByClass(rows, asked, templates, images, seeds, progress, device)
        report |= judge.report()
        pictures["space"] = judge.space
    if captions or not labelled:
        more, sheets, drawn = _by_caption(rows, models[0], asked, progress, device)
        report |= more
        pictures = drawn | pictures
    for row in rows:
        row.eyes.cpu()
    return report, sheets, pictures


# Classes --------------------------------------------------------------------------------------------------------------


class ByClass:
    """What is known of each row about the classes of images.

    Args:
        asked, templates, images, seeds: see `evaluate_features`.
        rows: of which.
        device: to compute on.
    """

    def __init__(
        self, rows: list[Row], asked: Asked, templates: Sequence[str], images: int, seeds: int,
        progress: ProgressCallback, device: torch.device | str,
    ):  # fmt: skip
        self.read = cache(asked.read)
        rows = [*rows, *self._components(rows)]
        self.rows, self.images, self.seeds, self.device = rows, images, seeds, device
        train, test, self.attribute, self.name = self.read(rows[0].eyes.size, rows[0].eyes.image_channels)
        trained = sum(row.eyes.net is not None for row in rows) if images else 0
        looks = len(rows) * (2 * len(train) + len(test)) + trained * len(SHARES) * seeds * WITH_WEIGHTS * images
        self.clock = Clock(progress, looks)
        self.truth = torch.from_numpy(test.labels)
        spoken = [row.words for row in rows if row.words]
        self.templates = (
            [*(templates or _trained_on(spoken[0], self.name) or templates_of(self.name))] if spoken else []
        )
        self.sentences = class_captions(self.attribute.values, self.templates) if self.templates else []
        for row in rows:
            warn_of_unseen(row, [one for own in self.sentences for one in own])
        largest = float(np.bincount(test.labels).max() / len(test))
        self.chance = dict.fromkeys(("kNN", "linear probe", *(["zero-shot"] if self.sentences else [])), largest)
        self.counts = {
            "training images": len(train), "test images": len(test), "classes": self.attribute.cardinality,
            "neighbours": NEIGHBOURS, "temperature": TEMPERATURE, "standard error, at most": 0.5 / math.sqrt(len(test)),
        }  # fmt: skip
        self.space = b""

    def _components(self, rows: list[Row]) -> list[Row]:
        """Beside autoencoders PCA, of as many numbers as their codes have."""
        found: dict[str, Row] = {}
        for eyes in (row.eyes for row in rows if isinstance(row.eyes, OfCode) and not row.control):
            images, n = self.read(eyes.size, eyes.image_channels)[0].images, eyes.config.latent
            some = np.sort(_some(len(images), COMPONENTS_OF))
            name = f"PCA, {n} numbers"
            found[name] = found.get(name) or Row(name, Components(images[some], n))
        return list(found.values())

    def report(self) -> dict:
        """Every row in every table."""
        table, collapse, by_class = {}, {}, {}
        tuned: dict[str, dict] = {f"{share:.0%} of the labels": {} for share in SHARES}
        for row in self.rows:
            table[row.name], collapse[row.name], by_class[row.name], heads = self.judge(row)
            for heading, line in zip(tuned, heads):
                tuned[heading][row.name] = line
        report = {"data": self.name, "counts": self.counts}
        report |= {"templates": self.templates} if self.templates else {}
        report |= {"features": table | {"the largest class": self.chance}, "collapse": collapse}
        report |= {"new_head": tuned} if self.images else {}
        shares = {
            value: {name: own[k] for name, own in by_class.items()} for k, value in enumerate(self.attribute.values)
        }
        return report | {"linear_probe_by_class": shares}

    def judge(self, row: Row) -> tuple[dict, dict, list[float], list[dict]]:
        """One line of each table: what probes know, collapse, the linear probe by class, a new head."""
        train, test, *_ = self.read(row.eyes.size, row.eyes.image_channels)
        classes, labels = self.attribute.cardinality, torch.from_numpy(train.labels).to(self.device)
        done = self.clock.of(f"{row.name}: features")
        seen, unseen = (see(row.eyes, part.images, self.device, done).to(self.device) for part in (train, test))
        if not self.space:
            few = _some(len(test), SPACE)
            self.space = space_sheet(unseen[few].cpu(), test.images[few], test.labels[few], self.attribute.values)
        voted = knn(seen, labels, unseen, classes, NEIGHBOURS, TEMPERATURE)
        probe = linear_probe(seen, labels, classes)
        predicted = probe(unseen)
        self.clock.add(len(train), f"{row.name}: probes")
        line = {"kNN": accuracy(voted, self.truth), "linear probe": accuracy(predicted, self.truth)}
        if row.words:
            line["zero-shot"] = accuracy(self._named(row.words, test.images), self.truth)
        few = _some(len(test), SHOWN)
        collapse = collapse_report(unseen[few], self.truth[few].to(self.device))
        heads = [self._new_head(row, probe, seen, unseen, share) for share in SHARES] if self.images else []
        line["penalty"] = probe.strength
        return line, collapse, accuracy_by_class(predicted, self.truth, classes), heads

    def _named(self, words: TextImageEncoder, images: np.ndarray) -> Tensor:
        """Zero-shot: the class whose sentences are nearest, int64 (N,)."""
        words.to(self.device)
        flat = words.embed_text([one for own in self.sentences for one in own])
        return zero_shot(_embedded(words, images), class_embeddings(flat.unflatten(0, (len(self.sentences), -1))))

    def _new_head(self, row: Row, probe: Probe, seen: Tensor, unseen: Tensor, share: float) -> dict[str, float]:
        """A new head on a share of the labels, with the rest frozen and trained: means over the seeds, and their sd."""
        train, test, *_ = self.read(row.eyes.size, row.eyes.image_channels)
        found: dict[str, list[float]] = {"frozen": [], "trained": []}
        for seed in range(self.seeds):
            own = some_of(train.labels, share, seed)
            labels = torch.from_numpy(train.labels[own]).to(self.device)
            head = probe if share == 1 else linear_probe(seen[own], labels, self.attribute.cardinality, seed=seed)
            found["frozen"].append(accuracy(head(unseen), self.truth))
            if row.eyes.net is not None:
                done = self.clock.of(f"{row.name}: training on {len(own):,} labels", WITH_WEIGHTS)
                part, rest = (train.images[own], train.labels[own]), (test.images, test.labels)
                found["trained"].append(tune(row.eyes, head, part, rest, self.images, seed, done))
        line: dict[str, float] = {}
        for name, scores in found.items():
            line |= {name: float(np.mean(scores))} if scores else {}
            line |= {f"sd {name}": float(np.std(scores, ddof=1))} if len(scores) > 1 else {}
        return line | {"N": len(own), "seeds": self.seeds} | ({"images seen": self.images} if found["trained"] else {})


def _some(n: int, most: int) -> np.ndarray:
    """So many of n rows at most, drawn alike wherever they are asked for: data may come class by class."""
    return np.random.default_rng(0).permutation(n)[:most]


def _trained_on(words: TextImageEncoder, name: str) -> list[str]:
    """The templates that an encoder was trained with, where it was on data of this name; else none."""
    read = words.about.get("reading")
    own = read.get("templates") if isinstance(read, dict) and words.about.get("data") == name else None
    return own if isinstance(own, list) and all(isinstance(one, str) for one in own) else []


def warn_of_unseen(row: Row, texts: Sequence[str]) -> None:
    """Warns of words that an encoder never read in training."""
    if row.control or row.words is None:
        return
    if unseen := {word: None for text in texts for word in row.words.tokenizer.unseen(text)}:
        text = f"{row.name} has never read these words of the data: {listed(unseen, 10)}."
        warnings.warn(text, CondgenWarning, stacklevel=2)


def _embedded(words: TextImageEncoder, images: np.ndarray) -> Tensor:
    """uint8 (N, 3, S, S) -> unit vectors (N, D), without all of them as floats at a time."""
    return torch.cat([words.embed_image(to_float(part)) for part in torch.from_numpy(images).split(BATCH_ROWS)])


# Captions -------------------------------------------------------------------------------------------------------------


def _by_caption(
    rows: list[Row], model, asked: Asked, progress: ProgressCallback, device: torch.device
) -> tuple[dict, dict[str, list[Example]], dict[str, bytes]]:
    """The report, the sheet and the space of captioned images; `model` tells how they are read."""
    names = ("image_column", "caption_column", "split_column", "filter", "resize")
    columns = {name: asked.columns.get(name) for name in names}
    read = cache(lambda size: read_pictures(model, asked.data, asked.split, columns, size))
    first = read(rows[0].eyes.size)
    used = np.unique(first.captions[first.captions >= 0])
    texts = [first.texts[i] for i in used]
    keys, own = torch.from_numpy(first.captions), torch.from_numpy(used)[:, None]
    clock = Clock(progress, len(rows) * len(first))
    found, collapse, sheets, pictures = {}, {}, {}, {}
    for row in rows:
        data = read(row.eyes.size)
        if row.eyes.image_channels == 1:  # captioned images are RGB
            continue
        seen = see(row.eyes, data.images, device, clock.of(f"{row.name}: features"))
        collapse[row.name] = collapse_report(seen[_some(len(data), SHOWN)])
        if row.words is None:
            continue
        warn_of_unseen(row, texts)
        row.words.to(device)
        image, text = _embedded(row.words, data.images), row.words.embed_text(texts)
        count = {"pictures": len(image), "texts": len(text)}
        found[f"{row.name}: text to image"] = retrieval(text, image, own, keys) | count
        found[f"{row.name}: image to text"] = retrieval(image, text, keys, own) | count
        place = {int(number): i for i, number in enumerate(used)}
        theirs = text[[place[int(number)] for number in data.captions[:, 0]]]
        collapse[row.name]["alignment of image and text"] = alignment(image, theirs)
        if not pictures:
            few = _some(len(data), SPACE)
            pictures["space"] = space_sheet(seen[few], data.images[few])
            sheets["sheet"] = _found(text, image, data, used)
    counts = {"test images": len(first), "texts": len(texts)}
    return {"data": first.name, "counts": counts, "retrieval": found, "collapse": collapse}, sheets, pictures


def _found(text: Tensor, image: Tensor, data: CaptionedImages, used: np.ndarray) -> list[Example]:
    """What some texts find: the nearest images of each in a row, those under another text marked."""
    shown, first = [], np.flatnonzero(np.isin(used, data.captions[:, 0]))  # of several captions the plainest
    for i in np.random.default_rng(0).permutation(first)[:QUERIES]:
        for j in (image @ text[i]).topk(min(NEAREST, len(image))).indices.tolist():
            right = used[i] in data.captions[j]
            told = data.texts[used[i]] if right else f"{data.texts[data.captions[j, 0]]} for: {data.texts[used[i]]}"
            shown.append((told, data.images[j], bool(right)))
    return shown
