"""What stands on the shelf: kinds of models, trained and judged when they are first asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from condgen.contracts import ProgressCallback
from condgen.data.batches.captions import to_float
from condgen.evaluation import evaluate
from condgen.evaluation.report import finite
from condgen.files.images import make_folder, write_bytes
from condgen.latent_space.inputs import ImageSource
from condgen.latent_space.result import Analysis
from condgen.pipelines.auto import load_folder
from condgen.recipes import RECIPES, find_recipe, train

FOLDER = "shelf"
"""Where the images of the page are, beside it."""
IN_A_ROW = 10
LONGER = 4


@dataclass(frozen=True)
class Kind:
    """A model on the shelf.

    Args:
        title: what the page calls it.
        recipe: its recipe, after the name of the collection and a hyphen where it has one.
        size: of the recipe.
        scenes: trained on drawn scenes, whatever the collection.
        times: how many times as long as others it is trained; GANs of convolutions show nothing before.
    """

    title: str
    recipe: str
    size: str | None = None
    scenes: bool = False
    times: int = 1


KINDS = {
    "linear": Kind("linear", "linear"),
    "ae": Kind("perceptrons", "ae"),
    "conv-ae": Kind("convolutions", "conv-ae"),
    "dae": Kind("denoising", "dae"),
    "vae": Kind("VAE of perceptrons", "vae"),
    "conv-vae": Kind("VAE of convolutions", "conv-vae"),
    "beta-vae": Kind("beta-VAE", "beta-vae", scenes=True),
    "gan": Kind("GAN of perceptrons", "gan"),
    "dcgan-classic": Kind("DCGAN, classic", "dcgan", "classic", times=LONGER),
    "dcgan": Kind("DCGAN, modern", "dcgan", "modern", times=LONGER),
    "infogan": Kind("InfoGAN", "infogan", times=LONGER),
    "edges2picture": Kind("edges to images", "edges2picture", scenes=True),
    "grey2colour": Kind("grey to colour", "grey2colour", scenes=True),
    "day2night": Kind("day to night", "day2night", scenes=True),
    "squares2circles": Kind("squares and circles, without pairs", "squares2circles", scenes=True),
}


class Shelf:
    """What the page is made of: trained models, their reports, images of them.

    Args:
        out: folder of the page.
        runs: folder of the trainings and reports; what is there is taken as it is.
        collection: which images, as recipes call them: `digits`, `fashion`, `cifar10` or `pictures`.
        data: where they are; '' for digits.
        minutes, seed: of every training.
        told: called with progress.
    """

    def __init__(
        self, out: Path, runs: Path, collection: str = "digits", data: str = "", minutes: float = 1.0, seed: int = 0,
        progress: ProgressCallback = lambda share, what: None,
    ):  # fmt: skip
        self.out, self.runs, self.collection, self.data = out, runs, collection, data
        self.minutes, self.seed, self.progress, self.share = minutes, seed, progress, 0.0
        self._models: dict[str, Any] = {}

    def recipe(self, name: str) -> str:
        """The recipe of a kind, for this collection."""
        kind = KINDS[name]
        return (
            kind.recipe if kind.recipe in RECIPES else f"{'scenes' if kind.scenes else self.collection}-{kind.recipe}"
        )

    def model(self, name: str) -> Any:
        """A kind, trained where it is not yet."""
        if name in self._models:
            return self._models[name]
        kind, recipe = KINDS[name], self.recipe(name)
        minutes = self.minutes * kind.times
        self.progress(self.share, f"{kind.title}: training {minutes:g} minutes")
        config = find_recipe(recipe).config(kind.size, minutes=minutes, seed=self.seed)
        if not kind.scenes and self.data:
            config = replace(config, data=self.data)
        self._models[name] = load_folder(train(recipe, self.runs / name, config))
        return self._models[name]

    def report(self, name: str) -> dict:
        """What `condgen evaluate` says of a kind, kept in its run."""
        model, kept = self.model(name), self.runs / name / "report.json"
        known = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
        if known.get("model_id") != model.model_id:
            self.progress(self.share, f"{KINDS[name].title}: judging")
            own = {} if KINDS[name].scenes else {"data": self.data, "judge": self.runs / "judge", "seeds": 1}
            known = evaluate(model, None, **own)
            write_bytes(kept, json.dumps(finite(known), indent=1).encode())
        return known

    def study(self, name: str, what: str, look: Callable[[Any], Analysis]) -> Analysis:
        """What a tool finds in a kind."""
        model = self.model(name)
        self.progress(self.share, f"{KINDS[name].title}: {what}")
        return look(model)

    def show(self, name: str, png: bytes, told: str) -> list[str]:
        """Keeps an image; gives the lines of the page that show it."""
        write_bytes(make_folder(self.out / FOLDER) / f"{name}.png", png)
        return [f"![{told}]({FOLDER}/{name}.png)", "", f"*{told}*", ""]

    @cached_property
    def test(self) -> Tensor:
        """Images of the collection that no training saw, (N, C, S, S)."""
        return to_float(self.pictures("conv-ae").test.images)

    def pictures(self, name: str) -> ImageSource:
        """Where the images of a kind come from."""
        return ImageSource(self.model(name), "" if KINDS[name].scenes else self.data)

    def shown(self, n: int = IN_A_ROW) -> Tensor:
        """Some of these, evenly spread."""
        return self.test[np.linspace(0, len(self.test) - 1, n).round().astype(int)]


def said(text: str) -> str:
    """A paragraph, as one line."""
    return " ".join(text.split())
