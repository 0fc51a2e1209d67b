"""Labelled images that come as arrays, all of one size: idx files, CIFAR's batches, scikit-learn's digits."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from condgen.contracts import CondgenError, short
from condgen.data.attributes import LABEL, Attribute
from condgen.data.options import ReadOptions, Resize
from condgen.data.progress import progress
from condgen.data.sources.images import fit
from condgen.data.sources.rows import hashed_split, in_split, split_name
from condgen.data.sources.tables import clean

LONG = 100
"""Maximum length of the name of a value."""
NAMES_BESIDE = ("class_names.txt", "classes.txt")
"""Files that name the classes 0, 1, 2 ..., one per line."""


@dataclass(frozen=True)
class Part:
    """Labelled images of one file, or of an image file and its label file.

    Args:
        key: name of the part in messages; the hash that assigns splits reads `key:i` for image i.
        split: name of the split; "" if a hash assigns splits.
        targets: int64 (N, A), as stored in the file.
        images: function that reads the images, uint8 (N, C, H, W).
    """

    key: str
    split: str
    targets: np.ndarray
    images: Callable[[], np.ndarray]

    def rows(self, asked: str, test: int) -> np.ndarray:
        """Indices, int64 (M,), of the images of a split."""
        if self.split or asked == "all":
            return np.arange(len(self.targets) if in_split(self.split, asked) else 0)
        own = [hashed_split(f"{self.key}:{i}", test) == asked for i in range(len(self.targets))]
        return np.flatnonzero(own)


@dataclass(frozen=True)
class Arrays:
    """Labelled images in arrays, not read yet.

    Args:
        path: path or word that the user gave.
        name: name of the data.
        form: `idx`, `cifar`, `digits`, `torchvision`, `drawn` or `dsprites`.
        columns: names of the A factors.
        names: for every factor the names of its values 0, 1, 2 ...; empty if the values are named by their numbers.
        parts: the images.
        test: percentage that the hash puts in the test split, if file names give no splits.
    """

    path: str
    name: str
    form: str
    columns: tuple[str, ...]
    names: tuple[tuple[str, ...], ...]
    parts: tuple[Part, ...]
    test: int = 5

    def __post_init__(self) -> None:
        for part in self.parts:
            for column, names, targets in zip(self.columns, self.names, part.targets.T):
                if names and len(wrong := np.flatnonzero((targets < 0) | (targets >= len(names)))):
                    raise CondgenError(
                        f"{part.key}: the {column} of image {wrong[0]} is {targets[wrong[0]]}, but there are "
                        f"{len(names)} classes ({names[0]} to {names[-1]}). The file is damaged, or the names of the "
                        "classes belong to other data."
                    )

    @property
    def rule(self) -> str:
        """How the split of an image is determined."""
        hashed = any(not part.split for part in self.parts)
        return f"a hash of the file name, {100 - self.test} to {self.test}" if hashed else "the names of files"

    @property
    def splits(self) -> list[str]:
        """Names of the splits."""
        return sorted({part.split for part in self.parts} - {""} or {"train", "test"})

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """The attributes of the images, without values that no image of any split has."""
        return tuple(
            Attribute(column, tuple(names[code] if names else str(code) for code in self._used(i)))
            for i, (column, names) in enumerate(zip(self.columns, self.names))
        )

    @property
    def empty(self) -> dict[str, list[str]]:
        """Attribute -> names of values that no image of any split has."""
        unused = [
            [one for code, one in enumerate(names) if code not in self._used(i)] for i, names in enumerate(self.names)
        ]
        return {column: names for column, names in zip(self.columns, unused) if names}

    def _used(self, i: int) -> list[int]:
        return np.unique(np.concatenate([part.targets[:, i] for part in self.parts])).tolist()

    def read(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Reads images, uint8 (N, C, H, W), and targets, float32 (N, A), see `data.attributes`.

        Raises:
            CondgenError: the split has no images, parts differ in image size, or a file cannot be read.
        """
        split = split_name(split)
        chosen = [(part, rows) for part in self.parts if len(rows := part.rows(split, self.test))]
        if not chosen:
            raise CondgenError(
                f"{self.path} has no images in the split '{split}'. Splits there, by {self.rule}: "
                f"{', '.join(self.splits)}. Choose one of them or 'all'."
            )
        images, first, done = None, chosen[0][0], 0
        for part, rows in chosen:
            own = part.images()
            own = own if len(rows) == len(own) else own[rows]
            if images is None:
                total = sum(len(rows) for _, rows in chosen)
                images = own if total == len(own) else np.empty((total, *own.shape[1:]), np.uint8)
            if own.shape[1:] != images.shape[1:]:
                raise CondgenError(
                    f"{self.path}: the images of {first.key} are {_size(images)}, those of {part.key} {_size(own)}. "
                    "Give the files one by one."
                )
            if own is not images:
                images[done : done + len(own)] = own
            done += len(own)
        return images, self.encode(np.concatenate([part.targets[rows] for part, rows in chosen]))

    def encode(self, stored: np.ndarray) -> np.ndarray:
        """Converts stored targets, int64 (N, A), to indices into the values of `attributes`, float32 (N, A)."""
        columns = [np.searchsorted(self._used(i), column) for i, column in enumerate(stored.T)]
        return np.stack(columns, axis=1).astype(np.float32)


def _size(images: np.ndarray) -> str:
    return f"{images.shape[3]} x {images.shape[2]} x {images.shape[1]}"


def names_beside(folder: Path, files: Sequence[str] = NAMES_BESIDE) -> tuple[str, ...]:
    """Reads the names of classes 0, 1, 2 ... from a file beside the data; () if there is none.

    Raises:
        CondgenError: the file is not UTF-8 text, or repeats a name.
    """
    found = next((folder / file for file in files if os.path.isfile(folder / file)), None)
    if found is None:
        return ()
    try:
        names = tuple(name for line in found.read_text("utf-8-sig").splitlines() if (name := clean(line)))
    except (OSError, ValueError) as error:
        raise CondgenError(f"{found} is not UTF-8 text ({error}). It should name the classes, one per line.") from None
    return checked_names(names, str(found))


def checked_names(names: Sequence[str], source: str) -> tuple[str, ...]:
    """Returns the names of classes; raises `CondgenError` if a name occurs twice or is longer than LONG characters."""
    if long := [name for name in names if len(name) > LONG]:
        raise CondgenError(
            f"{source} names {short(long[0])}, {len(long[0])} characters long; at most {LONG} are allowed."
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise CondgenError(f"{source} names {short(twice[0])} twice. Class names must be distinct.")
    return tuple(names)


def choose(source: str, factors: Sequence[str], options: ReadOptions, usual: str) -> dict[str, str]:
    """Chooses the factors that become attributes: name of the attribute -> factor, the class first.

    Args:
        source: name of the data in messages.
        factors: names of the factors of the data.
        options: `label_column` is the class, `attribute_columns` are further attributes.
        usual: factor that is the class by default.

    Raises:
        CondgenError: a factor does not exist, or is chosen twice.
    """
    label = options.label_column or ("" if options.attribute_columns else usual)
    chosen = [*([label] if label else []), *options.attribute_columns]
    if unknown := [name for name in chosen if name not in factors]:
        raise CondgenError(f"{source} has no factor {short(unknown[0])}; it has {', '.join(factors)}.")
    if twice := [name for name in chosen if chosen.count(name) > 1]:
        raise CondgenError(f"The factor {twice[0]} of {source} is chosen twice.")
    return {LABEL if name == label else name: name for name in chosen}


def squared(images: np.ndarray, size: int, resize: Resize, source: str) -> np.ndarray:
    """Makes images square like `images.fit`, uint8 (N, C, H, W) -> (N, C, S, S); size 0 keeps square images.

    Raises:
        CondgenError: `size` is 0, and the images are not square.
    """
    n, channels, height, width = images.shape
    if not size and height != width:
        raise CondgenError(f"The images of {source} are {width} x {height}, not square. {ASK_SIZE}")
    size = size or height
    if height == width == size:
        return images
    fitted = np.empty((n, channels, size, size), np.uint8)
    for i, image in enumerate(progress(images, n, "resizing images")):
        shown = np.broadcast_to(image.transpose(1, 2, 0), (height, width, 3))
        fitted[i] = fit(Image.fromarray(np.ascontiguousarray(shown)), size, resize)[:channels]
    return fitted


ASK_SIZE = "Choose their size, for example --data.size 32."


def coloured(images: np.ndarray, image_channels: int) -> np.ndarray:
    """Converts uint8 (..., C, H, W) to `image_channels` channels; 0 keeps them. Grey is PIL's luma."""
    if image_channels in (0, images.shape[-3]):
        return images
    if image_channels == 3:
        return np.repeat(images, 3, axis=-3)
    red, green, blue = (images[..., i : i + 1, :, :].astype(np.uint32) for i in range(3))
    return ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16).astype(np.uint8)
