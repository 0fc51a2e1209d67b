"""Choosing a recipe: which ones train on given data, and how long a training takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from condgen.recipes import RECIPES
from condgen.recipes.table import ENCODERS, LABELS, SPACES, TRANSLATION, WORDS

if TYPE_CHECKING:
    from condgen.data.audit.report import Report

MINUTES = {WORDS: 60, LABELS: 20, ENCODERS: 20, SPACES: 10, TRANSLATION: 15}
"""Family -> minutes of training on one core of a CPU after which its models are of use, see docs/results.md."""
OWN_MINUTES = {"captions": 120, "images": 60, "pairs": 60, "unpaired": 60, "mnist-binary-vae": 40}
"""Recipes that need another time than their family."""
GANS = ("gan", "dcgan", "infogan")
GAN_MINUTES = 20
"""Minutes for GANs without a condition."""
DIGITS = 1
"""Minutes for the digits of 8 x 8 pixels."""


def typical_minutes(name: str) -> int:
    """Minutes of training that suit a recipe on one core of a CPU."""
    if name.startswith("digits-"):
        return DIGITS
    recipe, _, network = RECIPES[name], *name.partition("-")[1:]
    usual = GAN_MINUTES if recipe.family == SPACES and network in GANS else MINUTES[recipe.family]
    return OWN_MINUTES.get(name, usual)


def suited_to(report: Report) -> list[str]:
    """The recipes that train on the data of a report, the most obvious one first."""
    from condgen.data.audit.report import CaptionReport

    labelled = bool(getattr(report, "values", None) or getattr(report, "numbers", None))
    families = [WORDS] if isinstance(report, CaptionReport) else [LABELS] if labelled else [SPACES]
    own = {name: recipe.family for name, recipe in RECIPES.items() if "your own" in recipe.help}
    names = [name for name, family in own.items() if family in families]
    others = [name for name, recipe in RECIPES.items() if recipe.family == ENCODERS]
    others = [name for name in others if name != "clip" or SPACES not in families]
    rest = [name for name, family in own.items() if family == SPACES and name not in names]
    return [*names[:3], *others, *rest[:1]]
