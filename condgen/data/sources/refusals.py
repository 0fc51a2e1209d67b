"""Says what a folder holds that cannot be read as captioned images, and what to do: the causes of refusals."""

from __future__ import annotations

import re
from contextlib import suppress
from itertools import islice
from pathlib import Path

from condgen.contracts import CondgenError, listed
from condgen.data.formats.idx import is_idx
from condgen.data.formats.registry import SUFFIXES, UNREAD, Listing, suffix_of, unread_lines
from condgen.data.sources.tables import EXPECTED, IMAGE, TEXT, column_names, records

KOHYA = re.compile(r"\d+_.")
"""Folders of sd-scripts: the number of repeats, then the concept."""
DOWNLOADED = {"key", "status"}
"""Columns of the tables in which img2dataset notes its downloads."""
STORES = {
    ".tfrecord": "TensorFlow's records",
    ".lmdb": "an LMDB database",
    ".mdb": "an LMDB database",
    ".h5": "an HDF5 file",
    ".hdf5": "an HDF5 file",
    ".beton": "FFCV's file",
    ".pkl": "a pickle",
    ".pt": "tensors of PyTorch",
    ".rec": "MXNet's records",
    ".xlsx": "an Excel table; save it as CSV (UTF-8)",
    ".mp4": "a video; save frames of it as images",
    ".mov": "a video; save frames of it as images",
    ".webm": "a video; save frames of it as images",
    ".avi": "a video; save frames of it as images",
    ".mkv": "a video; save frames of it as images",
    ".ods": "a spreadsheet; save it as CSV (UTF-8)",
}
"""Suffixes of files that hold data sets and are not read -> what they are."""


class NoCaptions(CondgenError):
    """There are no captions; `plain` if there are images and nothing that could belong to them."""

    plain = False


def no_captions(path: Path, listing: Listing, tables: list[Path]) -> NoCaptions:
    """The error for data without captions: names what is there, and what to do.

    Args:
        path: as the user gave it.
        listing: the files there.
        tables: those of them that are tables.
    """
    cause = _cause(path, listing, tables)
    unread = "".join(f" {line[:1].upper()}{line[1:]}." for line in unread_lines(listing.unread))
    images, stores = listing.images, _stores(listing)
    error = NoCaptions(f"{path}{'' if cause.startswith(':') else ' '}{cause}{unread} {EXPECTED}")
    named = any(KOHYA.match(file.parent.name) for file in images)
    error.plain = bool(images) and path.is_dir() and not (tables or named or stores or _other_texts(images))
    return error


def _stores(listing: Listing) -> list[tuple[str, str]]:
    return [(file.name, STORES[file.suffix.lower()]) for file in listing.files if file.suffix.lower() in STORES]


def _cause(path: Path, listing: Listing, tables: list[Path]) -> str:
    files, images = listing.files, listing.images
    if labels := [file.name for file in files if is_idx(file)]:
        return f": {labels[0]} looks like labels or images in idx form, without captions."
    if path.is_file() and (why := UNREAD.get(suffix_of(path))):
        return f"cannot be read as data: {why}."
    if path.is_file() and images:
        return "is a single image. Give the folder of the images."
    if tables:
        return _cause_of_table(tables[0])
    if stores := _stores(listing):
        return f"holds {stores[0][0]}: {stores[0][1]}, which is not read."
    folders = sorted({file.parent.name for file in images if file.parent != path})
    if kohya := [name for name in folders if KOHYA.match(name)]:
        return (
            f"has sd-scripts' (kohya's) folder {kohya[0]!r}, but no captions in it. Write them beside the images "
            f"(a.png, a.txt or a.caption); for images of one concept, the text may be the same in all: "
            f"{kohya[0].partition('_')[2]!r}."
        )
    if (other := _other_texts(images)) and other.suffix == ".json":
        return f"has {other.name} beside an image. Write the captions to {other.stem}.txt, or all into metadata.jsonl."
    if other:
        return f"has texts beside its images, called like {other.name}. Rename them to {other.stem}.txt."
    if folders:
        return f"has images in folders ({', '.join(folders[:5])}), which look like labels, not captions."
    if not images and (unnamed := [file.name for file in islice(files, 1000) if is_image(file)]):
        return (
            f"holds {len(unnamed)} images whose names do not end like those of images ({listed(unnamed, 3)}). Rename "
            "them, for example to .jpg."
        )
    there = f"{len(images)} images and no captions" if images else "nothing that can be read as captioned images"
    return f"holds {there}."


def _cause_of_table(table: Path) -> str:
    try:
        names = column_names(table)
    except CondgenError as error:
        return f"has {table.name}, which cannot be used: {error}"
    lower = {name.lower() for name in names}
    some: list[dict] = []
    with suppress(CondgenError):
        some = [record for record in islice(records(table, names), 5) if record]
    if lower >= DOWNLOADED and not lower.intersection(IMAGE):
        return (
            f"has {table.name}, in which img2dataset notes its downloads, but not the images. Give the folder with the "
            "images or shards (.tar), or download again with --output_format webdataset."
        )
    if any(name.startswith(("http:", "https:")) for name in names):
        return (
            f"has {table.name}, which holds addresses of images, and no header. Add a first line that names the "
            "columns, such as caption and url, and download the images first, for example with img2dataset."
        )
    urls = [name for name in names if any(str(record.get(name)).startswith(("http:", "https:")) for record in some)]
    if urls and not lower.intersection(IMAGE):
        return (
            f"has {table.name}, which holds addresses of images (column {urls[0]}), not images. Download them first, "
            f"for example with img2dataset --url_list {table.name} --url_col {urls[0]} --output_format webdataset."
        )
    if table.suffix.lower() in (".csv", ".tsv", ".jsonl", ".parquet", ".json"):
        text = "" if lower.intersection(TEXT) else "; none of them is known to hold captions"
        return (
            f"has {table.name}: name it metadata{table.suffix}, or give its own path. Its columns are "
            f"{listed(names, 6)}{text}."
        )
    return f"has {table.name}, which has the columns {listed(names, 6)}."


def _other_texts(images: list[Path]) -> Path | None:
    """A text beside one of the images, of the same name with another suffix."""
    for image in images[:5]:
        for suffix in (".json", ".caption.txt", ".cap", ".caps", ".tags", ".text", ".md", f"{image.suffix}.txt"):
            if (file := image.with_suffix(suffix)).is_file():
                return file
    return None


def is_image(file: Path) -> bool:
    """Whether a file begins like an image although its name does not end like that of one."""
    if file.suffix.lower() in SUFFIXES:
        return False
    with suppress(OSError), open(file, "rb") as opened:
        head = opened.read(12)
        return head.startswith((b"\x89PNG", b"\xff\xd8\xff", b"GIF8")) or (head[:4], head[8:]) == (b"RIFF", b"WEBP")
    return False
