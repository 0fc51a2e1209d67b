"""Images for the tools by the words of a command line: files, rows of the data, classes, what the space draws."""

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
from condgen.data.sources.images import fit, open_image
from condgen.data.sources.labels import open_labelled
from condgen.data.sources.open_images import left_out, open_any
from condgen.data.synthetic.factors import SCENES
from condgen.latent_space.adapters import LatentSpace, as_float, decoded, drawn, encodes, name_of
from condgen.latent_space.result import evenly

SEED = "seed:"
MOST = 10_000
"""Odd images of other data that are looked at."""
READ = (
    "image_column", "caption_column", "label_column", "split_column", "filter", "resize", "max_bad_fraction",
    "exclude_classes", "attribute_columns", "names",
)  # fmt: skip
"""How images are read, see `data.anything.open_any` and `data.labels.open_labelled`."""

WORDS = (DIGITS, SCENES)
"""Data that needs no place."""


class Pictures:
    """Where a command's images come from.

    Args:
        space: whose size and colours they get, and whose `about` says what it was trained on and how that was read.
        data: where they are; '' for what the training calls them, where that can be found.
        split: which part is asked about; what is fitted is fitted on `train`.
        asked: some of READ, where they are not read as in the training.
        other: these are others than those of the training, and are not read as they were.
    """

    def __init__(
        self, space: LatentSpace, data: str = "", split: str = "test", asked: dict[str, Any] | None = None,
        other: bool = False,
    ):  # fmt: skip
        about = getattr(space, "about", {})
        self.space, self.split, self.trained = space, split, about.get("data", "")
        found = isinstance(self.trained, str) and (self.trained in WORDS or os.path.exists(self.trained))
        self.source = data or (self.trained if found else "")
        told = about.get("reading")
        own = {name: told[name] for name in READ if name in told} if isinstance(told, dict) and not other else {}
        self.own = own | {name: value for name, value in (asked or {}).items() if value}

    @cached_property
    def known(self) -> LabelledImages:
        """Images as the training had them."""
        return self._open("train", self.own)

    @cached_property
    def held(self) -> LabelledImages:
        """Images of the split, no class left out."""
        return self._open(self.split, {name: value for name, value in self.own.items() if name != "exclude_classes"})

    def _open(self, split: str, options: dict[str, Any]) -> LabelledImages:
        if not self.source:
            told = f"was trained on {self.trained}" if self.trained else "does not say what it was trained on"
            raise CondgenError(f"{name_of(self.space)} {told}: say with --data where its images are.")
        shape = (self.space.size, self.space.image_channels)
        if options.get("attribute_columns"):
            options = {k: value for k, value in options.items() if k not in ("caption_column", "exclude_classes")}
            options |= {k: tuple(options[k]) for k in ("attribute_columns", "names") if k in options}
            return open_labelled(self.source, *shape, split=split, **options)
        options = {k: value for k, value in options.items() if k not in ("attribute_columns", "names")}
        return open_any(self.source, *shape, split=split, **options)

    def some(self, n: int) -> list[str]:
        """Words for n images: rows evenly spread over the split; where the space does not encode, seeds."""
        if not encodes(self.space):
            return [f"{SEED}{k}" for k in range(n)]
        return [str(k) for k in evenly(len(self.held), n).tolist()]

    def odd(self, name: str = "", path: str = "") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Images to tell odd ones from normal ones by: of the training, of the split, and odd ones, uint8 each.

        Args:
            name: class that is odd; by default what the training left out.
            path: other data, whose images are odd in its place: of all splits, for the training saw none.

        Raises:
            CondgenError: nothing says what is odd, or there are no images of it.
        """
        if path:
            other = Pictures(self.space, path, "all", other=True).held.images
            return self.known.images, self.held.images, other[evenly(len(other), MOST).numpy()]
        name = name or self.own.get("exclude_classes", "")
        if not name:
            raise CondgenError(
                "What is odd? Name a class with --odd, best one that the training left out (--pictures.without), or "
                "other images with --against PATH."
            )
        known, held = (left_out(data, name) for data in (self.known, self.held))
        label = next(k for k, attribute in enumerate(self.held.attributes) if attribute.name == LABEL)
        new = ~np.isin(self.held.targets[:, label], [*held.targets[:, label]])
        if not new.any():
            raise CondgenError(f"{self.held.name} has no image of {name} in the split {self.split}.")
        return known.images, held.images, self.held.images[new]

    def named(self, words: Sequence[str]) -> Tensor:
        """Images by words, one each: the path of a file, the number of a row of the split, or seed:N, one that the
        space draws. Where all are drawn, their codes.

        Raises:
            CondgenError: a word is nothing of these, or its image cannot be used.
        """
        seeds = [self._seed(word) for word in words]
        if all(seed is not None for seed in seeds):
            return drawn(self.space, seeds)
        one = [self._one(word) if seed is None else decoded(self.space, drawn(self.space, [seed]))
               for word, seed in zip(words, seeds)]  # fmt: skip
        return torch.cat(one)

    def labels_of(self, words: Sequence[str]) -> Tensor | None:
        """The classes of images that are rows of the split, int64 (N,); None where any is not, or has none."""
        rows = [word for word in words if word.isdecimal() and not os.path.exists(word)]
        if len(rows) < len(words) or LABEL not in [attribute.name for attribute in self.held.attributes]:
            return None
        return torch.from_numpy(self.held.labels[[int(word) for word in rows]])

    def set_of(self, word: str, n: int) -> Tensor:
        """A set of images: the first n of a class (or of a value, `colour=red`), else images by `named`, with
        commas between them.
        """
        name, equals, value = word.partition("=")
        for attribute, targets in zip(self.known.attributes, self.known.targets.T) if self.source else ():
            wanted = value if equals and name == attribute.name else word if attribute.name == LABEL else None
            if wanted is not None and wanted.casefold() in map(str.casefold, attribute.values):
                rows = np.flatnonzero(targets == attribute.encode(wanted))[:n]
                if not len(rows):
                    raise CondgenError(f"There is no image with {attribute.name} {wanted} in {self.known.name}.")
                return as_float(self.known.images[rows])
        found = self.named([one for one in word.split(",") if one])
        return decoded(self.space, found) if found.dim() == 2 else found

    def _seed(self, word: str) -> int | None:
        number = word.removeprefix(SEED)
        return int(number) if word.startswith(SEED) and number.isdecimal() else None

    def _one(self, word: str) -> Tensor:
        if os.path.isfile(word):
            square = fit(open_image(word), self.space.size, self.own.get("resize", "crop"))
            return as_float(coloured(square[None], self.space.image_channels))
        if word.isdecimal():
            if int(word) >= len(self.held):
                raise CondgenError(f"There is no image {word}: {self.held.name} has {len(self.held):,}, from 0.")
            return as_float(self.held.images[int(word) : int(word) + 1])
        known = (
            [attribute.values for attribute in self.held.attributes if attribute.name == LABEL] if self.source else []
        )
        more = f" Its classes are {', '.join(known[0][:20])}." if known else ""
        raise CondgenError(
            f"{short(word)} is no image. Expected the path of a file, the number of a row of the data, or seed:7 for "
            f"one that the model draws.{more}"
        )
