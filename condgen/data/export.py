"""Writes labelled images batch by batch: folders of classes, npz or parquet. A failed export leaves nothing.

folder     OUT/<label>/<index>.png, and OUT/about.json with class_to_idx: the label of each folder. torchvision's
           ImageFolder numbers the folders by their names, which may be another order
npz        images uint8 (N, S, S, 3), or (N, S, S) where they are grey; labels int64 (N,); names; about
parquet    image as `datasets` reads it (a struct of PNG bytes and a path), label, label_name

`about` describes the origin of the images. In all three formats a label is the index of its name.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from condgen.contracts import CondgenError, to_json
from condgen.files.images import png_bytes
from condgen.files.weights import whole, write_json

FORMATS = ("folder", "npz", "parquet")
STEM = "train"
"""Name of the file, for formats of a single file."""
ROWS = 1000
"""Rows per row group in parquet."""
RESERVED = {"con", "prn", "aux", "nul", *(f"{name}{i}" for name in ("com", "lpt") for i in range(10))}
"""Names that Windows reserves for devices."""
Put = Callable[[np.ndarray, int, int], None]
"""Takes images, uint8 (B, C, S, S), their label, and the index of the first of them within that label."""


def place_of(out: Path, how: str) -> Path:
    """The path to write to: `out` itself, or a file in it.

    Raises:
        CondgenError: the format is unknown, or the path exists.
    """
    if how not in FORMATS:
        raise CondgenError(f"There is no format {how!r}; choose {', '.join(FORMATS)}.")
    place = out if how == "folder" or out.suffix.lower() == f".{how}" else out / f"{STEM}.{how}"
    empty = how == "folder" and place.is_dir() and not any(place.iterdir())
    if os.path.lexists(place) and not empty:
        raise CondgenError(f"{place} exists already, and data sets are not mixed. Choose another -o.")
    return place


@dataclass(frozen=True)
class Contents:
    """Describes the data set to write.

    Args:
        names: names of the labels.
        counts: number of images of each label.
        shape: shape (C, S, S) of an image.
        about: plain values that describe the origin of the images.
    """

    names: tuple[str, ...]
    counts: tuple[int, ...]
    shape: tuple[int, int, int]
    about: dict[str, Any]

    @property
    def metadata(self) -> dict[str, Any]:
        """`about`, with the names of the labels."""
        return self.about | {"names": list(self.names)}


@contextmanager
def writing(place: Path, how: str, contents: Contents) -> Iterator[Put]:
    """Yields a function that takes images, ordered by label.

    On success the images are at `place_of`; after an error nothing is left.
    """
    if how == "folder":
        with _folder(place, contents) as put:
            yield put
        return
    with whole(place) as file, (_npz if how == "npz" else _parquet)(file, contents) as put:
        yield put


@contextmanager
def _folder(place: Path, contents: Contents) -> Iterator[Put]:
    folders = safe_names(contents.names)
    digits = len(str(max(contents.counts) - 1))
    temporary = place.with_name(f".{place.name}.tmp")
    try:
        if temporary.exists():
            shutil.rmtree(temporary)  # left by a process that was killed
        temporary.mkdir(parents=True)

        def put(images: np.ndarray, label: int, first: int) -> None:
            folder = temporary / folders[label]
            folder.mkdir(exist_ok=True)
            for i, image in enumerate(_pil(images), first):
                (folder / f"{i:0{digits}}.png").write_bytes(png_bytes(image))

        yield put
        numbers = {folder: label for label, folder in enumerate(folders)}
        write_json(temporary / "about.json", contents.metadata | {"folders": folders, "class_to_idx": numbers})
        if place.exists():
            place.rmdir()
        os.replace(temporary, place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _npz(file: Path, contents: Contents) -> Iterator[Put]:
    channels, *edges = contents.shape
    header = {
        "shape": (sum(contents.counts), *edges, *([channels] * (channels > 1))),
        "fortran_order": False,
        "descr": "|u1",
    }
    labels: list[np.ndarray] = []
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        with archive.open("images.npy", "w", force_zip64=True) as entry:
            np.lib.format.write_array_header_2_0(entry, header)

            def put(images: np.ndarray, label: int, first: int) -> None:
                entry.write(np.ascontiguousarray(images.transpose(0, 2, 3, 1)).tobytes())
                labels.append(np.full(len(images), label, dtype=np.int64))

            yield put
        about = np.array(to_json(contents.metadata))
        rest = {"labels": np.concatenate(labels), "names": np.array(contents.names), "about": about}
        for name, value in rest.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, value, allow_pickle=False)
            archive.writestr(f"{name}.npy", buffer.getvalue())


@contextmanager
def _parquet(file: Path, contents: Contents) -> Iterator[Put]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names, rows = list(contents.names), []
    features = {
        "image": {"_type": "Image"},
        "label": {"names": names, "_type": "ClassLabel"},
        "label_name": {"dtype": "string", "_type": "Value"},
    }
    schema = pa.schema(
        {
            "image": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
            "label": pa.int64(),
            "label_name": pa.string(),
        },
        metadata={
            "huggingface": json.dumps({"info": {"features": features}}),
            "condgen": to_json(contents.metadata),
        },
    )
    with pq.ParquetWriter(file, schema) as table:

        def write(least: int) -> None:
            while len(rows) >= least:
                table.write_table(pa.Table.from_pylist(rows[:ROWS], schema=schema))
                del rows[:ROWS]

        def put(images: np.ndarray, label: int, first: int) -> None:
            for i, image in enumerate(_pil(images), first):
                cell = {"bytes": png_bytes(image), "path": f"{label}-{i}.png"}
                rows.append({"image": cell, "label": label, "label_name": names[label]})
            write(ROWS)

        yield put
        write(1)


def _pil(images: np.ndarray) -> list[Image.Image]:
    return [Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0).copy()) for image in images]


def safe_names(names: Sequence[str]) -> list[str]:
    """Makes file names that are safe on every file system, and distinct even if case is ignored.

    `T-shirt/top` becomes `T-shirt_top`.
    """
    safe: list[str] = []
    for name in names:
        plain = "".join(
            c if c.isprintable() and c not in '/\\:*?"<>|' else "_" for c in unicodedata.normalize("NFC", name)
        )
        plain = plain.encode()[:100].decode("utf-8", "ignore")
        plain = re.sub(r"^[. ]+|[. ]+$", "_", plain)
        if not plain or plain.split(".")[0].casefold() in RESERVED:
            plain += "_"
        own, number = plain, 1
        while own.casefold() in {one.casefold() for one in safe}:
            number += 1
            own = f"{plain}-{number}"
        safe.append(own)
    return safe
