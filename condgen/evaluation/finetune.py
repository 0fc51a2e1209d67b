"""Fine-tuning: a new head on a share of the labels, trained together with the encoder."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen import distributed
from condgen.contracts import Batch
from condgen.data.attributes import LABEL, Attribute
from condgen.data.batches.base import to_float
from condgen.data.batches.labels import LabelBatches
from condgen.data.datasets.labels import LabelledImages
from condgen.evaluation.features import FeatureExtractor, extract
from condgen.metrics.probes import Probe, accuracy
from condgen.training.trainer import FitConfig, Trainer

BATCH, LR = 64, 1e-3
SHARES = (0.01, 0.1, 1.0)
"""Shares of the labels."""


def some_of(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Sorted random rows: a share of every class, at least one image."""
    rng = np.random.default_rng((seed, 11))
    chosen = [rng.permutation(np.flatnonzero(labels == one)) for one in np.unique(labels)]
    return np.sort(np.concatenate([rows[: max(1, round(share * len(rows)))] for rows in chosen]))


class FineTuning(nn.Module):
    """A Trainable of features and a head, both trained on labels. The head is initialised from a linear probe.

    References:
        Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution (Kumar et al., 2022), for why
        the head is fitted first
    """

    turns = ("encoder",)

    def __init__(self, extractor: FeatureExtractor, probe: Probe, sample: Tensor):
        super().__init__()
        self.extractor = copy.deepcopy(extractor).requires_grad_(True)
        self.head = nn.Linear(probe.weight.shape[1], probe.weight.shape[0])
        with torch.no_grad():
            self.head.weight.copy_(probe.weight)
            self.head.bias.copy_(probe.bias)
        self(sample).sum().backward()
        for parameter in self.parameters():  # a text tower, for example, has no gradient
            parameter.requires_grad_(parameter.grad is not None)
        self.zero_grad(set_to_none=True)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, S, S) in [-1, 1] -> logits (B, K)."""
        return self.head(self.extractor(images).flatten(1))

    def parameters_of(self, turn: str) -> Iterable[nn.Parameter]:
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def loss(self, batch: Batch, turn: str = "encoder") -> dict[str, Tensor]:
        return {"loss": F.cross_entropy(self(batch["image"]), batch["targets"][:, 0].long())}


def finetune(
    extractor: FeatureExtractor, probe: Probe, train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray], images: int, seed: int = 0, done: Callable[[int], None] = lambda n: None,
) -> float:  # fmt: skip
    """Test accuracy after fine-tuning.

    Args:
        extractor: initial features; not modified.
        probe: the initial head, fitted on the same images.
        train, test: images uint8 (N, C, S, S) and labels int64 (N,).
        images: number of training images, repetitions included.
        seed: seed of the order.
        done: called with the number of images of every step.
    """
    pixels, labels = train
    attribute = Attribute(LABEL, tuple(map(str, range(len(probe.bias)))))
    data = LabelledImages(pixels, (attribute,), labels.astype(np.float32)[:, None])
    device = next(extractor.parameters()).device
    training = FineTuning(extractor.cpu(), probe, to_float(pixels[:2]))
    batches = LabelBatches(data, BATCH, seed, shift=data.size // 14, **distributed.process())
    config = FitConfig(total_images=images, batch=BATCH, lr=LR, warmup=0.1, optimiser="adamw", ema_gamma=0)
    with torch.random.fork_rng(devices=[]):
        trainer = Trainer(training, batches, config, seed)
        for _ in trainer:
            done(BATCH)
    trained = trainer.snapshot().eval()
    extractor.to(device)
    features = extract(trained.extractor, test[0], device)
    with torch.no_grad():
        return accuracy(trained.head.cpu()(features).argmax(1), torch.from_numpy(test[1]))
