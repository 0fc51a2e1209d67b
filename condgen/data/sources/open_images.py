"""Opens images for unconditional models: labelled or captioned images in any format, or a folder of images.

Labels are kept for evaluation if there are any; captions are not read.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from condgen.contracts import CondgenError
from condgen.data.datasets.labels import LabelledImages
from condgen.data.formats.arrays import Arrays
from condgen.data.options import DEFAULTS, ReadOptions
from condgen.data.sources.label_rows import LabelledRows, NoClasses, NothingLabelled
from condgen.data.sources.labels import check_shape, find, open_labelled, read_found
from condgen.data.sources.objects import as_path
from condgen.data.sources.rows import named_split, open_source, plain_folder


def open_any(
    path: str | os.PathLike[str],
    size: int = 0,
    image_channels: int = 0,
    options: ReadOptions = DEFAULTS,
    *,
    split: str = "train",
    **changes: Any,
) -> LabelledImages:
    """Reads images into memory, with their attributes if they have any.

    A folder of unlabelled images is split by the rule of `captions`; its subfolders are not classes if all of them are
    named like splits.

    Args:
        options: how to read the images; with a `caption_column` they are read as captioned images.
        path and the rest: see `labels.open_labelled`.

    Raises:
        CondgenError: there is no readable data, or too many rows are unusable.
    """
    options = options.but(**changes)
    check_shape(size, image_channels)
    path = as_path(path)
    if not options.caption_column:
        try:
            found = find(path, options.but(guess_attributes=False), size)
        except (NothingLabelled, NoClasses):
            if options.label_column:
                raise
            found = None
        if found is not None and not _are_splits(found):
            return open_labelled(path, size, image_channels, options, split=split)
    if options.exclude_classes:
        raise CondgenError(f"{path} has no classes, so {options.exclude_classes} cannot be excluded.")
    try:
        source = open_source(path, options)
    except CondgenError:
        source = plain_folder(Path(path).expanduser())
        if source is None or options.selected:
            raise
    return read_found(LabelledRows(source), size, image_channels, options, split)


def _are_splits(found: Arrays | LabelledRows) -> bool:
    """Whether the class folders are in fact splits (train, test) of unlabelled images."""
    classes = found.source.classes if isinstance(found, LabelledRows) else ()
    return bool(classes) and all(named_split(Path(name), own=True) for name in classes)
