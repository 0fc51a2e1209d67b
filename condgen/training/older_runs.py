"""Runs that an earlier version began go on with the options that they began with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from condgen.files import renamed
from condgen.training.run_folder import read_config


def as_begun(root: Path, config: Any, defaults: Sequence[Any]) -> Any:
    """The config of a run whose folder may be older than some options.

    An option that the folder's `config.yaml` lacks did not exist when the run began. Its class's default means to train
    as before; what a recipe has since chosen would change the network or the loss in the middle of a run. An option
    that was given, and differs from the recipe, stays.

    Args:
        root: the run folder.
        config: the config of its task.
        defaults: configs of its recipe, for every size.
    """
    path = root / "config.yaml"
    if not path.exists():
        return config
    names = renamed.flat(asdict(config)).keys()
    before = renamed.flat(renamed.run_config(read_config(path), names, getattr(config, "kind", ""))).keys()
    return _as_begun(config, defaults, before, "")


def _as_begun(config: Any, defaults: Sequence[Any], before: Any, prefix: str) -> Any:
    changes = {}
    for field in fields(config):
        name, value = prefix + field.name, getattr(config, field.name)
        usual = [getattr(default, field.name, None) for default in defaults]
        if is_dataclass(value) and not isinstance(value, type):
            changes[field.name] = _as_begun(value, usual, before, f"{name}.")
        elif name not in before and value in usual:
            old = field.default if field.default_factory is MISSING else field.default_factory()
            changes[field.name] = value if old is MISSING else old
    return replace(config, **changes)
