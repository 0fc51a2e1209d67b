"""Images for those who only look: labelled or captioned ones in any form, or a folder with nothing but images.

Labels are kept where there are any, to judge by; captions are not looked at.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np

from condgen.contracts import CondgenError
from condgen.data.datasets.labels import LabelledPictures
from condgen.data.factors import LABEL
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
    image: str = "",
    text: str = "",
    label: str = "",
    split_column: str = "",
    how: Literal["crop", "pad"] = "crop",
    max_bad: float = 0.01,
    where: str = "",
    without: str = "",
) -> LabelledPictures:
    """Reads images into memory, with their classes where they have some, without any factors where they have none.

    Splits of a folder with nothing but images are told as those of images with captions, see `sources`; its folders
    are no classes where all of them are called like splits.

    Args:
        text: the column of captions, only where the data must be taken for captioned images.
        without: classes to leave out, with commas between them.
        path and the rest: see `labels.open_labelled`.

    Raises:
        CondgenError: nothing there that can be read, or too many bad rows.
    """
    if not text:
        try:
            found = find(path, Columns(image, "", split_column, label), where, guess=False)
        except (NothingLabelled, NoClasses):
            if label:
                raise
            found = None
        if found is not None and not _are_splits(found):
            data = open_labelled(
                path, size, image_channels, split=split, image=image, label=label, split_column=split_column, how=how,
                max_bad=max_bad, where=where,
            )  # fmt: skip
            return left_out(data, without) if without else data
    if without:
        raise CondgenError(f"{path} has no classes of which {without} could be left out.")
    try:
        source = open_source(path, Columns(image, text, split_column), where)
    except CondgenError:
        source = plain_folder(Path(path).expanduser())
        if source is None or image or text or split_column or where:
            raise
    rows = LabelledRows(source, (), {})
    images, _ = gather(rows, split, size, image_channels, how, max_bad)
    return LabelledPictures(images, (), np.zeros((len(images), 0), np.float32), source.name)


def left_out(data: LabelledPictures, classes: str) -> LabelledPictures:
    """The images that are of none of some classes, their names with commas between them.

    Raises:
        CondgenError: there are no classes, or none of a name; or nothing is left.
    """
    label = next((factor for factor in data.factors if factor.name == LABEL), None)
    if label is None:
        raise CondgenError(f"{data.name} has no classes of which {classes} could be left out.")
    names = [classes] if classes in label.values else [name.strip() for name in classes.split(",")]
    codes = [label.code(name) for name in names]
    kept = ~np.isin(data.codes[:, data.factors.index(label)], codes)
    if not kept.any():
        raise CondgenError(f"Nothing of {data.name} is left without {classes}.")
    return data.rows(np.flatnonzero(kept))


def _are_splits(found: Arrays | LabelledRows) -> bool:
    """Whether the folders of classes are train and test, with images of which nothing is said."""
    classes = found.source.classes if isinstance(found, LabelledRows) else ()
    return bool(classes) and all(named_split(Path(name), own=True) for name in classes)


def plain_folder(path: Path) -> Source | None:
    """A folder with nothing but images; None where there are none."""
    pictures = [file for file in files_below(path) if file.suffix.lower() in SUFFIXES] if path.is_dir() else []
    if not pictures:
        return None
    named = [named_split(file.relative_to(path), own=False) for file in pictures]
    by_name = any(name and not name.startswith("train") for name in named)
    return Source(path, path, "plain", (), tuple(pictures), by_name)
