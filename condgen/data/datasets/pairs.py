"""Images of two kinds, to translate between: pairs, or two unpaired sets."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from condgen.data.batches.base import held_out


@dataclass
class Unpaired:
    """Two sets of square images of one size.

    Args:
        a, b: uint8 (N, C, S, S) and (M, K, S, S); C and K are 1 or 3.
        sides: names of a and b.
        name: name of the data in messages and model cards.
    """

    a: np.ndarray
    b: np.ndarray
    sides: tuple[str, str] = ("a", "b")
    name: str = "images"

    def __post_init__(self) -> None:
        for images in (self.a, self.b):
            _, channels, height, width = images.shape
            if images.dtype != np.uint8 or channels not in (1, 3) or not height == width == self.size:
                raise ValueError(f"images must be uint8 (N, 1 or 3, S, S), got {images.dtype} {images.shape}")

    def __len__(self) -> int:
        return len(self.a) + len(self.b)

    @property
    def size(self) -> int:
        """Edge S of all images."""
        return self.a.shape[-1]

    @property
    def image_channels(self) -> tuple[int, int]:
        """Channels of a and of b."""
        return self.a.shape[1], self.b.shape[1]

    @property
    def digest(self) -> str:
        """Identifies the images of both sides and how they were read."""
        both = (np.ascontiguousarray(side) for side in (self.a, self.b))
        return hashlib.sha256(b"".join(hashlib.sha256(side).digest() for side in both)).hexdigest()[:16]

    def parted(self, share: int, most: int, seed: int) -> tuple[Unpaired, Unpaired] | None:
        """Holds out n // `share` images of a side, at most `most`: (kept, held out); None if too few are held out."""
        rows = [held_out(len(side), share, most, seed) for side in (self.a, self.b)]
        if None in rows:
            return None
        return tuple(replace(self, a=self.a[of_a], b=self.b[of_b]) for of_a, of_b in zip(*rows))


@dataclass
class Pairs(Unpaired):
    """Paired images: image i of a and image i of b show the same content."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.a) != len(self.b):
            raise ValueError(f"there must be as many images of both sides, got {len(self.a)} and {len(self.b)}")

    def __len__(self) -> int:
        return len(self.a)
