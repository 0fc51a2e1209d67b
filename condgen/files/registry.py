"""Finding models on disk, without loading them."""

from __future__ import annotations

import difflib
import json
import os
from pathlib import Path

from condgen.contracts import CondgenError
from condgen.files import renamed

DEFAULT = "scenes32"
INDEX = "model_index.json"
ASSETS = Path(__file__).parents[1] / "assets"
FOREIGN = ("open_clip", "local-dir", "transformers", "hf-hub")
"""Prefixes, before a colon, of the names of encoders of other libraries."""
STRANGERS = {"__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "lost+found", "$recycle.bin"}
"""Files and folders that systems and file servers leave in folders, beside those that begin with a dot."""


def is_stranger(name: str) -> bool:
    """True for the name of a file or folder that a system left: `.DS_Store`, `._name`, `__MACOSX`, `Thumbs.db`."""
    return name.startswith(".") or name.casefold() in STRANGERS


def folders() -> list[Path]:
    """Folders with models: the package's assets, `models/` in the working folder, and those of $CONDGEN_MODELS."""
    extra = [Path(p) for p in os.environ.get("CONDGEN_MODELS", "").split(os.pathsep) if p]
    return [ASSETS, Path("models"), *extra]


def found() -> dict[str, Path]:
    """Folders of all models by name; of models with equal names, the one in the first folder."""
    models: dict[str, Path] = {}
    for folder in folders():
        for pattern, up in ((f"*/{INDEX}", 0), (f"*/model/{INDEX}", 1)):
            for index in sorted(folder.glob(pattern)):
                if not is_stranger(index.parents[up].name):
                    models.setdefault(index.parents[up].name, index.parent)
    return models


def find(path_or_name: str | Path | None = None) -> Path:
    """The folder of a model: a path to it, to a training run that exported one, or a name that `found` lists.

    Raises:
        CondgenError: there is no such model; the message lists the models found.
    """
    name = DEFAULT if path_or_name is None else str(path_or_name)
    if not name:
        raise CondgenError("The name of the model is empty. Give one that `condgen list` shows, or a path.")
    models = found()
    if name in models:
        return models[name]
    path = Path(name)
    for folder in (path, path / "model"):
        if os.path.isfile(folder / INDEX):
            return folder
    if os.path.exists(path):
        problem = "a folder without" if path.is_dir() else "a file, not a folder with"
        raise CondgenError(f"{name} is {problem} {INDEX}. Give the `model` folder of a finished training run.")
    close = difflib.get_close_matches(name, models, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    available = ", ".join(sorted(models)) or "none"
    raise CondgenError(f"There is no model {name!r}.{hint} Models found: {available}; or give a path.")


def is_foreign(path_or_name: str | Path | None) -> bool:
    """True for the name of an encoder of another library, see `encoders.interop.load.open_encoder`."""
    name = str(path_or_name or "")
    if name.partition(":")[0] in FOREIGN and ":" in name:
        return True
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
