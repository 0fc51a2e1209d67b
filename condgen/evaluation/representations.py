"""Evaluation of representations: probes on the features of a model, on raw pixels and on an untrained network.

Probes are fitted on training images and scored on test images. On captioned images, an encoder of images and texts is
scored by retrieval in both directions, compared with chance.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor

from condgen.baselines.autoencoders import Autoencoder
from condgen.baselines.pca import PrincipalComponents
from condgen.contracts import CondgenError, CondgenWarning, ProgressCallback, Undefined
from condgen.data.attributes import LABEL, Attribute
from condgen.data.batches.base import to_float
from condgen.data.datasets.captions import CaptionedImages
from condgen.data.progress import Clock
from condgen.data.sources.label_rows import NothingLabelled
from condgen.data.sources.labels import find, open_labelled
from condgen.data.templates import class_captions, templates_of
from condgen.evaluation.base import REPRESENTATIONS, Example, Findings, register
from condgen.evaluation.embed import in_batches
from condgen.evaluation.embedding_plot import plot_embedding
from condgen.evaluation.features import FeatureExtractor, Row, extract, rows_of
from condgen.evaluation.finetune import SHARES, finetune, some_of
from condgen.evaluation.options import RepresentationOptions
from condgen.evaluation.reading import read_options
from condgen.evaluation.text_to_image import read_captioned
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
from condgen.pipelines.encoder import ImageEncoder, TextImageEncoder
from condgen.text import warn_of_texts

NEIGHBOURS, TEMPERATURE = 200, 0.1
PLOTTED, RANKED, QUERIES, NEAREST = 800, 2000, 12, 8
"""Numbers of images: on the plot of the embedding, for the effective rank; rows and columns of the retrieval sheet."""
COMPONENTS_OF = 10_000
"""Maximum number of images to fit principal components to."""
STEP_COST = 3
"""Cost of a training step, in feature extractions; for the progress bar."""


@dataclass(frozen=True)
class Split:
    """Images, uint8 (N, C, S, S), and their classes, int64 (N,)."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.images)


def has_classes(options: RepresentationOptions) -> bool:
    """True if an encoder of texts is evaluated on classes: a column of classes is named, or the data has classes and no
    column of captions is named.
    """
    if options.label_column or options.caption_column:
        return bool(options.label_column)
    try:
        find(options.data, read_options(None, options, guess_attributes=False))
    except NothingLabelled:
        return False
    return True


def read_classes(options: RepresentationOptions, size: int, image_channels: int) -> tuple[Split, Split, Attribute, str]:
    """Reads training and test images with known classes; returns them with the classes and the name of the data."""
    if options.split.startswith(("train", "all")):
        raise CondgenError(f"--split {options.split}: probes are fitted on those images. Name another one.")
    how = read_options(None, options, caption_column="")
    train, test = (
        open_labelled(options.data, size, image_channels, how, split=split) for split in ("train", options.split)
    )
    attribute = _classes(train)
    k, parts = train.attributes.index(attribute), []
    for data in (train, test):
        known = ~np.isnan(data.targets[:, k])
        parts.append(Split(data.images[known], data.targets[known, k].astype(np.int64)))
    if options.train_images and options.train_images < len(parts[0]):
        chosen = np.sort(_some(len(parts[0]), options.train_images))
        parts[0] = Split(parts[0].images[chosen], parts[0].labels[chosen])
    count = len(np.unique(parts[0].labels))
    if count < 2 or not len(parts[1]):
        raise CondgenError(
            f"{test.name} has {count} classes to train on and {len(parts[1])} images in the split {options.split}. A "
            "probe needs two classes, and test images."
        )
    return parts[0], parts[1], attribute, test.name


def _classes(data) -> Attribute:
    """The attribute that probes predict: the label, or else the only attribute with values."""
    valued = [attribute for attribute in data.attributes if attribute.values]
    named = next((attribute for attribute in valued if attribute.name == LABEL), None)
    if named is None and len(valued) != 1:
        there = ", ".join(attribute.name for attribute in valued) or "no classes"
        raise CondgenError(f"{data.name} has {there}; name the column of the classes with --label-column.")
    return named or valued[0]


@register(REPRESENTATIONS, ImageEncoder, options=RepresentationOptions)
def evaluate_representations(
    model, options: RepresentationOptions, progress: ProgressCallback = lambda share, message: None
) -> Findings:
    """Evaluates the image features of models.

    Args:
        model: see `features.feature_extractor`; its embedding is plotted.
        options: models in `compare_with` are rows of every table as well.
        progress: called with progress.

    Returns:
        Findings; the figure `space` plots the embedding; for captioned images the sheet `sheet` shows the images
        retrieved by some texts.

    Raises:
        CondgenError: see `feature_extractor` and `read_classes`; captions are named, and no model encodes texts.
    """
    if not options.data:
        raise CondgenError("Representations are evaluated on images: name labelled or captioned ones with --data.")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows, notes = rows_of([model, *options.compare_with])
    for note in notes:
        warnings.warn(note, CondgenWarning, stacklevel=2)
    if not options.resize and hasattr(model, "about"):
        options = replace(options, resize=read_options(model, options).resize)
    has_texts = any(row.encoder for row in rows)
    if options.caption_column and not has_texts:
        raise CondgenError(
            f"--caption-column {options.caption_column}: {rows[0].name} has no text encoder. Name the column of "
            "classes with --label-column."
        )
    found, labelled = Findings({"kind": "representations", "notes": notes}), not has_texts or has_classes(options)
    if labelled:
        by_class = ClassEvaluation(rows, options, progress, device)
        found.report |= by_class.report()
        found.figures["space"] = by_class.plot
    if options.caption_column or not labelled:
        captions = _by_caption(rows, model, options, progress, device)
        found.report |= captions.report
        found.sheets, found.figures = captions.sheets, captions.figures | found.figures
    for row in rows:
        row.extractor.cpu()
    return found


# Classes --------------------------------------------------------------------------------------------------------------


class ClassEvaluation:
    """Evaluates the features of each row on the classes of images.

    Args:
        rows: models and baselines; PCA is added if there are autoencoders.
        options: see `evaluate_representations`.
        progress: called with progress.
        device: device to compute on.
    """

    def __init__(
        self, rows: list[Row], options: RepresentationOptions, progress: ProgressCallback, device: torch.device | str
    ):
        self.read = cache(lambda size, image_channels: read_classes(options, size, image_channels))
        rows = [*rows, *self._components(rows)]
        self.rows, self.images, self.seeds, self.device = rows, options.finetune_images, options.seeds or 1, device
        train, test, self.attribute, self.name = self.read(rows[0].extractor.size, rows[0].extractor.image_channels)
        trained = sum(row.extractor.net is not None for row in rows) if self.images else 0
        work = len(rows) * (2 * len(train) + len(test)) + trained * len(SHARES) * self.seeds * STEP_COST * self.images
        self.clock = Clock(progress, max(work, 1))
        self.truth = torch.from_numpy(test.labels)
        encoder = next((row.encoder for row in rows if row.encoder), None)
        self.templates: list[str] = []
        if encoder:
            self.templates = [*(options.templates or _trained_with(encoder, self.name) or templates_of(self.name))]
        self.sentences = class_captions(self.attribute.values, self.templates) if self.templates else []
        for row in rows:
            warn_of_unseen(row, [text for texts in self.sentences for text in texts])
        self.one_class = len(np.unique(test.labels)) < 2
        largest = float(np.bincount(test.labels).max() / len(test))
        self.chance = dict.fromkeys(("kNN", "linear probe", *(["zero-shot"] if self.sentences else [])), largest)
        self.counts = {
            "training images": len(train), "test images": len(test), "classes": self.attribute.cardinality,
            "neighbours": NEIGHBOURS, "temperature": TEMPERATURE, "standard error, at most": 0.5 / math.sqrt(len(test)),
        }  # fmt: skip
        self.plot = b""

    def _components(self, rows: list[Row]) -> list[Row]:
        """Rows of PCA, with as many components as each autoencoder has latent dimensions."""
        found: dict[str, Row] = {}
        for one in (
            row.extractor for row in rows if isinstance(row.extractor.net, Autoencoder) and not row.is_baseline
        ):
            images, n = self.read(one.size, one.image_channels)[0].images, one.net.config.latent
            pca = PrincipalComponents(to_float(images[np.sort(_some(len(images), COMPONENTS_OF))]), n)
            found.setdefault(pca.name, Row(pca.name, FeatureExtractor(pca.size, pca.image_channels, pca.encode)))
        return list(found.values())

    def report(self) -> dict:
        """The tables, each with all rows."""
        table, collapse, by_class = {}, {}, {}
        tuned: dict[str, dict] = {f"{share:.0%} of the labels": {} for share in SHARES}
        for row in self.rows:
            table[row.name], collapse[row.name], by_class[row.name], lines = self.evaluate(row)
            for heading, line in zip(tuned, lines):
                tuned[heading][row.name] = line
        report = {"data": self.name, "counts": self.counts}
        report |= {"templates": self.templates} if self.templates else {}
        report |= {"features": table | {"majority class": self.chance}, "collapse": collapse}
        report |= {"fine_tuning": tuned} if self.images else {}
        return report | {
            "linear_probe_by_class": {
                value: {name: scores[k] for name, scores in by_class.items()}
                for k, value in enumerate(self.attribute.values)
            }
        }

    def evaluate(self, row: Row) -> tuple[dict, dict, list[float], list[dict]]:
        """Computes one row of each table: probes, collapse, the linear probe by class, fine-tuning."""
        train, test, *_ = self.read(row.extractor.size, row.extractor.image_channels)
        classes, labels = self.attribute.cardinality, torch.from_numpy(train.labels).to(self.device)
        done = partial(self.clock.add, message=f"{row.name}: features")
        x_train, x_test = (
            extract(row.extractor, part.images, self.device, done).to(self.device) for part in (train, test)
        )
        if not self.plot:
            few = _some(len(test), PLOTTED)
            self.plot = plot_embedding(x_test[few].cpu(), test.images[few], test.labels[few], self.attribute.values)
        voted = knn(x_train, labels, x_test, classes, NEIGHBOURS, TEMPERATURE)
        probe = linear_probe(x_train, labels, classes)
        predicted = probe(x_test)
        self.clock.add(len(train), f"{row.name}: probes")
        line = {"kNN": self._accuracy(voted), "linear probe": self._accuracy(predicted)}
        if row.encoder:
            line["zero-shot"] = self._accuracy(self._named(row.encoder, test.images))
        few = _some(len(test), RANKED)
        collapse = collapse_report(x_test[few], self.truth[few].to(self.device))
        heads = [self._finetune(row, probe, x_train, x_test, share) for share in SHARES] if self.images else []
        line["penalty"] = probe.strength
        return line, collapse, accuracy_by_class(predicted, self.truth, classes), heads

    def _accuracy(self, predicted: Tensor) -> float:
        return Undefined("all test images are of one class") if self.one_class else accuracy(predicted, self.truth)

    def _named(self, encoder: TextImageEncoder, images: np.ndarray) -> Tensor:
        """Zero-shot classification: the class whose captions are nearest, int64 (N,)."""
        encoder.to(self.device)
        flat = encoder.embed_text([text for texts in self.sentences for text in texts])
        classes = class_embeddings(flat.unflatten(0, (len(self.sentences), -1)))
        return zero_shot(_embedded(encoder, images), classes)

    def _finetune(self, row: Row, probe: Probe, x_train: Tensor, x_test: Tensor, share: float) -> dict[str, float]:
        """Trains a new head on a share of the labels, with a frozen and a trained encoder: means and sd over seeds."""
        train, test, *_ = self.read(row.extractor.size, row.extractor.image_channels)
        found: dict[str, list[float]] = {"frozen": [], "trained": []}
        for seed in range(self.seeds):
            rows = some_of(train.labels, share, seed)
            labels = torch.from_numpy(train.labels[rows]).to(self.device)
            head = probe if share == 1 else linear_probe(x_train[rows], labels, self.attribute.cardinality, seed=seed)
            found["frozen"].append(self._accuracy(head(x_test)))
            if row.extractor.net is not None:
                message = f"{row.name}: training on {len(rows):,} labels"
                done = partial(self.clock.add, message=message, cost=STEP_COST)
                few, rest = (train.images[rows], train.labels[rows]), (test.images, test.labels)
                found["trained"].append(finetune(row.extractor, head, few, rest, self.images, seed, done))
        line: dict[str, float] = {}
        for name, scores in found.items():
            line |= {name: float(np.mean(scores))} if scores else {}
            line |= {f"sd {name}": float(np.std(scores, ddof=1))} if len(scores) > 1 else {}
        return line | {"N": len(rows), "seeds": self.seeds} | ({"images seen": self.images} if found["trained"] else {})


def _some(n: int, most: int) -> np.ndarray:
    """At most `most` of n rows, at random because data may be sorted by class."""
    return np.random.default_rng(0).permutation(n)[:most]


def _trained_with(encoder: TextImageEncoder, data: str) -> list[str]:
    """The caption templates that an encoder was trained with, if it was trained on these data; else none."""
    if encoder.about.get("data") != data:
        return []
    trained = encoder.about.get("reading")
    templates = trained.get("templates") if isinstance(trained, dict) else None
    return templates if isinstance(templates, list) and all(isinstance(one, str) for one in templates) else []


def warn_of_unseen(row: Row, texts: Sequence[str]) -> None:
    """Warns of words that an encoder does not read, see `text.warn_of_texts`."""
    if row.is_baseline or row.encoder is None:
        return
    warn_of_texts(row.encoder.tokenizer, texts, row.name, stacklevel=3)


def _embedded(encoder: TextImageEncoder, images: np.ndarray) -> Tensor:
    """uint8 (N, 3, S, S) -> unit vectors (N, D)."""
    return in_batches(encoder.embed_image, images, "cpu")


# Captions -------------------------------------------------------------------------------------------------------------


def _by_caption(
    rows: list[Row], model, options: RepresentationOptions, progress: ProgressCallback, device: torch.device
) -> Findings:
    """Retrieval and collapse on captioned images, which are read as the training images of `model`."""
    read = cache(lambda size: read_captioned(model, options, size))
    first = read(rows[0].extractor.size)
    used = np.unique(first.captions[first.captions >= 0])
    texts = [first.texts[i] for i in used]
    image_keys, text_keys = torch.from_numpy(first.captions), torch.from_numpy(used)[:, None]
    clock = Clock(progress, len(rows) * len(first))
    counts = {"test images": len(first), "texts": len(texts)}
    table, collapse = {}, {}
    found = Findings({"data": first.name, "counts": counts, "retrieval": table, "collapse": collapse})
    for row in rows:
        data = read(row.extractor.size)
        if row.extractor.image_channels == 1:  # captioned images are RGB
            continue
        features = extract(row.extractor, data.images, device, partial(clock.add, message=f"{row.name}: features"))
        collapse[row.name] = collapse_report(features[_some(len(data), RANKED)])
        if row.encoder is None:
            continue
        warn_of_unseen(row, texts)
        row.encoder.to(device)
        image, text = _embedded(row.encoder, data.images), row.encoder.embed_text(texts)
        count = {"images": len(image), "texts": len(text)}
        table[f"{row.name}: text to image"] = retrieval(text, image, text_keys, image_keys) | count
        table[f"{row.name}: image to text"] = retrieval(image, text, image_keys, text_keys) | count
        place = {int(number): i for i, number in enumerate(used)}
        first_text = text[[place[int(number)] for number in data.captions[:, 0]]]
        collapse[row.name]["alignment of image and text"] = alignment(image, first_text)
        if not found.figures:
            few = _some(len(data), PLOTTED)
            found.figures["space"] = plot_embedding(features[few], data.images[few])
            found.sheets["sheet"] = _retrieved(text, image, data, used)
    return found


def _retrieved(text: Tensor, image: Tensor, data: CaptionedImages, used: np.ndarray) -> list[Example]:
    """The images nearest to some texts, a row for each; images with another caption are marked."""
    shown, first = [], np.flatnonzero(np.isin(used, data.captions[:, 0]))
    for i in np.random.default_rng(0).permutation(first)[:QUERIES]:
        query = data.texts[used[i]]
        for j in (image @ text[i]).topk(min(NEAREST, len(image))).indices.tolist():
            right = bool(used[i] in data.captions[j])
            shown.append((query if right else f"{data.texts[data.captions[j, 0]]} for: {query}", data.images[j], right))
    return shown
