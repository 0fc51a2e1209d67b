"""Lists the files of a folder of data; what condgen wrote among them is no data."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from condgen.contracts import CondgenError, CondgenWarning, listed
from condgen.data.sources.images import SUFFIXES
from condgen.files.images import is_written_here
from condgen.files.registry import INDEX

RUN, MODEL = "a training run", "a model"
EVERY = 1000
"""Most PNG files of a folder that are all looked at; of more, only the first, the last and those named like sheets."""
_SHEET = re.compile(r"(search|grid|sheet)(-\d+)?\.png", re.I)


def files_below(folder: Path) -> list[Path]:
    """All files below a folder in a fixed order, except hidden ones and what condgen wrote there.

    Runs, models, reports and embeddings are left out with a warning, and so are generated images among others, unless
    they have captions; a folder of generated images alone is data.

    Raises:
        CondgenError: the folder itself is a run or a model.
    """
    found, ours, generated = [], {}, []
    for place, folders, names in os.walk(folder):
        home = Path(place)
        if what := kind_of_output(home, folders, names):
            if home != folder:
                ours[home.relative_to(folder).as_posix()] = what
                folders.clear()
                continue
            if what in (RUN, MODEL):
                raise CondgenError(f"{folder} is {what} of condgen, and no data. Give the folder of the images.")
        folders[:] = [name for name in folders if not _is_hidden(name)]
        files = [home / name for name in names if not _is_hidden(name)]
        files = [file for file in files if file.is_file()]
        written = _written(files)
        found += [file for file in files if file not in written]
        generated += written
    if not any(file.suffix.lower() in SUFFIXES for file in found):
        found += generated  # a synthetic data set
    elif not any(file.stem == "metadata" for file in found):  # which decides what is data
        ours |= {file.relative_to(folder).as_posix(): "written by condgen" for file in sorted(generated)}
    if ours:
        text = listed([f"{name} ({what})" for name, what in ours.items()])
        warnings.warn(f"{folder}: left out, since condgen wrote it: {text}.", CondgenWarning, stacklevel=2)
    return sorted(found)


def kind_of_output(folder: Path, folders: Collection[str], names: Collection[str]) -> str:
    """What condgen wrote into a folder, such as `a training run`; "" for other folders.

    Args:
        folders, names: the names of its folders and of its files.
    """
    if "config.yaml" in names and {"checkpoints", "samples", "parts"}.intersection(folders):
        with suppress(OSError), open(folder / "config.yaml", "rb") as file:
            if file.read(7) == b"recipe:":
                return RUN
    if INDEX in names:
        return MODEL
    if {"report.json", "report.md"} <= set(names):
        return "a report"
    if "manifest.json" in names and any(name.startswith("embeds-") for name in names):
        return "embeddings"
    return ""


def is_output(folder: Path) -> bool:
    """Whether condgen wrote a folder as a whole, see `kind_of_output`."""
    names = os.listdir(folder)
    return bool(kind_of_output(folder, names, names))


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))


def _written(files: list[Path]) -> set[Path]:
    """The files of one folder that are generated images, sheets, or vectors."""
    pngs = sorted(file for file in files if file.suffix.lower() == ".png")
    looked_at = pngs
    if len(pngs) > EVERY and not any(map(is_written_here, (pngs[0], pngs[-1]))):
        looked_at = [file for file in pngs if _SHEET.fullmatch(file.name)]
    out = {file for file in looked_at if is_written_here(file) and not file.with_suffix(".txt").exists()}
    return out | {file for file in files if _holds_vectors(file)}


def _holds_vectors(file: Path) -> bool:
    """Whether a file holds embeddings with their rows, see `retrieval.vectors`; read from the end of a parquet file."""
    if file.name.endswith(".npy.jsonl"):
        return file.with_suffix("").is_file()
    if file.suffix != ".parquet":
        return False
    with suppress(OSError), open(file, "rb") as table:
        table.seek(-min(os.path.getsize(file), 2**16), os.SEEK_END)
        end = table.read()
        return b"condgen" in end and b'"space"' in end and b"embedding" in end
    return False
