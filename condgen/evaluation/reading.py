"""Reads the images to evaluate on as those of the training were read, where the options say nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from condgen.contracts import CondgenError
from condgen.data.datasets.labels import LabelledImages
from condgen.data.options import FIELDS, ReadOptions
from condgen.evaluation.options import DataOptions


def read_options(model: Any, options: DataOptions, **changes: Any) -> ReadOptions:
    """How images are read: as the options say, else as the index of the model says; None for the options alone."""
    given = {name: getattr(options, name, None) for name in FIELDS}
    return ReadOptions.stored(getattr(model, "about", {}).get("reading"), **given | changes)


def read_train_and_test(
    model: Any, options: DataOptions, reader: Callable[..., LabelledImages]
) -> tuple[LabelledImages, LabelledImages]:
    """Training and test images.

    Args:
        model: `about["data"]` names the data of its training.
        options: which data, and which split of it is the test.
        reader: `open_labelled` or `open_any`; classes are excluded from the training images alone.

    Raises:
        CondgenError: there are none, or they cannot be read.
    """
    source = options.data or model.about.get("data")
    if not source or not isinstance(source, str):
        raise CondgenError(f"{model.name} does not say what it was trained on: name the images with --data.")
    shape, how = (model.size, model.image_channels), read_options(model, options)
    try:
        train = reader(source, *shape, how, split="train")
        return train, reader(source, *shape, how, split=options.split, exclude_classes="")
    except CondgenError as error:
        hint = "" if options.data else " These are the images of the training; --data names others."
        raise CondgenError(f"{error}{hint}") from None
