"""CIFAR's binary batches: records of one label byte (CIFAR-100: coarse and fine) and 3,072 bytes of RGB planes.

References: Learning Multiple Layers of Features from Tiny Images (Krizhevsky, 2009), the binary version on its page.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from condgen.contracts import CondgenError
from condgen.data.attributes import LABEL
from condgen.data.formats.arrays import NAMES_BESIDE, Arrays, Part, names_beside
from condgen.data.formats.registry import LabelledFormat
from condgen.data.options import ReadOptions
from condgen.data.sources.rows import named_split

PIXELS = 3 * 32 * 32
LABELS = {
    1: {LABEL: (10, ("batches.meta.txt", *NAMES_BESIDE))},
    2: {"coarse": (20, ("coarse_label_names.txt",)), LABEL: (100, ("fine_label_names.txt", *NAMES_BESIDE))},
}
"""Number of label bytes -> for each byte its name, the number of its values, and the files that may name them."""
BINARY = "the binary version (cifar-10-batches-bin, cifar-100-binary) or parquet"


def open_cifar(word: str, options: ReadOptions, size: int = 0) -> Arrays:
    """Opens one .bin file or those of a folder. `test` in a name means test; `train` and `data_batch` mean train.

    Args:
        word: path of a folder, or of one file.
        options: may name the classes; by default the file that comes with CIFAR does.

    Raises:
        CondgenError: a size that is not a whole number of records, both kinds in one folder, or labels out of range.
    """
    path = Path(word).expanduser()
    folder, files = (path, bin_files(path)) if path.is_dir() else (path.parent, [path])
    kinds = {file: _label_bytes(file) for file in files}
    if len(set(kinds.values())) > 1:
        raise CondgenError(f"{path} has batches of CIFAR-10 and of CIFAR-100. Give them a folder each.")
    count = kinds[files[0]]
    names = {
        column: (options.class_names if column == LABEL else ())
        or names_beside(folder, beside)
        or tuple(map(str, range(levels)))
        for column, (levels, beside) in LABELS[count].items()
    }
    parts = tuple(Part(file.name, _split(file), _codes(file, count), partial(_images, file, count)) for file in files)
    return Arrays(str(path), folder.resolve().name, "cifar", tuple(names), tuple(names.values()), parts)


def bin_files(folder: Path) -> list[Path]:
    """The .bin files of a folder."""
    return sorted(file for file in folder.iterdir() if file.suffix.lower() == ".bin" and file.is_file())


def _label_bytes(file: Path) -> int:
    size = file.stat().st_size
    fits = [count for count in LABELS if size and size % (PIXELS + count) == 0]
    if not fits:
        raise CondgenError(
            f"{file} has {size:,} bytes, not a whole number of records of 3,073 (CIFAR-10) or 3,074 (CIFAR-100): it is "
            "truncated, or another kind of file. Copy it again."
        )
    return fits[-1] if file.stem in ("train", "test") else fits[0]  # the names of CIFAR-100's files


def _split(file: Path) -> str:
    return "train" if file.stem.startswith("data_batch") else named_split(Path(file.name), own=True).partition("_")[0]


def _codes(file: Path, count: int) -> np.ndarray:
    """Reads the targets, int64 (N, A): the first bytes of every record."""
    return np.memmap(file, np.uint8, "r").reshape(-1, PIXELS + count)[:, :count].astype(np.int64)


def _images(file: Path, count: int) -> np.ndarray:
    return np.array(np.memmap(file, np.uint8, "r").reshape(-1, PIXELS + count)[:, count:]).reshape(-1, 3, 32, 32)


def refuse_pickles(path: Path) -> None:
    """Refuses the pickles of CIFAR's Python version, by their first two bytes."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    for file in files:
        if file.suffix.lower() in (".pkl", ".pickle") or (not file.suffix and file.is_file() and _is_pickle(file)):
            raise CondgenError(
                f"{file} is a pickle, which can run arbitrary code when it is loaded, and is not loaded here. "
                f"Take {BINARY}."
            )


def _is_pickle(file: Path) -> bool:
    with file.open("rb") as opened:
        head = opened.read(2)
    return len(head) == 2 and head[0] == 0x80 and 2 <= head[1] <= 5


def _matches(word: str, options: ReadOptions) -> bool:
    path = Path(word).expanduser()
    return path.suffix.lower() == ".bin" if path.is_file() else path.is_dir() and bool(bin_files(path))


FORMAT = LabelledFormat("CIFAR's binary batches", _matches, open_cifar, ("class_names",))
