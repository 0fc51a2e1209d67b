"""The registry of latent-space tools, from which the command line is built.

from condgen.latent_space import Analysis, Tool, option, register

def run(call):
    return Analysis({"norm": {"mean": {"length": call.space.encode(call.real).norm(dim=1).mean().item()}}}, {})

register(Tool("norm", "measure the length of latents", (), run))

The tools of the package are the modules of `condgen.latent_space.tools`; each registers itself when it is imported.

Importing this module imports nothing heavy.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condgen.contracts import CondgenError, ProgressCallback

if TYPE_CHECKING:
    from condgen.latent_space.adapters import Images, LatentSpace
    from condgen.latent_space.inputs import ImageSource
    from condgen.latent_space.result import Analysis

MAX_REAL = 10_000
"""Maximum number of real images that a tool compares with."""
Option = tuple[tuple[str, ...], dict[str, Any]]
"""The arguments of `argparse.ArgumentParser.add_argument`, see `option`."""


@dataclass(frozen=True)
class ToolCall:
    """The input of a tool.

    Args:
        space: the model, see `adapters.LatentSpace`.
        source: source of real images, and of images by name.
        args: values of the tool's options; `images` contains the names of images, see `images_option`.
        progress: called with progress.
        fit_classifier: (labelled images, folder) -> a function from images to attribute values, see `tools.edit`.
    """

    space: LatentSpace
    source: ImageSource
    args: argparse.Namespace
    progress: ProgressCallback
    fit_classifier: Callable[[Any, Path], Callable] | None = None

    def names(self, default: int) -> list[str]:
        """The names of images given on the command line, or of `default` images of the data."""
        return self.args.images or self.source.choose(default)

    @cached_property
    def real(self) -> Images | None:
        """At most MAX_REAL training images; None if the training data are unknown."""
        return self.source.train.images[:MAX_REAL] if self.source.path else None


@dataclass(frozen=True)
class Tool:
    """A tool of `condgen latent-space`.

    Args:
        name: name on the command line.
        help: description; its first line is shown.
        options: arguments in addition to those of all tools, see `option`.
        run: computes the result.
    """

    name: str
    help: str
    options: tuple[Option, ...]
    run: Callable[[ToolCall], Analysis]


TOOLS: dict[str, Tool] = {}
"""The tools that are registered, by name."""


def register(tool: Tool) -> Tool:
    """Adds a tool to the registry.

    Raises:
        ValueError: another tool has this name.
    """
    if tool.name in TOOLS:
        raise ValueError(f"the latent-space tool {tool.name!r} is registered twice")
    TOOLS[tool.name] = tool
    return tool


def find_tool(name: str) -> Tool:
    """A tool by name; `CondgenError` for an unknown name."""
    if name not in TOOLS and name in tool_help():
        import_module(f"condgen.latent_space.tools.{name}")
    if name not in TOOLS:
        raise CondgenError(f"There is no latent-space tool {name!r}. Tools: {', '.join(tool_help())}.")
    return TOOLS[name]


def tool_help() -> dict[str, str]:
    """Help text of every tool, read from the first line of its file: importing the tools would import torch."""
    files = sorted(Path(__file__).with_name("tools").glob("[!_]*.py"))
    found = {file.stem: file.open(encoding="utf-8").readline() for file in files}
    found |= {name: tool.help for name, tool in TOOLS.items()}
    return {name: first_line(text) for name, text in found.items()}


def first_line(text: str) -> str:
    """The first line of a docstring as a help text: lower case and without full stop."""
    line = text.strip().splitlines()[0].strip('"').rstrip(".")
    return line[0].lower() + line[1:]


# Options --------------------------------------------------------------------------------------------------------------


def option(*flags: str, help: str, **kwargs: Any) -> Option:
    """Defines an argument of a tool; a default that is a number or a word is added to the help text."""
    if isinstance(kwargs.get("default"), str | int | float) and kwargs["default"] != "" and "action" not in kwargs:
        help += " (default %(default)s)"
    return flags, {"help": help, **kwargs}


def images_option(default: str) -> Option:
    """Positional argument: any number of names of images, see `ToolCall.names`."""
    help = f"a file, the number of a row of the data, or seed:N for a sample of the model (default {default})"
    return option("images", nargs="*", metavar="IMAGE", help=help)


def seed_option(subject: str) -> Option:
    """The option --seed."""
    return option("--seed", type=int, default=0, help=f"random seed of {subject}")


def false_alarms_option(subject: str) -> Option:
    """The option --false-alarms, the share that sets a threshold."""
    return option("--false-alarms", type=float, default=0.05, metavar="P", help=f"share of {subject}")


def separated(kind: Callable[[str], Any] = str) -> Callable[[str], tuple]:
    """The type of an option: values separated by commas."""

    def values(text: str) -> tuple:
        return tuple(kind(word.strip()) for word in text.split(",") if word.strip())

    return values


def positive(text: str) -> int:
    """The type of an option: an integer from 1."""
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {value}")
    return value
