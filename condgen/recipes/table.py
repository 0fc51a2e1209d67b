"""What a recipe is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from condgen.contracts import CondgenError

WORDS, LABELS, ENCODERS = "text to image (unCLIP, as in DALL-E 2)", "class to image", "encoders"
SPACES, TRANSLATION = "unconditional (autoencoders, GANs)", "image to image (pix2pix, CycleGAN)"
"""Families of recipes."""


@dataclass(frozen=True)
class Recipe:
    """An entry of the table.

    Args:
        family: one of the families above.
        help: one line for people.
        base: its config, that of a task.
        sizes: changes of the config by the name of a size.
        needs_data: whether the user must give the data.
        examples: prompts that suit what it learns.
        kinds: kind of the decoder -> fields in which the recipe differs from the defaults of the kind.
    """

    family: str
    help: str
    base: Any
    sizes: dict[str, Callable[[Any], Any]] = field(default_factory=dict)
    needs_data: bool = False
    examples: tuple[str, ...] = ()
    kinds: dict[str, dict[str, Any]] = field(default_factory=dict)

    def config(self, size: str | None = None, kind: str | None = None, **changes: Any) -> Any:
        """The config of this recipe.

        Args:
            size: one of its sizes.
            kind: kind of the decoder, or of the training where the recipe has several.
            changes: replace its fields; `data` may be the path of the data.

        Raises:
            CondgenError: the recipe has no such size or kind.
        """
        config = self.base
        if size is not None:
            if size not in self.sizes:
                sizes = f"it has {', '.join(self.sizes)}" if self.sizes else "it has one size"
                raise CondgenError(f"This recipe has no size {size!r}; {sizes}.")
            config = self.sizes[size](config)
        if kind is not None and kind != getattr(config, "kind", None):
            config = config.with_kind(kind, **self.kinds.get(kind, {}))
        if isinstance(path := changes.get("data"), str):
            changes["data"] = replace(config.data, path=path)
        return replace(config, **changes)
