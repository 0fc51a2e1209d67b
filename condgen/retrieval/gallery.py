"""Opens images to search: captioned images, labelled images, or a folder of images.

Images without a caption or a label, which training could not use, are included.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from condgen.contracts import CondgenError, CondgenWarning
from condgen.data.attributes import LABEL, Attribute
from condgen.data.formats.arrays import Arrays, Part, coloured, squared
from condgen.data.formats.parquet import names_files
from condgen.data.formats.registry import AmbiguousName, is_shard
from condgen.data.options import DEFAULTS, WHITE, ReadOptions
from condgen.data.progress import Tally
from condgen.data.sources.images import ImageError, decode, files_below, fit
from condgen.data.sources.label_rows import LabelledRows
from condgen.data.sources.labels import open_either
from condgen.data.sources.objects import as_path
from condgen.data.sources.rows import (
    CAPTION_SUFFIXES,
    Row,
    Source,
    caption_file,
    expected_rows,
    plain_folder,
    rows,
    split_name,
)

AT_ONCE = 64
"""Number of images to decode in parallel."""


@dataclass
class Entry:
    """One image with its captions and label.

    Args:
        number: its index in the data.
        file: its name in the data: a path relative to the folder, or `shard:row`.
        captions: its captions; the list may grow while images are read, since several rows may name one file.
        label: its class, or its attributes if there is no class.
    """

    number: int
    file: str
    captions: list[str] = field(default_factory=list)
    label: str = ""


class Gallery:
    """The images of a path.

    Args:
        path: captioned images, see `data.sources.captions`; labelled ones, see `data.sources.labels`; or a folder with
            images at any depth.
        options: how to read them; `changes` replace fields of it.
        split: `all`, or a split of the data.

    Raises:
        CondgenError: there are no images.
    """

    def __init__(
        self, path: str | os.PathLike[str], options: ReadOptions = DEFAULTS, split: str = "all", **changes: Any
    ):
        self.path, self.split, self.options = os.fspath(as_path(path)), split_name(split), options.but(**changes)
        self.bad = Tally()
        """Images left out, by reason; filled while the images are read."""
        self.places: dict[int, str] = {}
        """Index of an image -> its name, as of the time when it was read; see `images`."""
        self._seen: dict[str, tuple] | None = None
        self.open()

    def open(self) -> None:
        """Looks which files there are."""
        found = _found(self.path, self.options)
        self.labelled = found if isinstance(found, LabelledRows) else None
        self.found = found.source if isinstance(found, LabelledRows) else found

    @property
    def name(self) -> str:
        return self.found.name

    def __len__(self) -> int:
        """Approximate number of images; 0 if that requires reading them."""
        if isinstance(self.found, Arrays):
            return sum(len(numbers) for _, numbers, _ in self._parts())
        return expected_rows(self.found, self.split)

    @property
    def place(self) -> str:
        """Eight hex digits that identify the location of the images and how they are read."""
        path = os.path.expanduser(self.path)  # otherwise the name of a data set
        return self._digest(os.path.abspath(path) if os.path.exists(path) else self.path)[:8]

    @property
    def digest(self) -> str:
        """Sixteen hex digits that identify the images and how they are read: a hash of names, sizes and times of files,
        or of the content of arrays.
        """
        self._seen = {str(mark[0]): mark for mark in map(_mark, _files(self.found, self.split))}
        if isinstance(self.found, Arrays):
            parts = self.found.parts
            marks = [(part.key, hashlib.sha256(np.ascontiguousarray(part.images())).hexdigest()) for part in parts]
            return self._digest(marks, [part.targets.tolist() for part in parts])
        return self._digest(list(self._seen.values()))

    @property
    def label_digest(self) -> str:
        """Eight hex digits that identify the names and values of the labels; "" if there are none."""
        known = self.found if isinstance(self.found, Arrays) else self.labelled
        text = repr([(one.name, one.values) for one in known.attributes]) if known else ""
        return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8] if text else ""

    def changed(self, files: Collection[str] = ()) -> list[str]:
        """Paths of files that are not as they were when `digest` was computed.

        Args:
            files: names of images, whose files are looked at besides those of tables, shards and arrays.
        """
        if self._seen is None:
            return []
        found, paths = self.found, []
        if isinstance(found, Arrays):
            paths += map(Path, self._seen)
        else:
            paths += [table.path for table in found.tables]
            for file in (found.home / name for name in files):
                paths += [
                    one
                    for one in (file, *map(file.with_suffix, CAPTION_SUFFIXES))
                    if os.path.abspath(one) in self._seen
                ]
        return [str(one) for one in paths if _mark(one) != self._seen.get(os.path.abspath(one))]

    def _digest(self, *values: object) -> str:
        o = self.options  # as in the first edition, so that its caches stay valid
        columns = f"Columns(image={o.image_column!r}, text={o.caption_column!r}, split={o.split_column!r}, "
        columns += f"label={o.label_column!r}, attributes={o.attribute_columns!r})"
        background = [] if o.background == WHITE else [list(o.background)]
        text = json.dumps([*values, self.split, o.resize, o.filter, columns, *background])
        return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]

    def each(self, size: int) -> Iterator[tuple[Entry, np.ndarray]]:
        """Yields every image once, uint8 (3, S, S); counts unreadable ones in `bad`.

        Raises:
            CondgenError: the split does not exist, or none of its images can be read.
        """
        self.bad, count = Tally(), 0
        for entry, image in self._arrays(size) if isinstance(self.found, Arrays) else self._rows(size):
            count += 1
            yield entry, image
        faults = "; ".join(self.bad.lines(most=3))
        if not count:
            raise CondgenError(
                f"{self.path} has no image{f' in the split {self.split!r}' if self.split != 'all' else ''} that can be "
                f"read{f': {faults}' if faults else ''}. Check the path{'' if faults else ', or take another split'}."
            )
        if faults:
            total = count + self.bad.total()
            text = f"{self.path}: {self.bad.total()} of {total} images left out: {faults}"
            warnings.warn(text, CondgenWarning, stacklevel=2)

    def images(self, numbers: Collection[int]) -> dict[int, Image.Image]:
        """Reads images by index, in their original size; leaves out those that are gone or cannot be read any more.

        Once `places` names them, the image of an index is the one that was read, also after tables have changed; a file
        that has changed since counts as gone.
        """
        wanted, out = set(numbers), {}
        if isinstance(self.found, Arrays):
            for part, own, first in () if self.changed() else self._parts():
                chosen = [number for number in wanted if first <= number < first + len(own)]
                pixels = coloured(part.images(), 3) if chosen else ()
                for number in chosen:
                    out[number] = Image.fromarray(pixels[own[number - first]].transpose(1, 2, 0).copy())
            return out
        for number in sorted(wanted & self.places.keys()):
            file = self.found.home / self.places[number]
            mark = (self._seen or {}).get(os.path.abspath(file))
            if mark is not None:  # otherwise a row of a shard
                wanted.remove(number)
                with suppress(ImageError):
                    out |= {number: self._decode(file, self.places[number])} if _mark(file) == mark else {}
        for number, row in enumerate(rows(self.found, self.split) if wanted and not self.changed() else ()):
            if number in wanted and row.image is not None:
                wanted.remove(number)
                with suppress(ImageError):
                    out[number] = self._decode(row.image, row.key)
            if not wanted:
                break
        return out

    def _decode(self, image: Path | bytes, name: str) -> Image.Image:
        return decode(image, background=self.options.background, value_range=self.options.value_range, name=name)[0]

    def _parts(self) -> Iterator[tuple[Part, np.ndarray, int]]:
        """Yields the parts of arrays with images in the split, the indices of these, and the index of the first."""
        first = 0
        for part in self.found.parts:
            if len(numbers := part.rows(self.split, self.found.test)):
                yield part, numbers, first
                first += len(numbers)

    def _arrays(self, size: int) -> Iterator[tuple[Entry, np.ndarray]]:
        for part, numbers, first in self._parts():
            images, attributes = part.images(), self.found.attributes
            for at in range(0, len(numbers), AT_ONCE):
                some = numbers[at : at + AT_ONCE]
                squares = coloured(squared(images[some], size, self.options.resize, self.path), 3)
                targets = self.found.encode(part.targets[some])
                for k, (number, square, own) in enumerate(zip(some, squares, targets), first + at):
                    yield Entry(k, f"{part.key}:{number}", label=_label(attributes, own)), square

    def _rows(self, size: int) -> Iterator[tuple[Entry, np.ndarray]]:
        def square(job: tuple[Entry, Row]) -> np.ndarray | ImageError:
            try:
                image = self._decode(job[1].image, job[1].key)
                return fit(image, size, self.options.resize, background=self.options.background)
            except ImageError as error:
                return error

        jobs = self._jobs()
        with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="gallery") as pool:
            while some := list(islice(jobs, AT_ONCE)):
                for (entry, row), image in zip(some, pool.map(square, some)):
                    if isinstance(image, ImageError):
                        self.bad.add(image.reason, row.key)
                    else:
                        yield entry, image

    def _jobs(self) -> Iterator[tuple[Entry, Row]]:
        """Yields every candidate image once."""
        seen: dict[Path, Entry] = {}
        for number, row in enumerate(rows(self.found, self.split)):
            if not row.belongs(self.split):
                continue
            if row.image is None:
                self.bad.add(row.fault or "missing file", row.key)
            elif isinstance(row.image, Path) and row.image in seen:
                own = seen[row.image].captions
                own += [caption for caption in row.captions if caption not in own]
            else:
                label = _label(self.labelled.attributes, self.labelled.targets(row)[1]) if self.labelled else ""
                entry = Entry(number, row.key, list(row.captions), label)
                if isinstance(row.image, Path):
                    seen[row.image] = entry
                yield entry, row


def _found(path: str, options: ReadOptions) -> Source | Arrays | LabelledRows:
    """Detects the format of the data; a folder without captions or labels is a folder of images."""
    try:
        return open_either(path, options)
    except AmbiguousName:
        raise
    except CondgenError:
        folder = Path(path).expanduser()
        source = None if options.selected else plain_folder(folder)
        if source is None or any(file.stem == "metadata" or is_shard(file) for file in files_below(folder)):
            raise
        return source


def _files(source: Source | Arrays, split: str) -> Iterator[Path]:
    """All files that the images of a split depend on."""
    if isinstance(source, Arrays):
        path = Path(source.path).expanduser()
        yield from sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else ()
        yield from [path] if path.is_file() else ()
        return
    yield from (table.path for table in source.tables)
    if source.form == "sidecars":
        yield from (text for file in source.images if (text := caption_file(file)))
    light = tuple(table for table in source.tables if _names_files(table.path, table.image))
    for row in rows(replace(source, tables=light), split):
        if isinstance(row.image, Path):
            yield row.image


def _label(attributes: Sequence[Attribute], targets: Sequence[float]) -> str:
    """Formats a row of targets: the class, or the known attributes."""
    known = [(attribute, target) for attribute, target in zip(attributes, targets) if target == target]
    own = [attribute.format_target(target) for attribute, target in known if attribute.name == LABEL]
    return own[0] if own else ", ".join(f"{one.name}: {one.format_target(target)}" for one, target in known)


def _names_files(table: Path, image: str) -> bool:
    """Whether a table holds file names, not the images themselves."""
    return names_files(table, image) if table.suffix.lower() == ".parquet" else not is_shard(table)


def _mark(file: Path) -> tuple:
    """A value that changes when the file changes."""
    try:
        about = file.stat()
    except OSError:
        return (os.path.abspath(file),)
    return os.path.abspath(file), about.st_size, about.st_mtime_ns, about.st_ctime_ns
