"""The order of training data, and batches. Both depend only on seed and step, on any number of processes.

Data in memory is shuffled anew every epoch (`Shuffled`). Data too large for memory is read by blocks in a
seeded order and shuffled within windows (`BlockOrder`); a window is a sequence of blocks with about `buffer` samples,
and only windows are held in memory. Training can therefore resume at any step without replaying earlier steps, and
every sample comes once per epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from condgen.contracts import Batch, CondgenError
from condgen.distributed import split


def held_out(n: int, share: int, most: int, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Holds out n // `share` of n rows, at most `most`: (kept, held-out rows); None if fewer than 2 are held out."""
    order, few = np.random.default_rng((seed, 1)).permutation(n), min(most, n // share)
    return (np.sort(order[few:]), np.sort(order[:few])) if few >= 2 else None


class Shuffled:
    """The order of data in memory: each of n samples once per epoch, shuffled by `seed` and the number of the epoch."""

    def __init__(self, n: int, seed: int):
        self.n, self.seed = n, seed
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, int))

    def rows(self, first: int, count: int) -> np.ndarray:
        """Indices, int64 (count,), of the samples at positions `first` to `first + count` of the run."""
        return np.array([self._row(k) for k in range(first, first + count)])

    def _row(self, k: int) -> int:
        epoch, place = divmod(k, self.n)
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng((self.seed, epoch, 7)).permutation(self.n))
        return int(self._order[1][place])


@dataclass(frozen=True)
class Window:
    """A sequence of samples that are held in memory at the same time.

    Args:
        first: position of its first sample in the run, counted over all epochs.
        blocks: its blocks, in their order.
        places: sample `first + i` of the run is sample `places[i]` of the concatenated blocks.
    """

    first: int
    blocks: np.ndarray
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.places)

    @property
    def last(self) -> int:
        """Position of the first sample after it."""
        return self.first + len(self)


class BlockOrder:
    """The order of data in blocks.

    Args:
        counts: number of samples in every block.
        buffer: approximate number of samples in a window; a window takes all blocks that begin within `buffer` samples.
        seed: fixes the order of blocks and the order within windows; both change every epoch.
    """

    def __init__(self, counts: np.ndarray, buffer: int, seed: int):
        self.counts, self.buffer, self.seed = np.asarray(counts, np.int64), buffer, seed
        self.total = int(self.counts.sum())
        self._epoch: tuple[int, np.ndarray, np.ndarray, np.ndarray] | None = None

    def window(self, k: int) -> Window:
        """The window that contains sample k of the run."""
        epoch, place = divmod(k, self.total)
        order, starts, cuts = self._layout(epoch)
        number = int(np.searchsorted(starts[cuts], place, "right")) - 1
        blocks = order[cuts[number] : cuts[number + 1] if number + 1 < len(cuts) else None]
        rng = np.random.default_rng((self.seed, epoch, number, 11))
        first = epoch * self.total + int(starts[cuts[number]])
        return Window(first, blocks, rng.permutation(int(self.counts[blocks].sum())))

    def windows(self, first: int, count: int) -> Iterator[tuple[Window, range]]:
        """The windows that contain samples `first` to `first + count` of the run, each with the range of its places."""
        end = first + count
        while first < end:
            window = self.window(first)
            stop = min(end, window.last)
            yield window, range(first - window.first, stop - window.first)
            first = stop

    def _layout(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns for an epoch: the order of blocks, the first sample of each, and where windows begin."""
        if self._epoch is None or self._epoch[0] != epoch:
            order = np.random.default_rng((self.seed, epoch, 7)).permutation(np.flatnonzero(self.counts))
            starts = np.cumsum(self.counts[order]) - self.counts[order]
            cuts = np.flatnonzero(np.diff(starts // self.buffer, prepend=-1))
            self._epoch = (epoch, order, starts, cuts)
        return self._epoch[1:]


Moves = tuple[np.ndarray | None, np.ndarray | None]
"""Offset of the crop after padding, int (B, 2), and whether to mirror, bool (B,), for every image."""


def to_float(images: np.ndarray | Tensor) -> Tensor:
    """uint8 (..., H, W) -> float in [-1, 1]."""
    return torch.as_tensor(images).float() / 127.5 - 1


def to_uint8(images: Tensor) -> np.ndarray:
    """float in [-1, 1] -> uint8, rounded, on the CPU; values outside are clipped.

    Raises:
        CondgenError: a pixel is NaN.
    """
    images = images.detach().cpu().float()
    if images.numel() and images.isnan().any():
        wrong = int(images.flatten(1).isnan().any(1).sum()) if images.ndim == 4 else 1
        raise CondgenError(
            f"{wrong} of {len(images) if images.ndim == 4 else 1} images have pixels that are NaN: the computation "
            "overflowed. Nothing is saved of them; lower the guidance, compute with 32 bits, or use another checkpoint."
        )
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()


class Batches:
    """Draws every image once per epoch, in a seeded order. Subclasses implement `draw`.

    Each process draws its part of every batch; together the parts are the batch of a single process.

    Args:
        order: order of the images.
        batch: images in a batch, over all processes.
        seed: fixes all random draws.
        shift: largest random shift in pixels, with the border repeated.
        flip: mirror every second image, left to right.
        rank, world: number of this process, and number of processes.

    Raises:
        CondgenError: the batch cannot be split evenly.
    """

    def __init__(
        self, order: Shuffled | BlockOrder, batch: int, seed: int, *, shift: int = 0, flip: bool = False,
        rank: int = 0, world: int = 1,
    ):  # fmt: skip
        self.order, self.batch, self.seed, self.shift, self.flip = order, batch, seed, shift, flip
        self.part = split(batch, rank, world)

    def __call__(self, step: int) -> Batch:
        """Draws batch `step`, counted from 0."""
        return self.draw(step, np.random.default_rng((self.seed, step, 0)))

    def draw(self, step: int, rng: np.random.Generator) -> Batch:
        """Draws this process's part of batch `step`; `rng` draws for the whole batch, on any number of processes."""
        raise NotImplementedError

    def rows(self, step: int) -> np.ndarray:
        """Indices of the images in this process's part, int64."""
        return self.order.rows(step * self.batch, self.batch)[self.part]

    def moves(self, rng: np.random.Generator) -> Moves:
        """Draws the random shifts and flips of a batch; None for those that are off."""
        corners = rng.integers(0, 2 * self.shift + 1, (self.batch, 2))[self.part] if self.shift else None
        return corners, rng.random(self.batch)[self.part] < 0.5 if self.flip else None

    def moved(self, images: np.ndarray, moves: Moves) -> Tensor:
        """Shifts and flips uint8 (B, C, S, S); returns floats in [-1, 1]."""
        corners, mirrored = moves
        if corners is not None:
            size, pad = images.shape[-1], (self.shift, self.shift)
            padded = np.pad(images, ((0, 0), (0, 0), pad, pad), mode="edge")
            images = np.stack([p[:, y : y + size, x : x + size] for p, (y, x) in zip(padded, corners)])
        if mirrored is not None:
            images = np.where(mirrored[:, None, None, None], images[..., ::-1], images)
        return to_float(images)
