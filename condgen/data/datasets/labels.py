"""Labelled images in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from condgen.contracts import CondgenError
from condgen.data.attributes import LABEL, Attribute
from condgen.data.datasets.captions import CaptionedImages, intern_captions
from condgen.data.templates import class_captions


def _described(x: Attribute) -> str:
    """The text that digests of data are computed from. Changing it would prevent existing runs from resuming."""
    return f"Factor(name={x.name!r}, values={x.values!r}, mean={x.mean!r}, sd={x.sd!r}, low={x.low!r}, high={x.high!r})"


@dataclass
class LabelledImages:
    """N square images with A attributes each.

    Args:
        images: uint8 (N, C, S, S); C is 1 or 3.
        attributes: attributes of the images; the class, if there is one, is called `label`.
        targets: float32 (N, A), see `data.attributes`; NaN where unknown.
        name: name of the data in messages and model cards.
    """

    images: np.ndarray
    attributes: tuple[Attribute, ...]
    targets: np.ndarray
    name: str = "images"

    def __post_init__(self) -> None:
        n, channels, height, width = self.images.shape
        if self.images.dtype != np.uint8 or channels not in (1, 3) or height != width:
            raise ValueError(f"images must be uint8 (N, 1 or 3, S, S), got {self.images.dtype} {self.images.shape}")
        if self.targets.shape != (n, len(self.attributes)):
            raise ValueError(f"targets must be ({n}, {len(self.attributes)}), got {self.targets.shape}")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> int:
        """Edge length S of the images."""
        return self.images.shape[-1]

    @property
    def image_channels(self) -> int:
        """Channels C of the images."""
        return self.images.shape[1]

    @property
    def digest(self) -> str:
        """Identifies the images, the attributes and how they were read."""
        digest = hashlib.sha256(np.ascontiguousarray(self.images).reshape(-1))  # without a copy: they may be large
        described = ", ".join(map(_described, self.attributes)) + ("," if len(self.attributes) == 1 else "")
        digest.update(self.targets.tobytes() + f"({described})".encode("utf-8", "replace"))
        return digest.hexdigest()[:16]

    def rows(self, which: np.ndarray) -> LabelledImages:
        """A subset of the images."""
        return replace(self, images=self.images[which], targets=self.targets[which])

    @property
    def labels(self) -> np.ndarray:
        """The class of every image, int64 (N,).

        Raises:
            KeyError: there is no attribute `label`.
        """
        names = [attribute.name for attribute in self.attributes]
        if LABEL not in names:
            raise KeyError(LABEL)
        return self.targets[:, names.index(LABEL)].astype(np.int64)


def captioned(data: LabelledImages, templates: Sequence[str]) -> CaptionedImages:
    """Converts labelled images to captioned ones: the captions of an image are all sentences about its class.

    Images of unknown class are left out; grey images become RGB.

    Args:
        templates: sentences with a gap, see `data.templates`.

    Raises:
        CondgenError: there are no classes, or two of them have the same captions.
    """
    label = next((attribute for attribute in data.attributes if attribute.name == LABEL), None)
    if label is None:
        raise CondgenError(f"{data.name} has no classes to make captions of. Name their column with --label-column.")
    texts, index = intern_captions(class_captions(label.values, templates))
    known = ~np.isnan(data.targets[:, [attribute.name for attribute in data.attributes].index(LABEL)])
    labels, images = data.labels[known], np.repeat(data.images[known], 3 // data.image_channels, axis=1)
    return CaptionedImages(images, texts, index[labels], None, data.name, labels, tuple(label.values))
