"""The independent judge: a small network that learns from real images alone what they are labelled with.

Its accuracy on real test images stands beside whatever it says of others; its features are a space to measure
distances in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen import distributed
from condgen.contracts import Batch, CondgenError, ProgressCallback
from condgen.data.attributes import Attribute
from condgen.data.batches.captions import to_float
from condgen.data.datasets.labels import LabelBatches, LabelledImages
from condgen.files.weights import WEIGHTS, fingerprint, load_part, save_part
from condgen.nn.layers import ResBlock
from condgen.training.trainer import FitConfig, Trainer


@dataclass(frozen=True)
class ClassifierConfig:
    """Shape of a classifier.

    Args:
        size: edge of the images, any.
        colours: 1 or 3.
        levels: how many values each attribute has; 0 for a number, which is not judged.
        channels: of every level; each has half the resolution of the one before.
        features: width of the features.
    """

    size: int = 28
    image_channels: int = 1
    cardinalities: tuple[int, ...] = (10,)
    channels: tuple[int, ...] = (32, 64, 128)
    features: int = 64


class Classifier(nn.Module):
    """Images to features, features to the values of every attribute."""

    def __init__(self, config: ClassifierConfig):
        super().__init__()
        self.config = config
        first, last = config.channels[0], config.channels[-1]
        step = max(1, config.size // 14)  # whatever the size, the first level works on 14 to 27 squared
        self.stem = nn.Conv2d(config.image_channels, first, step + 2, step, 1)
        self.blocks = nn.ModuleList(ResBlock(a, b) for a, b in zip((first, *config.channels), config.channels))
        self.norm = nn.GroupNorm(1, last)
        self.squeeze = nn.Linear(last, config.features)
        self.heads = nn.ModuleList(
            nn.Linear(config.features, cardinalities) for cardinalities in config.cardinalities if cardinalities
        )

    def features(self, images: Tensor) -> Tensor:
        """(B, C, S, S) in [-1, 1] -> (B, features)."""
        h = self.stem(images)
        for k, block in enumerate(self.blocks):
            h = block(F.avg_pool2d(h, 2, ceil_mode=True) if k else h)
        return self.squeeze(F.silu(self.norm(h)).mean((2, 3)))

    def logits(self, features: Tensor) -> list[Tensor]:
        """(B, features) -> (B, levels) for every attribute that has values."""
        return [head(F.silu(features)) for head in self.heads]

    @property
    def judged(self) -> list[int]:
        """Numbers of the attributes that have values."""
        return [k for k, cardinalities in enumerate(self.config.cardinalities) if cardinalities]


@dataclass(frozen=True)
class ClassifierRun:
    """How a classifier is trained.

    Args:
        images: images to see, at most.
        epochs: how often each is seen, at most.
        batch: images in a batch.
        lr: peak learning rate.
        shift: largest random shift, as a share of the edge; a pixel at least, unless it is 0.
        flip: mirror every second image.
        seed: of weights and order.
    """

    images: int = 300_000
    epochs: int = 15
    batch: int = 128
    lr: float = 4e-3
    shift: float = 0.06
    flip: bool = False
    seed: int = 0


class ClassifierTraining(nn.Module):
    """A Trainable around a classifier; batches come from `LabelBatches`. Missing labels add no loss."""

    turns = ("classifier",)

    def __init__(self, classifier: Classifier):
        super().__init__()
        self.classifier = classifier

    def parameters_of(self, turn: str) -> Iterable[nn.Parameter]:
        return self.parameters()

    def loss(self, batch: Batch, turn: str = "classifier") -> dict[str, Tensor]:
        logits = self.classifier.logits(self.classifier.features(batch["image"]))
        total, right, known = 0.0, 0, 0
        for own, k in zip(logits, self.classifier.judged):
            there = batch["has_targets"][:, k]
            targets = torch.where(there, batch["targets"][:, k].long(), -100)
            total = total + F.cross_entropy(own, targets, ignore_index=-100, reduction="sum") / there.sum().clamp(min=1)
            right, known = right + (own.argmax(1) == targets).sum(), known + there.sum()
        return {"loss": total, "accuracy": right / known.clamp(min=1)}


def train_classifier(
    data: LabelledImages, run: ClassifierRun | None = None, config: ClassifierConfig | None = None,
    progress: ProgressCallback = lambda share, what: None,
) -> Classifier:  # fmt: skip
    """Trains a classifier on real images, or on any.

    Args:
        data: images and codes.
        run, config: how, and of which shape; by default the config that fits the data.
        progress: called with progress.

    Raises:
        CondgenError: no attribute has values, or none is known.
    """
    run, config = run or ClassifierRun(), config or config_for(data)
    known = ~np.isnan(data.targets[:, [bool(cardinalities) for cardinalities in config.cardinalities]])
    if not known.any():
        raise CondgenError(
            f"Nothing in {data.name} is labelled with a class or an attribute; there is nothing to judge."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        training = ClassifierTraining(Classifier(config))
    batch = max(run.batch // distributed.world(), 1) * distributed.world()
    shift = max(1, round(run.shift * data.size)) if run.shift else 0
    views = LabelBatches(data, batch, run.seed, shift, run.flip, distributed.rank(), distributed.world())
    images = max(min(run.images, run.epochs * len(data)), batch)
    fit = Trainer(training, views, FitConfig(images=images, batch=batch, lr=run.lr), run.seed)
    with torch.random.fork_rng(devices=[]):
        for step in fit:
            if step.count % 50 == 0:
                progress(step.progress, f"classifier, right on {step.losses['accuracy']:.0%} of the last batch")
    training.load_state_dict(fit.trained())
    return training.classifier.eval()


def config_for(data: LabelledImages) -> ClassifierConfig:
    """The shape that fits the images and attributes."""
    return ClassifierConfig(
        data.size, data.image_channels, tuple(attribute.cardinality for attribute in data.attributes)
    )


def kept_classifier(
    data: LabelledImages, folder: Path | None, run: ClassifierRun | None = None,
    progress: ProgressCallback = lambda share, what: None,
) -> Classifier:  # fmt: skip
    """`train_classifier`, once: a classifier of the same data and config that lies in the folder is read.

    Args:
        data, run, progress: see `train_classifier`.
        folder: made if missing; None keeps nothing.

    Raises:
        CondgenError: what lies there is damaged; the message names the file.
    """
    run = run or ClassifierRun()
    if folder is None:
        return train_classifier(data, run, progress=progress)
    place = folder / f"classifier-{key_of(data, run)}"
    there = distributed.everywhere((place / WEIGHTS).is_file())
    if not there:
        classifier = train_classifier(data, run, progress=progress)
        if not distributed.rank():
            save_part(classifier, place)
        distributed.wait()
    return load_part(Classifier, place)


def key_of(data: LabelledImages, run: ClassifierRun) -> str:
    """Sixteen hex digits that name images, labels, shape and recipe."""
    attributes: list[Attribute] = list(data.attributes)
    plain = {"factors": [(f.name, f.values) for f in attributes], "shape": data.images.shape, "run": asdict(run)}
    digest = hashlib.sha256(json.dumps(plain | asdict(config_for(data)), sort_keys=True).encode())
    for array in (data.images, data.targets):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]


def space_of(classifier: Classifier, data: str) -> str:
    """What the features are called wherever a distance in them is named."""
    return f"features: classifier of {data}, {fingerprint(classifier)[:8]}"


@torch.inference_mode()
def features_of(classifier: Classifier, images: np.ndarray) -> Tensor:
    """uint8 (N, C, S, S) -> float32 (N, features), on the CPU."""
    device = classifier.squeeze.weight.device

    def compute(own: slice) -> Tensor:
        parts = torch.from_numpy(np.ascontiguousarray(images[own])).split(256)
        return torch.cat([classifier.features(to_float(part).to(device)).float() for part in parts])

    return distributed.shared_out(compute, len(images)).cpu()


@torch.inference_mode()
def seen_in(classifier: Classifier, features: Tensor) -> np.ndarray:
    """Features (N, features) -> int64 (N, A), the most likely value of every attribute; -1 for numbers."""
    device = classifier.squeeze.weight.device
    seen = np.full((len(features), len(classifier.config.cardinalities)), -1)
    for k, own in zip(classifier.judged, classifier.logits(features.to(device))):
        seen[:, k] = own.argmax(1).cpu().numpy()
    return seen
