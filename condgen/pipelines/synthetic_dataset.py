"""Synthetic labelled data sets: any number of generated images per label, in memory or on disk.

write_set(condgen.load("runs/fashion"), "synthetic", 1000, format="parquet")
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from condgen.contracts import CondgenError, ProgressCallback, check_options, short
from condgen.data.attributes import LABEL
from condgen.data.batches.base import to_uint8
from condgen.data.export import Contents, place_of, writing
from condgen.pipelines.base import generator
from condgen.pipelines.class_to_image import ClassToImage

BATCH = 64
MAX_PER_LABEL = 1_000_000


@dataclass(frozen=True)
class LabelBatch:
    """Images of one label: uint8 (B, C, S, S), the index of the label, and the index of the first image."""

    images: np.ndarray
    label: int
    first: int


def label_batches(
    model: ClassToImage, per_label: int, labels: Sequence[str] = (), attributes: Mapping[str, object] | None = None,
    seed: int = 0, batch: int = BATCH, **options: float,
) -> Iterator[LabelBatch]:  # fmt: skip
    """Generates `per_label` images of every label; image i of each has seed `seed + i`.

    The content of an image depends on label, seed, options and weights alone; its rounding also on the size of the
    batch: a value may then differ by 1 of 255. With the same `batch`, all bytes repeat.

    Args:
        labels: labels of the model; empty for all.
        attributes: values of further attributes, equal for all images.
        batch: images generated at a time.
        options: sampling options of the model.

    Raises:
        CondgenError: a number is out of range, or a label, attribute or option is unknown. Raised before anything is
            generated.
    """
    conditions = _checked(model, per_label, labels, attributes, seed, batch)
    options = check_options(model.sampling_options, options)
    return _generate(model, conditions, per_label, seed, batch, options)


def _checked(model, per_label, labels, attributes, seed, batch) -> dict[int, dict]:
    """Checks the arguments; returns the condition of each label by its index."""
    for name, value, most in (("images of a label", per_label, MAX_PER_LABEL), ("images in a batch", batch, 4096)):
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise CondgenError(f"The number of {name} must be an integer from 1 to {most}, got {short(value)}.")
    generator(seed)
    generator(seed + per_label - 1)
    if not model.labels:
        raise CondgenError("The labels of this model are numbers, which cannot be listed. Generate them one by one.")
    conditions = [model.resolve(dict(attributes or {}) | {LABEL: label}) for label in labels or model.labels]
    return {model.labels.index(condition[LABEL]): condition for condition in conditions}


def _generate(model, conditions, per_label, seed, batch, options) -> Iterator[LabelBatch]:
    for label, condition in conditions.items():
        for first in range(0, per_label, batch):
            seeds = range(seed + first, seed + min(first + batch, per_label))
            *_, last = model.generate_batch([condition] * len(seeds), seeds, **options)
            yield LabelBatch(to_uint8(last.images), label, first)


def write_set(
    model: ClassToImage, out: Path | str, per_label: int, format: str = "folder", labels: Sequence[str] = (),
    attributes: Mapping[str, object] | None = None, seed: int = 0, batch: int = BATCH,
    progress: ProgressCallback = lambda share, message: None, **options: float,
) -> Path:  # fmt: skip
    """Writes a labelled data set, see `label_batches` and `data.export`; returns the folder or the file.

    Args:
        format: `folder`, `npz` or `parquet`.
        progress: called after every batch.

    Raises:
        CondgenError: see `label_batches`; or the file or folder exists.
    """
    place = place_of(Path(out), format)
    conditions = _checked(model, per_label, labels, attributes, seed, batch)
    options = check_options(model.sampling_options, options)
    total, began = len(conditions) * per_label, time.perf_counter()
    about = {"model": model.name, "model_id": model.model_id, "per_label": per_label, "seed": seed, "batch": batch}
    about |= {
        "options": options,
        "attributes": {k: v for k, v in next(iter(conditions.values())).items() if k != LABEL},
    }
    counts = tuple(per_label * (code in conditions) for code in range(len(model.labels)))
    contents = Contents(model.labels, counts, (model.image_channels, model.size, model.size), about)
    with writing(place, format, contents) as put:
        done = 0
        for one in _generate(model, conditions, per_label, seed, batch, options):
            put(one.images, one.label, one.first)
            done += len(one.images)
            left = (time.perf_counter() - began) / done * (total - done)
            progress(done / total, f"{done:,} of {total:,} images, {_clock(left)} left")
    return place


def _clock(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
