"""Tools that analyse a latent space; the result of each is a set of tables and images.

from condgen.latent_space import interpolate

interpolate(model, a, b).save("out")

A latent space is a model that maps latents to images and, except for GANs, images to latents, see `adapters`. A tool is
one module in `condgen.latent_space.tools` with one call of `registry.register`, which adds it to the command line.

Importing this package imports nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "adapters": ("LatentSpace", "as_space"),
    "registry": ("Tool", "ToolCall", "option", "register"),
    "result": ("Analysis",),
    "tools.anomaly": ("Anomaly", "anomaly"),
    "tools.arithmetic": ("Arithmetic", "arithmetic"),
    "tools.disentangle": ("Disentanglement", "disentangle"),
    "tools.edit": ("Edit", "edit"),
    "tools.holes": ("Holes", "holes"),
    "tools.interpolate": ("Interpolation", "interpolate"),
    "tools.jacobian": ("Jacobian", "jacobian"),
    "tools.likelihood": ("Likelihood", "importance_weighted"),
    "tools.neighbours": ("Neighbours", "neighbours"),
    "tools.project": ("Projection", "Search", "corrupt", "find_latents", "project"),
    "tools.traverse": ("Traversal", "traverse"),
}
"""Module -> the public names in it."""
__all__ = sorted(name for names in _HOMES.values() for name in names)


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
