"""Captioned images in the forms people have them.

    folder/metadata.jsonl, .csv or .parquet   `file_name`, `text`; several captions: a list, or several rows of one file
    shards/*.parquet, or one .parquet         `image` = struct(bytes, path), bytes or a path; and a text column
    shards/*.tar, "shards-{00..99}.tar"       webdataset: a.jpg + a.txt or a.json in it; see `shards`
    folder/a.png + folder/a.txt               every line of a.txt that is not empty is a caption

Subfolders may hold more of the same. Splits come from the first of these that is there:

    a split column; the names of files or folders (train.parquet, test_iid.parquet, val/metadata.jsonl: at least one
    that is not train); else a fixed hash of the file name (or of `shard:row`) puts 95 % in train and 5 % in test.

Asked for `test`, names such as `test_iid` and `test_comp` both answer; `all` takes everything.

`rows` finds the rows and tells their splits, `tables` reads the files that hold them. `read` is the one reader of rows:
`load_captions` fills memory from it, `check` only counts.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from PIL import Image

from condgen.contracts import CondgenError, CondgenWarning, listed
from condgen.data.datasets.captions import CaptionedImages, intern_captions
from condgen.data.sources.images import RGB, WHITE, ImageError, decode, fit
from condgen.data.sources.rows import (
    GUESSED,
    Columns,
    Row,
    Source,
    expected_rows,
    in_split,
    open_source,
    rows,
    split_name,
)
from condgen.data.sources.tables import FORMS
from condgen.text import printable

T = TypeVar("T")


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
        """One line for every reason, the commonest first."""
        by_count = sorted(self.counts.items(), key=lambda item: -item[1])
        return [f"{count} {reason}: {', '.join(self.examples[reason][:most])}" for reason, count in by_count]


@dataclass
class _Gathered:
    """What `load_captions` gathers while the rows go by; `places` tells which image came from a file."""

    pixels: bytearray = field(default_factory=bytearray)
    captions: list[list[str]] = field(default_factory=list)
    places: dict[Path, int] = field(default_factory=dict)
    bad: Tally = field(default_factory=Tally)
    odd: Tally = field(default_factory=Tally)
    total: int = 0

    def add(self, row: Row, image: np.ndarray | None, oddities: tuple[str, ...]) -> None:
        self.total += 1
        if row.fault:
            self.bad.add(row.fault, row.key)
        elif image is None:
            self.captions[self.places[row.image]] += row.captions
        else:
            if isinstance(row.image, Path):
                self.places[row.image] = len(self.captions)
            self.pixels += image.tobytes()
            self.captions.append(list(row.captions))
            for oddity in oddities:
                self.odd.add(oddity, row.key)


def load_captions(
    path: str | os.PathLike[str],
    size: int,
    *,
    columns: Columns = GUESSED,
    split: str = "train",
    resize: Literal["crop", "pad"] = "crop",
    background: RGB = WHITE,
    max_bad_fraction: float = 0.01,
    filter: str = "",
) -> CaptionedImages:
    """Reads captioned images into memory; the forms and the rule for splits are at the top of this module.

    Args:
        path: a folder, a metadata file, a shard, or a pattern that names shards.
        size: edge length S of the images, in pixels.
        columns: names of the columns, guessed where empty.
        split: `train`, `test`, another split that the data has, or `all`.
        resize: `crop` to the centred square or `pad` to it.
        background: RGB, 0 to 255, under transparent pixels and around padded images.
        max_bad_fraction: share of rows, 0 to 1, that may be unusable; those are left out with a `CondgenWarning`.
        filter: keeps rows by their columns: `vendor=noto,heldout_pair=false`.

    Returns:
        N images, uint8 (N, 3, S, S), with their captions.

    Raises:
        CondgenError: no captioned images there, a column or split that is not there, or too many bad rows.
    """
    return load(
        open_source(path, columns, filter),
        size,
        split=split,
        resize=resize,
        background=background,
        max_bad_fraction=max_bad_fraction,
    )


def load(
    source: Source, size: int, *, split: str, resize: Literal["crop", "pad"], background: RGB, max_bad_fraction: float
) -> CaptionedImages:
    """The same for a source that is open already."""
    found = _Gathered()
    for row, image, oddities in read(source, split, background=background):
        found.add(row, None if image is None else fit(image, size, resize, background=background), oddities)
    judge(source, found.bad, found.odd, found.total, max_bad_fraction)
    images = np.frombuffer(found.pixels, np.uint8).reshape(-1, 3, size, size)
    texts, index = intern_captions(found.captions)
    return CaptionedImages(images, texts, index, name=source.name)


def judge(source: Source, bad: Tally, odd: Tally, total: int, max_bad_fraction: float) -> None:
    """Refuses data with too many bad rows among `total`; warns of what was left out or cut short."""
    path = source.path
    if bad.total() > max_bad_fraction * total or bad.total() == total:
        listed = "\n  ".join(bad.lines(most=3))
        raise CondgenError(
            f"{path}: {bad.total()} of {total} rows cannot be used (the limit is {max_bad_fraction:.3g} of them):\n"
            f"  {listed}\n"
            f"`condgen data check {path}` shows more. Mend them, or let more be left out "
            "(train: --data.max_bad_fraction SHARE)."
        )
    if bad.total():
        message = f"{path}: {bad.total()} of {total} rows left out: {'; '.join(bad.lines(most=3))}"
        warnings.warn(message, CondgenWarning, stacklevel=3)
    if source.left_out:
        message = f"{path}: left out {', '.join(source.left_out)}: the name tells no split, as those of other files do."
        warnings.warn(message, CondgenWarning, stacklevel=3)
    if "animated" in odd.counts:
        message = f"{path}: {odd.counts['animated']} animated images; only their first frame is used."
        warnings.warn(message, CondgenWarning, stacklevel=3)


def read(
    source: Source, split: str = "all", *, background: RGB = WHITE
) -> Iterator[tuple[Row, Image.Image | None, tuple[str, ...]]]:
    """Reads the rows of a split one by one and opens their images.

    Yields:
        (row, image, oddities). The image is RGB; it is None where the row has a `fault`, and where the same file
        was yielded before: the captions of this row then belong to that image.

    Raises:
        CondgenError: the data has no such split, or nothing in it.
    """
    split, seen, splits = split_name(split), {}, set()
    found = 0
    for row in progress(rows(source, split), expected_rows(source, split)):
        splits.add(row.split)
        # A row too broken to tell its split counts in any of them.
        if row.kept and (in_split(row.split, split) or (row.fault and not row.split)):
            found += 1
            yield _opened(row, seen, background)
    if not found:
        raise _empty(source, split, splits)


def _empty(source: Source, split: str, splits: set[str]) -> CondgenError:
    if not splits and not source.by_name:
        return CondgenError(f"{source.path} has no rows. {FORMS}")
    if source.by_name:
        splits |= {table.named for table in source.tables if table.named}
    conditions = ",".join("=".join(pair) for pair in source.conditions)
    return CondgenError(
        f"{source.path} has no rows in the split '{split}'{f' with {conditions}' if conditions else ''}. Splits there, "
        f"told by {source.rule}: {listed(sorted(splits - {''}))}. Choose one of them or 'all'"
        f"{', and check the values of the filter' if conditions else ''}."
    )


def _opened(row: Row, seen: dict[Path, Row], background: RGB) -> tuple[Row, Image.Image | None, tuple[str, ...]]:
    """Opens the image of a row, once for every file; `seen` remembers what became of each file."""
    if row.fault:
        return row, None, ()
    first = seen.get(row.image) if isinstance(row.image, Path) else None
    if first is not None:
        if first.fault:
            return replace(row, fault=first.fault, detail=first.detail), None, ()
        if set(row.captions) <= set(first.captions):
            same = "same file, same caption" if row.captions else "same file"
            return replace(row, fault="duplicate row", detail=same), None, ()
        seen[row.image] = replace(first, captions=first.captions + row.captions)
        return row, None, ()
    image, oddities = None, ()
    try:
        image, oddities = decode(row.image, background=background, name=row.key)
    except ImageError as error:
        row = replace(row, fault=error.reason, detail=error.detail)
    if isinstance(row.image, Path):
        seen[row.image] = row
    return row, image, oddities


def progress(items: Iterable[T], total: int, doing: str = "reading images") -> Iterator[T]:
    """Passes things on; after two seconds of work a bar appears on stderr, and goes when the work is done."""
    start, bar = time.monotonic(), None
    try:
        for number, item in enumerate(items, 1):
            yield item
            if bar is None and time.monotonic() - start > 2:
                from rich.console import Console
                from rich.progress import Progress

                bar = Progress(console=Console(stderr=True), transient=True)
                task = bar.add_task(doing, total=total or None)
                bar.start()
            if bar is not None:
                bar.update(task, completed=number)
    finally:
        if bar is not None:
            bar.stop()
