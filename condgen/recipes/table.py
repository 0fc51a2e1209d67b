"""What a recipe is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from condgen.contracts import CondgenError

WORDS, LABELS, ENCODERS = "words to image", "label to image", "encoders"
SPACES, TRANSLATION = "images alone", "image to image"
"""Families of recipes."""


@dataclass(frozen=True)
class Recipe:
    """A line of the table.

    Args:
        family: one of the families above.
        help: one line for people.
        base: its config, one of `configs`.
        sizes: changes of the config by the name of a size.
        needs_data: whether it has no data of its own.
        examples: prompts that suit what it learns.
    """

    family: str
    help: str
    base: Any
    sizes: dict[str, Callable[[Any], Any]] = field(default_factory=dict)
    needs_data: bool = False
    examples: tuple[str, ...] = ()

    def config(self, size: str | None = None, **changes) -> Any:
        """The config of this recipe in one of its sizes; `changes` replace its fields.

        Raises:
            CondgenError: the recipe has no such size.
        """
        config = self.base
        if size is not None:
            if size not in self.sizes:
                told = f"it has {', '.join(self.sizes)}" if self.sizes else "it has one size"
                raise CondgenError(f"This recipe has no size {size!r}; {told}.")
            config = self.sizes[size](config)
        return replace(config, **changes)
