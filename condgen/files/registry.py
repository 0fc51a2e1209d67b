"""Finding models on disk, without loading them."""

from __future__ import annotations

import difflib
import importlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from condgen.contracts import CondgenError
from condgen.files import renamed

DEFAULT = "scenes32"
INDEX = "model_index.json"
ASSETS = Path(__file__).parents[1] / "assets"
RUNS = Path("runs")
"""Folder, in the working folder, of training runs."""
RUN_CONFIG = "config.yaml"
"""The file that makes a folder a training run."""
FRAME = "parts/unfinished"
"""Folder in a run of the model that its last stage trains, with its initial weights."""
UNFINISHED = "condgen.pipelines.unfinished"
"""Module that makes the model of a run that is not finished; imported only for such runs."""
FOREIGN = ("open_clip", "local-dir", "transformers", "hf-hub")
"""Prefixes, before a colon, of the names of encoders of other libraries."""
STRANGERS = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "lost+found", "$recycle.bin"}
"""Files and folders that systems and file servers leave in folders, beside those that begin with a dot."""


def is_stranger(name: str) -> bool:
    """True for the name of a file or folder that a system left: `.DS_Store`, `._name`, `__MACOSX`, `Thumbs.db`."""
    return name.startswith(".") or name.casefold() in STRANGERS


def folders() -> list[Path]:
    """Folders with models: those of the package, `models/` and `runs/` in the working folder, and $CONDGEN_MODELS."""
    extra = [Path(p) for p in os.environ.get("CONDGEN_MODELS", "").split(os.pathsep) if p]
    return [ASSETS, Path("models"), RUNS, *extra]


def found() -> dict[str, Path]:
    """Folders of all models by name; of models with equal names, the one in the first folder."""
    models: dict[str, Path] = {}
    for folder in folders():
        for name, place in _below(folder):
            models.setdefault(name, place)
    return models


def _below(folder: Path) -> Iterator[tuple[str, Path]]:
    for pattern, up in ((f"*/{INDEX}", 0), (f"*/model/{INDEX}", 1)):
        for index in sorted(folder.glob(pattern)):
            if not is_stranger(index.parents[up].name):
                yield index.parents[up].name, index.parent


def named(name: str) -> list[Path]:
    """All models that a name or the name in their index may mean: those of `found`, those that others hide there,
    exports in the working folder, and models of runs that are not finished.
    """
    places = [pair for folder in [*folders(), Path()] for pair in _below(folder)]
    places += [(run.name, run / "unfinished") for run in unfinished_runs() if (run / "unfinished" / INDEX).is_file()]
    return list(dict.fromkeys(place for own, place in places if name in (own, about(place).get("name"))))


def unfinished_runs() -> list[Path]:
    """Training runs below `runs/` that have no model yet."""
    return [
        path.parent for path in sorted(RUNS.glob(f"*/{RUN_CONFIG}")) if not (path.parent / "model" / INDEX).exists()
    ]


def find(path_or_name: str | Path | None = None) -> Path:
    """The folder of a model: a path to it, to a training run, or a name that `found` lists.

    For a run that is not finished it is a model of the last checkpoint, see `pipelines.unfinished`.

    A `Path` is always a path; so is text with a slash.

    Raises:
        CondgenError: there is no such model, and the message lists the models found; or there are several.
    """
    name = DEFAULT if path_or_name is None else str(path_or_name)
    if not name:
        raise CondgenError("The name of the model is empty. Give one that `condgen list` shows, or a path.")
    models = found()
    if path_or_name is None and name in models:
        return models[name]
    if not isinstance(path_or_name, Path):
        refuse_ambiguous(name)
        if name in models:
            return models[name]
    path = Path(name)
    for folder in (path, path / "model"):
        if os.path.isfile(folder / INDEX):
            return folder
    if os.path.isfile(path / RUN_CONFIG):
        return importlib.import_module(UNFINISHED).model_of(path)
    if os.path.exists(path):
        problem = "a folder without" if path.is_dir() else "a file, not a folder with"
        raise CondgenError(f"{name} is {problem} {INDEX}. Give the folder of a model or of a training run.")
    close = difflib.get_close_matches(name, models, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    available = ", ".join(sorted(models)) or "none"
    raise CondgenError(f"There is no model {name!r}.{hint} Models found: {available}; or give a path.")


def refuse_ambiguous(name: str, other: str = "") -> None:
    """Raises `CondgenError` for a name of several models, or of a model and a path; the message says how to name each.

    Args:
        other: what else has this name.
    """
    if not name or Path(name).name != name:
        return
    places = [place for folder in folders() if (place := _model_in(folder / name, runs=False))]
    if here := _model_in(Path(name), runs=True):
        places.append(here)
    distinct = {os.path.realpath(place): place for place in places}
    if len(distinct) + bool(other) > 1 and distinct:
        ways = [str(place) if place.is_absolute() else f".{os.sep}{place}" for place in distinct.values()]
        raise CondgenError(
            f"The name {name} is ambiguous: {', '.join([other] * bool(other) + ways)}. Give the path of one, "
            f"for example {ways[-1]}{', or rename the folder' if other else ''}."
        )


def _model_in(folder: Path, runs: bool) -> Path | None:
    """A folder that is a model, has one in `model`, or (if `runs`) is a run or an encoder of another library."""
    marks = (INDEX, f"model/{INDEX}", *(("config.yaml", "config.json", "open_clip_config.json") if runs else ()))
    found = next((mark for mark in marks if os.path.isfile(folder / mark)), None)
    return None if found is None else (folder / found).parent


def is_foreign(path_or_name: str | Path | None) -> bool:
    """True for the name of an encoder of another library, see `encoders.interop.load.open_encoder`."""
    name = str(path_or_name or "")
    if name.partition(":")[0] in FOREIGN and ":" in name:
        return True
    if not isinstance(path_or_name, Path):
        refuse_ambiguous(name)
    path = Path(name or "\0")
    return not os.path.isfile(path / INDEX) and any(
        os.path.isfile(path / config) for config in ("open_clip_config.json", "config.json")
    )


def about(folder: Path) -> dict:
    """The index of a model, with current names; {} where it cannot be read."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return renamed.index(index) if isinstance(index, dict) else {}


def class_name(folder: Path) -> str:
    """The pipeline class that the index of a model names; '' where it cannot be read."""
    return str(about(folder).get("_class_name", ""))
