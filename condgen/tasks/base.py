"""One training run of one stage: data, the best state by what it is good for, a model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from condgen import distributed
from condgen.contracts import Batch, CondgenError, Trainable
from condgen.data.embeddings.compute import digest_of
from condgen.files import registry
from condgen.files.card import write_card
from condgen.files.images import grid, png_bytes, write_bytes
from condgen.pipelines.auto import load_folder
from condgen.training import fsdp
from condgen.training.run_folder import Display, RunFolder, drive, milestones, wants_more
from condgen.training.trainer import FitConfig, Trainer


class Model(Protocol):
    """What a run of one stage ends in."""

    about: dict[str, Any]

    def save(self, folder: Path | str, card: str = "") -> None:
        """Writes the model directory, which `load_folder` opens."""
        ...


Sheet = tuple[list, list[str]]
"""PIL images and what stands below them."""


class Task:
    """What runs of one stage share; a subclass says what is trained, on what, and how it is judged.

    The state that is exported is the best one by the first number of `judge`, the last one where that cannot choose: a
    loss may go on falling after what it is for has got worse.

    Args:
        name, recipe: which recipe, and its line of the table.
        root: the run's folder.
        config: of the recipe's class, with `fit_<stage>`.
        bound: gives the fit under the run's minutes and images.
    """

    stage: str
    chooses: bool = True
    """Whether `judge` tells which state is the better one; else the last is exported."""
    data: Any
    """The training images, opened when they are first asked for."""

    def __init__(self, name: str, recipe, root: Path, config, bound: Callable[[str, FitConfig], FitConfig]):
        self.name, self.recipe, self.root, self.config, self.bound = name, recipe, root, config, bound
        self.best, self.last = root / "parts" / "best", root / "parts" / "last"
        self.exported = root / "exported"  # an empty file, there while `model/` holds the best as it is

    def prepare(self) -> None:
        """Raises `CondgenError` for a config or data that cannot be trained, before anything is written."""

    def begin(self) -> None:
        """Writes what the run needs beside its weights; called once the folder is there."""

    def trainable(self) -> Trainable:
        """The module to train, with its first weights."""
        raise NotImplementedError

    def views(self) -> Callable[[int], Batch]:
        """Batches, this process's part of them."""
        raise NotImplementedError

    def model(self, trained: nn.Module, about: dict[str, Any]) -> Model:
        """The model in use, of what was trained."""
        raise NotImplementedError

    def judge(self, model: Model) -> tuple[dict[str, float], Sheet | None]:
        """Numbers on images held out of training, the first the higher the better, and a sheet to look at."""
        return {}, None

    def finish(self, best: Model) -> Model:
        """What is done to the model before it is exported."""
        return best

    def train(self) -> Path:
        """Trains what is not done yet; gives the model's folder."""
        self.prepare()
        digest = {"memory": digest_of(self.data)}  # bad data must leave no folder behind
        fsdp.asked()
        distributed.join()
        fit = self.bound(self.stage, getattr(self.config, f"fit_{self.stage}"))
        distributed.split(fit.batch, distributed.rank(), distributed.world())
        done = (self.last / registry.INDEX).exists()
        if done and wants_more(self.root, self.stage, fit):
            raise CondgenError(
                f"{self.root} is finished, and the bounds given now ask for more. Choose another folder."
            )
        self.run = RunFolder(self.root, {"recipe": self.name} | asdict(self.config), self.config.save_every, digest)
        self.begin()
        with Display([self.stage]) as self.display:
            if done:
                self.display.show(self.stage, 1.0, "done")
            else:
                self._train(fit)
        with distributed.first_alone():
            if not distributed.rank() and not ((self.root / "model").exists() and self.exported.exists()):
                self._export()
        return self.root / "model"

    def _train(self, config: FitConfig) -> None:
        fit = Trainer(self.trainable(), self.views(), config, self.config.seed)
        for step in drive(fit, self.run, self.stage, self.display, milestones(self.config.watch)):
            now = fit.snapshot()
            if not distributed.rank():
                self._watch(now, step)
        self.exported.unlink(missing_ok=True)
        trained = fit.snapshot()
        with distributed.first_alone():
            if not distributed.rank():
                self.model(trained, self._about({})).save(self.last)

    def _watch(self, trained: nn.Module, step) -> None:
        """Judges the state so far, and keeps it where it is the best."""
        scores, sheet = self.judge(self.model(trained, {}))
        told = "".join(f", {name} {value:.3f}" for name, value in scores.items())
        if sheet is not None:
            place = self.root / "samples" / f"{self.stage}-{step.images:09d}.png"
            write_bytes(place, png_bytes(grid(*sheet, columns=8, cell=96)))
            told += f" ({place.name})"
        if scores:
            self.run.log(self.stage, step.images, scores | {"seconds": step.seconds})
        chooses = self.chooses and bool(scores)
        if not chooses or next(iter(scores.values())) >= self._best_so_far():
            told += "; the best so far" if chooses else ""
            self.model(trained, self._about({"validation": scores | {"images": step.images}})).save(self.best)
        self.display.say(f"{step.images:,} images{told}")

    def _best_so_far(self) -> float:
        metrics = registry.about(self.best).get("metrics") if self.best.exists() else None
        scores = metrics.get("validation") if isinstance(metrics, dict) else None
        return next(iter(scores.values())) if isinstance(scores, dict) and len(scores) > 1 else float("-inf")

    def _about(self, metrics: dict[str, Any]) -> dict[str, Any]:
        own = self.root.resolve().name
        about = {"name": own, "recipe": self.name, "data": self.data.name, "reading": self.reading()}
        return about | ({"metrics": metrics} if metrics else {})

    def reading(self) -> dict[str, Any]:
        """How the data was read, for a judge to read more of it alike."""
        return {}

    def _export(self) -> None:
        """Writes `model/`: the best state, and a card."""
        folder = self.root / "model"
        shutil.rmtree(folder, ignore_errors=True)
        best = self.finish(load_folder(self.best if self.best.exists() else self.last))
        metrics = self.root / "metrics.jsonl"
        best.save(folder, write_card(best, self.name, self.recipe.base, self.config, metrics, len(self.data)))
        self.exported.touch()
        self.display.say(f"The model is {folder}. Judge it: condgen evaluate {folder} --data PATH")
