"""What of a recipe that was found in an image can be used with a model."""

from __future__ import annotations

import contextlib
import html
import json
from typing import Any

from condgen.contracts import CondgenError
from condgen.files.foreign_recipes import FoundRecipe
from condgen.files.images import prompt_of
from condgen.pipelines.base import Pipeline
from condgen.pipelines.text_to_image import TextToImage
from condgen.studio.session import MAX_IMAGES, SEEDS, check_integer, check_text, sampling_options_of
from condgen.studio.tabs.generate.guides import check_negative

TITLES = {"prompt": "Prompt", "negative": "Negative prompt", "seed": "Seed", "steps": "Steps", "guidance": "Guidance",
          "model": "Model", "size": "Size", "model_id": "Model hash", "prior": "Prior"}  # fmt: skip
SHOWN = 500
"""Characters of a value in a table."""


def usable(found: FoundRecipe, model: Pipeline, models: Any = ()) -> tuple[dict[str, Any], list[str]]:
    """The part of a recipe that `model` can use, and a sentence about each thing that it cannot.

    Args:
        found: of any program.
        model: the model that is chosen.
        models: names of all models; a recipe of condgen names its own.

    Returns:
        A recipe of condgen as it is; of others `prompt`, or no labels for a model without text, `negative` words, and
        `seed`, `steps` and `guidance`, as far as they are in range and the model takes them.
    """
    if found.program == "condgen":
        return found.recipe, _notes_of_model(found.recipe, model, models)
    recipe, notes = {}, []
    given = dict(found.recipe)
    options = {option.name: option for option in sampling_options_of(model)}
    for name in ("prompt", "negative", "seed", "steps", "guidance"):
        value = given.pop(name, None)
        if value is None:
            continue
        try:
            if name == "prompt":
                if not isinstance(model, TextToImage):
                    raise CondgenError(f"{model.name} does not read prompts.")
                recipe[name] = check_text("The prompt", value)
            elif name == "negative":
                recipe[name] = check_negative(model, value)
            elif name == "seed":
                recipe[name] = check_integer("The seed", value, 0, SEEDS - MAX_IMAGES)
            elif name not in options:
                raise CondgenError(f"{model.name} has no such option.")
            else:
                recipe[name] = options[name].check(value)
        except CondgenError as error:
            notes.append(f"{TITLES[name]} {str(value)[:40]} was not taken over: {error}")
    if not isinstance(model, TextToImage):
        recipe["labels"] = {}
    left = [TITLES[name].lower() for name in given if name in TITLES] + list(found.rest)[:12]
    if left:
        notes.append(f"Not taken over, since condgen does not have them or the model decides: {', '.join(left)}.")
    return recipe, notes


def can_fill(recipe: dict[str, Any]) -> bool:
    """Whether the controls can be filled with a recipe of `usable`."""
    return bool({"prompt", "labels"} & set(recipe))


def _notes_of_model(recipe: dict[str, Any], model: Pipeline, models: Any) -> list[str]:
    name, identity = recipe.get("model"), recipe.get("model_id")
    if identity == model.model_id:
        return []
    if name == model.name:
        return [f"{name} has other weights now than when this image was made, so the image will differ."]
    where = "choose it to make the image again" if name in models else "which is not here"
    return [f"This image was made by {str(name)[:100]}, {where}; with {model.name} it will differ."]


def rows_of(found: FoundRecipe) -> list[tuple[str, str]]:
    """A recipe as (name, value) in plain words, the main things first."""
    recipe = dict(found.recipe)
    rows = [("Written by", found.program)]
    if found.program == "condgen":
        labels = "labels" in recipe
        with contextlib.suppress(KeyError, TypeError, AttributeError, ValueError):
            rows.append(("Labels" if labels else "Prompt", str(prompt_of(recipe))))
        for name in ("prompt", "labels", "title"):
            recipe.pop(name, None)
    rows += [(TITLES[name], recipe.pop(name)) for name in TITLES if name in recipe]
    rows += [(name.replace("_", " ").capitalize(), value) for name, value in recipe.items()]
    rows += list(found.rest.items())
    return [(name[:60], _plain(value)) for name, value in rows[:100]]


def _plain(value: Any) -> str:
    if isinstance(value, dict | list):
        value = json.dumps(value, ensure_ascii=False, default=str)
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def table_of(found: FoundRecipe, notes: list[str]) -> str:
    """The recipe as an HTML table, all texts escaped."""
    rows = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td>{html.escape(value)}</td></tr>'
        for name, value in rows_of(found)
    )
    below = "".join(f"<p>{html.escape(note)}</p>" for note in notes)
    return f'<table class="cg-recipe"><caption>Recipe</caption>{rows}</table><div role="status">{below}</div>'
