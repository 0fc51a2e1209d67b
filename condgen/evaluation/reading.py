"""Reads the images to evaluate on; by default as the training images were read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from condgen.contracts import CondgenError
from condgen.data.datasets.labels import LabelledImages
from condgen.data.options import FIELDS, ReadOptions
from condgen.evaluation.options import DataOptions


def read_options(model: Any, options: DataOptions, **changes: Any) -> ReadOptions:
    """The reading options given on the command line; the index of the model gives the defaults, if it has any."""
    given = {name: getattr(options, name, None) for name in FIELDS}
    return ReadOptions.stored(getattr(model, "about", {}).get("reading"), **given | changes)


def read_train_and_test(
    model: Any, options: DataOptions, reader: Callable[..., LabelledImages]
) -> tuple[LabelledImages, LabelledImages]:
    """Training and test images.

    Args:
        model: a pipeline whose `about["data"]` names its training data.
        options: the data, and its test split.
        reader: `open_labelled` or `open_any`; classes are excluded from the training images only.

    Raises:
        CondgenError: there are no images, or they cannot be read.
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
