"""The order of the data and the batches of a run: functions of seed and step alone, on any number of processes.

Data in memory is shuffled anew every epoch (`Shuffled`). Of data too large for memory, blocks come in a seeded order
and samples are shuffled within windows of blocks (`BlockOrder`): a window is a run of blocks with about `buffer`
samples, and nothing but windows is ever held. So training can go on at any step without replaying what came before, and
within an epoch every sample comes once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from condgen.contracts import Batch
from condgen.distributed import split


def held_out(n: int, share: int, most: int, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Holds out n // `share` of n rows, at most `most`: (kept, held-out rows); None where these are fewer than 2."""
    order, few = np.random.default_rng((seed, 1)).permutation(n), min(most, n // share)
    return (np.sort(order[few:]), np.sort(order[:few])) if few >= 2 else None


class Shuffled:
    """The order of data in memory: each of n samples once an epoch, in an order that `seed` and the epoch fix."""

    def __init__(self, n: int, seed: int):
        self.n, self.seed = n, seed
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, int))

    def rows(self, first: int, count: int) -> np.ndarray:
        """int64 (count,): which samples come at the places `first` to `first + count` of the run."""
        return np.array([self._row(k) for k in range(first, first + count)])

    def _row(self, k: int) -> int:
        epoch, place = divmod(k, self.n)
        if self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng((self.seed, epoch, 7)).permutation(self.n))
        return int(self._order[1][place])


@dataclass(frozen=True)
class Window:
    """A run of samples that are held at the same time.

    Args:
        first: number of its first sample in the run, counted over all epochs.
        blocks: the blocks it is made of, in their order.
        places: sample `first + i` is number `places[i]` of all samples of these blocks, one block after the other.
    """

    first: int
    blocks: np.ndarray
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.places)

    @property
    def last(self) -> int:
        """Number of the first sample after it."""
        return self.first + len(self)


class BlockOrder:
    """Which samples come when.

    Args:
        counts: samples in every block.
        buffer: samples of a window; it takes as many blocks as begin within so many samples.
        seed: of the order of blocks, and of the order within windows, both new in every epoch.
    """

    def __init__(self, counts: np.ndarray, buffer: int, seed: int):
        self.counts, self.buffer, self.seed = np.asarray(counts, np.int64), buffer, seed
        self.total = int(self.counts.sum())
        self._epoch: tuple[int, np.ndarray, np.ndarray, np.ndarray] | None = None

    def window(self, k: int) -> Window:
        """The window in which sample k of the run is."""
        epoch, place = divmod(k, self.total)
        order, starts, cuts = self._layout(epoch)
        number = int(np.searchsorted(starts[cuts], place, "right")) - 1
        blocks = order[cuts[number] : cuts[number + 1] if number + 1 < len(cuts) else None]
        rng = np.random.default_rng((self.seed, epoch, number, 11))
        first = epoch * self.total + int(starts[cuts[number]])
        return Window(first, blocks, rng.permutation(int(self.counts[blocks].sum())))

    def windows(self, first: int, count: int) -> Iterator[tuple[Window, range]]:
        """The windows that samples `first` to `first + count` of the run lie in, each with which of its places."""
        end = first + count
        while first < end:
            window = self.window(first)
            stop = min(end, window.last)
            yield window, range(first - window.first, stop - window.first)
            first = stop

    def _layout(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of an epoch: the order of blocks, the number of the first sample of each, and where windows begin."""
        if self._epoch is None or self._epoch[0] != epoch:
            order = np.random.default_rng((self.seed, epoch, 7)).permutation(np.flatnonzero(self.counts))
            starts = np.cumsum(self.counts[order]) - self.counts[order]
            cuts = np.flatnonzero(np.diff(starts // self.buffer, prepend=-1))
            self._epoch = (epoch, order, starts, cuts)
        return self._epoch[1:]


Moves = tuple[np.ndarray | None, np.ndarray | None]
"""Of every image: where it is cut out again, int (B, 2), and whether it is mirrored, bool (B,)."""


def to_float(images: np.ndarray | Tensor) -> Tensor:
    """uint8 (..., H, W) -> float in [-1, 1]."""
    return torch.as_tensor(images).float() / 127.5 - 1


def to_uint8(images: Tensor) -> np.ndarray:
    """float in [-1, 1] -> uint8, rounded, on the CPU; values outside are clipped."""
    return ((images.detach().cpu().float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()


class Batches:
    """Draws every image once an epoch, in a seeded order. Subclasses implement `draw`.

    Each process takes its own part of every batch, and the parts together are the batch of a single process.

    Args:
        order: of the images.
        batch: images in a batch, over all processes.
        seed: fixes all random draws.
        shift: largest random shift in pixels, the border repeated: a mild augmentation for small collections.
        flip: mirror every second image, left to right.
        rank, world: this process, and how many there are.

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
        """Batch `step`, counted from 0."""
        return self.draw(step, np.random.default_rng((self.seed, step, 0)))

    def draw(self, step: int, rng: np.random.Generator) -> Batch:
        """This process' part of batch `step`; `rng` draws for the whole batch, however it is split."""
        raise NotImplementedError

    def rows(self, step: int) -> np.ndarray:
        """int64: the images of this process' part."""
        return self.order.rows(step * self.batch, self.batch)[self.part]

    def moves(self, rng: np.random.Generator) -> Moves:
        """Random shifts and mirror images, where they are asked for."""
        corners = rng.integers(0, 2 * self.shift + 1, (self.batch, 2))[self.part] if self.shift else None
        return corners, rng.random(self.batch)[self.part] < 0.5 if self.flip else None

    def moved(self, images: np.ndarray, moves: Moves) -> Tensor:
        """uint8 (B, C, S, S), shifted and mirrored -> float in [-1, 1]."""
        corners, mirrored = moves
        if corners is not None:
            size, pad = images.shape[-1], (self.shift, self.shift)
            padded = np.pad(images, ((0, 0), (0, 0), pad, pad), mode="edge")
            images = np.stack([p[:, y : y + size, x : x + size] for p, (y, x) in zip(padded, corners)])
        if mirrored is not None:
            images = np.where(mirrored[:, None, None, None], images[..., ::-1], images)
        return to_float(images)
