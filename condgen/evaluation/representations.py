"""The judge of representations: what can be read off the features of a model, beside raw pixels and random weights.

Probes are fitted on training pictures and told on test pictures. On captioned pictures, what an encoder of pictures and
words finds is told in both directions, beside chance.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

import numpy as np
import torch
from torch import Tensor

from condgen.contracts import CondgenError, CondgenWarning
from condgen.data.captions import CaptionedPictures
from condgen.data.labelrows import NothingLabelled
from condgen.data.labels import find, open_labelled
from condgen.data.rows import Columns
from condgen.data.templates import class_captions, templates_of
from condgen.data.views import to_float
from condgen.encoding import ROWS, TextImageEncoder
from condgen.evaluation.captions import read_pictures
from condgen.evaluation.embeds import Example, Told
from condgen.evaluation.eyes import Row, rows_of, see
from condgen.evaluation.space import space_sheet
from condgen.evaluation.tuning import SHARES, some_of, tune
from condgen.factors import LABEL, Factor
from condgen.metrics.alignment import retrieval
from condgen.metrics.probes import (
    accuracy,
    accuracy_by_class,
    alignment,
    class_embeddings,
    collapse_report,
    knn,
    linear_probe,
    zero_shot,
)

NEIGHBOURS, TEMPERATURE = 200, 0.1
SPACE, SHOWN, QUERIES, NEAREST = 800, 2000, 12, 8
"""Pictures in the picture of the space, those that a rank is taken of, rows and columns of the sheet of retrieval."""
WITH_WEIGHTS = 3
"""A training step costs as much as so many looks."""


@dataclass(frozen=True)
class Split:
    """Pictures, uint8 (N, C, S, S), and their classes, int64 (N,)."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Asked:
    """Where the pictures are, and how they are read.

    Args:
        data: labelled or captioned pictures.
        split: which part of them is the test.
        columns: `label`, `text`, `image`, `split_column`, `where`, `how`; None or missing where nothing is said.
        train_pictures: at most so many are fitted on; 0 for all.
    """

    data: str
    split: str
    columns: dict[str, str | None]
    train_pictures: int = 0

    def labelled(self) -> bool:
        """Whether to judge by classes: where a column of them is named, or there is one and no captions are named."""
        if self.columns.get("label") or self.columns.get("text"):
            return bool(self.columns.get("label"))
        try:
            find(self.data, Columns(self._of("image"), "", self._of("split_column")), self._of("where"), guess=False)
        except NothingLabelled:
            return False
        return True

    def read(self, size: int, colours: int) -> tuple[Split, Split, Factor, str]:
        """Training and test pictures whose class is known, the classes, and the name of the data."""
        if self.split == "train":
            raise CondgenError("--split train: probes are fitted on those pictures. Name another split to judge on.")
        how = {name: self._of(name) for name in ("image", "label", "split_column", "where")}
        how["how"] = self._of("how") or "crop"
        train, test = (open_labelled(self.data, size, colours, split=split, **how) for split in ("train", self.split))
        factor = _classes(train)
        k, parts = train.factors.index(factor), []
        for data in (train, test):
            known = ~np.isnan(data.codes[:, k])
            parts.append(Split(data.images[known], data.codes[known, k].astype(np.int64)))
        if self.train_pictures and self.train_pictures < len(parts[0]):
            chosen = np.sort(np.random.default_rng(0).permutation(len(parts[0]))[: self.train_pictures])
            parts[0] = Split(parts[0].images[chosen], parts[0].labels[chosen])
        if len(np.unique(parts[0].labels)) < 2 or not len(parts[1]):
            raise CondgenError(
                f"{test.name} has {len(parts[1])} test pictures, and fewer than two classes to train on."
            )
        return parts[0], parts[1], factor, test.name

    def _of(self, name: str) -> str:
        return self.columns.get(name) or ""


def _classes(data) -> Factor:
    """What the probes are to tell: the label, or the only attribute with values."""
    valued = [factor for factor in data.factors if factor.values]
    named = next((factor for factor in valued if factor.name == LABEL), None)
    if named is None and len(valued) != 1:
        there = ", ".join(factor.name for factor in valued) or "no classes"
        raise CondgenError(f"{data.name} has {there}; name the column to judge by with --label.")
    return named or valued[0]


class Clock:
    """Tells now and then how much is done, and how long the rest will take."""

    def __init__(self, told: Told, total: float):
        self.told, self.total, self.done = told, max(total, 1), 0.0
        self.began = self.said = time.monotonic()

    def of(self, what: str, each: float = 1) -> Callable[[int], None]:
        """To be told how many pictures more were looked at, each so often."""
        return lambda n: self.add(each * n, what)

    def add(self, looks: float, what: str) -> None:
        """So many looks at pictures more."""
        self.done += looks
        now = time.monotonic()
        if now - self.said > 3:
            self.said = now
            left = (now - self.began) / self.done * max(self.total - self.done, 0)
            self.told(min(self.done / self.total, 1), f"{what}, {timedelta(seconds=round(left))} left")


def evaluate_features(
    models: Sequence, asked: Asked, templates: Sequence[str] = (), images: int = 20_000, seeds: int = 1,
    told: Told = lambda share, what: None,
) -> tuple[dict, dict[str, list[Example]], dict[str, bytes]]:  # fmt: skip
    """Judges what models see in pictures.

    Args:
        models: see `eyes.features_of`; each is a line of every table, and the first has its space drawn.
        asked: on what.
        templates: sentences with a gap for a class; none are those of `data.templates`.
        images: pictures that an encoder is trained on, with every share of the labels; 0 leaves that out.
        seeds: how often, each time with other labels.
        told: called with progress.

    Returns:
        (report, sheets, pictures): `space` is a PNG of the embedding space; of captioned pictures `sheet` shows what
        some texts find.

    Raises:
        CondgenError: see `eyes.features_of` and `Asked.read`; captioned pictures, and no model that knows words.
    """
    if not asked.data:
        raise CondgenError("Features are judged on pictures: name labelled or captioned ones with --data.")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows, notes = rows_of(list(models))
    report: dict = {"kind": "features", "notes": notes}
    sheets, pictures = {}, {}
    labelled = asked.labelled()
    if labelled:
        more, pictures = _by_class(rows, asked, templates, images, seeds, told, device)
        report |= more
    if asked.columns.get("text") or not labelled:
        more, sheets, drawn = _by_caption(rows, models[0], asked, told, device)
        report |= more
        pictures = pictures or drawn
    for row in rows:
        row.eyes.cpu()
    return report, sheets, pictures


# Classes --------------------------------------------------------------------------------------------------------------


def _by_class(rows, asked, templates, images, seeds, told, device) -> tuple[dict, dict[str, bytes]]:
    read = cache(asked.read)
    train, test, factor, name = read(rows[0].eyes.size, rows[0].eyes.colours)
    classes, truth = factor.levels, torch.from_numpy(test.labels)
    largest = np.bincount(test.labels).max() / len(test)
    with_weights = sum(row.eyes.net is not None for row in rows) if images else 0
    looks = len(rows) * (len(train) + len(test)) + with_weights * len(SHARES) * seeds * WITH_WEIGHTS * images
    clock = Clock(told, looks)
    report: dict = {"data": name, "counts": {
        "training pictures": len(train), "test pictures": len(test), "classes": classes, "neighbours": NEIGHBOURS,
        "temperature": TEMPERATURE, "standard error, at most": 0.5 / math.sqrt(len(test)),
    }}  # fmt: skip
    sentences = class_captions(factor.values, templates or templates_of(name)) if _speak(rows) else []
    if sentences:
        report["templates"] = [*(templates or templates_of(name))]
        warn_of_unseen(rows[0].words, [one for own in sentences for one in own])
    table: dict[str, dict] = {}
    collapse, by_class, tuning, pictures = {}, {}, {}, {}
    for row in rows:
        train, test, *_ = read(row.eyes.size, row.eyes.colours)
        y = torch.from_numpy(train.labels).to(device)
        seen, asked_of = (
            see(row.eyes, part.images, device, clock.of(f"{row.name}: features")).to(device) for part in (train, test)
        )
        clock.add(0, f"{row.name}: probes")
        probe = linear_probe(seen, y, classes)
        predicted = probe(asked_of)
        voted = knn(seen, y, asked_of, classes, NEIGHBOURS, TEMPERATURE)
        line = {"kNN": accuracy(voted, truth), "linear probe": accuracy(predicted, truth)}
        if row.words:
            line["zero-shot"] = accuracy(_named(row.words, sentences, test.images, device), truth)
        table[row.name] = line | {"strength": probe.strength}
        by_class[row.name] = accuracy_by_class(predicted, truth, classes)
        collapse[row.name] = collapse_report(asked_of[:SHOWN], torch.from_numpy(test.labels[:SHOWN]).to(device))
        if not pictures:
            few = np.random.default_rng(0).permutation(len(test))[:SPACE]
            pictures["space"] = space_sheet(asked_of[few].cpu(), test.images[few], test.labels[few], factor.values)
        if images:
            for share in SHARES:
                heading = f"{share:.0%} of the labels"
                line = _tuned(row, probe, seen, asked_of, train, test, classes, share, images, seeds, clock)
                tuning.setdefault(heading, {})[row.name] = line
    chance = dict.fromkeys(("kNN", "linear probe", *(["zero-shot"] if sentences else [])), float(largest))
    report["features"] = table | {"the largest class": chance}
    report["collapse"] = collapse
    if images:
        report["new_head"] = tuning
    report["linear_probe_by_class"] = {
        value: {row: shares[k] for row, shares in by_class.items()} for k, value in enumerate(factor.values)
    }
    return report, pictures


def _speak(rows: Sequence[Row]) -> bool:
    return any(row.words for row in rows)


def warn_of_unseen(words: TextImageEncoder | None, texts: Sequence[str]) -> None:
    """Warns of words that an encoder never read in training."""
    unseen = {word: None for text in texts for word in words.tokenizer.unseen(text)} if words else {}
    if unseen:
        some = ", ".join([*unseen][:10]) + (" ..." if len(unseen) > 10 else "")
        text = f"{words.name} has never read these words of the templates and classes: {some}."
        warnings.warn(text, CondgenWarning, stacklevel=2)


def _named(words: TextImageEncoder, sentences: list[list[str]], images: np.ndarray, device) -> Tensor:
    """Zero-shot: the class whose sentences are nearest, int64 (N,)."""
    words.to(device)
    flat = words.embed_text([one for own in sentences for one in own])
    classes = class_embeddings(flat.unflatten(0, (len(sentences), -1)))
    return zero_shot(_embedded(words, images), classes)


def _embedded(words: TextImageEncoder, images: np.ndarray) -> Tensor:
    """uint8 (N, 3, S, S) -> unit vectors (N, D), without all of them as floats at a time."""
    return torch.cat([words.embed_image(to_float(part)) for part in torch.from_numpy(images).split(ROWS)])


def _tuned(row, probe, seen, asked_of, train, test, classes, share, images, seeds, clock) -> dict[str, float]:
    """A new head on a share of the labels: frozen and trained, means over the seeds with their sd."""
    truth, found = torch.from_numpy(test.labels), {"frozen": [], "trained": []}
    for seed in range(seeds):
        own = some_of(train.labels, share, seed)
        y = torch.from_numpy(train.labels[own]).to(seen.device)
        head = probe if share == 1 else linear_probe(seen[own], y, classes, seed=seed)
        found["frozen"].append(accuracy(head(asked_of), truth))
        if row.eyes.net is not None:
            part = (train.images[own], train.labels[own])
            done = clock.of(f"{row.name}: training on {len(own):,} labels", WITH_WEIGHTS)
            found["trained"].append(tune(row.eyes, head, part, (test.images, test.labels), images, seed, done))
    line: dict[str, float] = {}
    for name, scores in found.items():
        if scores:
            line[name] = float(np.mean(scores))
            if seeds > 1:
                line[f"sd {name}"] = float(np.std(scores, ddof=1))
    return line | {"N": len(own), "seeds": seeds} | ({"pictures seen": images} if found["trained"] else {})


# Captions -------------------------------------------------------------------------------------------------------------


def _by_caption(rows, model, asked, told, device) -> tuple[dict, dict[str, list[Example]], dict[str, bytes]]:
    if not _speak(rows):
        raise CondgenError(
            f"{asked.data} is read as captioned pictures, and {model.name} knows no words. Name the column of their "
            "classes with --label, or give labelled pictures."
        )
    columns = {"split": asked.columns.get("split_column")}
    columns |= {name: asked.columns.get(name) for name in ("image", "text", "where", "how")}
    read = cache(lambda size: read_pictures(model, asked.data, asked.split, columns, size))
    first = read(rows[0].eyes.size)
    used = np.unique(first.captions[first.captions >= 0])
    texts = [first.texts[i] for i in used]
    keys, own = torch.from_numpy(first.captions), torch.from_numpy(used)[:, None]
    clock = Clock(told, len(rows) * len(first))
    warn_of_unseen(rows[0].words, texts)
    found, collapse, sheets, pictures = {}, {}, {}, {}
    for row in rows:
        data = read(row.eyes.size)
        if row.eyes.colours != 3:
            continue
        seen = see(row.eyes, data.images, device, clock.of(f"{row.name}: features"))
        collapse[row.name] = collapse_report(seen[:SHOWN])
        if row.words is None:
            continue
        row.words.to(device)
        image, text = _embedded(row.words, data.images), row.words.embed_text(texts)
        count = {"pictures": len(image), "texts": len(text)}
        found[f"{row.name}: text to picture"] = retrieval(text, image, own, keys) | count
        found[f"{row.name}: picture to text"] = retrieval(image, text, keys, own) | count
        place = {int(number): i for i, number in enumerate(used)}
        theirs = text[[place[int(number)] for number in data.captions[:, 0]]]
        collapse[row.name]["alignment of picture and text"] = alignment(image, theirs)
        if not pictures:
            few = np.random.default_rng(0).permutation(len(data))[:SPACE]
            pictures["space"] = space_sheet(seen[few], data.images[few])
            sheets["sheet"] = _found(text, image, data, used)
    counts = {"test pictures": len(first), "texts": len(texts)}
    return {"data": first.name, "counts": counts, "retrieval": found, "collapse": collapse}, sheets, pictures


def _found(text: Tensor, image: Tensor, data: CaptionedPictures, used: np.ndarray) -> list[Example]:
    """What some texts find: the nearest pictures of each in a row, those under another text marked."""
    shown = []
    for i in np.random.default_rng(0).permutation(len(used))[:QUERIES]:
        for j in (image @ text[i]).topk(min(NEAREST, len(image))).indices.tolist():
            right = used[i] in data.captions[j]
            told = data.texts[used[i]] if right else f"{data.texts[data.captions[j, 0]]} for: {data.texts[used[i]]}"
            shown.append((told, data.images[j], bool(right)))
    return shown
