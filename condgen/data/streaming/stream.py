"""Captioned images too large for memory, read from shards during training.

One pass over the shards, without their images, finds the usable rows; images are decoded when their turn comes.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from condgen.contracts import CondgenError
from condgen.data.options import DEFAULTS, ReadOptions
from condgen.data.progress import MAX_BAD_HINT, RowTally, progress
from condgen.data.sources.images import ImageError, decode, fit
from condgen.data.sources.rows import Row, Source, split_name
from condgen.data.sources.tables import EXPECTED
from condgen.data.streaming.feeds import Feed, open_feeds

BLOCK = 256
"""Number of rows that are read at once."""
IN_MEMORY = 2_000_000_000
"""Data whose decoded images take at most this many bytes are held in memory."""
KEPT_TEXTS = 100_000
"""Number of distinct captions to keep, to train a tokenizer on."""


def text_number(text: str) -> int:
    """Hashes a text to 63 bits, the same in every run and process."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big") >> 1


@dataclass(frozen=True)
class Block:
    """Number of rows that are read at once.

    Args:
        feed: index of its feed.
        place, first, rows: position in the feed, see `feeds.Feed`.
        usable: number of rows that belong to the split and have captions.
        start: index of its first usable row among those of all blocks.
    """

    feed: int
    place: int
    first: int
    rows: int
    usable: int
    start: int


@dataclass(frozen=True)
class Sample:
    """An image, uint8 (3, S, S), its captions, and its index in the stream."""

    image: np.ndarray
    captions: tuple[str, ...]
    number: int


class Stream:
    """Captioned images in shards, N of them, numbered in the order of the shards.

    An image that cannot be decoded is noticed only when it is read; it is replaced by the valid image before it in its
    block, or else by the one after it.

    Args:
        source: location of the rows; `feeds` read them if they are not files.
        size: edge length S of the images, in pixels.
        options: how to read them; `changes` replace fields of it.
        split: see `captions.load_captions`.

    Raises:
        CondgenError: there are no shards, the split is empty, too many rows are unusable, or a shard is damaged.
    """

    def __init__(
        self,
        source: Source,
        size: int,
        options: ReadOptions = DEFAULTS,
        *,
        feeds: Sequence[Feed] | None = None,
        split: str = "train",
        **changes: Any,
    ):
        self.source, self.size, self.options = source, size, options.but(**changes)
        self.split = split_name(split)
        self.feeds = list(feeds) if feeds is not None else open_feeds(source)
        self.blocks: list[Block] = []
        self.texts: list[str] = []
        """At most KEPT_TEXTS distinct captions; choice and order do not depend on the order of the shards."""
        self.width = 1
        """Maximum number of captions per image, C."""
        self._undecoded: dict[int, str] = {}
        self._lock = threading.Lock()
        self._scan()

    @property
    def used_texts(self) -> list[str]:
        """A sample of the texts, to train a tokenizer on."""
        return self.texts

    def __len__(self) -> int:
        return self.blocks[-1].start + self.blocks[-1].usable

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def digest(self) -> str:
        """Sixteen hex digits that identify the data: names and sizes of shards, usable rows, and how images are
        resized. It does not change with the bytes of the shards, see `content`.
        """
        used = [(block.feed, block.place, block.first, block.rows, block.usable) for block in self.blocks]
        marks = [(feed.name, feed.mark) for feed in self.feeds]
        chosen = [self.split, self.size, self.options.resize, list(self.options.background)]
        chosen += [list(self.options.value_range)] if self.options.value_range else []
        chosen += [[table.image, *table.text] for table in self.source.tables]
        text = json.dumps([used, marks, chosen, self.source.conditions], default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property
    def content(self) -> str:
        """Sixteen hex digits that identify the content of the shards, which are read for it, on all cores."""
        with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="content") as pool:
            digests = pool.map(lambda feed: feed.content(), self.feeds)
            found = list(progress(digests, len(self.feeds), "comparing the shards"))
        return hashlib.sha256("".join(found).encode()).hexdigest()[:16]

    def _scan(self) -> None:
        tally, texts, start = RowTally(), _FewTexts(KEPT_TEXTS), 0
        for number, (place, first, rows) in progress(self._all_blocks(), 0, "looking through the shards"):
            usable = 0
            for row in rows:
                if row.belongs(self.split) and tally.add(row):
                    usable += 1
                    self.width = max(self.width, len(row.captions))
                    texts.add(row.captions)
            if usable:
                self.blocks.append(Block(number, place, first, len(rows), usable, start))
                start += usable
        if not tally.total:
            raise CondgenError(f"{self.source.path} has no rows in the split '{self.split}'. Try 'all'. {EXPECTED}")
        tally.check(self.source, self.options.max_bad_fraction)
        self.texts = texts.sorted()

    def _all_blocks(self) -> Iterator[tuple[int, tuple[int, int, list[Row]]]]:
        for number, feed in enumerate(self.feeds):
            for block in feed.scan(BLOCK):
                yield number, block

    def read(self, number: int, wanted: Sequence[int] | np.ndarray | None = None) -> Iterator[Sample]:
        """Yields the usable samples of block `number`, or those with the indices `wanted`, in that order.

        Raises:
            CondgenError: the shard has changed, no image of the block can be decoded, or too many images cannot.
        """
        block = self.blocks[number]
        feed = self.feeds[block.feed]
        rows = [r for r in feed.fetch(block.place, block.first, block.rows) if r.belongs(self.split) and not r.fault]
        if len(rows) != block.usable:
            raise CondgenError(f"{feed.name} of {self.source.path} has changed. Start again with unchanging data.")
        for place in range(len(rows)) if wanted is None else wanted:
            yield self._decoded(block, rows, int(place))

    def samples(self, first: int, count: int) -> Iterator[Sample]:
        """Yields samples `first` to `first + count` in the order of the shards, up to the end of the data."""
        starts = np.array([block.start for block in self.blocks])
        for number in range(int(np.searchsorted(starts, first, "right")) - 1, len(self.blocks)):
            block = self.blocks[number]
            low, high = max(first - block.start, 0), min(first + count - block.start, block.usable)
            if low >= high:
                return
            yield from self.read(number, range(low, high))

    def some(self, most: int) -> np.ndarray:
        """About `most` images spread over the data, uint8 (n, 3, S, S)."""
        each = 32
        blocks = np.unique(np.linspace(0, len(self.blocks) - 1, max(1, most // each)).astype(int))
        return np.stack([s.image for b in blocks for s in self.read(b, range(min(each, self.blocks[b].usable)))])

    def _decoded(self, block: Block, rows: list[Row], place: int) -> Sample:
        for near in (*range(place, -1, -1), *range(place + 1, len(rows))):
            row = rows[near]
            try:
                if row.image is None:
                    raise ImageError("missing file", row.key)
                decoded = self._image(row)
            except ImageError as error:
                self._count(block.start + near, f"{row.key} ({error.reason})")
                continue
            image = fit(decoded, self.size, self.options.resize, background=self.options.background)
            return Sample(image, row.captions, block.start + near)
        raise CondgenError(
            f"{self.source.path}: none of {len(rows)} consecutive images can be decoded; the first is {rows[0].key}. "
            "`condgen data check` lists more."
        )

    def _image(self, row: Row) -> Image.Image:
        how = self.options
        return decode(row.image, background=how.background, value_range=how.value_range, name=row.key)[0]

    def _count(self, number: int, message: str) -> None:
        """Counts an image that cannot be decoded; raises `CondgenError` if there are too many."""
        with self._lock:
            self._undecoded[number] = message
            if len(self._undecoded) > self.options.max_bad_fraction * len(self):
                some = ", ".join(list(self._undecoded.values())[:3])
                raise CondgenError(
                    f"{self.source.path}: {len(self._undecoded)} of {len(self)} images cannot be decoded, not all "
                    f"were read (the limit is {self.options.max_bad_fraction:.3g} of them): {some}. Repair them or "
                    f"allow more to be replaced by others {MAX_BAD_HINT}."
                )


class _FewTexts:
    """Keeps the texts with the smallest hashes: a sample of distinct texts that does not depend on their order."""

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
