"""Reads captioned images in the common layouts.

    folder/metadata.jsonl, .csv or .parquet   `file_name`, `text`; several captions: a list, or several rows of one file
    shards/*.parquet, or one .parquet         `image` = struct(bytes, path), bytes or a path; and a text column
    shards/*.tar, "shards-{00..99}.tar"       webdataset: a.jpg + a.txt or a.json in it; see `webdataset`
    folder/a.png + folder/a.txt               every non-empty line of a.txt (or a.caption) is a caption
    folder/data-00000.arrow                   what `datasets.save_to_disk` writes
    folder/annotations/captions_train.json    COCO's annotations, or another table of captions beside the images that is
                                              the only one of its split: results.csv, captions.txt; see `annotations`

Subfolders may hold more files of the same kind. Splits come from the first of these that exists:

    a split column; the names of files or folders (train.parquet, test_iid.parquet, val/metadata.jsonl: at least one
    that is not train); otherwise a fixed hash of the file name (or of `shard:row`) puts 95 % in train and 5 % in test.

The split `test` includes `test_iid` and `test_comp`; `all` takes everything.

`rows` finds the rows and their splits, `tables` reads the files that hold them, `read` opens their images.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image

from condgen.contracts import CondgenError, listed
from condgen.data.datasets.captions import CaptionedImages, intern_captions
from condgen.data.options import DEFAULTS, RGB, WHITE, ReadOptions
from condgen.data.progress import RowTally, progress
from condgen.data.sources.images import ImageError, Range, decode, fit
from condgen.data.sources.rows import Row, Source, expected_rows, open_source, rows, split_name
from condgen.data.sources.tables import EXPECTED

if TYPE_CHECKING:
    from condgen.data.streaming.stream import Stream


REPEATED = "repeated row (same file, same caption or label), used once"
"""Note on a row that says nothing new."""


def load_captions(
    path: str | os.PathLike[str], size: int, options: ReadOptions = DEFAULTS, *, split: str = "train", **changes: Any
) -> CaptionedImages:
    """Reads captioned images into memory; this module's docstring lists the layouts and the rule for splits.

    Args:
        path: a folder, a metadata file, a shard, or a pattern that names shards.
        size: edge length S of the images, in pixels.
        options: how to read them; `changes` replace fields of it.
        split: `train`, `test`, another split that the data has, or `all`.

    Returns:
        N images, uint8 (N, 3, S, S), with their captions.

    Raises:
        CondgenError: there are no captioned images, a column or split does not exist, or too many rows are unusable.
    """
    options = options.but(**changes)
    return load(open_source(path, options), size, options, split)


def open_captioned(
    path: str,
    size: int,
    options: ReadOptions = DEFAULTS,
    *,
    stream: Literal["auto", "shards", "always", "never"] = "auto",
    split: str = "train",
    **changes: Any,
) -> Stream | CaptionedImages:
    """Opens captioned images in memory if they are few, as a stream if they are many.

    Args:
        path, size, options, split: see `load_captions`.
        stream: `auto` streams shards whose images would take more than `stream.IN_MEMORY` bytes, `shards` any;
            `always` refuses anything but shards.
    """
    options = options.but(**changes)
    source = open_source(path, options)
    if stream == "always" or (stream != "never" and source.form in ("parquet", "shards")):
        from condgen.data.streaming import stream as streaming

        streamed = streaming.Stream(source, size, options, split=split)
        if stream != "auto" or len(streamed) * 3 * size * size > streaming.IN_MEMORY:
            return streamed
    return load(source, size, options, split)


def load(source: Source, size: int, options: ReadOptions, split: str) -> CaptionedImages:
    """Like `load_captions`, for an opened source."""
    pixels, captions, tally = bytearray(), [], RowTally()
    places: dict[Path, int] = {}
    for row, image, notes in read(source, split, background=options.background, value_range=options.value_range):
        if not tally.add(row, notes):
            continue
        if image is None:
            captions[places[row.image]] += row.captions
            continue
        if isinstance(row.image, Path):
            places[row.image] = len(captions)
        tally.compare(image, size)
        pixels += fit(image, size, options.resize, background=options.background).tobytes()
        captions.append(list(row.captions))
    tally.check(source, options.max_bad_fraction)
    texts, index = intern_captions(captions)
    images = np.frombuffer(pixels, np.uint8).reshape(-1, 3, size, size)
    return CaptionedImages(images, texts, index, name=source.name)


def read(
    source: Source, split: str = "all", *, background: RGB = WHITE, value_range: Range = ()
) -> Iterator[tuple[Row, Image.Image | None, tuple[str, ...]]]:
    """Reads the rows of a split one by one and opens their images.

    Yields:
        (row, image, notes on the image). The image is RGB. It is None if the row has a `fault`, or if
        the file was yielded before: the captions of the row then belong to that image. A row that repeats an earlier
        one has no captions and the note REPEATED.

    Raises:
        CondgenError: the split does not exist or is empty.
    """
    split, seen, splits, found = split_name(split), {}, set(), False
    for row in progress(rows(source, split), expected_rows(source, split)):
        splits.add(row.split)
        if row.belongs(split):
            found = True
            yield _opened(row, seen, background, value_range)
    if not found:
        raise _empty(source, split, splits)


def _empty(source: Source, split: str, splits: set[str]) -> CondgenError:
    if not splits and not source.by_name:
        return CondgenError(f"{source.path} has no rows. {EXPECTED}")
    if source.by_name:
        splits |= {table.named for table in source.tables if table.named}
    conditions = ",".join("=".join(pair) for pair in source.conditions)
    return CondgenError(
        f"{source.path} has no rows in the split '{split}'{f' with {conditions}' if conditions else ''}. Splits there, "
        f"by {source.rule}: {listed(sorted(splits - {''}))}. Choose one of them or 'all'"
        f"{', and check the values of the filter' if conditions else ''}."
    )


def _opened(
    row: Row, seen: dict[Path, Row], background: RGB, value_range: Range
) -> tuple[Row, Image.Image | None, tuple[str, ...]]:
    """Opens the image of a row, once per file; `seen` holds the first row of each file."""
    if row.fault:
        return row, None, ()
    first = seen.get(row.image) if isinstance(row.image, Path) else None
    if first is not None:
        if first.fault:
            return replace(row, fault=first.fault, detail=first.detail), None, ()
        if repr(row.cells) != repr(first.cells):  # of NaN too
            return replace(row, fault="same file with other labels", detail=f"as {first.key}"), None, ()
        if set(row.captions) <= set(first.captions):
            return replace(row, captions=()), None, (REPEATED,)
        seen[row.image] = replace(first, captions=first.captions + row.captions)
        return row, None, ()
    image, notes = None, ()
    try:
        image, notes = decode(row.image, background=background, value_range=value_range, name=row.key)
    except ImageError as error:
        row = replace(row, fault=error.reason, detail=error.detail)
    if isinstance(row.image, Path):
        seen[row.image] = row
    return row, image, notes
