"""Captioned images in memory: a table of distinct texts, and for every image the indices of its captions.

`data.sources.captions` and `data.synthetic.scenes` make them, `data.batches.captions` draws batches from them. Texts
are stored once because the contrastive loss must know which captions of a batch are equal: equal index, equal text.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np


@dataclass
class CaptionedImages:
    """N square images and T distinct texts.

    Args:
        images: uint8 (N, 3, S, S).
        texts: the T distinct texts.
        captions: int64 (N, C), indices into `texts`; unused entries are -1, the first is always used.
        negatives: int64 (T, M), for every text the indices of similar but wrong captions, padded with -1; None if the
            source has none.
        name: name of the data in messages and model cards.
        labels: int64 (N,), the class of every image; None if classes are unknown.
        classes: names of the classes.
    """

    images: np.ndarray
    texts: list[str]
    captions: np.ndarray
    negatives: np.ndarray | None = None
    name: str = "images"
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n, channels, height, width = self.images.shape
        if self.images.dtype != np.uint8 or channels != 3 or height != width:
            raise ValueError(f"images must be uint8 (N, 3, S, S), got {self.images.dtype} {self.images.shape}")
        if self.captions.shape[0] != n or (n and (self.captions[:, 0] < 0).any()):
            raise ValueError("every image needs at least one caption, in the first column")
        if n and self.captions.max() >= len(self.texts):
            raise ValueError("a caption index points past the table of texts")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> int:
        """Edge length S of the images."""
        return self.images.shape[-1]

    @property
    def digest(self) -> str:
        """Identifies the images, the captions and how they were read."""
        digest = hashlib.sha256(np.ascontiguousarray(self.images).reshape(-1))  # without a copy: they may be large
        digest.update(self.captions.tobytes())
        digest.update("\0".join(self.texts).encode("utf-8", "replace"))
        return digest.hexdigest()[:16]

    @property
    def used_texts(self) -> list[str]:
        """The texts that images use as captions, to train a tokenizer on."""
        return [self.texts[i] for i in np.unique(self.captions[self.captions >= 0])]

    def rows(self, which: np.ndarray) -> CaptionedImages:
        """A subset of the images, with the same table of texts."""
        labels = None if self.labels is None else self.labels[which]
        return replace(self, images=self.images[which], captions=self.captions[which], labels=labels)


def intern_captions(captions: list[list[str]]) -> tuple[list[str], np.ndarray]:
    """Turns lists of captions per image into (distinct texts, index table padded with -1)."""
    table: dict[str, int] = {}
    width = max((len(own) for own in captions), default=1)
    index = np.full((len(captions), max(width, 1)), -1, np.int64)
    for row, own in enumerate(captions):
        for column, text in enumerate(dict.fromkeys(own)):
            index[row, column] = table.setdefault(text, len(table))
    return list(table), index
