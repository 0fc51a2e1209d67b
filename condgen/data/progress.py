"""Progress of long work: a bar on stderr while files are read, a clock for progress callbacks, and counts of the rows
that are read."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from condgen.contracts import CondgenError, CondgenWarning, ProgressCallback
from condgen.data.formats.registry import unread_lines
from condgen.text import printable

if TYPE_CHECKING:
    from PIL import Image

    from condgen.data.sources.rows import Row, Source

T = TypeVar("T")


class Clock:
    """Reports every few seconds how many of `total` images are done and the time left; `total` may be an estimate."""

    def __init__(self, progress: ProgressCallback, total: float, done: float = 0):
        self.progress, self.total, self.done, self.before = progress, total, done, done
        self.began = self.last_report = time.monotonic()

    def add(self, images: int, message: str = "", cost: float = 1) -> None:
        """Adds finished images, each weighted by `cost`; the default message is their number."""
        self.done += cost * images
        now = time.monotonic()
        if now - self.last_report > 3:
            self.last_report = now
            if self.done > self.total:
                self.progress(0.0, message or f"{self.done:,} images")
                return
            left = timedelta(seconds=round((now - self.began) / (self.done - self.before) * (self.total - self.done)))
            message = message or f"{self.done:,} of {self.total:,} images"
            self.progress(self.done / self.total, f"{message}, {left} left")


def progress(items: Iterable[T], total: int, task: str = "reading images") -> Iterator[T]:
    """Passes items on; after two seconds a bar appears on stderr, which disappears at the end."""
    start, bar = time.monotonic(), None
    try:
        for number, item in enumerate(items, 1):
            yield item
            if bar is None and time.monotonic() - start > 2:
                from rich.console import Console
                from rich.progress import Progress

                bar = Progress(console=Console(stderr=True), transient=True)
                shown = bar.add_task(task, total=total or None)
                bar.start()
            if bar is not None:
                bar.update(shown, completed=number)
    finally:
        if bar is not None:
            bar.stop()


SKIPPED = ("not downloaded", "image in no table")
"""How faults begin that are no faults of the data: such rows are left out of all counts."""
UP_TO = {high: f"16-bit with values up to {high} only" for high in (1023, 4095, 16383)}
"""Notes on 16-bit images that do not use the range, by the largest value of their number of bits."""
MAX_BAD_HINT = "(train: --data.max_bad_fraction F)"


@dataclass
class Tally:
    """Counts by reason, and the first ten examples of each."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, example: str) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + 1
        if len(own := self.examples.setdefault(reason, [])) < 10:
            own.append(printable(example[:200]))

    def total(self) -> int:
        return sum(self.counts.values())

    def lines(self, most: int = 10) -> list[str]:
        """One line for every reason, the most frequent first."""
        by_count = sorted(self.counts.items(), key=lambda item: -item[1])
        return [f"{count} {reason}: {', '.join(self.examples[reason][:most])}" for reason, count in by_count]


@dataclass
class RowTally:
    """Counts rows while they are read: unusable rows by reason, and unusual images."""

    bad: Tally = field(default_factory=Tally)
    unusual: Tally = field(default_factory=Tally)
    skipped: Tally = field(default_factory=Tally)
    enlarged: Counter[int] = field(default_factory=Counter)
    total: int = 0

    def add(self, row: Row, notes: tuple[str, ...] = ()) -> bool:
        """Counts a row; returns whether it is usable."""
        if row.fault.startswith(SKIPPED):
            self.skipped.add(row.fault, row.described)
            return False
        self.total += 1
        if row.fault:
            self.bad.add(row.fault, row.described)
        for note in notes if not row.fault else ():
            self.unusual.add(note, row.key)
        return not row.fault

    def compare(self, image: Image.Image, size: int) -> None:
        """Counts an image that is smaller than the edge length it will have, by its own edge length."""
        if (edge := min(image.size)) < size:
            self.enlarged[edge] += 1

    def check(self, source: Source, max_bad_fraction: float) -> None:
        """Raises `CondgenError` for too many unusable rows; warns of rows and shards that are left out."""
        path, bad, total = source.path, self.bad, self.total
        check_depth(str(path), self.unusual.counts)
        if bad.total() > max_bad_fraction * total or bad.total() == total:
            listed = "\n  ".join(bad.lines(most=3) + self.skipped.lines(most=3))
            raise CondgenError(
                f"{path}: {bad.total()} of {total} rows cannot be used (the limit is {max_bad_fraction:.3g} of them):\n"
                f"  {listed}\n`condgen data check {path}` lists more. Repair them, or allow more to be left out "
                f"{MAX_BAD_HINT}."
            )
        notes = []
        if bad.total():
            notes.append(f"{bad.total()} of {total} rows left out: {'; '.join(bad.lines(most=3))}")
        notes += [*self.skipped.lines(most=3), *unread_lines(source.unread)]
        if source.left_out:
            notes.append(f"left out {', '.join(source.left_out)}: no split in the name, unlike other files.")
        if "animated" in self.unusual.counts:
            notes.append(f"{self.unusual.counts['animated']} animated images; only their first frame is used.")
        if 2 * self.enlarged.total() > total:
            (edge, count), *_ = self.enlarged.most_common(1)
            notes.append(
                f"{self.enlarged.total()} of {total} images are smaller than the size asked for, and are enlarged with "
                f"smoothing, which blurs pixel art ({count} of them have an edge of {edge} pixels; see --data.size)."
            )
        for note in notes:
            warnings.warn(f"{path}: {note}", CondgenWarning, stacklevel=4)


def check_depth(source: str, counts: Mapping[str, int]) -> None:
    """Refuses 16-bit images that use a small part of their range, and would nearly be black.

    Args:
        source: name of the data.
        counts: number of images by note, of the whole data set; see `decode`.

    Raises:
        CondgenError: no 16-bit image has a value above 16383; the message names the range to give.
    """
    found = [high for high, text in UP_TO.items() if counts.get(text)]
    if found and sum(counts[UP_TO[high]] for high in found) == counts.get("16-bit", 0):
        high = max(found)
        raise CondgenError(
            f"{source}: the {counts['16-bit']} 16-bit images have values up to {high} only, and would be nearly black. "
            f"Say which values become black and white: --data.value_range '[0, {high}]' (data check and others: "
            f"--value-range 0,{high}); '[0, 65535]' keeps them dark. 16-bit colours cannot be scaled: save them with 8 "
            "bits a channel."
        )
