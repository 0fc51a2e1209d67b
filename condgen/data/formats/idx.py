"""MNIST's idx files, with or without gzip: a header with kind and sizes, then bytes.

The header is checked against the size of the file before anything is decoded, and decompression stops at the size
in the header.

References: The MNIST database (LeCun, Cortes, Burges), the file format at the end of its page.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np

from condgen.contracts import MAX_PIXELS, CondgenError
from condgen.data.attributes import LABEL
from condgen.data.formats.arrays import Arrays, Part, names_beside
from condgen.data.formats.parquet import MAX_RATIO, MAX_UNPACKED
from condgen.data.formats.registry import LabelledFormat
from condgen.data.options import ReadOptions

FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
KNOWN = {
    "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7": FASHION,
    "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9": FASHION,
}
"""SHA-256 of the train and the test labels -> names of the classes, for Fashion-MNIST."""
_SPLIT = re.compile(r"train|t10k|test|valid|val", re.I)
_TRADE = (("images", "labels"), ("idx3", "idx1"))


def is_idx(path: Path) -> bool:
    """Whether a file is in MNIST's idx format, gzipped or not: two zero bytes, then 8 for unsigned bytes."""
    if path.suffix != ".gz" and "idx" not in path.name:
        return False
    with suppress(OSError, EOFError, zlib.error), (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        return file.read(3) == b"\0\0\x08"
    return False


def read_idx(path: Path, kind: int) -> np.ndarray:
    """Reads an idx file of bytes.

    Args:
        path: the file; `.gz` is decompressed.
        kind: number of dimensions: 1 for labels, 3 for images.

    Returns:
        uint8 (N,) or (N, H, W).

    Raises:
        CondgenError: another kind of file, invalid sizes, or a length other than that in the header.
    """
    packed = path.suffix == ".gz"
    try:
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            head = file.read(4 + 4 * kind)
            shape = _shape(path, head, kind)
            total, on_disk = int(np.prod(shape, dtype=object)), path.stat().st_size
            if packed and total > max(MAX_UNPACKED, MAX_RATIO * on_disk):
                raise CondgenError(
                    f"{path}: {on_disk:,} bytes would unpack to {total:,}. Images do not compress that "
                    "well: the file is damaged or made to exhaust the memory."
                )
            if not packed and on_disk - len(head) != total:
                raise _cut(path, on_disk - len(head), total)
            values, read = np.empty(total, np.uint8), 0
            while read < total and (chunk := file.read(min(1 << 20, total - read))):
                values[read : read + len(chunk)] = np.frombuffer(chunk, np.uint8)
                read += len(chunk)
            if read < total or file.read(1):
                raise _cut(path, read, total)
            return values.reshape(shape)
    except EOFError:
        raise CondgenError(f"{path} is truncated. Copy it again.") from None
    except (OSError, zlib.error) as error:  # a damaged gzip file raises OSError too
        raise CondgenError(f"{path} cannot be read ({error}). Copy it again.") from None


def _shape(path: Path, head: bytes, kind: int) -> tuple[int, ...]:
    """Reads the sizes in a header."""
    what = "labels" if kind == 1 else "images"
    if len(head) < 4 + 4 * kind or head[:4] != bytes((0, 0, 8, kind)):
        raise CondgenError(
            f"{path} is not an idx file of {what}. Expected 00 00 08 {kind:02} and {kind} sizes, got "
            f"{head[:4].hex(' ') or 'nothing'}. Copy it again, or give the right file."
        )
    shape = tuple(int.from_bytes(head[at : at + 4], "big") for at in range(4, len(head), 4))
    if not all(shape) or (kind == 3 and shape[1] * shape[2] > MAX_PIXELS):
        sizes = " x ".join(map(str, shape))
        raise CondgenError(f"{path} has invalid sizes for {what}: {sizes}. The file is damaged.")
    return shape


def _cut(path: Path, found: int, total: int) -> CondgenError:
    there = f"{found:,}" if found < total else "more"
    return CondgenError(f"{path} should hold {total:,} bytes after its header, but holds {there}. Copy it again.")


def open_idx(word: str, options: ReadOptions, size: int = 0) -> Arrays:
    """Opens the idx files of a folder, or the one given and those that belong to it: images and labels, train and test.

    Splits come from the names (`train-images-idx3-ubyte.gz`, `t10k-labels-idx1-ubyte`), otherwise from a hash.

    Args:
        word: path of a folder, or of one of the files.
        options: may name the classes; otherwise a file beside the data or the checksum of the labels does.

    Raises:
        CondgenError: missing labels, counts that differ, several sets in one folder, or a damaged file.
    """
    path = Path(word).expanduser()
    folder = path if path.is_dir() else path.parent
    files = idx_files(folder)
    if path.is_dir():
        sets = {_set(file): file for file in files}
        if len(sets) > 1:
            there = ", ".join(file.name for file in list(sets.values())[:4])
            raise CondgenError(f"{path} has several sets of idx files ({there} ...). Give the file of images itself.")
    else:
        files = [file for file in {*files, path} if _set(file) == _set(path)]
    images = [file for file in files if "label" not in file.name.lower()]
    parts = [_part(file, files) for file in _once(images)]
    if not parts:
        raise CondgenError(f"{path} has labels but no images beside them (train-images-idx3-ubyte, .gz or not).")
    names = options.class_names or names_beside(folder) or _known(parts)
    name = folder.resolve().name
    return Arrays(str(path), name, "idx", (LABEL,), (names,), tuple(parts))


def idx_files(folder: Path) -> list[Path]:
    """The files of a folder in idx format, and those that are named like idx files."""
    return sorted(file for file in folder.iterdir() if file.is_file() and ("idx" in file.name or is_idx(file)))


def _set(file: Path) -> str:
    """The common part of the names of files that belong together."""
    name = _plain(file)
    for images, labels in _TRADE:
        name = name.replace(images, labels)
    return _SPLIT.sub("*", name, count=1)


def _plain(file: Path) -> str:
    return file.name.removesuffix(".gz").lower()


def _once(files: list[Path]) -> list[Path]:
    """Prefers the unpacked file where a packed copy exists as well."""
    return list({_plain(file): file for file in sorted(files, key=lambda file: (file.suffix != ".gz", file))}.values())


def _part(file: Path, files: list[Path]) -> Part:
    wanted = _plain(file)
    for images, labels in _TRADE:
        wanted = wanted.replace(images, labels)
    beside = [other for other in _once(files) if _plain(other) == wanted and wanted != _plain(file)]
    if not beside:
        raise CondgenError(f"{file} has no labels beside it. Expected {wanted} or {wanted}.gz.")
    labels, count = read_idx(beside[0], 1), _count(file)
    if len(labels) != count:
        raise CondgenError(f"{file} has {count:,} images, {beside[0].name} has {len(labels):,} labels.")
    found = _SPLIT.search(file.name)
    split = {"t10k": "test", "valid": "val"}.get(found[0].lower(), found[0].lower()) if found else ""
    return Part(file.name, split, labels.astype(np.int64)[:, None], partial(_images, file))


def _count(file: Path) -> int:
    """The number of images in the header."""
    try:
        with gzip.open(file, "rb") if file.suffix == ".gz" else file.open("rb") as opened:
            return _shape(file, opened.read(16), 3)[0]
    except (OSError, EOFError, zlib.error) as error:
        raise CondgenError(f"{file} cannot be read ({error}). Copy it again.") from None


def _images(file: Path) -> np.ndarray:
    return read_idx(file, 3)[:, None]


def _known(parts: list[Part]) -> tuple[str, ...]:
    """Looks up class names by the checksum of the labels; () for unknown data."""
    sums = (hashlib.sha256(part.targets.astype(np.uint8).tobytes()).hexdigest() for part in parts)
    return next((KNOWN[one] for one in sums if one in KNOWN), ())


def _matches(word: str, options: ReadOptions) -> bool:
    path = Path(word).expanduser()
    return is_idx(path) or "idx" in path.name if path.is_file() else path.is_dir() and bool(idx_files(path))


FORMAT = LabelledFormat("idx files", _matches, open_idx, ("class_names",))
