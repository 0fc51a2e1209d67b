"""The table: name -> data + model + training. The only room that knows every class that can be trained.

train("scenes32", "runs/scenes")                         # the model of the package
train("captions", "runs/mine", RECIPES["captions"].config("small", data="my/folder"))
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from condgen.configs import (
    AutoencoderTaskConfig,
    ClassToImageTaskConfig,
    ClipTaskConfig,
    GanTaskConfig,
    SelfsupTaskConfig,
    TextToImageTaskConfig,
    TranslationTaskConfig,
)
from condgen.contracts import CondgenError
from condgen.files.weights import fingerprint
from condgen.recipes.autoencoders import AUTOENCODERS
from condgen.recipes.encoders import ENCODERS
from condgen.recipes.gans import GANS
from condgen.recipes.generators import PAINTING
from condgen.recipes.table import Recipe
from condgen.recipes.translation import TRANSLATION
from condgen.training.trainer import FitConfig

if TYPE_CHECKING:
    from condgen.contracts import Encoder
    from condgen.encoders.tokenizer import Tokenizer
    from condgen.pipelines.class_to_image import ClassToImage

RECIPES: dict[str, Recipe] = PAINTING | ENCODERS | AUTOENCODERS | GANS | TRANSLATION
RUNS: dict[type, tuple[str, str]] = {
    TextToImageTaskConfig: ("captioned images", "condgen.tasks.text_to_image:TextToImageTask"),
    ClassToImageTaskConfig: ("labelled images", "condgen.tasks.class_to_image:ClassToImageTask"),
    ClipTaskConfig: ("images with captions or labels", "condgen.tasks.clip:ClipTask"),
    SelfsupTaskConfig: ("pictures", "condgen.tasks.selfsup:SelfsupTask"),
    AutoencoderTaskConfig: ("pictures", "condgen.tasks.autoencoder:AutoencoderTask"),
    GanTaskConfig: ("pictures", "condgen.tasks.gan:GanTask"),
    TranslationTaskConfig: ("images of two kinds", "condgen.tasks.translation:TranslationTask"),
}
"""Config of a recipe -> what it learns from, and the class of its run."""
SHARES = {"clip": 0.12, "prior": 0.1, "decoder": 0.78}
"""How `minutes` is shared out over the stages."""


def find_recipe(name: str) -> Recipe:
    """A recipe by name; `CondgenError` names those there are."""
    if name in RECIPES:
        return RECIPES[name]
    close = difflib.get_close_matches(name, RECIPES, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    raise CondgenError(f"There is no recipe {name!r}.{hint} Recipes: {', '.join(RECIPES)}.")


def train(
    recipe: str,
    out: Path | str,
    config: object | None = None,
    measure: Callable[[ClassToImage], dict[str, float]] | None = None,
    encoder: tuple[Encoder, Tokenizer] | None = None,
) -> Path:
    """Trains encoder, priors and decoder in order, or a decoder by labels, and exports the model; gives its folder.

    The same call again goes on from the last checkpoint.

    Args:
        recipe: a name from RECIPES.
        out: the run's folder: config, metrics, curves, sample sheets, checkpoints, and at the end `model/`.
        config: by default that of the recipe.
        measure: of recipes by label: gives numbers about the model so far, logged whenever a sample sheet is painted.
        encoder: of recipes from words to image: a net of your own and its tokenizer, which keep the contract of
            `contracts.Encoder`, to train priors and decoder on. `TextToImage.load` wants them again.

    Raises:
        CondgenError: unknown recipe, no data, unusable data, or a folder of another run.
    """
    chosen = find_recipe(recipe)
    config = config or chosen.config()
    if encoder:
        if not isinstance(config, TextToImageTaskConfig):
            raise CondgenError(f"The recipe {recipe} trains no prior and no decoder on an encoder: leave it out.")
        config = replace(config, encoder=f"given, of space {fingerprint(encoder[0])}")
    if measure and not isinstance(config, ClassToImageTaskConfig):
        raise CondgenError(f"The recipe {recipe} paints no labels, which could be measured: leave it out.")
    what, place = RUNS[type(config)]
    drawn = isinstance(config, TextToImageTaskConfig) and config.embeds and config.stage == "prior"
    drawn = drawn or (isinstance(config, TranslationTaskConfig) and not chosen.needs_data)
    if (chosen.needs_data or not isinstance(config, TextToImageTaskConfig)) and not config.data and not drawn:
        raise CondgenError(f"The recipe {recipe} needs {what}: give their folder, table or shards with --data.")
    if isinstance(config, TextToImageTaskConfig):
        if not chosen.needs_data and config.data:
            raise CondgenError(f"The recipe {recipe} draws its own data. For {config.data} use the recipe captions.")
        size = config.pictures.size
        if size < 16 or size & (size - 1):
            raise CondgenError(f"pictures.size must be a power of two from 16, got {size}.")
    module, _, name = place.partition(":")
    run = getattr(importlib.import_module(module), name)
    more = {"measure": measure} if measure else {"given": encoder} if encoder else {}
    return run(recipe, chosen, Path(out), config, partial(bounded, config, chosen), **more).train()


def bounded(config, recipe: Recipe, stage: str, fit: FitConfig, parts: int = 1) -> FitConfig:
    """The fit of a stage under the run's `minutes` and `images`; `parts` trainings share the stage's time.

    Under `minutes` time alone decides and the learning rate follows it, unless a number of images was given too.
    """
    share = SHARES[stage] if isinstance(config, TextToImageTaskConfig) and config.stage == "all" else 1.0
    if share < 1 and config.encoder:
        share /= 1 - SHARES["clip"]
    minutes = config.minutes * share / parts if config.minutes else fit.minutes
    images = min(fit.images, config.images) if config.images else fit.images
    usual = [recipe.base, *(size(recipe.base) for size in recipe.sizes.values())]
    if config.minutes and not config.images and fit.images in [getattr(c, f"fit_{stage}").images for c in usual]:
        images = 10**12
    return replace(fit, minutes=minutes, images=images)
