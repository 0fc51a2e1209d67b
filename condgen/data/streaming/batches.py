"""Batches of a stream of captioned images. Threads read the next window while the current one is used."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from condgen.contracts import Batch
from condgen.data.batches.base import Batches, BlockOrder, Window
from condgen.data.streaming.stream import BLOCK, Stream, text_number

BUFFER_BYTES = 256_000_000
"""Default size of a window in bytes of decoded images, with at most MOST_BUFFERED images."""
MOST_BUFFERED = 16_384


def default_buffer(size: int) -> int:
    """Number of images of a window that fit into BUFFER_BYTES."""
    return max(BLOCK, min(MOST_BUFFERED, BUFFER_BYTES // (3 * size * size)))


class _Held:
    """A window in memory: this process's samples of it, decoded by threads."""

    def __init__(self, window: Window, mine: np.ndarray, stream: Stream, pool: ThreadPoolExecutor):
        self.window = window
        self.slot = np.full(len(window), -1, np.int64)  # place in the window -> place in the arrays
        self.images = np.empty((len(mine), 3, stream.size, stream.size), np.uint8)
        self.numbers = np.empty(len(mine), np.int64)
        self.captions: list[tuple[str, ...]] = [()] * len(mine)
        places = window.places[mine]
        order = np.argsort(places)
        self.slot[mine[order]] = np.arange(len(mine))
        places, end, self.tasks = places[order], 0, []
        for block in window.blocks:
            begin, end = end, end + stream.blocks[block].usable
            low, high = np.searchsorted(places, (begin, end))
            if low < high:
                self.tasks.append(pool.submit(self._fill, stream, int(block), int(low), places[low:high] - begin))

    def _fill(self, stream: Stream, block: int, slot: int, wanted: np.ndarray) -> None:
        for offset, sample in enumerate(stream.read(block, wanted)):
            self.images[slot + offset] = sample.image
            self.numbers[slot + offset] = sample.number
            self.captions[slot + offset] = sample.captions

    def wait(self) -> None:
        """Waits until the window is read; raises errors of the threads."""
        tasks: list[Future] = self.tasks
        for task in tasks:
            task.result()
        self.tasks = []


class ShardBatches(Batches):
    """Images of a stream, each with one of its captions, as in `CaptionBatches`.

    A batch also holds `row` (B,), the indices of the images in the stream, and `caption` (B,), the index of the caption
    among those of the image. `text_id` is a hash of the text.

    Args:
        stream: the images.
        encode: texts -> int64 (B, L), the tokens.
        buffer: size of a shuffle window in images; 0 takes as many as fit into BUFFER_BYTES. Two windows are in memory.
        threads: number of threads that read and decode; it affects only the speed.
        batch, seed, options: see `Batches`.
    """

    def __init__(
        self, stream: Stream, encode: Callable[[list[str]], np.ndarray], batch: int, seed: int, buffer: int = 0,
        threads: int = 2, **options: Any,
    ):  # fmt: skip
        counts = np.array([block.usable for block in stream.blocks])
        super().__init__(BlockOrder(counts, buffer or default_buffer(stream.size), seed), batch, seed, **options)
        self.stream, self.encode = stream, encode
        self._derived: dict[str, Callable[[Batch], Tensor]] = {}
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="shards")
        self._held: _Held | None = None
        self._next: _Held | None = None

    def derive(self, name: str, make: Callable[[Batch], Tensor]) -> ShardBatches:
        """Adds `make(batch)` to every batch, on the CPU."""
        self._derived[name] = make
        return self

    def draw(self, step: int, rng: np.random.Generator) -> Batch:
        images, numbers, captions = [], [], []
        first, count = step * self.batch + self.part.start, self.part.stop - self.part.start
        for window, places in self.order.windows(first, count):
            held = self._hold(window)
            slots = held.slot[places.start : places.stop]
            images.append(held.images[slots])
            numbers.append(held.numbers[slots])
            captions += [held.captions[slot] for slot in slots]
        out = _texts(captions, rng.random(self.batch)[self.part], self.encode, self.stream.width)
        out["row"] = torch.from_numpy(np.concatenate(numbers))
        out["image"] = self.moved(np.concatenate(images), self.moves(rng))
        for name, make in self._derived.items():
            with torch.no_grad():
                out[name] = make(out)
        return out

    def _hold(self, window: Window) -> _Held:
        """Returns a window that is read; starts to read the next one, and frees all others."""
        if self._held is None or self._held.window.first != window.first:
            self._held = None
            if self._next is None or self._next.window.first != window.first:
                self._forget()
                self._next = self._begin(window)
            self._held, self._next = self._next, None
            self._held.wait()
            self._next = self._begin(self.order.window(window.last))
        return self._held

    def _begin(self, window: Window) -> _Held:
        place = np.arange(window.first, window.last) % self.batch
        mine = np.flatnonzero((place >= self.part.start) & (place < self.part.stop))
        return _Held(window, mine, self.stream, self._pool)

    def _forget(self) -> None:
        if self._next is not None:
            for task in self._next.tasks:
                task.cancel()
        self._next = None

    def close(self) -> None:
        """Stops the threads after their current work."""
        self._forget()
        self._held = None
        self._pool.shutdown(wait=True, cancel_futures=True)


def _texts(
    captions: list[tuple[str, ...]], draw: np.ndarray, encode: Callable[[list[str]], np.ndarray], width: int
) -> Batch:
    """Chooses one text per image, by numbers (B,) in [0, 1), and returns the ids of all texts of the images."""
    counts = np.array([len(own) for own in captions])
    chosen = (draw * counts).astype(int)
    true_ids = np.full((len(captions), width), -1, np.int64)
    for row, own in enumerate(captions):
        true_ids[row, : len(own)] = [text_number(text) for text in own]
    return {
        "tokens": torch.as_tensor(encode([own[i] for own, i in zip(captions, chosen)])),
        "text_id": torch.from_numpy(true_ids[np.arange(len(captions)), chosen]),
        "true_ids": torch.from_numpy(true_ids),
        "caption": torch.from_numpy(chosen),
    }
