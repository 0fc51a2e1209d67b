"""The baselines of the benchmark; each is trained and evaluated when it is first used."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from condgen.contracts import ProgressCallback, to_json
from condgen.data.batches.base import to_float
from condgen.evaluation import evaluate
from condgen.files.images import make_folder, write_bytes
from condgen.latent_space.inputs import ImageSource
from condgen.latent_space.result import Analysis
from condgen.pipelines.auto import load_folder
from condgen.recipes import RECIPES, find_recipe, train

FOLDER = "baselines"
"""Name of the folder of images, in the folder of the page."""
IN_A_ROW = 10
LONGER = 4
"""Factor on the training time of convolutional GANs, which need longer for recognisable images."""


@dataclass(frozen=True)
class Baseline:
    """A baseline on the page.

    Args:
        title: title on the page.
        recipe: name of its recipe, without the prefix DATASET-.
        size: size of the recipe.
        scenes: train on synthetic scenes for every dataset of the page.
        times: factor on the training time.
    """

    title: str
    recipe: str
    size: str | None = None
    scenes: bool = False
    times: int = 1


BASELINES = {
    "linear": Baseline("linear", "linear"),
    "ae": Baseline("MLP", "ae"),
    "conv-ae": Baseline("convolutional", "conv-ae"),
    "dae": Baseline("denoising", "dae"),
    "vae": Baseline("MLP VAE", "vae"),
    "conv-vae": Baseline("convolutional VAE", "conv-vae"),
    "beta-vae": Baseline("beta-VAE", "beta-vae", scenes=True),
    "gan": Baseline("MLP GAN", "gan"),
    "dcgan-classic": Baseline("DCGAN, classic", "dcgan", "classic", times=LONGER),
    "dcgan": Baseline("DCGAN, modern", "dcgan", "modern", times=LONGER),
    "infogan": Baseline("InfoGAN", "infogan", times=LONGER),
    "edges2picture": Baseline("edges to images", "edges2picture", scenes=True),
    "grey2colour": Baseline("grey to colour", "grey2colour", scenes=True),
    "day2night": Baseline("day to night", "day2night", scenes=True),
    "squares2circles": Baseline("squares and circles, unpaired", "squares2circles", scenes=True),
}


@dataclass
class Benchmark:
    """The trained baselines, their reports, and their images.

    Args:
        out: folder of the page.
        runs: folder of training runs and reports; existing ones are reused.
        dataset: name of the dataset in recipes: `digits`, `fashion`, `cifar10` or `pictures`.
        data: path of the dataset; '' for digits.
        minutes, seed: duration and seed of every training.
        progress: called with progress.
    """

    out: Path
    runs: Path
    dataset: str = "digits"
    data: str = ""
    minutes: float = 1.0
    seed: int = 0
    progress: ProgressCallback = lambda share, message: None
    share: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.out, self.runs = Path(self.out), Path(self.runs)
        self._models: dict[str, Any] = {}

    def recipe(self, name: str) -> str:
        """Name of the recipe of a baseline for this dataset."""
        baseline = BASELINES[name]
        if baseline.recipe in RECIPES:
            return baseline.recipe
        return f"{'scenes' if baseline.scenes else self.dataset}-{baseline.recipe}"

    def model(self, name: str) -> Any:
        """A baseline, trained first if necessary."""
        if name not in self._models:
            baseline, recipe = BASELINES[name], self.recipe(name)
            minutes = self.minutes * baseline.times
            self.progress(self.share, f"{baseline.title}: training {minutes:g} minutes")
            config = find_recipe(recipe).config(baseline.size, minutes=minutes, seed=self.seed)
            if not baseline.scenes and self.data:
                config = replace(config, data=replace(config.data, path=self.data))
            self._models[name] = load_folder(train(recipe, self.runs / name, config))
        return self._models[name]

    def report(self, name: str) -> dict:
        """The evaluation report of a baseline, saved in its run folder."""
        model, file = self.model(name), self.runs / name / "report.json"
        report = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        if report.get("model_id") != model.model_id:
            self.progress(self.share, f"{BASELINES[name].title}: evaluating")
            own = {"data": self.data, "classifiers": self.runs / "classifiers", "seeds": 1}
            report = evaluate(model, **({} if BASELINES[name].scenes else own))
            write_bytes(file, to_json(report, indent=1).encode())
        return report

    def analysis(self, name: str, title: str, analyse: Callable[[Any], Analysis]) -> Analysis:
        """The result of a latent-space tool, saved in the run folder of a baseline."""
        model = self.model(name)
        self.progress(self.share, f"{BASELINES[name].title}: {title}")
        return analyse(model)

    def figure(self, name: str, png: bytes, caption: str) -> list[str]:
        """Writes an image; returns the lines of the page that show it."""
        write_bytes(make_folder(self.out / FOLDER) / f"{name}.png", png)
        return [f"![{caption}]({FOLDER}/{name}.png)", "", f"*{caption}*", ""]

    @cached_property
    def test(self) -> Tensor:
        """Test images of the dataset, (N, C, S, S)."""
        return to_float(self.images("conv-ae").test.images)

    def images(self, name: str) -> ImageSource:
        """The data of a baseline."""
        return ImageSource(self.model(name), "" if BASELINES[name].scenes else self.data)

    def shown(self, n: int = IN_A_ROW) -> Tensor:
        """n test images, evenly spaced."""
        return self.test[np.linspace(0, len(self.test) - 1, n).round().astype(int)]


def one_line(text: str) -> str:
    """Joins the lines of a paragraph."""
    return " ".join(text.split())
