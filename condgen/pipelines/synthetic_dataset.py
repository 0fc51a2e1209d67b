"""Labelled images made by a model: as many of every label as are wanted, in memory or as a data set on disk.

write_set(condgen.load("runs/fashion"), "synthetic", 1000, how="parquet")
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from condgen.contracts import CondgenError, check_options, short
from condgen.data.attributes import LABEL
from condgen.data.batches.captions import to_uint8
from condgen.data.export import Contents, place_of, writing
from condgen.pipelines.base import generator
from condgen.pipelines.class_to_image import ClassToImage

BATCH = 64
MOST = 1_000_000


@dataclass(frozen=True)
class Some:
    """Images of one label: uint8 (B, C, S, S), the label's place among the model's, the place of the first."""

    images: np.ndarray
    label: int
    first: int


def pictures(
    model: ClassToImage, per_label: int, labels: Sequence[str] = (), also: Mapping[str, object] | None = None,
    seed: int = 0, batch: int = BATCH, **options: float,
) -> Iterator[Some]:  # fmt: skip
    """Paints `per_label` images of every label; image i of each has seed `seed + i`.

    A batch is painted together. What an image shows depends on label, seed, options and weights alone; its last bits
    also on the size of the batch, for sums of another shape are rounded otherwise: a value may then differ by 1 of 255.
    With the same `batch` all bytes repeat.

    Args:
        labels: some of the model's; all when empty.
        also: further attributes, the same for all images.
        batch: images painted at a time.
        options: the model's own options.

    Raises:
        CondgenError: a number out of range, an unknown label, attribute or option; before anything is painted.
    """
    conditions = _checked(model, per_label, labels, also, seed, batch)
    options = check_options(model.sampling_options, options)
    return _paint(model, conditions, per_label, seed, batch, options)


def _checked(model, per_label, labels, also, seed, batch) -> dict[int, dict]:
    """What is wanted, by the code of its label."""
    for what, value, most in (("images of a label", per_label, MOST), ("images in a batch", batch, 4096)):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise CondgenError(f"The number of {what} must be an integer from 1 to {most}, got {short(value)}.")
    generator(seed)
    generator(seed + per_label - 1)
    if not model.labels:
        raise CondgenError("The labels of this model are numbers, of which there is no list. Paint them one by one.")
    conditions = [model.read(dict(also or {}) | {LABEL: label}) for label in labels or model.labels]
    return {model.labels.index(condition[LABEL]): condition for condition in conditions}


def _paint(model, conditions, per_label, seed, batch, options) -> Iterator[Some]:
    for label, condition in conditions.items():
        for first in range(0, per_label, batch):
            seeds = range(seed + first, seed + min(first + batch, per_label))
            *_, last = model.generate_batch([condition] * len(seeds), seeds, **options)
            yield Some(to_uint8(last.images), label, first)


def write_set(
    model: ClassToImage, out: Path | str, per_label: int, how: str = "folder", labels: Sequence[str] = (),
    also: Mapping[str, object] | None = None, seed: int = 0, batch: int = BATCH,
    progress: Callable[[float, str], None] = lambda share, what: None, **options: float,
) -> Path:  # fmt: skip
    """Writes a labelled data set, see `pictures` and `data.writing`; gives the folder or the file.

    Args:
        how: `folder`, `npz` or `parquet`.
        progress: called after every batch with the share that is done and a line of text.

    Raises:
        CondgenError: see `pictures`; or there is something at that place already.
    """
    place = place_of(Path(out), how)
    conditions = _checked(model, per_label, labels, also, seed, batch)
    options = check_options(model.sampling_options, options)
    total, began = len(conditions) * per_label, time.perf_counter()
    about = {"model": model.name, "model_id": model.model_id, "per_label": per_label, "seed": seed, "batch": batch}
    about |= {"options": options, "also": {k: v for k, v in next(iter(conditions.values())).items() if k != LABEL}}
    counts = tuple(per_label * (code in conditions) for code in range(len(model.labels)))
    contents = Contents(model.labels, counts, (model.image_channels, model.size, model.size), about)
    with writing(place, how, contents) as put:
        done = 0
        for some in _paint(model, conditions, per_label, seed, batch, options):
            put(some.images, some.label, some.first)
            done += len(some.images)
            left = (time.perf_counter() - began) / done * (total - done)
            progress(done / total, f"{done:,} of {total:,} images, {_clock(left)} left")
    return place


def _clock(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
