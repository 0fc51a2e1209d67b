"""The order of data too large for memory: blocks in a seeded order, samples shuffled within windows of blocks.

A window is a run of blocks with about `buffer` samples; nothing but windows is ever held. Where sample k of a run lies
depends on the seed, the sizes of the blocks and k alone, so that training can go on at any step, on any number of
processes, without replaying what came before. Within an epoch every sample comes once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np


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
