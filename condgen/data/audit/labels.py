"""ViewBatches through labelled images before anybody trains on them: the balance of classes, gaps, faults, a sheet."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

import numpy as np
from PIL import Image

from condgen.data.attributes import LABEL, Attribute
from condgen.data.formats.arrays import ASK_SIZE, Arrays
from condgen.data.sources.captions import Tally, progress
from condgen.data.sources.label_rows import LabelledRows
from condgen.data.sources.rows import hashed_split, split_name
from condgen.files.images import grid
from condgen.text import printable

LIMIT = 0.01
BAR, SHOWN = 30, 40
"""Letters of the longest bar, and how many values of an attribute are shown."""
PER_ROW, ROWS, CELL = 8, 64, 64
"""Of the sheet: images of a value, values, pixels of an image."""


@dataclass(frozen=True)
class LabelReport:
    """What `check_labels` found.

    Args:
        path: what was looked at.
        form: `classes`, `metadata`, `parquet`, `shards`, `idx`, `cifar`, `digits` or `torchvision`.
        total: rows.
        usable: rows that training would use.
        bad: number of unusable rows by reason.
        notes: number of images that are odd but usable, by reason.
        examples: the first ten of every reason in `bad` and `notes`.
        values: of every attribute with values, by value, the number of usable images in every split.
        numbers: of every real attribute `mean`, `sd`, `low` and `high`, over the images of train.
        unknown: by attribute, of how many usable images it is not known.
        empty: by attribute, the values that the data names and no usable image has.
        single: by attribute, the values that one usable image has.
        untrained: by attribute, the values that no image of train has although others have them.
        sizes: number of images by `width x height` in pixels, the ten commonest.
        colours: number of images that are `grey`, and that have a `colour`.
        splits: usable rows by split.
        split_rule: what tells the split.
    """

    path: str
    form: str
    total: int
    usable: int
    bad: dict[str, int]
    notes: dict[str, int]
    examples: dict[str, list[str]]
    values: dict[str, dict[str, dict[str, int]]]
    numbers: dict[str, dict[str, float]]
    unknown: dict[str, int]
    empty: dict[str, list[str]]
    single: dict[str, list[str]]
    untrained: dict[str, list[str]]
    sizes: dict[str, int]
    colours: dict[str, int]
    splits: dict[str, int]
    split_rule: str

    def ok(self, max_bad_fraction: float = LIMIT) -> bool:
        """Whether training would take the data: something is usable, and at most this share of the rows is bad."""
        return self.usable > 0 and self.total - self.usable <= max_bad_fraction * self.total

    def as_dict(self) -> dict[str, object]:
        """Plain values that JSON can hold."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The report for people, as plain text."""
        lines = [f"{self.path}: {self.usable} of {self.total} labelled images usable ({self.form})"]
        for name, counts in self.values.items():
            lines += self._bars(name, {value: sum(own.values()) for value, own in counts.items()})
        for name, told in self.numbers.items():
            told = {key: f"{value:.4g}" for key, value in told.items()}
            lines.append(f"  {name}: a number, {told['low']} to {told['high']}, mean {told['mean']}, sd {told['sd']}")
        for title, found in (
            ("no image has", self.empty),
            ("only one image has", self.single),
            ("no image of train has", self.untrained),
        ):
            for name, values in found.items():
                lines.append(f"  {title} the {name} {_some(values)}")
        for name, count in self.unknown.items():
            lines.append(f"  {name} is not known of {count} images")
        lines += [
            f"  sizes: {_counts(self.sizes)}{f'. {ASK_SIZE}' if len(self.sizes) > 1 else ''}",
            f"  colours: {_counts(self.colours)}"
            + (". Grey ones become RGB, unless --data.image_channels 1 is said." if len(self.colours) > 1 else ""),
            f"  splits by {self.split_rule}: {_counts(self.splits)}",
            *self._listed("cannot be used", self.bad),
            *self._listed("worth knowing, still used", self.notes),
            "Ready for training." if self.ok() else f"Not ready: training takes at most {LIMIT:.0%} of unusable rows.",
        ]
        return [printable(line) for line in lines]

    def _bars(self, name: str, counts: dict[str, int]) -> list[str]:
        most, wide = max(counts.values(), default=0), min(24, max(map(len, counts), default=0))
        shown = list(counts.items())
        if len(shown) > SHOWN:
            shown = sorted(shown, key=lambda item: -item[1])
            shown = shown[: SHOWN // 2] + shown[-SHOWN // 2 :]
        bars = [
            f"    {value[:24]:{wide}}  {'#' * math.ceil(BAR * count / max(1, most)):{BAR}}  {count}"
            for value, count in shown
        ]
        if len(counts) > SHOWN:
            bars.insert(SHOWN // 2, f"    ... {len(counts) - SHOWN} more ...")
        return [f"  {name}, {len(counts)} values:", *bars]

    def _listed(self, title: str, counts: dict[str, int]) -> list[str]:
        lines = [f"  {title}:"] if counts else []
        for reason, count in sorted(counts.items(), key=lambda item: -item[1]):
            lines.append(f"    {count} {reason}: {', '.join(self.examples[reason])}{' ...' if count > 10 else ''}")
        return lines


@dataclass(frozen=True)
class _Seen:
    """One row of labelled images, whatever its form; `pixels` is uint8 (C, H, W), None where there is a fault."""

    key: str
    split: str
    pixels: np.ndarray | None
    targets: np.ndarray
    fault: str = ""
    oddities: tuple[str, ...] = ()


@dataclass
class _Counts:
    """What is gathered while the rows go by; of images a few for the sheet are kept, and of every one a digest."""

    attributes: tuple[Attribute, ...]
    bad: Tally = field(default_factory=Tally)
    notes: Tally = field(default_factory=Tally)
    values: list[dict[str, Counter[str]]] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)
    sizes: Counter[str] = field(default_factory=Counter)
    colours: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    digests: dict[bytes, tuple[str, bytes]] = field(default_factory=dict)
    shown: dict[tuple[int, str], list[Image.Image]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.values = [{value: Counter() for value in attribute.values} for attribute in self.attributes]

    def add(self, seen: _Seen) -> None:
        if seen.pixels is None:
            self.bad.add(seen.fault, seen.key)
            return
        _, height, width = seen.pixels.shape
        self.sizes[f"{width} x {height}"] += 1
        self.colours["grey" if (seen.pixels == seen.pixels[:1]).all() else "colour"] += 1
        self.splits[seen.split or "(none)"] += 1
        for oddity in seen.oddities:
            self.notes.add(oddity, seen.key)
        self._compare(seen)
        for i, (attribute, code) in enumerate(zip(self.attributes, seen.targets)):
            if math.isnan(code):
                self.unknown[attribute.name] += 1
            elif attribute.values:
                value = attribute.format_target(code)
                self.values[i][value][seen.split or "(none)"] += 1
                if len(own := self.shown.setdefault((i, value), [])) < PER_ROW:
                    own.append(_small(seen.pixels))

    def _compare(self, seen: _Seen) -> None:
        """Notes an image that is there twice, and whether its labels differ."""
        digest = hashlib.blake2b(seen.pixels.tobytes(), digest_size=16, salt=seen.pixels.shape[2].to_bytes(4, "big"))
        targets = seen.targets.tobytes()
        first, before = self.digests.setdefault(digest.digest(), (seen.key, targets))
        if first != seen.key:
            what = "duplicate image" if targets == before else "duplicate image with other labels"
            self.notes.add(what, f"{seen.key} = {first}")


def check_labels(found: Arrays | LabelledRows, split: str = "all") -> tuple[LabelReport, Image.Image | None]:
    """Reads every label and opens every image once, with the reader that training uses, and counts.

    Args:
        found: what `labels.find` found.
        split: the split to look at.

    Returns:
        The report, and a sheet with a few images of every class, at most 64 classes; where there is no label, of
        every value, and every attribute has an equal part of the rows. None where there is nothing to show.
    """
    counts = _Counts(found.attributes)
    for seen in _array_rows(found, split) if isinstance(found, Arrays) else _rows(found, split):
        counts.add(seen)
    if isinstance(found, LabelledRows):
        for name in found.source.left_out:
            counts.notes.add("file whose name tells no split, left out", name)
    return _report(found, counts), _sheet(counts)


def _array_rows(found: Arrays, split: str) -> Iterator[_Seen]:
    images, targets = found.read(split)
    places = ((part, int(row)) for part in found.parts for row in part.rows(split_name(split), found.test))
    for (part, row), pixels, own in progress(zip(places, images, targets), len(images)):
        key = f"{part.key}:{row}"
        yield _Seen(key, part.split or hashed_split(key, found.test), pixels, own)


def _rows(found: LabelledRows, split: str) -> Iterator[_Seen]:
    for row, image, oddities, targets in found.each(split):
        key = f"{row.key} ({row.detail})" if row.fault and row.detail else row.key
        usable = image is not None and not row.fault
        pixels = np.asarray(image).transpose(2, 0, 1) if usable else None
        yield _Seen(key, row.split, pixels, targets, row.fault, oddities)


def _report(found: Arrays | LabelledRows, counts: _Counts) -> LabelReport:
    usable = counts.splits.total()
    values = {attribute.name: own for attribute, own in zip(counts.attributes, counts.values) if attribute.values}
    told = {name: {value: sum(own.values()) for value, own in those.items()} for name, those in values.items()}
    parted = len(counts.splits) > 1 and "train" in counts.splits
    missing = {
        name: [value for value, own in those.items() if parted and not own["train"] and sum(own.values())]
        for name, those in values.items()
    }
    empty = {name: [value for value, count in those.items() if not count] for name, those in told.items()}
    empty = {name: found.empty.get(name, []) + own for name, own in empty.items()}
    single = {name: [value for value, count in those.items() if count == 1] for name, those in told.items()}
    return LabelReport(
        path=found.path,
        form=found.form,
        total=usable + counts.bad.total(),
        usable=usable,
        bad=counts.bad.counts,
        notes=counts.notes.counts,
        examples=counts.bad.examples | counts.notes.examples,
        values={name: {value: dict(own) for value, own in those.items()} for name, those in values.items()},
        numbers={
            attribute.name: {"mean": attribute.mean, "sd": attribute.sd, "low": attribute.low, "high": attribute.high}
            for attribute in counts.attributes
            if not attribute.values
        },
        unknown=dict(counts.unknown),
        empty={name: own for name, own in empty.items() if own},
        single={name: own for name, own in single.items() if own},
        untrained={name: own for name, own in missing.items() if own},
        sizes=dict(counts.sizes.most_common(10)),
        colours=dict(counts.colours.most_common()),
        splits=dict(counts.splits.most_common()),
        split_rule=found.rule,
    )


def _sheet(counts: _Counts) -> Image.Image | None:
    names = [attribute.name for attribute in counts.attributes]
    label = names.index(LABEL) if LABEL in names else None
    chosen = [i for i, attribute in enumerate(counts.attributes) if attribute.values and label in (None, i)]
    rows: list[tuple[int, str]] = []
    for i in chosen:
        there = [(i, value) for value in counts.attributes[i].values if (i, value) in counts.shown]
        rows += there[: max(1, ROWS // len(chosen))]
    if not rows:
        return None
    images, texts = [], []
    for i, value in rows:
        own = counts.shown[i, value]
        images += own + [Image.new("RGB", (1, 1), "white")] * (PER_ROW - len(own))
        told = value if i == label else f"{names[i]}: {value}"
        texts += [f"{told} ({sum(counts.values[i][value].values())})"] + [""] * (PER_ROW - 1)
    return grid(images, texts, PER_ROW, CELL)


def _small(pixels: np.ndarray) -> Image.Image:
    """An image on a white square, as small as the sheet shows it."""
    image = Image.fromarray(np.broadcast_to(pixels.transpose(1, 2, 0), (*pixels.shape[1:], 3)).copy())
    image.thumbnail((CELL, CELL))
    side = max(image.size)
    square = Image.new("RGB", (side, side), "white")
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def _some(values: list[str]) -> str:
    return ", ".join(values[:10]) + (f" and {len(values) - 10} more" if len(values) > 10 else "")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items()) or "none"
