"""Class-to-image models with known behaviour: they generate images of a pool, or noise."""

from __future__ import annotations

import math

import numpy as np
import torch
from sklearn.datasets import load_digits

from condgen.data.attributes import LABEL, Attribute
from condgen.data.batches.base import to_float
from condgen.data.datasets.labels import LabelledImages
from condgen.pipelines.text_to_image import Progress


def digits(rows: slice, values: int = 10) -> LabelledImages:
    """scikit-learn's digits, mixed, 8 x 8."""
    order = np.random.default_rng(0).permutation(1797)
    found = load_digits()
    images = (found.images[order] * 255 / 16).round().astype(np.uint8)[:, None]
    labels = found.target[order]
    own = np.flatnonzero(labels < values)[rows]
    attribute = Attribute(LABEL, tuple(str(k) for k in range(values)))
    return LabelledImages(images[own], (attribute,), labels[own, None].astype(np.float32), "digits")


class PoolModel:
    """Generates an image of the pool that fits the condition; subclasses choose otherwise."""

    name, model_id, device, about = "pool", "0", torch.device("cpu"), {}

    def __init__(self, pool: LabelledImages):
        self.pool, self.attributes, self.size, self.image_channels = (
            pool,
            pool.attributes,
            pool.size,
            pool.image_channels,
        )

    def choose(self, fitting: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """An image of the pool that fits."""
        return self.pool.images[rng.choice(fitting)]

    def fitting(self, wanted: dict[str, object]) -> np.ndarray:
        targets = np.array([f.encode(wanted[f.name]) if f.name in wanted else math.nan for f in self.attributes])
        fits = (np.isclose(self.pool.targets, targets, atol=1e-3) | np.isnan(targets)).all(1)
        return np.flatnonzero(fits)

    def generate_batch(self, wanted, seeds):
        chosen = [self.choose(self.fitting(w), np.random.default_rng(s)) for w, s in zip(wanted, seeds, strict=True)]
        yield Progress(1, 1, to_float(np.stack(chosen)))


class Collapsed(PoolModel):
    """One image of every class."""

    def choose(self, fitting, rng):
        return self.pool.images[fitting[0]]


class NoiseModel(PoolModel):
    def choose(self, fitting, rng):
        return rng.integers(0, 256, self.pool.images.shape[1:], dtype=np.uint8)


class IgnoresCondition(PoolModel):
    """Generates any image of the pool."""

    def choose(self, fitting, rng):
        return self.pool.images[rng.integers(len(self.pool))]
