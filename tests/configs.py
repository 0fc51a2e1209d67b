"""Changes of a training config in one call."""

from __future__ import annotations

from dataclasses import replace
from typing import Any


def changed(config: Any, **changes: Any) -> Any:
    """The config with other fields; a dict changes fields of a section, and `data` may be a path."""
    if isinstance(path := changes.get("data"), str):
        changes["data"] = {"path": path}
    if (kind := changes.pop("kind", None)) not in (None, getattr(config, "kind", None)):
        config = config.with_kind(kind)
    sections = {
        name: replace(getattr(config, name), **value) for name, value in changes.items() if isinstance(value, dict)
    }
    return replace(config, **changes | sections)
