"""Any images, to look through rather than to train on: captioned, labelled, or a mere folder of them.

What training could not use is left out there and is here: an image needs no caption, and no label, to be found.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from condgen.contracts import CondgenError, CondgenWarning
from condgen.data.attributes import LABEL, Attribute
from condgen.data.formats.arrays import Arrays, coloured, squared
from condgen.data.sources.captions import Tally
from condgen.data.sources.images import ImageError, decode, fit
from condgen.data.sources.label_rows import LabelledRows
from condgen.data.sources.labels import open_either
from condgen.data.sources.open_images import plain_folder
from condgen.data.sources.rows import (
    GUESSED,
    Columns,
    Row,
    Source,
    expected_rows,
    files_below,
    in_split,
    rows,
    split_name,
)
from condgen.data.sources.tables import SHARDS

AT_ONCE = 64
"""Images that are decoded side by side."""


@dataclass
class Entry:
    """One image and what is said of it.

    Args:
        number: its place in the data.
        file: its name in the data: of a file relative to the folder, of a row `shard:row`.
        captions: may grow while the images are read, for several rows may name one file.
        label: its class; without one, its attributes.
    """

    number: int
    file: str
    captions: list[str] = field(default_factory=list)
    label: str = ""


class Gallery:
    """The images of a path, N of them about.

    Args:
        path: captioned images, see `sources`; labelled ones, see `labels`; or a folder with images at any depth.
        columns, filter: how tables are read, see `sources.load_captions`.
        split: `all`, or one that the data has.
        resize: how images become square, `crop` or `pad`.

    Raises:
        CondgenError: there are no images.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        columns: Columns = GUESSED,
        filter: str = "",
        split: str = "all",
        resize: Literal["crop", "pad"] = "crop",
    ):
        self.path, self.split, self.resize = os.fspath(path), split_name(split), resize
        self.bad = Tally()
        """What was left out, by reason, once the images were read."""
        found = _found(self.path, columns, filter)
        self.coders = found.coders if isinstance(found, LabelledRows) else ()
        self.found = found.source if isinstance(found, LabelledRows) else found
        self._asked = [self.split, resize, filter, str(columns)]

    @property
    def name(self) -> str:
        return self.found.name

    def __len__(self) -> int:
        """About how many images there are; 0 where only reading them would tell."""
        if isinstance(self.found, Arrays):
            return sum(len(numbers) for _, numbers in self._parts())
        return expected_rows(self.found, self.split)

    @property
    def place(self) -> str:
        """Eight hex digits that name where the images are and how they are read, whatever they show."""
        path = os.path.expanduser(self.path)  # or a word, which is the same everywhere
        return _digest([os.path.abspath(path) if os.path.exists(path) else self.path, *self._asked], 8)

    @property
    def digest(self) -> str:
        """Sixteen hex digits that name the images and how they are read: of files their names, sizes and times, of
        arrays their content.
        """
        if isinstance(self.found, Arrays):
            parts = self.found.parts
            marks = [(part.key, hashlib.sha256(np.ascontiguousarray(part.images())).hexdigest()) for part in parts]
            return _digest([marks, [part.targets.tolist() for part in parts], *self._asked])
        return _digest([[_mark(file) for file in self._files()], *self._asked])

    def _files(self) -> Iterator[Path]:
        """Every file that a change of the images would change."""
        source = self.found
        yield from (table.path for table in source.tables)
        if source.form == "sidecars":
            yield from (text for file in source.images if (text := file.with_suffix(".txt")).is_file())
        light = tuple(table for table in source.tables if _names_files(table.path, table.image))
        for row in rows(replace(source, tables=light), self.split):
            if isinstance(row.image, Path):
                yield row.image

    def each(self, size: int) -> Iterator[tuple[Entry, np.ndarray]]:
        """Every image once, uint8 (3, S, S); those that cannot be read are counted in `bad`.

        Raises:
            CondgenError: the data has no such split, or none of its images can be read.
        """
        self.bad, count = Tally(), 0
        for entry, image in self._arrays(size) if isinstance(self.found, Arrays) else self._rows(size):
            count += 1
            yield entry, image
        told = "; ".join(self.bad.lines(most=3))
        if not count:
            raise CondgenError(
                f"{self.path} has no image{f' in the split {self.split!r}' if self.split != 'all' else ''} that can "
                f"be read{f': {told}' if told else ''}. Check the path{', or take another split' if not told else ''}."
            )
        if told:
            total = count + self.bad.total()
            text = f"{self.path}: {self.bad.total()} of {total} images left out: {told}"
            warnings.warn(text, CondgenWarning, stacklevel=2)

    def images(self, numbers: Collection[int]) -> dict[int, Image.Image]:
        """Some images by their place in the data, as they are; those that are gone meanwhile are left out."""
        wanted, out = set(numbers), {}
        if isinstance(self.found, Arrays):
            for part, own, first in self._places():
                chosen = [number for number in wanted if first <= number < first + len(own)]
                images = coloured(part.images(), 3) if chosen else ()
                for number in chosen:
                    out[number] = Image.fromarray(images[own[number - first]].transpose(1, 2, 0).copy())
            return out
        for number, row in enumerate(rows(self.found, self.split)):
            if number in wanted and row.image is not None:
                wanted.remove(number)
                with suppress(ImageError):
                    out[number] = decode(row.image, name=row.key)[0]
            if not wanted:
                break
        return out

    def _parts(self) -> list[tuple]:
        both = [(part, part.rows(self.split, self.found.test)) for part in self.found.parts]
        return [(part, numbers) for part, numbers in both if len(numbers)]

    def _places(self) -> Iterator[tuple]:
        first = 0
        for part, numbers in self._parts():
            yield part, numbers, first
            first += len(numbers)

    def _arrays(self, size: int) -> Iterator[tuple[Entry, np.ndarray]]:
        targets = np.concatenate([part.targets for part in self.found.parts])
        used = [np.unique(column) for column in targets.T]
        for part, numbers, first in self._places():
            images, attributes = part.images(), self.found.attributes
            for at in range(0, len(numbers), AT_ONCE):
                some = numbers[at : at + AT_ONCE]
                squares = coloured(squared(images[some], size, self.resize, self.path), 3)
                for k, (number, square) in enumerate(zip(some, squares), first + at):
                    own = [float(np.searchsorted(known, code)) for known, code in zip(used, part.targets[number])]
                    yield Entry(k, f"{part.key}:{number}", label=_label(attributes, own)), square

    def _rows(self, size: int) -> Iterator[tuple[Entry, np.ndarray]]:
        def square(job: tuple[Entry, Row]) -> np.ndarray | ImageError:
            try:
                return fit(decode(job[1].image, name=job[1].key)[0], size, self.resize)
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
        """Every image that there may be, once."""
        seen: dict[Path, Entry] = {}
        for number, row in enumerate(rows(self.found, self.split)):
            if not row.kept or not (in_split(row.split, self.split) or (row.fault and not row.split)):
                continue
            if row.image is None:
                self.bad.add(row.fault or "missing file", row.key)
            elif isinstance(row.image, Path) and row.image in seen:
                own = seen[row.image].captions
                own += [caption for caption in row.captions if caption not in own]
            else:
                entry = Entry(number, row.key, list(row.captions), self._label(row))
                if isinstance(row.image, Path):
                    seen[row.image] = entry
                yield entry, row

    def _label(self, row: Row) -> str:
        targets = []
        for cell, coder in zip(row.cells, self.coders):
            try:
                targets.append(coder.encode(cell))
            except ValueError:
                targets.append(float("nan"))
        return _label([coder.attribute for coder in self.coders[: len(targets)]], targets)


def _found(path: str, columns: Columns, filter: str) -> Source | Arrays | LabelledRows:
    """What is there; a folder with images is one of images, where it is nothing else."""
    try:
        return open_either(path, columns, filter)
    except CondgenError:
        folder = Path(path).expanduser()
        source = plain_folder(folder) if columns == GUESSED and not filter else None
        if source is None or any(file.stem == "metadata" or file.suffix in SHARDS for file in files_below(folder)):
            raise
        return source


def _label(attributes: tuple[Attribute, ...] | list[Attribute], targets: list[float]) -> str:
    """The class that codes tell, or what is known of the attributes."""
    known = [(attribute, code) for attribute, code in zip(attributes, targets) if code == code]
    own = [attribute.format_target(code) for attribute, code in known if attribute.name == LABEL]
    return (
        own[0] if own else ", ".join(f"{attribute.name}: {attribute.format_target(code)}" for attribute, code in known)
    )


def _names_files(table: Path, image: str) -> bool:
    """Whether a table names files, and does not hold the images itself."""
    if table.suffix.lower() != ".parquet":
        return table.suffix.lower() != ".tar"
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pq.read_schema(table).field(image).type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _mark(file: Path) -> tuple:
    """What changes when a file does."""
    try:
        about = file.stat()
    except OSError:
        return (str(file),)
    return str(file.absolute()), about.st_size, about.st_mtime_ns, about.st_ctime_ns


def _digest(value: object, digits: int = 16) -> str:
    return hashlib.sha256(json.dumps(value).encode("utf-8", "replace")).hexdigest()[:digits]
