"""Images and negative words that guide a generation, as the studio receives them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from condgen.contracts import CondgenError
from condgen.decoders import DECODERS
from condgen.pipelines.base import Pipeline
from condgen.pipelines.editing.guide import Guide, guides
from condgen.pipelines.generation import EmbeddingPipeline
from condgen.studio.checks import check_number, check_text

IMAGES = {"image": "image beside the words", "init": "image to begin from", "mask": "mask"}
"""Images that guide a generation, by the name of their option."""


def guides_of(model: Pipeline) -> tuple[str, ...]:
    """What may guide a generation: `image` beside the words, `init` to begin from, with a `mask`; `negative` words."""
    if not isinstance(model, EmbeddingPipeline):
        return ()
    kind = DECODERS.kind_of(model.decoder)
    negative = ("negative",) * (model.reads_text and kind.negatives)
    return ("image",) * model.reads_text + ("init", "mask") * kind.inverts + negative


def check_guide(model: Pipeline, prompt: Any, prior: Any, extras: dict[str, Any]) -> Guide | None:
    """Words and images together, as `editing.guide` takes them; None where neither image nor negative word is given.

    Args:
        extras: the images as paths or PIL images, `image_weight` and `noise`; `negative` words, '' for none.

    Raises:
        CondgenError: an image cannot be read, or the model takes none of its kind, or no negative words.
    """
    negative = check_negative(model, extras.get("negative", ""))
    given = {name: extras[name] for name in (*IMAGES, "image_weight", "noise") if name in extras}
    if not given and not negative:
        return None
    if given and not guides_of(model):
        raise CondgenError(f"{model.name} takes no images.")
    for name, value in given.items():
        if name not in IMAGES:
            check_number(name, value)
        elif name not in guides_of(model):
            raise CondgenError(f"{model.name} takes no {IMAGES[name]}.")
        elif not isinstance(value, Path | Image.Image):
            raise CondgenError(f"The {IMAGES[name]} must be an uploaded file.")
    text = check_text("The prompt", prompt, empty=bool(given)) if model.reads_text else ""
    if not text and "init" not in given:
        raise CondgenError("Give words beside the image. Variations of an image alone are made in the tab Mix.")
    (guide,) = guides(model, text, prior, negative=negative, **given)
    guide.check(model)
    return guide


def check_negative(model: Pipeline, words: Any) -> str:
    """Words to steer away from, '' for none; `CondgenError` where the model takes none."""
    words = check_text("The negative words", words, empty=True)
    if words and "negative" not in guides_of(model):
        raise CondgenError(f"{model.name} takes no negative words: they need a diffusion decoder that reads text.")
    return words
