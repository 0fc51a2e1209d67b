"""Input images of the tools: files, rows of a data set, classes, and samples of the model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from condgen.contracts import CondgenError, short
from condgen.data.attributes import LABEL
from condgen.data.datasets.labels import LabelledImages
from condgen.data.formats.arrays import coloured
from condgen.data.formats.remote import DIGITS
from condgen.data.options import ReadOptions
from condgen.data.sources.images import fit, open_image
from condgen.data.sources.labels import open_labelled, without_classes
from condgen.data.sources.open_images import open_any
from condgen.data.synthetic.factors import SCENES
from condgen.latent_space.adapters import LatentSpace, as_float, as_space
from condgen.latent_space.result import evenly_spaced

SEED = "seed:"
MAX_ANOMALIES = 10_000
"""Maximum number of images of another data set that are used as anomalies."""
BUILT_IN = (DIGITS, SCENES)
"""Data sets that need no path."""


class ImageSource:
    """Images by name: rows of a data set, files, samples of the model.

    Args:
        space: determines size and channels of the images; its `about` names the training data and reading options.
        data: path of the data; '' for the training data, if they can be found.
        split: the split to analyse; the split `train` is used for fitting.
        reading: fields of `ReadOptions` that override those of the training.
        foreign: the data are not the training data, so the reading options of the training do not apply.
    """

    def __init__(
        self, space: LatentSpace, data: str = "", split: str = "test", reading: dict[str, Any] | None = None,
        foreign: bool = False,
    ):  # fmt: skip
        self.space, self.split = as_space(space), split
        self.trained_on, stored = self.space.about.get("data", ""), self.space.about.get("reading")
        exists = isinstance(self.trained_on, str) and (self.trained_on in BUILT_IN or os.path.exists(self.trained_on))
        self.path = data or (self.trained_on if exists else "")
        changes = {name: value for name, value in (reading or {}).items() if value}
        self.options = ReadOptions.stored(None if foreign else stored, **changes)

    @cached_property
    def train(self) -> LabelledImages:
        """The training images, read with the options of the training."""
        return self._open("train", self.options)

    @cached_property
    def test(self) -> LabelledImages:
        """The images of the split, including classes that were excluded from training."""
        return self._open(self.split, self.options.but(exclude_classes=""))

    def _open(self, split: str, options: ReadOptions) -> LabelledImages:
        if not self.path:
            known = f"was trained on {self.trained_on}" if self.trained_on else "does not record its training data"
            raise CondgenError(f"{self.space.name} {known}: give the path of the images with --data.")
        shape = (self.space.size, self.space.image_channels)
        if not options.attribute_columns:
            return open_any(self.path, *shape, options, split=split)
        return open_labelled(self.path, *shape, options.but(caption_column="", exclude_classes=""), split=split)

    def choose(self, n: int) -> list[str]:
        """Names of n images: evenly spaced rows of the split, or seeds if the space has no encoder."""
        if not self.space.has_encoder:
            return [f"{SEED}{k}" for k in range(n)]
        return [str(k) for k in evenly_spaced(len(self.test), n).tolist()]

    def anomalies(self, name: str = "", path: str = "") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Normal training images, normal images of the split, and anomalous images, uint8 each.

        Args:
            name: the anomalous class; by default the class that was excluded from training.
            path: another data set; its images of all splits are the anomalies.

        Raises:
            CondgenError: neither is given and no class was excluded, or there are no such images.
        """
        if path:
            other = ImageSource(self.space, path, "all", foreign=True).test.images
            return self.train.images, self.test.images, other[evenly_spaced(len(other), MAX_ANOMALIES).numpy()]
        name = name or self.options.exclude_classes
        if not name:
            raise CondgenError(
                "Which images are anomalous? Name a class with --anomaly-class, best one that the training left out, "
                "or other images with --anomaly-data PATH."
            )
        train, test = (without_classes(data, name) for data in (self.train, self.test))
        label = self._label_column(self.test)
        anomalous = ~np.isin(self.test.targets[:, label], [*test.targets[:, label]])
        if not anomalous.any():
            raise CondgenError(f"{self.test.name} has no image of {name} in the split {self.split}.")
        return train.images, test.images, self.test.images[anomalous]

    def load(self, names: Sequence[str]) -> Tensor:
        """Images by name: the path of a file, the number of a row of the split, or seed:N for a sample of the model.

        Returns:
            images (N, C, S, S); or latents (N, Z), where all names are seeds.

        Raises:
            CondgenError: a name is none of these, or its image cannot be read.
        """
        seeds = [self._seed(name) for name in names]
        if all(seed is not None for seed in seeds):
            return self.space.sample(seeds)
        return torch.cat([self._load(name) if seed is None else self.space.decode(self.space.sample([seed]))
                          for name, seed in zip(names, seeds)])  # fmt: skip

    def load_images(self, names: Sequence[str]) -> Tensor:
        """Images by name as in `load`; samples of the model are decoded: (N, C, S, S)."""
        found = self.load(names)
        return self.space.decode(found) if found.dim() == 2 else found

    def labels(self, names: Sequence[str]) -> Tensor | None:
        """Classes of images that are rows of the split, int64 (N,); None if any is not, or has no class."""
        rows = [name for name in names if name.isdecimal() and not os.path.exists(name)]
        if len(rows) < len(names) or self._label_column(self.test) is None:
            return None
        return torch.from_numpy(self.test.labels[[int(name) for name in rows]])

    def load_set(self, name: str, n: int) -> Tensor:
        """A set of images: the first n of a class or of an attribute value (`colour=red`); else images by name,
        separated by commas, see `load`.
        """
        key, equals, value = name.partition("=")
        for attribute, targets in zip(self.train.attributes, self.train.targets.T) if self.path else ():
            wanted = value if equals and key == attribute.name else name if attribute.name == LABEL else None
            if wanted is not None and wanted.casefold() in map(str.casefold, attribute.values):
                rows = np.flatnonzero(targets == attribute.encode(wanted))[:n]
                if not len(rows):
                    raise CondgenError(f"There is no image with {attribute.name} {wanted} in {self.train.name}.")
                return as_float(self.train.images[rows])
        return self.load_images([one for one in name.split(",") if one])

    @staticmethod
    def _label_column(data: LabelledImages) -> int | None:
        return next((k for k, attribute in enumerate(data.attributes) if attribute.name == LABEL), None)

    @staticmethod
    def _seed(name: str) -> int | None:
        number = name.removeprefix(SEED)
        return int(number) if name.startswith(SEED) and number.isdecimal() else None

    def _load(self, name: str) -> Tensor:
        if os.path.isfile(name):
            background = self.options.background
            image = open_image(name, background=background, value_range=self.options.value_range)
            square = fit(image, self.space.size, self.options.resize, background=background)
            return as_float(coloured(square[None], self.space.image_channels))
        if name.isdecimal():
            if int(name) >= len(self.test):
                raise CondgenError(f"There is no image {name}: {self.test.name} has {len(self.test):,}, from 0.")
            return as_float(self.test.images[int(name) : int(name) + 1])
        label = self._label_column(self.test) if self.path else None
        classes = "" if label is None else f" Its classes are {', '.join(self.test.attributes[label].values[:20])}."
        raise CondgenError(
            f"{short(name)} is no image. Expected the path of a file, the number of a row of the data, or seed:7 for a "
            f"sample of the model.{classes}"
        )
