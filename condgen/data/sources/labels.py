"""Reads labelled images in the common layouts.

    folder/cat/a.png, folder/dog/b.png   one folder per class, optionally below train/ and test/
    folder/metadata.csv, .jsonl          `file_name`, `label` and attributes; or the path of such a table
    shards/*.parquet                     `image`, `label` and attributes, as in captioned data, see `captions`
    folder/train-images-idx3-ubyte       MNIST's idx files, also .gz: a folder of them, or one file; see `idx`
    folder/data_batch_1.bin              CIFAR's binary batches; see `cifar`
    dsprites.npz                         dSprites as published, and files of its layout; see `dsprites`
    digits                               scikit-learn's digits: 1,797 grey images of 8 x 8 pixels; nothing is downloaded
    scenes                               single shapes with known factors, drawn at any size; see `synthetic.factors`
    torchvision:FashionMNIST             data sets of torchvision, downloaded; see `remote`
    hub:ylecun/mnist                     parquet files of a data set on the Hugging Face hub, downloaded; see `remote`

Further formats are added with `formats.registry.register_format`.

Splits come from the first of these that exists: a split column; the names of files or folders (train, t10k, test);
otherwise a fixed hash of the file name (or of `file:row`) puts 5 % in test (20 % of the digits). All splits share the
attributes and their values; mean and sd of a real number are computed on train (with a hash, on all rows).

Class names come from the folders or cells; the column label_name beside label; the features in a parquet file; a file
`class_names.txt` or `classes.txt` beside the data, one name per line; a known checksum of the labels (Fashion-MNIST);
or the caller. Classes without names are named by their numbers.

An image is grey if its channels are equal. Grey images among colour ones become RGB, with a warning. With a size,
images are cropped or padded to a square and resampled with Lanczos, see `images.fit`.
"""

from __future__ import annotations

import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from condgen.contracts import CondgenError, CondgenWarning
from condgen.data.attributes import LABEL
from condgen.data.formats import cifar, dsprites, idx, remote
from condgen.data.formats.arrays import ASK_SIZE, Arrays, checked_names, coloured, squared
from condgen.data.formats.registry import (
    LabelledFormat,
    is_builtin,
    is_shard,
    is_table,
    labelled_formats,
    register_format,
    tables_among,
)
from condgen.data.options import DEFAULTS, SELECTING, ReadOptions
from condgen.data.progress import RowTally
from condgen.data.sources.images import files_below, fit, list_files
from condgen.data.sources.label_rows import LabelledRows, NoClasses, NothingLabelled, open_classes, open_table
from condgen.data.sources.objects import as_path
from condgen.data.sources.rows import Source, open_source
from condgen.data.sources.tables import IMAGE, LABELS, column_names
from condgen.data.sources.webdataset import shard_files
from condgen.data.synthetic import factors

if TYPE_CHECKING:
    from condgen.data.datasets.labels import LabelledImages

EXPECTED = (
    "Expected a folder for every class (cat/a.png, dog/b.png), metadata.csv, .jsonl or parquet files with the columns "
    "image (or file_name) and label, idx files (train-images-idx3-ubyte, .gz or not), CIFAR's .bin files, or the word "
    "'digits' or 'scenes'."
)


def open_labelled(
    source: str | os.PathLike[str],
    size: int = 0,
    image_channels: int = 0,
    options: ReadOptions = DEFAULTS,
    *,
    split: str = "train",
    name: str = "",
    **changes: Any,
) -> LabelledImages:
    """Reads labelled images into memory; this module's docstring lists the layouts.

    Args:
        source: a path, or the name of a data set.
        size: edge length S in pixels; 0 keeps the size of the images, which must be equal and square.
        image_channels: 1 for grey, 3 for RGB; 0 chooses RGB if any image has colours.
        options: how to read them; `changes` replace fields of it.
        split: `train`, `test`, another split that the data has, or `all`.
        name: name of the data; by default taken from the path.

    Returns:
        N images, uint8 (N, C, S, S), and their targets; all splits have the same attributes.

    Raises:
        CondgenError: there is no readable data, a split or column does not exist, labels are invalid, image sizes
            differ and `size` is 0, or too many rows are unusable.
    """
    options = options.but(**changes)
    check_shape(size, image_channels)
    source = as_path(source)
    data = read_found(find(source, options, size), size, image_channels, options, split, name)
    _warn_of_gaps(str(source), split, data)
    return without_classes(data, options.exclude_classes) if options.exclude_classes else data


def check_shape(size: int, image_channels: int) -> None:
    """Raises `CondgenError` for an invalid size or number of channels."""
    if size < 0 or image_channels not in (0, 1, 3):
        raise CondgenError(f"Images have a size >= 0 and 0, 1 or 3 channels, got {size} and {image_channels}.")


def read_found(
    found: Arrays | LabelledRows, size: int, image_channels: int, options: ReadOptions, split: str, name: str = ""
) -> LabelledImages:
    """Reads the images of a split from the result of `find`."""
    from condgen.data.datasets.labels import LabelledImages

    if isinstance(found, Arrays):
        images, targets = found.read(split)
        images = np.ascontiguousarray(coloured(squared(images, size, options.resize, found.path), image_channels))
    else:
        images, targets = _gather(found, size, image_channels, options, split)
    return LabelledImages(images, found.attributes, targets, name or found.name)


def without_classes(data: LabelledImages, classes: str) -> LabelledImages:
    """Leaves out the images of some classes, named in `classes` and separated by commas.

    Raises:
        CondgenError: the data has no classes, a class is unknown, or no image is left.
    """
    label = next((attribute for attribute in data.attributes if attribute.name == LABEL), None)
    if label is None:
        raise CondgenError(f"{data.name} has no classes, so {classes} cannot be excluded.")
    names = [classes] if classes in label.values else [name.strip() for name in classes.split(",")]
    kept = ~np.isin(data.targets[:, data.attributes.index(label)], [label.encode(name) for name in names])
    if not kept.any():
        raise CondgenError(f"No image of {data.name} is left without {classes}.")
    return data.rows(np.flatnonzero(kept))


# Formats --------------------------------------------------------------------------------------------------------------


def find(source: str | os.PathLike[str], options: ReadOptions = DEFAULTS, size: int = 0) -> Arrays | LabelledRows:
    """Detects the format of the data and reads its labels, but no image. See `open_labelled`.

    A word that is the name of a data set and a path is refused; a `Path` is always a path.

    Args:
        options: columns, filter and class names.
        size: edge of drawn images.

    Raises:
        NothingLabelled: the data does not look like labelled images.
        CondgenError: the labelled images are invalid.
    """
    word = word_of(as_path(source))
    checked_names(options.class_names, "class_names")
    for form in labelled_formats():
        if form.matches(word, options):
            if wrong := [name for name in options.selected if name not in form.takes]:
                raise CondgenError(
                    f"{word} is {form.name}, where {', '.join(wrong)} cannot be chosen"
                    + (f": only {' and '.join(form.takes)}." if form.takes else ".")
                )
            return form.open(word, options, size)
    path = Path(word).expanduser()
    if not path.exists():
        raise NothingLabelled(f"{path} is not there. {EXPECTED}")
    raise NothingLabelled(f"{path} holds no labelled images in a known format. {EXPECTED}")


def word_of(source: str | os.PathLike[str]) -> str:
    """The data as text; a `Path` never reads like the name of a data set."""
    word = os.fspath(source)
    named = not isinstance(source, str) and os.sep not in word
    return os.path.join(os.curdir, word) if named else word


def every_attribute(source: str | os.PathLike[str]) -> tuple[str, ...]:
    """Names all attributes of data that by default has only its class, such as scenes; () for other data."""
    word = word_of(source)
    return next((form.attributes(word) for form in labelled_formats() if form.matches(word, DEFAULTS)), ())


def open_either(path: str | os.PathLike[str], options: ReadOptions = DEFAULTS) -> Source | Arrays | LabelledRows:
    """Opens captioned or labelled data without reading images. Captions take precedence unless labels are named."""
    if options.label_column or options.attribute_columns:
        return find(path, options)
    any(is_builtin(word_of(path), name) for name in (remote.DIGITS, factors.SCENES))  # refuses what could be both
    try:
        return open_source(path, options)
    except CondgenError:
        if not options.caption_column:
            with suppress(NothingLabelled, NoClasses):
                return find(path, options.but(guess_attributes=False))
        raise


def _table(word: str, options: ReadOptions) -> str | Path | None:
    """The table or folder of tables of the data; None for other data."""
    if shard_files(word) is not None:
        return word
    path = Path(word).expanduser()
    if path.is_file():
        return path if is_table(path) else None
    if not path.is_dir():
        return None
    files = tables_among(files_below(path), path)
    if any(file.stem == "metadata" or is_shard(file) for file in files):
        return path
    files = [file for file in files if file.parent == path and _has_labels(file, options)]
    if len(files) > 1:
        there = ", ".join(file.name for file in files[:4])
        raise CondgenError(f"{path} has several tables of labels ({there}). Give the path of one of them.")
    return files[0] if files else None


def _has_labels(file: Path, options: ReadOptions) -> bool:
    names = {name.lower() for name in column_names(file)}
    wanted = {name.lower() for name in (options.label_column, *options.attribute_columns) if name} or set(LABELS)
    return bool(names & wanted and names & {options.image_column.lower(), *IMAGE})


def _holds_classes(word: str, options: ReadOptions) -> bool:
    path = Path(word).expanduser()
    if path.exists():
        cifar.refuse_pickles(path)
    return path.is_dir() and bool(list_files(path).images)


register_format(
    LabelledFormat("a folder of classes", _holds_classes, lambda word, *_: open_classes(Path(word).expanduser())),
    cifar.FORMAT,
    idx.FORMAT,
    LabelledFormat(
        "a table",
        lambda word, options: _table(word, options) is not None,
        lambda word, options, size: open_table(_table(word, options), options),
        SELECTING,
    ),
    remote.TORCHVISION_FORMAT,
    remote.DIGITS_FORMAT,
    dsprites.FORMAT,
    factors.FORMAT,
    LabelledFormat(
        "a data set of the hub",
        lambda word, options: word.startswith(remote.HUB),
        lambda word, options, size: open_table(remote.fetch_hub(word), options),
        SELECTING,
    ),
)


# Gathering ------------------------------------------------------------------------------------------------------------


class _Stack:
    """Collects pixels of images of one size; by default keeps them grey until an image has colours."""

    def __init__(self, size: int, image_channels: int, options: ReadOptions, source: str):
        self.size, self.asked, self.options, self.source = size, image_channels, options, source
        self.image_channels = image_channels or 1
        self.pixels, self.greys, self.count = bytearray(), [], 0
        self.first: tuple[str, tuple[int, int]] | None = None

    def add(self, key: str, image: Image.Image) -> None:
        """Adds an image of mode RGB."""
        self._check_size(key, image.size)
        pixels = fit(image, self.size or image.width, self.options.resize, background=self.options.background)
        if self.asked == 0:
            grey = bool((pixels == pixels[:1]).all())
            self.greys += [key] * grey
            if not grey and self.image_channels == 1:
                self.pixels = bytearray(np.repeat(self._stacked(1), 3, axis=1).tobytes())
                self.image_channels = 3
            self.pixels += (pixels if self.image_channels == 3 else pixels[:1]).tobytes()
        else:
            self.pixels += coloured(pixels, self.asked).tobytes()
        self.count += 1

    def _check_size(self, key: str, size: tuple[int, int]) -> None:
        if self.size:
            return
        if self.first is None:
            self.first = (key, size)
        if size != self.first[1]:
            one, (width, height) = self.first
            raise CondgenError(
                f"{self.source} has images of several sizes: {one} is {width} x {height}, {key} is {size[0]} x "
                f"{size[1]}. {ASK_SIZE}"
            )
        if size[0] != size[1]:
            raise CondgenError(f"{self.source}: {key} is {size[0]} x {size[1]}, not square. {ASK_SIZE}")

    def _stacked(self, image_channels: int) -> np.ndarray:
        edge = self.size or (self.first[1][0] if self.first else 1)
        return np.frombuffer(self.pixels, np.uint8).reshape(-1, image_channels, edge, edge)

    def images(self) -> np.ndarray:
        """Returns uint8 (N, C, S, S); warns if grey images were converted to RGB."""
        if self.image_channels == 3 and self.greys:
            message = (
                f"{self.source}: {len(self.greys)} of {self.count} images are grey and are converted to RGB:  "
                f"{', '.join(self.greys[:3])}{' ...' if len(self.greys) > 3 else ''}"
            )
            warnings.warn(message, CondgenWarning, stacklevel=2)
        return self._stacked(self.image_channels)


def _gather(
    found: LabelledRows, size: int, image_channels: int, options: ReadOptions, split: str
) -> tuple[np.ndarray, np.ndarray]:
    """Reads images and targets of the usable rows of a split."""
    stack, tally, targets = _Stack(size, image_channels, options, found.path), RowTally(), []
    for row, image, notes, own in found.each(split, options.background, options.value_range):
        if tally.add(row, notes) and image is not None:  # otherwise the row adds captions to an earlier image
            tally.compare(image, size)
            stack.add(row.key, image)
            targets.append(own)
    tally.check(found.source, options.max_bad_fraction)
    return stack.images(), np.stack(targets)


def _warn_of_gaps(path: str, split: str, data: LabelledImages) -> None:
    """Warns of classes without an image or with a single one, and of unknown attributes."""
    notes = []
    for i, attribute in enumerate(data.attributes):
        known = data.targets[:, i][~np.isnan(data.targets[:, i])]
        if len(known) < len(data):
            notes.append(f"{attribute.name} is unknown for {len(data) - len(known)} of {len(data)} images")
        if not attribute.values or split != "train":
            continue
        counts = np.bincount(known.astype(int), minlength=attribute.cardinality)
        for count, message in ((0, "no image has"), (1, "a single image has")):
            few = [value for value, own in zip(attribute.values, counts) if own == count]
            if few:
                some = ", ".join(few[:10]) + (" ..." if len(few) > 10 else "")
                notes.append(f"{message} the {attribute.name} {some}")
    if notes:
        warnings.warn(f"{path}, split {split}: {'; '.join(notes)}.", CondgenWarning, stacklevel=3)
