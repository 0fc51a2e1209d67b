"""Captioned images too large for memory, read from shards while training goes on.

One pass over the shards, without their images, finds the usable rows: `Stream`. `ShardBatches` then draws batches as
`CaptionBatches` does and holds at most two windows of decoded images: the one that batches come from, and the next,
which threads read meanwhile.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from condgen.contracts import Batch, CondgenError
from condgen.data.batches.captions import shifted, to_float
from condgen.data.batches.order import BlockOrder, Window
from condgen.data.datasets.captions import CaptionedImages
from condgen.data.sources.captions import Tally, judge, load, progress
from condgen.data.sources.images import RGB, WHITE, ImageError, decode, fit
from condgen.data.sources.rows import GUESSED, Columns, Row, Source, in_split, open_source, split_name
from condgen.data.sources.tables import FORMS
from condgen.data.streaming.feeds import Feed, open_feeds
from condgen.distributed import split

BLOCK = 256
"""Rows that are read in one go."""
BUFFER_BYTES = 256_000_000
"""Decoded images of one window, where nothing else is asked for; at most MOST_BUFFERED of them."""
MOST_BUFFERED = 16_384
IN_MEMORY = 2_000_000_000
"""Bytes of decoded images that are held in memory rather than streamed."""
KEPT_TEXTS = 100_000
"""Distinct captions that are kept, to train a tokenizer on."""


def text_number(text: str) -> int:
    """A number of 63 bits that names a text, in every run and process: equal texts, equal numbers."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big") >> 1


@dataclass(frozen=True)
class Block:
    """Rows that are read in one go.

    Args:
        feed: in which shard.
        place, first, rows: where there; see `feeds.Feed`.
        usable: how many of the rows are of the split and have captions.
        start: the number of its first usable row among those of all blocks.
    """

    feed: int
    place: int
    first: int
    rows: int
    usable: int
    start: int


@dataclass(frozen=True)
class Sample:
    """An image, uint8 (3, S, S), its captions, and its number in the stream."""

    image: np.ndarray
    captions: tuple[str, ...]
    number: int


class Stream:
    """Captioned images in shards, N of them, numbered in the order of the shards.

    Args:
        source: where they are; with `feeds`, what reads them, when they are no files.
        size: edge length S of the images, in pixels.
        split, resize, background, max_bad_fraction: see `sources.load_captions`. An image that cannot be
            decoded is found only when its turn comes; the good one before it in its block, or else after it, takes its
            place.

    Raises:
        CondgenError: no shards, nothing in the split, too many rows that cannot be used, a shard that is damaged.
    """

    def __init__(
        self,
        source: Source,
        size: int,
        *,
        feeds: Sequence[Feed] | None = None,
        split: str = "train",
        resize: Literal["crop", "pad"] = "crop",
        background: RGB = WHITE,
        max_bad_fraction: float = 0.01,
    ):
        self.source, self.size, self.resize, self.background, self.max_bad_fraction = (
            source,
            size,
            resize,
            background,
            max_bad_fraction,
        )
        self.split = split_name(split)
        self.feeds = list(feeds) if feeds is not None else open_feeds(source)
        self.blocks: list[Block] = []
        self.texts: list[str] = []
        """Distinct captions, at most KEPT_TEXTS, in an order and a choice that do not depend on that of the shards."""
        self.width = 1
        """Most captions of an image, C."""
        self._undecoded: dict[int, str] = {}
        self._lock = threading.Lock()
        self._scan()

    @property
    def used_texts(self) -> list[str]:
        """A sample of the texts, for a tokenizer to learn from."""
        return self.texts

    def __len__(self) -> int:
        return self.blocks[-1].start + self.blocks[-1].usable

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def digest(self) -> str:
        """Sixteen hex digits that name the data: shards, what of them is used and how images are cut."""
        used = [(block.feed, block.place, block.first, block.rows, block.usable) for block in self.blocks]
        marks = [(feed.name, feed.mark) for feed in self.feeds]
        chosen = [self.split, self.size, self.resize, list(self.background)]
        chosen += [[table.image, *table.text] for table in self.source.tables]
        text = json.dumps([used, marks, chosen, self.source.conditions], default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _scan(self) -> None:
        bad, texts, total, start = Tally(), _FewTexts(KEPT_TEXTS), 0, 0
        for number, (place, first, rows) in progress(self._all_blocks(), 0, "looking through the shards"):
            usable = 0
            for row in rows:
                mine = row.kept and (in_split(row.split, self.split) or (row.fault and not row.split))
                total += bool(mine)
                if mine and row.fault:
                    bad.add(row.fault, row.key)
                elif mine:
                    usable += 1
                    self.width = max(self.width, len(row.captions))
                    texts.add(row.captions)
            if usable:
                self.blocks.append(Block(number, place, first, len(rows), usable, start))
                start += usable
        if not total:
            raise CondgenError(f"{self.source.path} has no rows in the split '{self.split}'. Try 'all'. {FORMS}")
        judge(self.source, bad, Tally(), total, self.max_bad_fraction)
        self.texts = texts.sorted()

    def _all_blocks(self) -> Iterator[tuple[int, tuple[int, int, list[Row]]]]:
        for number, feed in enumerate(self.feeds):
            for block in feed.scan(BLOCK):
                yield number, block

    def read(self, number: int, wanted: Sequence[int] | np.ndarray | None = None) -> Iterator[Sample]:
        """The usable samples of block `number`, or the wanted ones of them, counted from 0, in the order given.

        Raises:
            CondgenError: the shard has changed, no image of the block can be decoded, or too many of the data.
        """
        block = self.blocks[number]
        feed = self.feeds[block.feed]
        rows = [r for r in feed.fetch(block.place, block.first, block.rows) if self._is_used(r)]
        if len(rows) != block.usable:
            raise CondgenError(f"{feed.name} of {self.source.path} has changed. Start anew, with the data at rest.")
        for place in range(len(rows)) if wanted is None else wanted:
            yield self._decoded(block, rows, int(place))

    def samples(self, first: int, count: int) -> Iterator[Sample]:
        """Samples `first` to `first + count` in the order of the shards; those past the end are left out."""
        starts = np.array([block.start for block in self.blocks])
        for number in range(int(np.searchsorted(starts, first, "right")) - 1, len(self.blocks)):
            block = self.blocks[number]
            low, high = max(first - block.start, 0), min(first + count - block.start, block.usable)
            if low >= high:
                return
            yield from self.read(number, range(low, high))

    def some(self, most: int) -> np.ndarray:
        """About so many images from all over the data, uint8 (n, 3, S, S)."""
        each = 32
        blocks = np.unique(np.linspace(0, len(self.blocks) - 1, max(1, most // each)).astype(int))
        return np.stack([s.image for b in blocks for s in self.read(b, range(min(each, self.blocks[b].usable)))])

    def _is_used(self, row: Row) -> bool:
        return row.kept and in_split(row.split, self.split) and not row.fault

    def _decoded(self, block: Block, rows: list[Row], place: int) -> Sample:
        for near in (*range(place, -1, -1), *range(place + 1, len(rows))):
            row = rows[near]
            try:
                if row.image is None:
                    raise ImageError("missing file", row.key)
                decoded = decode(row.image, background=self.background, name=row.key)[0]
            except ImageError as error:
                self._count(block.start + near, f"{row.key} ({error.reason})")
                continue
            image = fit(decoded, self.size, self.resize, background=self.background)
            return Sample(image, row.captions, block.start + near)
        raise CondgenError(
            f"{self.source.path}: of {len(rows)} images in a row none can be decoded, the first is {rows[0].key}. "
            "`condgen data check` tells more."
        )

    def _count(self, number: int, told: str) -> None:
        """Notes an image that cannot be decoded; too many of them end the training."""
        with self._lock:
            self._undecoded[number] = told
            if len(self._undecoded) > self.max_bad_fraction * len(self):
                some = ", ".join(list(self._undecoded.values())[:3])
                raise CondgenError(
                    f"{self.source.path}: {len(self._undecoded)} of {len(self)} images cannot be decoded, and not "
                    f"all were tried (the limit is {self.max_bad_fraction:.3g} of them): {some}. Mend them, or let "
                    "more be replaced by others (train: --data.max_bad_fraction SHARE)."
                )


def open_captioned(
    path: str,
    size: int,
    *,
    stream: Literal["auto", "shards", "always", "never"] = "auto",
    columns: Columns = GUESSED,
    split: str = "train",
    resize: Literal["crop", "pad"] = "crop",
    background: RGB = WHITE,
    max_bad_fraction: float = 0.01,
    filter: str = "",
) -> Stream | CaptionedImages:
    """Captioned images in memory where they are few, a stream where they are many.

    Args:
        path, size, columns, split, resize, background, max_bad_fraction, filter: see `sources.load_captions`.
        stream: `auto` streams shards whose images would take more than IN_MEMORY bytes, `shards` any; `always`
            refuses what is no shards.
    """
    source = open_source(path, columns, filter)
    chosen = {"split": split, "resize": resize, "background": background, "max_bad_fraction": max_bad_fraction}
    if stream == "always" or (stream != "never" and source.form in ("parquet", "shards")):
        streamed = Stream(source, size, **chosen)
        if stream != "auto" or len(streamed) * 3 * size * size > IN_MEMORY:
            return streamed
    return load(source, size, **chosen)


class _FewTexts:
    """The texts of the smallest numbers: a sample of distinct texts that does not depend on their order."""

    def __init__(self, most: int):
        self.most, self.heap, self.there = most, [], set()

    def add(self, texts: tuple[str, ...]) -> None:
        for text in texts:
            number = text_number(text)
            if number in self.there or (len(self.heap) == self.most and number > -self.heap[0][0]):
                continue
            self.there.add(number)
            heapq.heappush(self.heap, (-number, text))
            if len(self.heap) > self.most:
                self.there.remove(-heapq.heappop(self.heap)[0])

    def sorted(self) -> list[str]:
        return [text for _, text in sorted(self.heap, reverse=True)]


def default_buffer(size: int) -> int:
    """Images of a window: as many as fit into BUFFER_BYTES."""
    return max(BLOCK, min(MOST_BUFFERED, BUFFER_BYTES // (3 * size * size)))


class _Held:
    """A window in memory: of its samples those of one process, decoded by threads."""

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
        """Until all is read; what went wrong in a thread is raised here."""
        tasks: list[Future] = self.tasks
        for task in tasks:
            task.result()
        self.tasks = []


class ShardBatches:
    """Draws batch k as `views.CaptionBatches` does, from a stream: every image once an epoch, with one of its captions.

    A batch also holds `row` (B,), the numbers of the images in the stream, and `caption` (B,), which of its captions
    each has. `text_id` is a number made of the text itself, the same everywhere.

    Args:
        stream: the images.
        encode: texts -> int64 (B, L), the tokens.
        batch: images in a batch, over all processes.
        seed: fixes order and choice of captions.
        shift: largest random shift in pixels, the border repeated.
        buffer: images to shuffle among; 0 takes as many as fit into BUFFER_BYTES. Two such windows are in memory.
        rank, world: this process and how many there are; each decodes and gives its own part of every batch, and the
            parts together are the batch that a single process would have drawn.
        threads: that read and decode; their number changes nothing but speed.
    """

    def __init__(
        self,
        stream: Stream,
        encode: Callable[[list[str]], np.ndarray],
        batch: int,
        seed: int,
        shift: int = 0,
        buffer: int = 0,
        rank: int = 0,
        world: int = 1,
        threads: int = 2,
    ):
        self.stream, self.encode, self.batch, self.seed, self.shift = stream, encode, batch, seed, shift
        self.own = split(batch, rank, world)
        counts = np.array([block.usable for block in stream.blocks])
        self.order = BlockOrder(counts, buffer or default_buffer(stream.size), seed)
        self._derived: dict[str, Callable[[Batch], Tensor]] = {}
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="shards")
        self._held: _Held | None = None
        self._next: _Held | None = None

    def derive(self, name: str, make: Callable[[Batch], Tensor]) -> ShardBatches:
        """Adds to every batch what `make` makes of it, on the CPU."""
        self._derived[name] = make
        return self

    def __call__(self, step: int) -> Batch:
        """Batch `step`, counted from 0."""
        rng = np.random.default_rng((self.seed, step, 0))  # draws for the whole batch, however it is split
        images, numbers, captions = [], [], []
        first, count = step * self.batch + self.own.start, self.own.stop - self.own.start
        for window, places in self.order.windows(first, count):
            held = self._hold(window)
            slots = held.slot[places.start : places.stop]
            images.append(held.images[slots])
            numbers.append(held.numbers[slots])
            captions += [held.captions[slot] for slot in slots]
        out = _words(captions, rng.random(self.batch)[self.own], self.encode, self.stream.width)
        out["row"] = torch.from_numpy(np.concatenate(numbers))
        image = np.concatenate(images)
        if self.shift:
            image = shifted(image, self.shift, rng.integers(0, 2 * self.shift + 1, (self.batch, 2))[self.own])
        out["image"] = to_float(image)
        for name, make in self._derived.items():
            with torch.no_grad():
                out[name] = make(out)
        return out

    def _hold(self, window: Window) -> _Held:
        """The window, read; the one after it is begun, and any other is let go."""
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
        mine = np.flatnonzero((place >= self.own.start) & (place < self.own.stop))
        return _Held(window, mine, self.stream, self._pool)

    def _forget(self) -> None:
        if self._next is not None:
            for task in self._next.tasks:
                task.cancel()
        self._next = None

    def close(self) -> None:
        """Ends the threads, when they are done with what they are at."""
        self._forget()
        self._held = None
        self._pool.shutdown(wait=True, cancel_futures=True)


def _words(
    captions: list[tuple[str, ...]], draw: np.ndarray, encode: Callable[[list[str]], np.ndarray], width: int
) -> Batch:
    """The part of a batch that speaks of texts: one of every image, drawn by (B,) in [0, 1), and all numbers."""
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
