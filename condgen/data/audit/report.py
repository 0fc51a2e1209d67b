"""The report of `condgen data check`, for people and as JSON."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field

from condgen.data.formats.arrays import ASK_SIZE
from condgen.data.options import WHITE
from condgen.text import printable

LIMIT = 0.01
"""Fraction of unusable rows that training accepts."""
BAR, SHOWN = 30, 14
"""Length of the longest bar in characters, and how many values of an attribute are shown."""
LINES = 25
"""Most lines of a report as text; the JSON has everything."""
REASONS, EXAMPLES, WIDTH = 4, 3, 200
"""Most reasons of a kind in the text, examples of each, and characters in their line."""


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
        left_out: number of files and rows that are not read and do not count in `total`, by reason: images of formats
            that cannot be read, hidden files, failed downloads.
        max_bad_fraction: fraction of unusable rows that training accepts.
        background: RGB, 0 to 255, shown through transparent pixels.
        unusual: what is out of proportion, see `audit.unusual`.
        refused: why training would refuse the images, "" if it would not.
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
    taken: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    max_bad_fraction: float = LIMIT
    background: tuple[int, int, int] = WHITE
    unusual: list[str] = field(default_factory=list)
    refused: str = ""

    def ok(self, max_bad_fraction: float | None = None) -> bool:
        """Whether training accepts the data: some rows are usable, and at most this fraction is unusable."""
        limit = self.max_bad_fraction if max_bad_fraction is None else max_bad_fraction
        return not self.refused and self.usable > 0 and self.total - self.usable <= limit * self.total

    def as_dict(self) -> dict[str, object]:
        """The report as plain values, for JSON."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The report as at most LINES lines of plain text."""
        tail = [
            *(f"  {note}"[:WIDTH] for note in self.taken[:REASONS]),
            *(f"  {note}." for note in self.unusual[:REASONS]),
            f"  splits by {self.split_rule}: {_counts(self.splits)}",
            *self._reasons("cannot be used", self.bad),
            *self._reasons("left out, not counted above", self.left_out),
            *self._reasons("worth knowing", self.notes),
            self._verdict(),
        ]
        details = self._details(SHOWN)
        for shown in range(SHOWN - 1, 0, -1):
            if len(details) + len(tail) <= LINES:
                break
            details = self._details(shown)
        details = details[: LINES - len(tail)]
        return [printable(line) for line in [*details, *tail]]

    def _verdict(self) -> str:
        if self.refused:
            return f"Not ready: {self.refused}"
        if self.ok():
            left = sum(self.left_out.values())
            return f"Ready for training{f', without the {left:,} left out' if left else ''}."
        bad = self.total - self.usable
        if not self.usable:
            return "Not ready: nothing here can be used. The reasons stand above."
        allowed = math.ceil(1000 * bad / self.total) / 1000
        return (
            f"Not ready: {bad:,} of {self.total:,} rows cannot be used ({bad / self.total:.1%}); training takes at "
            f"most {self.max_bad_fraction:.1%}. Repair them, or leave them out: --data.max_bad_fraction {allowed:g}"
        )

    def _details(self, shown: int) -> list[str]:
        """The lines about the content; at most `shown` values of an attribute."""
        raise NotImplementedError

    def _reasons(self, title: str, counts: dict[str, int]) -> list[str]:
        lines = [f"  {title}:"] if counts else []
        by_count = sorted(counts.items(), key=lambda item: -item[1])
        for reason, count in by_count[:REASONS]:
            some = ", ".join(self.examples[reason][:EXAMPLES])
            line = f"    {count} {self._explained(reason)}: {some}"
            more = " ..." if count > EXAMPLES or len(line) > WIDTH else ""
            lines.append(f"{line[:WIDTH]}{more}")
        if rest := by_count[REASONS:]:
            lines.append(f"    {sum(count for _, count in rest)} of {len(rest)} other kinds: {_names(rest)}")
        return lines

    def _explained(self, reason: str) -> str:
        if reason == "alpha":
            return f"alpha, shown on RGB {','.join(map(str, self.background))} (--background R,G,B chooses another)"
        return reason


def _names(counts: list[tuple[str, int]]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in counts)


@dataclass(frozen=True)
class CaptionReport(Report):
    """Report on captioned images.

    Args:
        columns: the columns used; one line for every distinct choice among the tables.
        captions: `count`, `distinct`, and the words of a caption: `words_min`, `words_median`, `words_max`.
        labels: columns besides the captions that look like labels.
        context: tokens that training reads of a caption by default.
        cut: number of distinct captions that have more tokens.
    """

    columns: list[str] = field(default_factory=list)
    captions: dict[str, float] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    context: int = 0
    cut: int = 0

    def _details(self, shown: int) -> list[str]:
        low, middle, high = (f"{self.captions[f'words_{which}']:g}" for which in ("min", "median", "max"))
        return [
            f"{self.path}: {self.usable} of {self.total} rows usable, {self.images} images ({self.form})",
            *(f"  columns: {chosen}" for chosen in self.columns[:2]),
            *([f"  columns: {len(self.columns) - 2} other choices; --json lists them"] if self.columns[2:] else []),
            f"  captions: {self.captions['count']}, {self.captions['distinct']} distinct, words {low} to {high}, "
            f"median {middle}",
            *self._cut(),
            *(f"  there are labels too: --label-column {name} checks these" for name in self.labels[:1]),
            f"  sizes: {_counts(self.sizes)}",
        ]

    def _cut(self) -> list[str]:
        if not self.cut:
            return []
        long = f"  longer than {self.context} tokens: {self.cut} of {self.captions['distinct']} distinct captions"
        return [f"{long}; training reads their beginning, more with --clip.context N"]


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

    def _details(self, shown: int) -> list[str]:
        what = "labelled images" if self.values or self.numbers else "images without labels or captions"
        lines = [f"{self.path}: {self.usable} of {self.total} {what} usable ({self.form})"]
        attributes = list(self.values.items())
        for name, counts in attributes[:shown]:
            one = shown if len(attributes) == 1 else max(2, shown // len(attributes))
            lines += _bars(name, {value: sum(own.values()) for value, own in counts.items()}, one)
        if left := attributes[shown:]:
            lines.append(f"  {len(left)} more attributes: {', '.join(name for name, _ in left[:8])} ...")
        for name, found in list(self.numbers.items())[:shown]:
            low, high, mean, sd = (f"{found[key]:.4g}" for key in ("low", "high", "mean", "sd"))
            lines.append(f"  {name}: a number, {low} to {high}, mean {mean}, sd {sd}")
        titles = {
            "no image has": self.empty,
            "only one image has": self.single,
            "no image of train has": self.untrained,
        }
        for title, found in titles.items():
            for name, values in list(found.items())[:1]:
                more = f" and {len(values) - 10} more" if len(values) > 10 else ""
                lines.append(f"  {title} the {name} {', '.join(values[:10])}{more}")
        if self.unknown:
            lines.append(
                f"  unknown: {', '.join(f'{name} of {n} images' for name, n in list(self.unknown.items())[:8])}"
            )
        several = ". Grey ones become RGB, except with --data.image_channels 1." if len(self.colours) > 1 else ""
        return [
            *lines,
            f"  sizes: {_counts(self.sizes)}{f'. {ASK_SIZE}' if len(self.sizes) > 1 else ''}",
            f"  colours: {_counts(self.colours)}{several}",
        ]


def _bars(name: str, counts: dict[str, int], most_shown: int = SHOWN) -> list[str]:
    most, wide = max(counts.values(), default=0), min(24, max(map(len, counts), default=0))
    shown = list(counts.items())
    if len(shown) > most_shown:
        half = max(1, most_shown // 2)
        shown = sorted(shown, key=lambda item: -item[1])
        shown = shown[:half] + shown[-half:]
    bars = [
        f"    {value[:24]:{wide}}  {'#' * math.ceil(BAR * count / max(1, most)):{BAR}}  {count}"
        for value, count in shown
    ]
    if len(counts) > len(shown):
        bars.insert(len(shown) // 2, f"    ... {len(counts) - len(shown)} more ...")
    return [f"  {name}, {len(counts)} values:", *bars]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items()) or "none"
