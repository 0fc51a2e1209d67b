"""The report of `condgen data check`, for people and as JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field

from condgen.data.formats.arrays import ASK_SIZE
from condgen.text import printable

LIMIT = 0.01
"""Fraction of unusable rows that training accepts."""
BAR, SHOWN = 30, 40
"""Letters of the longest bar, and how many values of an attribute are shown."""


@dataclass(frozen=True)
class Report:
    """What images of any kind have in common.

    Args:
        path: of the data.
        form: `metadata`, `parquet`, `shards`, `sidecars`, `classes`, `plain`, or the name of a format such as `idx`.
        total: rows, and images that no row names.
        usable: rows that training would use.
        images: distinct images among these (several rows may caption one file).
        bad: number of unusable rows by reason.
        notes: number of images that are unusual but usable, by reason.
        examples: the first ten of every reason in `bad` and `notes`.
        sizes: number of images by `width x height` in pixels, the ten commonest.
        splits: usable rows by split; `(none)` where a row has none.
        split_rule: where the split comes from.
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

    def ok(self, max_bad_fraction: float = LIMIT) -> bool:
        """Whether training would take the data: something is usable, and at most this fraction of the rows is bad."""
        return self.usable > 0 and self.total - self.usable <= max_bad_fraction * self.total

    def as_dict(self) -> dict[str, object]:
        """Plain values that JSON can hold."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The report for people, as plain text."""
        lines = [
            *self._details(),
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
    """Captioned images.

    Args:
        columns: which columns were used; one line for every choice that some table led to.
        captions: `count`, `distinct`, and the words of a caption: `words_min`, `words_median`, `words_max`.
        labels: columns that look like labels, which are there besides the captions.
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
            *(f"  there are labels too: --label-column {name} looks at these" for name in self.labels),
            f"  sizes: {_counts(self.sizes)}",
        ]


@dataclass(frozen=True)
class LabelReport(Report):
    """Labelled images.

    Args:
        values: of every attribute with values, by value, the number of usable images in every split.
        numbers: of every real number `mean`, `sd`, `low` and `high`, over the images of train.
        unknown: by attribute, for how many usable images it is not known.
        empty: by attribute, the values that the data names and no usable image has.
        single: by attribute, the values that one usable image has.
        untrained: by attribute, the values that no image of train has although others have them.
        colours: number of images that are `grey`, and that have a `colour`.
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
        lines += [f"  {name} is not known of {count} images" for name, count in self.unknown.items()]
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
