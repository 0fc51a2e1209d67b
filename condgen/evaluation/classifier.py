"""The independent classifier: a small network that learns labels from real images alone.

Its accuracy is reported on real test images and on generated ones; distances are measured in its features.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen import distributed
from condgen.contracts import Batch, CondgenError, CondgenWarning, ProgressCallback, Undefined
from condgen.data.attributes import Attribute
from condgen.data.batches.labels import LabelBatches
from condgen.data.datasets.labels import LabelledImages
from condgen.evaluation.embed import in_batches
from condgen.files.weights import WEIGHTS, fingerprint, load_part, save_part
from condgen.nn.layers import ResBlock
from condgen.training.trainer import FitConfig, Trainer


@dataclass(frozen=True)
class ClassifierConfig:
    """Shape of a classifier.

    Args:
        size: edge length of the images, any.
        image_channels: 1 or 3.
        cardinalities: number of values of each attribute; 0 for a number, which is not predicted.
        channels: channels of every level; each level halves the resolution.
        features: width of the features.
    """

    size: int = 28
    image_channels: int = 1
    cardinalities: tuple[int, ...] = (10,)
    channels: tuple[int, ...] = (32, 64, 128)
    features: int = 64


class Classifier(nn.Module):
    """Maps images to features, and features to logits of every attribute."""

    def __init__(self, config: ClassifierConfig):
        super().__init__()
        self.config = config
        first, last = config.channels[0], config.channels[-1]
        step = max(1, config.size // 14)  # the first level works on 14 to 27 pixels squared at any size
        self.stem = nn.Conv2d(config.image_channels, first, step + 2, step, 1)
        self.blocks = nn.ModuleList(ResBlock(a, b) for a, b in zip((first, *config.channels), config.channels))
        self.norm = nn.GroupNorm(1, last)
        self.squeeze = nn.Linear(last, config.features)
        self.heads = nn.ModuleList(nn.Linear(config.features, count) for count in config.cardinalities if count)

    def features(self, images: Tensor) -> Tensor:
        """(B, C, S, S) in [-1, 1] -> (B, features)."""
        h = self.stem(images)
        for k, block in enumerate(self.blocks):
            h = block(F.avg_pool2d(h, 2, ceil_mode=True) if k else h)
        return self.squeeze(F.silu(self.norm(h)).mean((2, 3)))

    def logits(self, features: Tensor) -> list[Tensor]:
        """(B, features) -> (B, cardinality) for every attribute that has values."""
        return [head(F.silu(features)) for head in self.heads]

    @property
    def categorical(self) -> list[int]:
        """Indices of the attributes that have values."""
        return [k for k, count in enumerate(self.config.cardinalities) if count]


@dataclass(frozen=True)
class ClassifierFitConfig:
    """Training options of a classifier.

    Args:
        images: maximum number of training images.
        epochs: maximum number of passes over the data.
        batch: images in a batch.
        lr: peak learning rate.
        shift: largest random shift, as a share of the edge; at least one pixel, unless it is 0.
        flip: mirror every second image.
        seed: seed of the weights and of the order of images.
    """

    images: int = 300_000
    epochs: int = 15
    batch: int = 128
    lr: float = 4e-3
    shift: float = 0.06
    flip: bool = False
    seed: int = 0


class ClassifierTraining(nn.Module):
    """A Trainable around a classifier. A batch is one of `LabelBatches`; missing labels have no loss."""

    turns = ("classifier",)

    def __init__(self, classifier: Classifier):
        super().__init__()
        self.classifier = classifier

    def parameters_of(self, turn: str) -> Iterable[nn.Parameter]:
        return self.parameters()

    def loss(self, batch: Batch, turn: str = "classifier") -> dict[str, Tensor]:
        logits = self.classifier.logits(self.classifier.features(batch["image"]))
        total, right, known = 0.0, 0, 0
        for one, k in zip(logits, self.classifier.categorical):
            there = batch["has_targets"][:, k]
            targets = torch.where(there, batch["targets"][:, k].long(), -100)
            total = total + F.cross_entropy(one, targets, ignore_index=-100, reduction="sum") / there.sum().clamp(min=1)
            right, known = right + (one.argmax(1) == targets).sum(), known + there.sum()
        return {"loss": total, "accuracy": right / known.clamp(min=1)}


def train_classifier(
    data: LabelledImages, fit: ClassifierFitConfig | None = None, config: ClassifierConfig | None = None,
    progress: ProgressCallback = lambda share, message: None,
) -> Classifier:  # fmt: skip
    """Trains a classifier.

    Args:
        data: images and labels.
        fit, config: by default chosen to fit the data.
        progress: called with progress.

    Raises:
        CondgenError: no attribute has values, or no value is known.
    """
    fit, config = fit or ClassifierFitConfig(), config or config_for(data)
    known = ~np.isnan(data.targets[:, [bool(count) for count in config.cardinalities]])
    if not known.any():
        raise CondgenError(f"No image of {data.name} is labelled with a class or an attribute: nothing to evaluate by.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fit.seed)
        training = ClassifierTraining(Classifier(config))
    batch = max(fit.batch // distributed.world(), 1) * distributed.world()
    shift = max(1, round(fit.shift * data.size)) if fit.shift else 0
    batches = LabelBatches(data, batch, fit.seed, shift=shift, flip=fit.flip, **distributed.process())
    images = max(min(fit.images, fit.epochs * len(data)), batch)
    trainer = Trainer(training, batches, FitConfig(total_images=images, batch=batch, lr=fit.lr), fit.seed)
    with torch.random.fork_rng(devices=[]):
        for step in trainer:
            if step.count % 50 == 0:
                progress(step.progress, f"classifier, accuracy {step.losses['accuracy']:.0%} in the last batch")
    training.load_state_dict(trainer.trained())
    return training.classifier.eval()


def untrained_classifier(data: LabelledImages) -> tuple[Classifier, str]:
    """The classifier with random weights, always the same, and the name of its features."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        classifier = Classifier(config_for(data)).eval()
    return classifier, f"features: random network, {fingerprint(classifier)[:8]}"


def config_for(data: LabelledImages) -> ClassifierConfig:
    """The config that fits the images and attributes."""
    return ClassifierConfig(data.size, data.image_channels, tuple(a.cardinality for a in data.attributes))


def cached_classifier(
    data: LabelledImages, folder: Path | None, fit: ClassifierFitConfig | None = None,
    progress: ProgressCallback = lambda share, message: None,
) -> Classifier:  # fmt: skip
    """Loads the classifier of this data and config from a folder, or trains it and saves it there.

    Args:
        data, fit, progress: see `train_classifier`.
        folder: created if missing; None saves nothing.

    A damaged one is trained anew, with a warning.
    """
    fit = fit or ClassifierFitConfig()
    if folder is None:
        return train_classifier(data, fit, progress=progress)
    place, kept = folder / f"classifier-{cache_key(data, fit)}", None
    if (place / WEIGHTS).is_file():
        try:
            kept = load_part(Classifier, place)
        except CondgenError as error:
            warnings.warn(f"The classifier is trained anew: {error}", CondgenWarning, stacklevel=2)
    if not distributed.all_true(kept is not None):
        classifier = train_classifier(data, fit, progress=progress)
        if not distributed.rank():
            save_part(classifier, place)
        distributed.barrier()
        kept = load_part(Classifier, place)
    return kept


def cache_key(data: LabelledImages, fit: ClassifierFitConfig) -> str:
    """Sixteen hex digits that identify images, labels, config and training; hashed strings stay as in version 1."""
    config = asdict(config_for(data))
    shape = {"colours": config.pop("image_channels"), "levels": config.pop("cardinalities")} | config
    attributes = [(attribute.name, attribute.values) for attribute in data.attributes]
    plain = {"factors": attributes, "shape": data.images.shape, "run": asdict(fit)} | shape
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True).encode())
    for array in (data.images, data.targets):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def feature_space(classifier: Classifier, data: str) -> str:
    """The name of the classifier's features in reports of distances."""
    return f"features: classifier of {data}, {fingerprint(classifier)[:8]}"


@torch.inference_mode()
def features_of(classifier: Classifier, images: np.ndarray) -> Tensor:
    """uint8 (N, C, S, S) -> float32 (N, features), on the CPU."""
    return in_batches(classifier.features, images, classifier.squeeze.weight.device).cpu()


@torch.inference_mode()
def predict(classifier: Classifier, features: Tensor) -> np.ndarray:
    """Features (N, features) -> int64 (N, A), the most likely value of every attribute; -1 for numbers."""
    device = classifier.squeeze.weight.device
    predicted = np.full((len(features), len(classifier.config.cardinalities)), -1)
    for k, logits in zip(classifier.categorical, classifier.logits(features.to(device))):
        predicted[:, k] = logits.argmax(1).cpu().numpy()
    return predicted


def accuracies(predicted: np.ndarray, targets: np.ndarray, attributes: Sequence[Attribute]) -> dict[str, float]:
    """Accuracy for every attribute with values, over images with a known target; `Undefined` for a single value."""
    out = {}
    for k, attribute in enumerate(attributes):
        if attribute.values:
            known = ~np.isnan(targets[:, k])
            right = predicted[known, k] == targets[known, k]
            out[attribute.name] = share_of(right, attribute.cardinality)
    return out


def share_of(right: np.ndarray, values: int) -> float:
    """The share of correct predictions, bool (N,), among a number of values; `Undefined` for no image or one value."""
    if not len(right):
        return Undefined("no image with a known value")
    return float(right.mean()) if values > 1 else Undefined("there is one value only")
