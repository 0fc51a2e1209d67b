"""ViewBatches through images before anybody trains on them: what can be used, what cannot, and why.

Captioned images are looked through here, labelled ones in `balance`.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from condgen.contracts import CondgenError
from condgen.data.audit.labels import LIMIT, LabelReport, check_labels
from condgen.data.sources.captions import Tally, read
from condgen.data.sources.labels import open_either
from condgen.data.sources.rows import GUESSED, Columns, Row, Source, files_below
from condgen.data.sources.tables import LABELS, column_names
from condgen.files.images import make_folder, png_bytes, write_bytes
from condgen.text import printable

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Report:
    """What `check` found.

    Args:
        path: what was looked at.
        form: `metadata`, `parquet`, `shards` or `sidecars`.
        columns: which columns were used; one line for every choice that some table led to.
        total: rows, and images that no row names.
        usable: rows that training would use.
        images: distinct images among these (several rows may caption one file).
        bad: number of unusable rows by reason.
        notes: number of images that are odd but usable, by reason.
        examples: the first ten of every reason in `bad` and `notes`.
        captions: `count`, `distinct`, and the words of a caption: `words_min`, `words_median`, `words_max`.
        sizes: number of images by `width x height` in pixels, the ten commonest.
        splits: usable rows by split; `(none)` where a row has none.
        split_rule: what tells the split.
        labels: columns that look like labels, which are there besides the captions.
    """

    path: str
    form: str
    columns: list[str]
    total: int
    usable: int
    images: int
    bad: dict[str, int]
    notes: dict[str, int]
    examples: dict[str, list[str]]
    captions: dict[str, float]
    sizes: dict[str, int]
    splits: dict[str, int]
    split_rule: str
    labels: list[str]

    def ok(self, max_bad_fraction: float = LIMIT) -> bool:
        """Whether training would take the data: something is usable, and at most this share of the rows is bad."""
        return self.usable > 0 and self.total - self.usable <= max_bad_fraction * self.total

    def as_dict(self) -> dict[str, object]:
        """Plain values that JSON can hold."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The report for people, as plain text."""
        words = [f"{self.captions[f'words_{which}']:g}" for which in ("min", "median", "max")]
        lines = [
            f"{self.path}: {self.usable} of {self.total} rows usable, {self.images} images ({self.form})",
            *(f"  columns: {chosen}" for chosen in self.columns),
            f"  captions: {self.captions['count']}, {self.captions['distinct']} distinct, "
            f"words {words[0]} to {words[2]}, median {words[1]}",
            f"  sizes: {_counts(self.sizes)}",
            f"  splits by {self.split_rule}: {_counts(self.splits)}",
            *(f"  there are labels too: --label-column {name} looks at these" for name in self.labels),
            *self._listed("cannot be used", self.bad),
            *self._listed("worth knowing, still used", self.notes),
            "Ready for training." if self.ok() else f"Not ready: training takes at most {LIMIT:.0%} of unusable rows.",
        ]
        return [printable(line) for line in lines]

    def _listed(self, title: str, counts: dict[str, int]) -> list[str]:
        lines = [f"  {title}:"] if counts else []
        for reason, count in sorted(counts.items(), key=lambda item: -item[1]):
            lines.append(f"    {count} {reason}: {', '.join(self.examples[reason])}{' ...' if count > 10 else ''}")
        return lines


@dataclass
class _Counts:
    """What is gathered while the rows go by; of every image only a digest is kept."""

    bad: Tally = field(default_factory=Tally)
    notes: Tally = field(default_factory=Tally)
    words: Counter[int] = field(default_factory=Counter)
    texts: set[str] = field(default_factory=set)
    sizes: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    digests: dict[bytes, str] = field(default_factory=dict)
    usable: int = 0
    images: int = 0

    def add(self, row: Row, image: Image.Image | None, oddities: tuple[str, ...]) -> None:
        if row.fault:
            self.bad.add(row.fault, f"{row.key} ({row.detail})" if row.detail else row.key)
            return
        self.usable += 1
        self.splits[row.split or "(none)"] += 1
        self.texts.update(row.captions)
        self.words.update(len(caption.split()) for caption in row.captions)
        if image is None:
            return
        self.images += 1
        self.sizes[f"{image.width} x {image.height}"] += 1
        for oddity in oddities:
            self.notes.add(oddity, row.key)
        digest = hashlib.blake2b(image.tobytes(), digest_size=16, salt=image.width.to_bytes(4, "big")).digest()
        if (first := self.digests.get(digest)) is not None:
            self.notes.add("duplicate image", f"{row.key} = {first}")
        self.digests.setdefault(digest, row.key)


def check(
    path: str | os.PathLike[str],
    columns: Columns = GUESSED,
    *,
    split: str = "all",
    filter: str = "",
    sheet: str | os.PathLike[str] = "",
) -> Report | LabelReport:
    """Reads every row and opens every image once, with the reader that training uses, and counts.

    Args:
        path: a folder, a metadata file, a shard or a pattern, as for `load_captions`; or what `open_labelled` takes.
        columns: names of the columns, guessed where empty. Where there are captions and labels, captions are looked
            at, unless a label or an attribute is named.
        split: the split to look at; `all` looks at everything.
        filter: keeps rows by their columns: `vendor=noto,heldout_pair=false`.
        sheet: the PNG to write, with some images of every class.

    Raises:
        CondgenError: there is nothing that could be read row by row, or no labels for the sheet.
    """
    found = open_either(path, columns, filter)
    if isinstance(found, Source):
        if sheet:
            raise CondgenError(
                f"{path} has captions; a sheet shows images by their label. Name it (--label-column NAME)."
            )
        return _check_captions(found, split)
    report, drawn = check_labels(found, split)
    if sheet and drawn is not None:
        file = Path(sheet)
        make_folder(file.parent)
        write_bytes(file, png_bytes(drawn))
    return report


def _check_captions(source: Source, split: str) -> Report:
    counts = _Counts()
    for row, image, oddities in read(source, split):
        counts.add(row, image, oddities)
    for note in source.left_out:
        counts.notes.add("file whose name tells no split, left out", note)
    if source.form == "sidecars":
        for text in _lonely_texts(source):
            counts.notes.add("text without an image", text)
    return _report(source, counts)


def _lonely_texts(source: Source) -> list[str]:
    """The .txt files beside which no image lies: a README, or captions whose image was lost."""
    captioned = {image.with_suffix(".txt") for image in source.images}
    texts = (file for file in files_below(source.home) if file.suffix == ".txt" and file not in captioned)
    return [text.relative_to(source.home).as_posix() for text in texts]


def _report(source: Source, counts: _Counts) -> Report:
    words = list(counts.words.elements()) or [0]
    chosen = {
        f"image {table.image}, captions {', '.join(table.text)}, split {table.split or '(none)'}": None
        for table in source.tables
    }
    return Report(
        path=str(source.path),
        form=source.form,
        columns=list(chosen),
        total=counts.usable + counts.bad.total(),
        usable=counts.usable,
        images=counts.images,
        bad=counts.bad.counts,
        notes=counts.notes.counts,
        examples=counts.bad.examples | counts.notes.examples,
        captions={
            "count": counts.words.total(),
            "distinct": len(counts.texts),
            "words_min": min(words),
            "words_median": median(words),
            "words_max": max(words),
        },
        sizes=dict(counts.sizes.most_common(10)),
        splits=dict(counts.splits.most_common()),
        split_rule=source.rule,
        labels=sorted(
            {name for table in source.tables for name in column_names(table.path) if name.lower() in LABELS}
            - {name for table in source.tables for name in table.text}
        ),
    )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in counts.items()) or "none"
