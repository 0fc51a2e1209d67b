"""The class of recipes. The task is imported only when a config or the task is used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from condgen.contracts import CondgenError

if TYPE_CHECKING:
    from condgen.tasks.base import Task

WORDS, LABELS, ENCODERS = "text to image (unCLIP, as in DALL-E 2)", "class to image", "encoders"
SPACES, TRANSLATION = "unconditional (autoencoders, GANs, embeddings)", "image to image (pix2pix, CycleGAN)"
"""Families of recipes."""
Options = dict[str, Any]
"""Fields of a config that differ from the defaults; a section is a nested dict, as in YAML."""
CLASSIC_GAN: Options = {"loss": "ns", "gamma": 0.0, "augment": 0.0}
"""The objective of the original GAN papers: the non-saturating loss without penalties and augmentation."""


@dataclass(frozen=True)
class Recipe:
    """An entry of the table.

    Args:
        family: one of the families above.
        help: description in one line.
        task: function that imports and returns the class of its task.
        options: options that differ from the defaults of the config.
        sizes: name of a size -> options that differ from those of the recipe.
        needs_data: whether the user must give the data.
        examples: prompts that suit its training data.
        kinds: kind of the decoder -> options that differ from the defaults of the kind.
    """

    family: str
    help: str
    task: Callable[[], type[Task]]
    options: Options = field(default_factory=dict)
    sizes: dict[str, Options] = field(default_factory=dict)
    needs_data: bool = False
    examples: tuple[str, ...] = ()
    kinds: dict[str, Options] = field(default_factory=dict)

    @cached_property
    def base(self) -> Any:
        """The config without changes."""
        return changed(self.task().config_class(), self.options)

    def config(self, size: str | None = None, kind: str | None = None, **changes: Any) -> Any:
        """The config of this recipe, for its task.

        Args:
            size: one of its sizes.
            kind: kind of the decoder, or of the training, if the recipe has several.
            changes: replace its fields; `data` may be the path of the data.

        Raises:
            CondgenError: the recipe has no such size or kind.
        """
        config = self.base
        if size is not None:
            if size not in self.sizes:
                sizes = f"it has {', '.join(self.sizes)}" if self.sizes else "it has one size"
                edge = " --size names a size of the model; --data.size is the edge of the images in pixels."
                raise CondgenError(f"This recipe has no size {size!r}; {sizes}.{edge}")
            config = changed(config, self.sizes[size])
        if kind is not None and kind != getattr(config, "kind", None):
            config = changed(config.with_kind(kind), self.kinds.get(kind, {}))
        if isinstance(path := changes.get("data"), str):
            changes["data"] = replace(config.data, path=path)
        return replace(config, **changes)


def changed(config: Any, options: Options) -> Any:
    """Changes options of a config, or of a section. A new `kind` of a task first sets the defaults of the kind."""
    if hasattr(config, "with_kind") and "kind" in options:
        config = config.with_kind(options["kind"])
    return replace(
        config, **{k: changed(getattr(config, k), v) if isinstance(v, dict) else v for k, v in options.items()}
    )
