"""Reads the images to evaluate on as those of the training were read, where the options say nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from condgen.contracts import CondgenError
from condgen.data.datasets.labels import LabelledImages
from condgen.evaluation.options import DataOptions

NAMES = ("image_column", "caption_column", "label_column", "split_column", "filter", "resize")
"""Options that say how images are read; readers of data have arguments of these names."""


def given(options: DataOptions) -> dict[str, str]:
    """How the options say that images are read."""
    found = {name: getattr(options, name, None) for name in NAMES}
    return {name: value for name, value in found.items() if value is not None}


def as_trained(model: Any, names: Iterable[str], kinds: type | tuple[type, ...] = str) -> dict[str, Any]:
    """How images were read for training, as far as the model's index holds values of these kinds."""
    trained = model.about.get("reading")
    trained = trained if isinstance(trained, dict) else {}
    return {name: trained[name] for name in names if isinstance(trained.get(name), kinds)}


def read_train_and_test(
    model: Any, options: DataOptions, reader: Callable[..., LabelledImages], how: dict[str, Any]
) -> tuple[LabelledImages, LabelledImages]:
    """Training and test images.

    Args:
        model: `about["data"]` names the data of its training.
        options: which data, and which split of it is the test.
        reader: `open_labelled` or `open_any`.
        how: further arguments of the reader; classes are excluded from the training images alone.

    Raises:
        CondgenError: there are none, or they cannot be read.
    """
    source = options.data or model.about.get("data")
    if not source or not isinstance(source, str):
        raise CondgenError(f"{model.name} does not say what it was trained on: name the images with --data.")
    shape = (model.size, model.image_channels)
    try:
        train = reader(source, *shape, split="train", **how)
        how = {name: value for name, value in how.items() if name != "exclude_classes"}
        return train, reader(source, *shape, split=options.split, **how)
    except CondgenError as error:
        hint = "" if options.data else " These are the images of the training; --data names others."
        raise CondgenError(f"{error}{hint}") from None
