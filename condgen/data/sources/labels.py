"""Labelled images in the forms people have them.

    folder/cat/a.png, folder/dog/b.png   a folder for every class; also with train/ and test/ above these
    folder/metadata.csv, .jsonl          `file_name`, `label`, and attributes; or the path of any such table
    shards/*.parquet                     `image`, `label`, and attributes: as metadata and shards with captions have it
    folder/train-images-idx3-ubyte       MNIST's idx files, also .gz: a folder of them, or one file; see `idx`
    folder/data_batch_1.bin              CIFAR's binary batches; see `cifar`
    dsprites.npz                         dSprites as published, and files of its layout; see `dsprites`
    digits                               scikit-learn's: 1,797 real images, 8 x 8, grey; nothing is downloaded
    scenes                               single shapes whose attributes are all known, drawn at any size; see `singles`
    torchvision:FashionMNIST             what torchvision knows, where there is network; see `known`
    hub:ylecun/mnist                     parquet files of a data set on the Hugging Face hub, where there is network

Splits come from the first of these that is there: a split column; the names of files or folders (train, t10k, test);
else a fixed hash of the file name (or of `file:row`) puts 5 % in test, of the digits 20 %. Factors and their values are
the same in all splits; mean and sd of a real attribute are those of train (where a hash splits, of all rows).

Classes have the names that the data gives them: those of their folders or cells; of the column label_name beside
label; of the features in a parquet file; of a file `class_names.txt` or `classes.txt` beside the data, one name a line;
those of data that is known by its labels' checksum (Fashion-MNIST); or those that the caller gives. Else they are
called by their numbers.

An image is grey where its channels are equal. Grey images among colour ones become RGB, and are counted. Where a
size is asked for, images are cropped (or padded) to a square and resampled with Lanczos, see `images.fit`.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

from condgen.contracts import CondgenError, CondgenWarning
from condgen.data.attributes import LABEL
from condgen.data.formats.arrays import ASK_SIZE, Arrays, checked_names, coloured, squared
from condgen.data.formats.cifar import bin_files, open_cifar, refuse_pickles
from condgen.data.formats.dsprites import factors_of, is_npz, open_dsprites
from condgen.data.formats.idx import idx_files, open_idx
from condgen.data.formats.remote import DIGITS, HUB, TORCHVISION, fetch_hub, open_digits, open_torchvision
from condgen.data.sources.captions import Tally, judge
from condgen.data.sources.images import SUFFIXES, fit
from condgen.data.sources.label_rows import LabelledRows, NothingLabelled, open_classes, open_table
from condgen.data.sources.rows import GUESSED, Columns, Source, files_below, is_idx, open_source
from condgen.data.sources.tables import IMAGE, LABELS, SHARDS, column_names
from condgen.data.sources.webdataset import shard_files
from condgen.data.synthetic.factors import FACTORS, SCENES, open_singles

if TYPE_CHECKING:
    from condgen.data.datasets.labels import LabelledImages

FORMS = (
    "Expected a folder for every class (cat/a.png, dog/b.png), metadata.csv, .jsonl or parquet files with the columns "
    "image (or file_name) and label, idx files (train-images-idx3-ubyte, .gz or not), CIFAR's .bin files, or the word "
    "'digits' or 'scenes'."
)


def open_labelled(
    source: str | os.PathLike[str],
    size: int = 0,
    image_channels: int = 0,
    *,
    split: str = "train",
    image_column: str = "",
    label_column: str = "",
    attribute_columns: Sequence[str] = (),
    split_column: str = "",
    resize: Literal["crop", "pad"] = "crop",
    max_bad_fraction: float = 0.01,
    name: str = "",
    names: Sequence[str] = (),
    filter: str = "",
) -> LabelledImages:
    """Reads labelled images into memory; the forms are at the top of this module.

    Args:
        source: where the data is, or the word for it.
        size: edge length S in pixels; 0: as they are, which must be one size, and square.
        image_channels: 1 for grey, 3 for RGB; 0: as they are, RGB where any image has a colour.
        split: `train`, `test`, another split that the data has, or `all`.
        image_column, label_column, attribute_columns, split_column: columns of a table; guessed where empty,
            attributes only where there is no label.
        resize: `crop` to the centred square or `pad` to it.
        max_bad_fraction: share of rows, 0 to 1, that may be unusable; those are left out with a `CondgenWarning`.
        name: what the data is called; guessed from the path where it is empty.
        names: names of the classes 0, 1, 2 ..., where the data only numbers them.
        filter: keeps rows of a table by their columns: `vendor=noto,heldout_pair=false`.

    Returns:
        N images, uint8 (N, C, S, S), and their codes; the attributes are the same whatever the split.

    Raises:
        CondgenError: nothing there that can be read, no such split or column, labels that cannot be, images of
            several sizes where none is asked for, or too many bad rows.
    """
    from condgen.data.datasets.labels import LabelledImages

    if size < 0 or image_channels not in (0, 1, 3) or resize not in ("crop", "pad"):
        raise CondgenError(
            f"Images have a size >= 0, 0, 1 or 3 colours, and are fitted by 'crop' or 'pad'; got {size}, "
            f"{image_channels} and {resize!r}."
        )
    columns = Columns(image_column, "", split_column, label_column, tuple(attribute_columns))
    found = find(source, columns, filter, tuple(names), size=size)
    if isinstance(found, Arrays):
        images, targets = found.read(split)
        images = np.ascontiguousarray(coloured(squared(images, size, resize, found.path), image_channels))
    else:
        images, targets = gather(found, split, size, image_channels, resize, max_bad_fraction)
    data = LabelledImages(images, found.attributes, targets, name or found.name)
    _tell(found.path, split, data)
    return data


def find(
    source: str | os.PathLike[str],
    columns: Columns = GUESSED,
    filter: str = "",
    names: tuple[str, ...] = (),
    guess: bool = True,
    size: int = 0,
) -> Arrays | LabelledRows:
    """Finds out in which form the data is; reads labels, and no image. See `open_labelled`.

    A word goes before a folder of that name, which is given as ./digits. Where `guess` is false, a table without a
    label has no attributes either. What is drawn is drawn with the edge `size`.

    Raises:
        NothingLabelled: there is nothing that looks like labelled images.
        CondgenError: there is, and it is at fault.
    """
    names, word = checked_names(names, "names"), os.fspath(source)
    if word.startswith(HUB):
        return open_table(fetch_hub(word), columns, filter, names, guess)
    if word == SCENES:
        if filter or names or columns.image_column or columns.split_column:
            raise CondgenError(f"{word} is drawn: a label and attributes can be chosen, and nothing else.")
        return open_singles(size, columns.label_column, columns.attribute_columns)
    if is_npz(word):
        if filter or names or columns.image_column or columns.split_column:
            raise CondgenError(f"{word} is no table: a label and attributes can be chosen, and nothing else.")
        return open_dsprites(Path(word).expanduser(), columns.label_column, columns.attribute_columns)
    found = None if word == DIGITS or word.startswith(TORCHVISION) else _table(word, columns)
    if found is not None:
        return open_table(found, columns, filter, names, guess)
    if filter or columns != GUESSED:
        raise CondgenError(f"{word} has no columns to choose or to filter by.")
    if word == DIGITS:
        return open_digits(names)
    if word.startswith(TORCHVISION):
        return open_torchvision(word, names)
    path = Path(word).expanduser()
    if not path.exists():
        raise NothingLabelled(f"{path} is not there. {FORMS}")
    if is_idx(path) or "idx" in path.name if path.is_file() else idx_files(path):
        return open_idx(path, names)
    if path.suffix.lower() == ".bin" if path.is_file() else bin_files(path):
        return open_cifar(path, names)
    refuse_pickles(path)
    if path.is_file() or not any(file.suffix.lower() in SUFFIXES for file in files_below(path)):
        raise NothingLabelled(f"{path} holds nothing that can be read as labelled images. {FORMS}")
    if names:
        raise CondgenError(f"{path} has folders of classes, which have their own names.")
    return open_classes(path)


def every_factor(source: str | os.PathLike[str]) -> tuple[str, ...]:
    """The names of all attributes of data that tells its class alone where nothing is asked; () of other data."""
    word = os.fspath(source)
    if word == SCENES:
        return tuple(FACTORS)
    return factors_of(Path(word).expanduser()) if is_npz(word) else ()


def open_either(path: str | os.PathLike[str], columns: Columns, filter: str) -> Source | Arrays | LabelledRows:
    """What is there, captioned or labelled: captions, unless a label is named; else labels. Reads no image."""
    if columns.label_column or columns.attribute_columns:
        return find(path, columns, filter)
    try:
        return open_source(path, columns, filter)
    except CondgenError:
        if not columns.caption_column:
            with suppress(NothingLabelled):
                return find(path, columns, filter, guess=False)
        raise


def _table(word: str, columns: Columns) -> str | Path | None:
    """The table, or the folder of tables, that the data is; None where it is something else."""
    if shard_files(word) is not None:
        return word
    path = Path(word).expanduser()
    tables = (".csv", ".jsonl", *SHARDS)
    if path.is_file():
        return path if path.suffix.lower() in tables else None
    if not path.is_dir():
        return None
    files = [file for file in files_below(path) if file.suffix.lower() in tables]
    if any(file.stem == "metadata" or file.suffix.lower() in SHARDS for file in files):
        return path
    files = [file for file in files if file.parent == path and _tells_labels(file, columns)]
    if len(files) > 1:
        there = ", ".join(file.name for file in files[:4])
        raise CondgenError(f"{path} has several tables of labels ({there}). Give the path of one of them.")
    return files[0] if files else None


def _tells_labels(file: Path, columns: Columns) -> bool:
    names = {name.lower() for name in column_names(file)}
    wanted = {name.lower() for name in (columns.label_column, *columns.attribute_columns) if name} or set(LABELS)
    return bool(names & wanted and names & {columns.image_column.lower(), *IMAGE})


# Gathering ------------------------------------------------------------------------------------------------------------


class _Stack:
    """Pixels of images of one size, grey for as long as every image is, where no number of colours is asked for."""

    def __init__(self, size: int, image_channels: int, resize: Literal["crop", "pad"], where: str):
        self.size, self.asked, self.resize, self.where = size, image_channels, resize, where
        self.image_channels = image_channels or 1
        self.pixels, self.greys, self.count = bytearray(), [], 0
        self.first: tuple[str, tuple[int, int]] | None = None

    def add(self, key: str, image: Image.Image) -> None:
        """Adds an image of mode RGB, whatever its size where one is asked for."""
        self._check_size(key, image.size)
        pixels = fit(image, self.size or image.width, self.resize)
        if self.asked == 0:
            grey = bool((pixels == pixels[:1]).all())
            self.greys += [key] * grey
            if not grey and self.image_channels == 1:
                self.pixels = bytearray(np.repeat(self._grown(1), 3, axis=1).tobytes())
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
                f"{self.where} has images of several sizes: {one} is {width} x {height}, {key} is {size[0]} x "
                f"{size[1]}. {ASK_SIZE}"
            )
        if size[0] != size[1]:
            raise CondgenError(f"{self.where}: {key} is {size[0]} x {size[1]}, not square. {ASK_SIZE}")

    def _grown(self, image_channels: int) -> np.ndarray:
        edge = self.size or (self.first[1][0] if self.first else 1)
        return np.frombuffer(self.pixels, np.uint8).reshape(-1, image_channels, edge, edge)

    def images(self) -> np.ndarray:
        """uint8 (N, C, S, S); warns where grey images were made RGB."""
        if self.image_channels == 3 and self.greys:
            message = (
                f"{self.where}: {len(self.greys)} of {self.count} images are grey and become RGB as the others: "
                f"{', '.join(self.greys[:3])}{' ...' if len(self.greys) > 3 else ''}"
            )
            warnings.warn(message, CondgenWarning, stacklevel=2)
        return self._grown(self.image_channels)


def gather(
    found: LabelledRows,
    split: str,
    size: int,
    image_channels: int,
    resize: Literal["crop", "pad"],
    max_bad_fraction: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Images and codes of the rows of a split that can be used."""
    stack, bad, odd, targets, total = _Stack(size, image_channels, resize, found.path), Tally(), Tally(), [], 0
    for row, image, oddities, own in found.each(split):
        total += 1
        if row.fault:
            bad.add(row.fault, f"{row.key} ({row.detail})" if row.detail else row.key)
            continue
        if image is None:  # more captions of an image that was there before
            continue
        stack.add(row.key, image)
        targets.append(own)
        for oddity in oddities:
            odd.add(oddity, row.key)
    judge(found.source, bad, odd, total, max_bad_fraction)
    return stack.images(), np.stack(targets)


def _tell(path: str, split: str, data: LabelledImages) -> None:
    """Warns of classes without an image or with a single one, of gaps, and of what is always the same."""
    notes = []
    for i, attribute in enumerate(data.attributes):
        known = data.targets[:, i][~np.isnan(data.targets[:, i])]
        if len(known) < len(data):
            notes.append(f"{attribute.name} is not known of {len(data) - len(known)} of {len(data)} images")
        if not attribute.values or split != "train":
            continue
        counts = np.bincount(known.astype(int), minlength=attribute.cardinality)
        for count, told in ((0, "no image has"), (1, "a single image has")):
            few = [value for value, own in zip(attribute.values, counts) if own == count]
            if few:
                some = ", ".join(few[:10]) + (" ..." if len(few) > 10 else "")
                notes.append(f"{told} the {attribute.name if attribute.name != LABEL else 'label'} {some}")
    if notes:
        warnings.warn(f"{path}, split {split}: {'; '.join(notes)}.", CondgenWarning, stacklevel=3)
