"""Unusable rows, counted by reason; and the decision whether data with so many can be used."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from condgen.contracts import CondgenError, CondgenWarning
from condgen.text import printable

if TYPE_CHECKING:
    from condgen.data.sources.rows import Row, Source

MAX_BAD_HINT = "(train: --data.max_bad_fraction F)"


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
class RowTally:
    """Counts of rows while they are read: unusable ones by reason, and unusual images."""

    bad: Tally = field(default_factory=Tally)
    unusual: Tally = field(default_factory=Tally)
    total: int = 0

    def add(self, row: Row, notes: tuple[str, ...] = ()) -> bool:
        """Counts a row; whether it is usable."""
        self.total += 1
        if row.fault:
            self.bad.add(row.fault, row.described)
        for note in notes if not row.fault else ():
            self.unusual.add(note, row.key)
        return not row.fault

    def check(self, source: Source, max_bad_fraction: float) -> None:
        """Refuses data with too many bad rows; warns of omissions."""
        path, bad, total = source.path, self.bad, self.total
        if bad.total() > max_bad_fraction * total or bad.total() == total:
            listed = "\n  ".join(bad.lines(most=3))
            raise CondgenError(
                f"{path}: {bad.total()} of {total} rows cannot be used (the limit is {max_bad_fraction:.3g} of them):\n"
                f"  {listed}\n`condgen data check {path}` shows more. Mend them, or allow more to be left out "
                f"{MAX_BAD_HINT}."
            )
        notes = []
        if bad.total():
            notes.append(f"{bad.total()} of {total} rows left out: {'; '.join(bad.lines(most=3))}")
        if source.left_out:
            notes.append(f"left out {', '.join(source.left_out)}: no split in the name, unlike other files.")
        if "animated" in self.unusual.counts:
            notes.append(f"{self.unusual.counts['animated']} animated images; only their first frame is used.")
        for note in notes:
            warnings.warn(f"{path}: {note}", CondgenWarning, stacklevel=4)
