"""Runs that an earlier version began go on with the options that they began with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, Field, asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from condgen.files import renamed
from condgen.training.run_folder import may_change, read_config


def as_begun(root: Path, config: Any, defaults: Sequence[Any]) -> Any:
    """The config of a run whose folder may be older than some options of its recipe.

    What a recipe has since chosen would change the network or the loss in the middle of a run. An option that the
    folder's `config.yaml` lacks did not exist when the run began, and gets the default of its class, which means to
    train as before. In the folder of such an earlier version, the options of the training, and those that a resumed run
    may not change, keep their values. An option that was given, and differs from the recipe, stays as given.

    Args:
        root: the run folder.
        config: the config of its task.
        defaults: configs of its recipe, for every size.
    """
    path = root / "config.yaml"
    if not path.exists():
        return config
    names = renamed.flat(asdict(config)).keys()
    before = renamed.flat(renamed.run_config(read_config(path), names, getattr(config, "kind", "")))
    return config if names <= before.keys() else _as_begun(config, defaults, before, "")


def _as_begun(config: Any, defaults: Sequence[Any], before: dict[str, Any], prefix: str) -> Any:
    changes = {}
    for field in fields(config):
        name, value = prefix + field.name, getattr(config, field.name)
        usual = [getattr(default, field.name, None) for default in defaults]
        if is_dataclass(value) and not isinstance(value, type):
            changes[field.name] = _as_begun(value, usual, before, f"{name}.")
        elif value in usual and name not in before:
            changes[field.name] = _default(field, value)
        elif value in usual and (prefix.startswith("fit") or not may_change(name)):
            changes[field.name] = tuple(before[name]) if isinstance(value, tuple) else before[name]
    return replace(config, **changes)


def _default(field: Field, value: Any) -> Any:
    default = field.default if field.default_factory is MISSING else field.default_factory()
    return value if default is MISSING else default
