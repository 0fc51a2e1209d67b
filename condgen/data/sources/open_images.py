"""Images for those who only look: labelled or captioned ones in any form, or a folder with nothing but images.

Labels are kept where there are any, to judge by; captions are not looked at.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np

from condgen.contracts import CondgenError
from condgen.data.attributes import LABEL
from condgen.data.datasets.labels import LabelledImages
from condgen.data.formats.arrays import Arrays
from condgen.data.sources.images import SUFFIXES
from condgen.data.sources.label_rows import LabelledRows, NoClasses, NothingLabelled
from condgen.data.sources.labels import find, gather, open_labelled
from condgen.data.sources.rows import Columns, Source, files_below, named_split, open_source


def open_any(
    path: str | os.PathLike[str],
    size: int = 0,
    image_channels: int = 0,
    *,
    split: str = "train",
    image_column: str = "",
    caption_column: str = "",
    label_column: str = "",
    split_column: str = "",
    resize: Literal["crop", "pad"] = "crop",
    max_bad_fraction: float = 0.01,
    filter: str = "",
    exclude_classes: str = "",
) -> LabelledImages:
    """Reads images into memory, with their classes where they have some, without any attributes where they have none.

    Splits of a folder with nothing but images are told as those of images with captions, see `sources`; its folders
    are no classes where all of them are called like splits.

    Args:
        caption_column: the column of captions, only where the data must be taken for captioned images.
        exclude_classes: classes to leave out, with commas between them.
        path and the rest: see `labels.open_labelled`.

    Raises:
        CondgenError: nothing there that can be read, or too many bad rows.
    """
    if not caption_column:
        try:
            found = find(path, Columns(image_column, "", split_column, label_column), filter, guess=False)
        except (NothingLabelled, NoClasses):
            if label_column:
                raise
            found = None
        if found is not None and not _are_splits(found):
            data = open_labelled(
                path, size, image_channels, split=split, image_column=image_column, label_column=label_column,
                split_column=split_column, resize=resize,
                max_bad_fraction=max_bad_fraction, filter=filter,
            )  # fmt: skip
            return left_out(data, exclude_classes) if exclude_classes else data
    if exclude_classes:
        raise CondgenError(f"{path} has no classes of which {exclude_classes} could be left out.")
    try:
        source = open_source(path, Columns(image_column, caption_column, split_column), filter)
    except CondgenError:
        source = plain_folder(Path(path).expanduser())
        if source is None or image_column or caption_column or split_column or filter:
            raise
    rows = LabelledRows(source, (), {})
    images, _ = gather(rows, split, size, image_channels, resize, max_bad_fraction)
    return LabelledImages(images, (), np.zeros((len(images), 0), np.float32), source.name)


def left_out(data: LabelledImages, classes: str) -> LabelledImages:
    """The images that are of none of some classes, their names with commas between them.

    Raises:
        CondgenError: there are no classes, or none of a name; or nothing is left.
    """
    label = next((attribute for attribute in data.attributes if attribute.name == LABEL), None)
    if label is None:
        raise CondgenError(f"{data.name} has no classes of which {classes} could be left out.")
    names = [classes] if classes in label.values else [name.strip() for name in classes.split(",")]
    targets = [label.encode(name) for name in names]
    kept = ~np.isin(data.targets[:, data.attributes.index(label)], targets)
    if not kept.any():
        raise CondgenError(f"Nothing of {data.name} is left without {classes}.")
    return data.rows(np.flatnonzero(kept))


def _are_splits(found: Arrays | LabelledRows) -> bool:
    """Whether the folders of classes are train and test, with images of which nothing is said."""
    classes = found.source.classes if isinstance(found, LabelledRows) else ()
    return bool(classes) and all(named_split(Path(name), own=True) for name in classes)


def plain_folder(path: Path) -> Source | None:
    """A folder with nothing but images; None where there are none."""
    images = [file for file in files_below(path) if file.suffix.lower() in SUFFIXES] if path.is_dir() else []
    if not images:
        return None
    named = [named_split(file.relative_to(path), own=False) for file in images]
    by_name = any(name and not name.startswith("train") for name in named)
    return Source(path, path, "plain", (), tuple(images), by_name)
