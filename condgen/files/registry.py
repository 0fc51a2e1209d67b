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
WORDS, LABELS = "TextToImage", "ClassToImage"
"""What a model paints from, as the index names it."""
FOREIGN = ("open_clip", "local-dir", "transformers", "hf-hub")
"""How the name of an encoder of another library begins, before a colon."""
PAIRS, PICTURES = "TextImageEncoder", "ImageEncoder"
"""What a model that paints nothing puts into its space: images and words, or images alone."""
LATENTS, TRANSLATORS = "LatentModel", "Translator"
"""Models without a condition: codes behind images, and image to image."""


def folders() -> list[Path]:
    """Where models are looked for: the package, `models/` here, and the folders of $CONDGEN_MODELS."""
    extra = [Path(p) for p in os.environ.get("CONDGEN_MODELS", "").split(os.pathsep) if p]
    return [ASSETS, Path("models"), *extra]


def found() -> dict[str, Path]:
    """Every model by name; the first folder wins."""
    models: dict[str, Path] = {}
    for folder in folders():
        for pattern, up in ((f"*/{INDEX}", 0), (f"*/model/{INDEX}", 1)):
            for index in sorted(folder.glob(pattern)):
                models.setdefault(index.parents[up].name, index.parent)
    return models


def find(path_or_name: str | Path | None = None) -> Path:
    """The folder of a model: a path to it, to a training run that exported one, or a name that `found` lists.

    Raises:
        CondgenError: there is none; the message names what there is.
    """
    wanted = DEFAULT if path_or_name is None else str(path_or_name)
    if not wanted:
        raise CondgenError("The name of the model is empty. Give one that `condgen list` shows, or a path.")
    models = found()
    if wanted in models:
        return models[wanted]
    path = Path(wanted)
    for place in (path, path / "model"):
        if os.path.isfile(place / INDEX):
            return place
    if os.path.exists(path):
        what = "a folder without" if path.is_dir() else "a file, not a folder with"
        raise CondgenError(f"{wanted} is {what} {INDEX}. Give the `model` folder of a finished training run.")
    close = difflib.get_close_matches(wanted, models, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    there = ", ".join(sorted(models)) or "none"
    raise CondgenError(f"There is no model {wanted!r}.{hint} Models found: {there}; or give a path.")


def is_foreign(path_or_name: str | Path | None) -> bool:
    """Whether this names an encoder of another library, as `encoders.opening.open_encoder` takes it."""
    name = str(path_or_name or "")
    if name.partition(":")[0] in FOREIGN and ":" in name:
        return True
    path = Path(name or "\0")
    return not os.path.isfile(path / INDEX) and any(
        os.path.isfile(path / config) for config in ("open_clip_config.json", "config.json")
    )


def about(folder: Path) -> dict:
    """What the index of a model says; {} when it cannot be read."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return renamed.index(index) if isinstance(index, dict) else index


def kind_of(folder: Path) -> str:
    """What the index of a model says that it is, one of the constants above; '' when it cannot be read."""
    index = about(folder)
    return str(index.get("_class_name", "")) if isinstance(index, dict) else ""


def paints_labels(folder: Path) -> bool:
    """Whether the index of a model says that it paints labels, not words."""
    return kind_of(folder) == LABELS


def encodes(folder: Path) -> bool:
    """Whether the index of a model says that it embeds, and paints nothing."""
    return kind_of(folder) in (PAIRS, PICTURES)
