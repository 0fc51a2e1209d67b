"""Checks images before training on them: counts usable and unusable rows by reason; a sheet of labelled images."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from condgen.contracts import CondgenError
from condgen.data.attributes import LABEL, Attribute
from condgen.data.audit.report import CaptionReport, LabelReport
from condgen.data.audit.unusual import too_little, unbalanced, unusual_sizes
from condgen.data.formats.arrays import Arrays
from condgen.data.formats.registry import HIDDEN_FILE, TABLES
from condgen.data.options import DEFAULTS, ReadOptions
from condgen.data.progress import SKIPPED, Tally, check_depth, progress
from condgen.data.sources.captions import read
from condgen.data.sources.images import list_files
from condgen.data.sources.label_rows import LabelledRows
from condgen.data.sources.labels import open_either
from condgen.data.sources.objects import as_path
from condgen.data.sources.refusals import KOHYA, NoCaptions, is_image
from condgen.data.sources.rows import Row, Source, caption_file, hashed_split, plain_folder, split_name
from condgen.data.sources.tables import LABELS, Table, column_names
from condgen.data.streaming.stream import KEPT_TEXTS
from condgen.encoders.tokenizer import Tokenizer, words_of
from condgen.files.images import grid, make_folder, write_sheet

PER_ROW, ROWS, CELL, SOME = 8, 64, 64, 48
"""Sizes of the sheet: images per value, values, edge of an image in pixels, and images of a sheet without labels."""
NUMBERS = re.compile(r"[-+.,\d\s]+")
NO_TARGETS = np.empty(0, np.float32)


def check(
    path: str | os.PathLike[str],
    options: ReadOptions = DEFAULTS,
    *,
    split: str = "all",
    sheet: str | os.PathLike[str] = "",
    **changes: Any,
) -> CaptionReport | LabelReport:
    """Reads every row and opens every image once, with the reader that training uses, and counts.

    Args:
        path: a folder, a metadata file, a shard or a pattern, as for `load_captions`; or as for `open_labelled`.
        options: columns and filter; `changes` are fields of it. Data with captions and labels counts as captioned,
            unless a label or an attribute is named.
        split: the split to check; `all` checks everything.
        sheet: the PNG to write, with some images of every class, or with some captioned ones.

    Raises:
        CondgenError: the path holds no readable data.
    """
    options = options.but(**changes)
    path = as_path(path)
    found = _opened(path, options)
    source = None if isinstance(found, Arrays) else getattr(found, "source", found)
    counts = _Counts(() if isinstance(found, Source) else found.attributes)
    for row, pixels, notes, targets in _rows(found, split, options):
        counts.add(row, pixels, notes, targets)
    if source is not None:
        _count_files(source, counts)
    if sheet and (drawn := _sheet(counts)) is not None:
        make_folder(Path(sheet).parent)
        write_sheet(Path(sheet), drawn)
    report = _caption_report(found, counts) if isinstance(found, Source) else _label_report(found, counts)
    return replace(report, max_bad_fraction=options.max_bad_fraction, background=options.background)


def _opened(path: str | os.PathLike[str], options: ReadOptions) -> Source | Arrays | LabelledRows:
    """Opens data with captions or labels; a folder that holds images and nothing else has neither."""
    try:
        return open_either(path, options)
    except NoCaptions as error:
        source = plain_folder(Path(path).expanduser()) if error.plain and not options.selected else None
        if source is None:
            raise
        return LabelledRows(source)


def _count_files(source: Source, counts: _Counts) -> None:
    """Counts the files that are not read, and says what is unusual about the folder."""
    for name in source.left_out:
        counts.notes.add("file without a split in its name, left out", name)
    for why, names in source.unread.items():
        for name in names:
            (counts.notes if why == HIDDEN_FILE else counts.left_out).add(why, name)
    files = list_files(source.home).files if source.path.is_dir() else []
    for file in files:
        known = file.suffix.lower() in TABLES or file.suffix.lower() in (".json", ".txt", ".caption")
        if not known and is_image(file):
            why = "images by their content, but their names do not end like those of images; rename them"
            counts.left_out.add(why, file.relative_to(source.home).as_posix())
    if source.form == "sidecars":  # a README, or captions whose image was lost
        captioned = {caption_file(image) for image in source.images}
        for file in files:
            if file.suffix in (".txt", ".caption") and file not in captioned:
                twin = file.with_suffix(".txt") in captioned
                note = "second text of an image, not used (.txt is)" if twin else "text without an image"
                counts.notes.add(note, file.relative_to(source.home).as_posix())
    missing = counts.bad.counts.get("missing file", 0)
    if source.path.is_file() and missing and not counts.sizes:
        counts.notes.add(
            "images are looked for below the folder of the table; give the folder of both", source.path.name
        )
    folders = {file.relative_to(source.home).parts[0] for file in source.images if file.parent != source.home}
    if source.form == "plain" and len(folders) == 1:
        counts.notes.add("one folder only, so there are no classes", next(iter(folders)))
    for name in sorted({file.parent.name for file in source.images if KOHYA.match(file.parent.name)}):
        counts.notes.add("folder named as for sd-scripts (10_concept); the number of repeats is not applied", name)


def _rows(
    found: Source | Arrays | LabelledRows, split: str, options: ReadOptions
) -> Iterator[tuple[Row, np.ndarray | None, tuple[str, ...], np.ndarray]]:
    """Yields every row with its pixels, uint8 (C, H, W) or None, the notes on its image, and its targets."""
    if isinstance(found, Arrays):
        images, targets = found.read(split)
        places = ((part, int(row)) for part in found.parts for row in part.rows(split_name(split), found.test))
        for (part, row), pixels, own in progress(zip(places, images, targets), len(images)):
            key = f"{part.key}:{row}"
            yield Row(key, split=part.split or hashed_split(key, found.test)), pixels, (), own
        return
    how = {"background": options.background, "value_range": options.value_range}
    rows = read(found, split, **how) if isinstance(found, Source) else found.each(split, **how)
    for row, image, notes, *own in rows:
        pixels = None if image is None or row.fault else np.asarray(image).transpose(2, 0, 1)
        yield row, pixels, notes, own[0] if own else NO_TARGETS


@dataclass
class _Counts:
    """Counts over the rows; keeps a digest of every image, and a few images for the sheet."""

    attributes: tuple[Attribute, ...]
    bad: Tally = field(default_factory=Tally)
    notes: Tally = field(default_factory=Tally)
    left_out: Tally = field(default_factory=Tally)
    words: Counter[int] = field(default_factory=Counter)
    texts: Counter[str] = field(default_factory=Counter)
    values: list[dict[str, Counter[str]]] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    first: dict[tuple[int, int], str] = field(default_factory=dict)
    colours: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    digests: dict[bytes, tuple[str, bytes]] = field(default_factory=dict)
    shown: dict[tuple[int, str], list[Image.Image]] = field(default_factory=dict)
    some: list[tuple[Image.Image, str]] = field(default_factory=list)
    random: Random = field(default_factory=lambda: Random(0))

    def __post_init__(self) -> None:
        self.values = [{value: Counter() for value in attribute.values} for attribute in self.attributes]

    def add(self, row: Row, pixels: np.ndarray | None, notes: tuple[str, ...], targets: np.ndarray) -> None:
        if row.fault:
            (self.left_out if row.fault.startswith(SKIPPED) else self.bad).add(row.fault, row.described)
            return
        self.splits[row.split or "(none)"] += 1
        for note in row.notes:
            self.notes.add(note, row.key)
        if row.captions and all(NUMBERS.fullmatch(caption) for caption in row.captions):
            self.notes.add("captions of numbers only, such as the boxes of YOLO", row.key)
        self.texts.update(row.captions)
        self.words.update(map(_word_count, row.captions))
        for note in notes:
            self.notes.add(note, row.key)
        if pixels is None:
            return
        _, height, width = pixels.shape
        self.sizes[width, height] += 1
        self.first.setdefault((width, height), row.key)
        self.colours["grey" if (pixels == pixels[:1]).all() else "colour"] += 1
        self._compare(row.key, pixels, targets.tobytes())
        if not self.attributes:
            self._choose(pixels, next(iter(row.captions), row.key))
        for i, (attribute, target) in enumerate(zip(self.attributes, targets)):
            if math.isnan(target):
                self.unknown[attribute.name] += 1
            elif attribute.values:
                value = attribute.format_target(target)
                self.values[i][value][row.split or "(none)"] += 1
                if len(own := self.shown.setdefault((i, value), [])) < PER_ROW:
                    own.append(_small(pixels))

    def _choose(self, pixels: np.ndarray, text: str) -> None:
        """Keeps a random choice of the images that came, each as likely as the others, with their texts."""
        place = self.random.randrange(max(1, self.sizes.total()))
        if len(self.some) < SOME:
            self.some.append((_small(pixels), text))
        elif place < SOME:
            self.some[place] = (_small(pixels), text)

    def _compare(self, key: str, pixels: np.ndarray, targets: bytes) -> None:
        """Notes a duplicate image, and whether its labels differ."""
        digest = hashlib.blake2b(pixels.tobytes(), digest_size=16, salt=pixels.shape[2].to_bytes(4, "big")).digest()
        if digest in self.digests:
            first, before = self.digests[digest]
            kind = "duplicate image" if targets == before else "duplicate image with different labels"
            self.notes.add(kind, f"{key} = {first}")
        else:
            self.digests[digest] = (key, targets)

    @property
    def totals(self) -> list[dict[str, int]]:
        """For every attribute: value -> number of images."""
        return [{value: sum(own.values()) for value, own in those.items()} for those in self.values]

    def shared(self, found: Source | Arrays | LabelledRows) -> dict[str, Any]:
        """The fields that every report has."""
        usable, refused = self.splits.total(), ""
        values = {one.name: own for one, own in zip(self.attributes, self.totals) if one.values}
        unusual = unusual_sizes(self.sizes, self.first) + [
            line for name, counts in values.items() for line in unbalanced(name, counts)
        ]
        try:
            check_depth(str(found.path), self.notes.counts)
        except CondgenError as error:
            refused = str(error)
        return {
            "path": str(found.path), "form": found.form, "total": usable + self.bad.total(), "usable": usable,
            "images": self.sizes.total(), "bad": self.bad.counts, "notes": self.notes.counts,
            "examples": self.left_out.examples | self.notes.examples | self.bad.examples,
            "left_out": self.left_out.counts,
            "sizes": {f"{width} x {height}": n for (width, height), n in self.sizes.most_common(10)},
            "splits": dict(self.splits.most_common()), "split_rule": found.rule,
            "taken": getattr(found, "taken", []), "refused": refused,
            "unusual": unusual + too_little(self.sizes.total(), len(self.digests), self.texts, values),
        }  # fmt: skip


def _caption_report(source: Source, counts: _Counts) -> CaptionReport:
    words = list(counts.words.elements()) or [0]
    names = {name for table in source.tables for name in column_names(table.path) if name.lower() in LABELS}
    chosen = [_columns_of(table) for table in source.tables]
    context, cut = _cut(sorted(counts.texts))
    return CaptionReport(
        **counts.shared(source),
        columns=list(dict.fromkeys(chosen)),
        captions={
            "count": counts.words.total(), "distinct": len(counts.texts), "words_min": min(words),
            "words_median": median(words), "words_max": max(words),
        },
        labels=sorted(names - {name for table in source.tables for name in table.text}),
        context=context,
        cut=cut,
    )  # fmt: skip


def _columns_of(table: Table) -> str:
    home = "" if table.home is None else f", images in {table.home or 'this folder'}"
    dropped = f" (names without {table.prefix})" if table.prefix else ""
    return f"image {table.image}, captions {', '.join(table.text)}, split {table.split or '(none)'}{home}{dropped}"


def _word_count(caption: str) -> int:
    """Number of words; in writing without spaces, of characters."""
    return len(caption.split()) if caption.isascii() else len(words_of(caption))


def _cut(texts: list[str]) -> tuple[int, int]:
    """Tokens that a new model reads of a caption, and how many distinct captions have more.

    Of very many captions, the first in alphabetical order stand for all.
    """
    tokenizer = Tokenizer.train(texts[:KEPT_TEXTS])
    return tokenizer.context, round(tokenizer.count_cut(texts[:KEPT_TEXTS]) * max(1, len(texts) / KEPT_TEXTS))


def _label_report(found: Arrays | LabelledRows, counts: _Counts) -> LabelReport:
    values = {one.name: own for one, own in zip(counts.attributes, counts.values) if one.values}
    totals = {name: {value: sum(own.values()) for value, own in those.items()} for name, those in values.items()}
    parted = len(counts.splits) > 1 and "train" in counts.splits
    empty = {name: found.empty.get(name, []) + [value for value, n in t.items() if not n] for name, t in totals.items()}
    single = {name: [value for value, n in those.items() if n == 1] for name, those in totals.items()}
    untrained = {
        name: [value for value, own in those.items() if parted and not own["train"] and totals[name][value]]
        for name, those in values.items()
    }
    return LabelReport(
        **counts.shared(found),
        values={name: {value: dict(own) for value, own in those.items()} for name, those in values.items()},
        numbers={
            one.name: {"mean": one.mean, "sd": one.sd, "low": one.low, "high": one.high}
            for one in counts.attributes
            if not one.values
        },
        unknown=dict(counts.unknown),
        empty={name: own for name, own in empty.items() if own},
        single={name: own for name, own in single.items() if own},
        untrained={name: own for name, own in untrained.items() if own},
        colours=dict(counts.colours.most_common()),
    )


def _sheet(counts: _Counts) -> Image.Image | None:
    """A few images of every class, at most ROWS classes. Without a label, a few images of every value, and the
    attributes share the rows equally. Images without labels are a random choice, with a caption each. None where there
    is nothing to show.
    """
    if counts.some:
        images, texts = zip(*counts.some)
        return grid(list(images), [text[:60] for text in texts], PER_ROW, 2 * CELL)
    names = [attribute.name for attribute in counts.attributes]
    label = names.index(LABEL) if LABEL in names else None
    chosen = [i for i, attribute in enumerate(counts.attributes) if attribute.values and label in (None, i)]
    rows: list[tuple[int, str]] = []
    for i in chosen:
        there = [(i, value) for value in counts.attributes[i].values if (i, value) in counts.shown]
        rows += there[: max(1, ROWS // len(chosen))]
    images, texts = [], []
    for i, value in rows:
        own = counts.shown[i, value]
        images += own + [Image.new("RGB", (1, 1), "white")] * (PER_ROW - len(own))
        called = value if i == label else f"{names[i]}: {value}"
        texts += [f"{called} ({sum(counts.values[i][value].values())})"] + [""] * (PER_ROW - 1)
    return grid(images, texts, PER_ROW, CELL) if rows else None


def _small(pixels: np.ndarray) -> Image.Image:
    """Shrinks an image and centres it on a white square, for the sheet."""
    image = Image.fromarray(np.broadcast_to(pixels.transpose(1, 2, 0), (*pixels.shape[1:], 3)).copy())
    image.thumbnail((2 * CELL, 2 * CELL))
    side = max(image.size)
    square = Image.new("RGB", (side, side), "white")
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square
