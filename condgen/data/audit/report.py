"""The report of `condgen data check`, for people and as JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field

from condgen.data.formats.arrays import ASK_SIZE
from condgen.text import printable

LIMIT = 0.01
"""Fraction of unusable rows that training accepts."""
BAR, SHOWN = 30, 40
"""Length of the longest bar in characters, and how many values of an attribute are shown."""


@dataclass(frozen=True)
class Report:
    """Report on images of any kind.

    Args:
        path: path of the data.
        form: `metadata`, `parquet`, `shards`, `sidecars`, `classes`, `plain`, or the name of a format such as `idx`.
        total: number of rows, plus images that no row names.
        usable: number of rows that training would use.
        images: number of distinct images among the usable rows (several rows may caption one file).
        bad: number of unusable rows by reason.
        notes: number of images that are unusual but usable, by reason.
        examples: the first ten keys for every reason in `bad` and `notes`.
        sizes: number of images by `width x height` in pixels, the ten most frequent.
        splits: usable rows by split; `(none)` where a row has none.
        split_rule: how the split of a row is determined.
        taken: what columns were taken for where they could be meant otherwise.
    """

    path: str
    form: str
    total: int
    usable: int
    images: int
    bad: dict[str, int]
    notes: dict[str, int]
    examples: dict[str, list[str]]
    sizes: dict[str, int]
    splits: dict[str, int]
    split_rule: str
    taken: list[str]

    def ok(self, max_bad_fraction: float = LIMIT) -> bool:
        """Whether training accepts the data: some rows are usable, and at most this fraction is unusable."""
        return self.usable > 0 and self.total - self.usable <= max_bad_fraction * self.total

    def as_dict(self) -> dict[str, object]:
        """The report as plain values, for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The report as lines of plain text."""
        lines = [
            *self._details(),
            *(f"  {note}" for note in self.taken),
            f"  splits by {self.split_rule}: {_counts(self.splits)}",
            *self._reasons("cannot be used", self.bad),
            *self._reasons("worth knowing, still used", self.notes),
            "Ready for training." if self.ok() else f"Not ready: training takes at most {LIMIT:.0%} of unusable rows.",
        ]
        return [printable(line) for line in lines]

    def _details(self) -> list[str]:
        raise NotImplementedError

    def _reasons(self, title: str, counts: dict[str, int]) -> list[str]:
        lines = [f"  {title}:"] if counts else []
        for reason, count in sorted(counts.items(), key=lambda item: -item[1]):
            lines.append(f"    {count} {reason}: {', '.join(self.examples[reason])}{' ...' if count > 10 else ''}")
        return lines


@dataclass(frozen=True)
class CaptionReport(Report):
    """Report on captioned images.

    Args:
        columns: the columns used; one line for every distinct choice among the tables.
        captions: `count`, `distinct`, and the words of a caption: `words_min`, `words_median`, `words_max`.
        labels: columns besides the captions that look like labels.
    """

    columns: list[str] = field(default_factory=list)
    captions: dict[str, float] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)

    def _details(self) -> list[str]:
        low, middle, high = (f"{self.captions[f'words_{which}']:g}" for which in ("min", "median", "max"))
        return [
            f"{self.path}: {self.usable} of {self.total} rows usable, {self.images} images ({self.form})",
            *(f"  columns: {chosen}" for chosen in self.columns),
            f"  captions: {self.captions['count']}, {self.captions['distinct']} distinct, words {low} to {high}, "
            f"median {middle}",
            *(f"  there are labels too: --label-column {name} checks these" for name in self.labels),
            f"  sizes: {_counts(self.sizes)}",
        ]


@dataclass(frozen=True)
class LabelReport(Report):
    """Report on labelled images.

    Args:
        values: attribute -> value -> split -> number of usable images.
        numbers: real-valued attribute -> `mean`, `sd`, `low` and `high` over the training images.
        unknown: attribute -> number of usable images whose value is unknown.
        empty: attribute -> values that the data names but no usable image has.
        single: attribute -> values of exactly one usable image.
        untrained: attribute -> values that occur in other splits but not in train.
        colours: number of `grey` images and of `colour` images.
    """

    values: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    numbers: dict[str, dict[str, float]] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)
    empty: dict[str, list[str]] = field(default_factory=dict)
    single: dict[str, list[str]] = field(default_factory=dict)
    untrained: dict[str, list[str]] = field(default_factory=dict)
    colours: dict[str, int] = field(default_factory=dict)

    def _details(self) -> list[str]:
        lines = [f"{self.path}: {self.usable} of {self.total} labelled images usable ({self.form})"]
        for name, counts in self.values.items():
            lines += _bars(name, {value: sum(own.values()) for value, own in counts.items()})
        for name, found in self.numbers.items():
            low, high, mean, sd = (f"{found[key]:.4g}" for key in ("low", "high", "mean", "sd"))
            lines.append(f"  {name}: a number, {low} to {high}, mean {mean}, sd {sd}")
        titles = {
            "no image has": self.empty,
            "only one image has": self.single,
            "no image of train has": self.untrained,
        }
        for title, found in titles.items():
            for name, values in found.items():
                more = f" and {len(values) - 10} more" if len(values) > 10 else ""
                lines.append(f"  {title} the {name} {', '.join(values[:10])}{more}")
        lines += [f"  {name} is unknown for {count} images" for name, count in self.unknown.items()]
        several = ". Grey ones become RGB, except with --data.image_channels 1." if len(self.colours) > 1 else ""
        return [
            *lines,
            f"  sizes: {_counts(self.sizes)}{f'. {ASK_SIZE}' if len(self.sizes) > 1 else ''}",
            f"  colours: {_counts(self.colours)}{several}",
        ]


def _bars(name: str, counts: dict[str, int]) -> list[str]:
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


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items()) or "none"
