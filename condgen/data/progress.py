"""Progress of long work: a bar on stderr while files are read, and a clock for progress callbacks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import TypeVar

from condgen.contracts import ProgressCallback

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
