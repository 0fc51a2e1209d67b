"""Comparisons that are kept: `comparisons/ID.json` among the outputs of a person holds every cell and its image.

The file is written after every image, so that a comparison that was stopped, or killed, goes on where it was.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from condgen.contracts import CondgenError, short, to_json
from condgen.files.images import grid, make_folder, png_bytes, tile, write_bytes
from condgen.studio.images.outputs import SavedImage
from condgen.studio.session import serve
from condgen.studio.tabs.compare.grids import Plan, Settings, in_order

if TYPE_CHECKING:
    from condgen.studio.studio import Studio

FOLDER = "comparisons"
SHOWN = 100
"""Comparisons that are listed, the newest."""
CELL = 160
"""Edge of an image on the sheet in pixels."""


@dataclass
class Cell:
    """One image of a comparison.

    Args:
        row, column: its place.
        settings: what it is generated with.
        image: id of the kept image; '' before it is generated.
        recipe, ms, clip_score: see `GeneratedImage`.
    """

    row: int
    column: int
    settings: Settings
    image: str = ""
    recipe: dict[str, Any] = field(default_factory=dict)
    ms: float = 0.0
    clip_score: float | None = None

    @property
    def caption(self) -> str:
        """Time and match."""
        match = "" if self.clip_score is None else f", match {self.clip_score:.2f}"
        return f"{self.ms / 1000:.2f} s{match}"


@dataclass
class Comparison:
    """A table of images; title, axes, headings and notes as in `Plan`; the notes also hold the warnings of models.

    The cells are in the order of their generation.
    """

    id: str
    title: str
    axes: tuple[str, str]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: list[Cell]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, plan: Plan) -> Comparison:
        """A new comparison."""
        number = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"
        cells = [Cell(*place, settings) for place, settings in in_order(plan.cells)]
        return cls(number, plan.title, plan.axes, plan.rows, plan.columns, cells, plan.notes)

    def alt(self, cell: Cell) -> str:
        """The text of an image for people who do not see it."""
        titles = zip(self.axes, (self.rows[cell.row], self.columns[cell.column]))
        return ", ".join(f"{axis} {title}" for axis, title in titles if axis)


@dataclass(frozen=True)
class Moment:
    """The progress of a comparison.

    Args:
        text, fraction: for the line of progress.
        cell: the index of the current cell.
        frame: the image so far.
        card: the cell for an `image_table`, after its image was kept.
        notes: what was left out, and warnings of models, so far.
    """

    text: str
    fraction: float
    cell: int = 0
    frame: Image.Image | None = None
    card: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()


class Comparisons:
    """The comparisons of all people.

    Args:
        studio: with the models and the kept images. `request` is that of Gradio everywhere, or None.
    """

    def __init__(self, studio: Studio):
        self.studio = studio

    def folder(self, request: Any) -> Path:
        """The folder of the person who asks."""
        return self.studio.outputs.folder(self.studio.person(request)) / FOLDER

    def start(self, plan: Plan, request: Any) -> Comparison:
        """Keeps a new comparison, none of whose images is generated."""
        comparison = Comparison.of(plan)
        make_folder(self.folder(request))
        self._write(comparison, request)
        return comparison

    def _write(self, comparison: Comparison, request: Any) -> None:
        path = self.folder(request) / f"{comparison.id}.json"
        write_bytes(path, to_json(asdict(comparison), indent=1).encode())

    def _path(self, number: object, request: Any) -> Path:
        if isinstance(number, str) and re.fullmatch(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{8}", number):
            path = self.folder(request) / f"{number}.json"
            if path.is_file():
                return path
        raise CondgenError(f"There is no comparison {short(number)} any more. It may have been deleted.")

    def get(self, number: object, request: Any) -> Comparison:
        """A comparison of the person who asks; `CondgenError` where there is none, or it is damaged."""
        path = self._path(number, request)
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            cells = [Cell(**cell | {"settings": Settings(**cell["settings"])}) for cell in fields["cells"]]
            comparison = Comparison(**fields | {"cells": cells})
            for cell in cells:
                comparison.alt(cell)
        except (OSError, ValueError, TypeError, KeyError, IndexError, RecursionError):
            raise CondgenError(f"The comparison {number} is damaged. Delete it.") from None
        for cell in cells:
            if cell.image and not self._image(cell, request):
                cell.image = ""
        return comparison

    def _image(self, cell: Cell, request: Any) -> SavedImage | None:
        """The kept image of a cell, if it is still there."""
        try:
            return self.studio.outputs.get(self.studio.person(request), cell.image)
        except CondgenError:
            return None

    def list(self, request: Any) -> list[tuple[str, str]]:
        """Title and id of the comparisons of a person, the newest first."""
        folder, found = self.folder(request), []
        for path in sorted(folder.glob("*.json"), reverse=True)[:SHOWN] if folder.is_dir() else []:
            try:
                one = self.get(path.stem, request)
            except CondgenError:
                found.append((f"{path.stem} (damaged)", path.stem))
                continue
            day, clock = one.id[:8], one.id[9:13]
            done = sum(bool(cell.image) for cell in one.cells)
            count = f"{done} of {len(one.cells)}" if done < len(one.cells) else f"{done} images"
            when = f"{day[:4]}-{day[4:6]}-{day[6:]} {clock[:2]}:{clock[2:]}"
            found.append((f"{when}, {one.title}, {count}", one.id))
        return found

    def delete(self, number: object, request: Any) -> None:
        """Deletes a comparison and its sheet; its images stay."""
        path = self._path(number, request)
        path.with_suffix(".png").unlink(missing_ok=True)
        path.unlink(missing_ok=True)

    def run(self, number: str, request: Any) -> Iterator[Moment]:
        """Generates the images that are missing. Closing the generator stops within a step.

        Raises:
            CondgenError: a model is no longer there, or the outputs are full; finished images are kept.
        """
        comparison = self.get(number, request)
        waiting = [k for k, cell in enumerate(comparison.cells) if not cell.image]
        total, began = len(comparison.cells), time.perf_counter()
        several = len({cell.settings.model for cell in comparison.cells}) > 1
        before = total - len(waiting)
        for k, index in enumerate(waiting):
            cell = comparison.cells[index]
            yield Moment(f"Opening {cell.settings.model}.", (before + k) / total, index, notes=comparison.notes)
            model, asked = cell.settings.request(self.studio.open)
            with closing(serve(model, asked)) as snapshots:
                for snapshot in snapshots:
                    notes = [f"{cell.settings.model}: {note}" if several else note for note in snapshot.notes]
                    comparison.notes = tuple(dict.fromkeys([*comparison.notes, *notes]))
                    card = self._finish(comparison, cell, snapshot.done[0], request) if snapshot.done else None
                    share = k + snapshot.fraction
                    text = f"image {before + k + 1} of {total}{_step(snapshot)}{_left(began, share, len(waiting))}"
                    yield Moment(text, (before + share) / total, index, snapshot.frame, card, comparison.notes)
        seconds = time.perf_counter() - began
        yield Moment(f"{total} images, {len(waiting)} of them new, {seconds:.1f} s", 1.0, notes=comparison.notes)

    def _finish(self, comparison: Comparison, cell: Cell, generated: Any, request: Any) -> dict[str, Any]:
        self._path(comparison.id, request)  # it may have been deleted
        image = self.studio.keep(generated, request)
        cell.image, cell.recipe = image.id, generated.recipe
        cell.ms, cell.clip_score = generated.ms, generated.clip_score
        self._write(comparison, request)
        return self.card(comparison, cell, request)

    def cards(self, comparison: Comparison, request: Any) -> list[dict[str, Any]]:
        """The cells for an `image_table`."""
        return [self.card(comparison, cell, request) for cell in comparison.cells]

    def card(self, comparison: Comparison, cell: Cell, request: Any) -> dict[str, Any]:
        """A cell for an `image_table`, pending before its image is there."""
        place = {"row": cell.row, "column": cell.column, "axes": comparison.axes, "alt": comparison.alt(cell)}
        place |= {"row_title": comparison.rows[cell.row], "column_title": comparison.columns[cell.column]}
        image = self._image(cell, request) if cell.image else None
        if image is None:
            return place | {"pending": True}
        from condgen.studio.studio import PIXELS

        place["pixels"] = cell.recipe.get("size", PIXELS) < PIXELS
        star = image.id in self.studio.outputs.stars(self.studio.person(request))
        return self.studio.card(image, cell.caption, request, star=star, **place)

    def sheet(self, comparison: Comparison, request: Any) -> tuple[Path, Path] | None:
        """Writes the sheet beside the comparison; both as files that the server serves, None without any image."""
        done = [cell for cell in comparison.cells if cell.image]
        if not done:
            return None
        path = self._path(comparison.id, request)
        write_bytes(path.with_suffix(".png"), png_bytes(self._drawn(comparison, request)))
        person, version = self.studio.person(request), path.stat().st_mtime_ns
        served = [
            self.studio.outputs.shown(person, SavedImage(f"{version}/{file.name}", file))
            for file in (path.with_suffix(".png"), path)
        ]
        return served[0], served[1]

    def answer(self, number: str, request: Any) -> dict[str, Any]:
        """A finished comparison for the API: plain values; images, sheet and report as paths of served files."""
        comparison, person = self.get(number, request), self.studio.person(request)
        cells = []
        for cell in sorted(comparison.cells, key=lambda cell: (cell.row, cell.column)):
            image = self._image(cell, request)
            facts = {"row": cell.row, "column": cell.column, "recipe": cell.recipe, "ms": cell.ms}
            shown = self.studio.outputs.shown(person, image) if image else None
            cells.append(facts | {"match": cell.clip_score, "image": shown})
        sheet, report = self.sheet(comparison, request) or (None, None)
        about = {"id": comparison.id, "axes": [*comparison.axes], "rows": [*comparison.rows]}
        about |= {"columns": [*comparison.columns], "notes": [*comparison.notes]}
        return about | {"cells": cells, "sheet": sheet, "report": report}

    def _drawn(self, comparison: Comparison, request: Any) -> Image.Image:
        """One image with all cells and the headings."""
        width = len(comparison.columns) + 1
        corner = " / ".join(filter(None, comparison.axes))
        images: list[Image.Image | None] = [tile(text, CELL) for text in (corner, *comparison.columns)]
        images += [None] * (width * len(comparison.rows))
        labels = [""] * len(images)
        for k, row in enumerate(comparison.rows, 1):
            images[k * width] = tile(row, CELL)
        for cell in comparison.cells:
            if kept := self._image(cell, request) if cell.image else None:
                place = (cell.row + 1) * width + cell.column + 1
                with Image.open(kept.path, formats=("PNG",)) as image:
                    images[place] = image.copy()
                labels[place] = cell.caption
        return grid(images, labels, width, CELL)


def _step(snapshot: Any) -> str:
    return f", step {snapshot.step} of {snapshot.steps}" if snapshot.steps > 1 and not snapshot.done else ""


def _left(began: float, share: float, count: int) -> str:
    """The time that is left, where it can be estimated and exceeds two seconds."""
    seconds = time.perf_counter() - began
    left = seconds / share * (count - share) if share > 0.05 and seconds > 0.5 else 0
    return f", {left:.0f} s left" if 2 <= left < 100 else f", {left / 60:.0f} min left" * (left >= 100)
