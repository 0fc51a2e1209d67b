"""The table of recipes: name -> data, model and training.

train("scenes32", "runs/scenes")                         # the model that condgen comes with
train("captions", "runs/mine", RECIPES["captions"].config("small", data="my/folder"))

Importing this package is cheap.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from condgen.contracts import CondgenError
from condgen.recipes.encoders import ENCODERS
from condgen.recipes.generators import GENERATORS
from condgen.recipes.table import LABELS, WORDS, Recipe
from condgen.recipes.table import TRANSLATION as TRANSLATORS
from condgen.recipes.translation import TRANSLATION
from condgen.recipes.unconditional import AUTOENCODERS, GANS, IMAGES

if TYPE_CHECKING:
    from condgen.contracts import Encoder
    from condgen.encoders.tokenizer import Tokenizer
    from condgen.pipelines.class_to_image import ClassToImage

RECIPES: dict[str, Recipe] = GENERATORS | ENCODERS | IMAGES | AUTOENCODERS | GANS | TRANSLATION


def find_recipe(name: str) -> Recipe:
    """Finds a recipe by name; raises `CondgenError` with the known names."""
    if name in RECIPES:
        return RECIPES[name]
    close = difflib.get_close_matches(name, RECIPES, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    raise CondgenError(f"There is no recipe {name!r}.{hint} Recipes: {', '.join(RECIPES)}.")


def train(
    recipe: str,
    out: Path | str,
    config: Any | None = None,
    measure: Callable[[ClassToImage], dict[str, float]] | None = None,
    encoder: tuple[Encoder, Tokenizer] | None = None,
) -> Path:
    """Trains the model of a recipe and returns its folder. The same call again resumes from the last checkpoint.

    Args:
        recipe: a name from RECIPES.
        out: the run folder: config, metrics, curves, sample sheets, checkpoints, and at the end `model/`.
        config: config of the task, by default that of the recipe.
        measure: for class-to-image: model -> scores, logged with every sample sheet.
        encoder: for text-to-image: an encoder that implements `contracts.Encoder`, and its tokenizer, to train priors
            and decoder on. `TextToImage.load` needs them again.

    Raises:
        CondgenError: unknown recipe, no data, unusable data, or a folder of another run.
    """
    from condgen.files.weights import fingerprint
    from condgen.tasks import base

    chosen = find_recipe(recipe)
    task, config = chosen.task(), config or chosen.config()
    if not isinstance(config, task.config_class):
        raise CondgenError(
            f"The recipe {recipe} takes a {task.config_class.__name__}, got a {type(config).__name__}. "
            f"RECIPES[{recipe!r}].config() makes one."
        )
    extra: dict[str, Any] = {}
    if encoder:
        if chosen.family != WORDS:
            raise CondgenError(f"The recipe {recipe} trains no prior and no decoder on an encoder: leave it out.")
        config, extra = replace(config, encoder=f"given, of space {fingerprint(encoder[0])}"), {"given": encoder}
    if measure:
        if chosen.family != LABELS:
            raise CondgenError(f"The recipe {recipe} generates no labels that could be measured: leave it out.")
        extra = {"measure": measure}
    _check_data(recipe, chosen, config, task.needs)
    return base.train(task(recipe, chosen, Path(out), config, **extra))


def _check_data(name: str, recipe: Recipe, config: Any, needs: str) -> None:
    path, is_text = config.data.path, recipe.family == WORDS
    if is_text and path and not recipe.needs_data:
        raise CondgenError(f"The recipe {name} draws its own data. For {path} use the recipe captions.")
    stored = is_text and config.embeds and config.stage == "prior"
    drawn = not recipe.needs_data and recipe.family in (WORDS, TRANSLATORS)
    if not (path or stored or drawn):
        raise CondgenError(f"The recipe {name} needs {needs}: give their folder, table or shards with --data.")
    if is_text and (config.data.size < 16 or config.data.size & (config.data.size - 1)):
        raise CondgenError(f"data.size must be a power of two from 16, got {config.data.size}.")
