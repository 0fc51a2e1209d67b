"""A training run: a task says what to train on which data, and `train` does the rest.

class GanTask(SingleStageTask):
    ...
train(GanTask("digits-gan", RECIPES["digits-gan"], Path("runs/gan"), config))
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from condgen import distributed
from condgen.contracts import Batch, CondgenError, Trainable, limited
from condgen.files import registry
from condgen.files.card import write_card, write_run_readme
from condgen.files.images import grid, write_sheet
from condgen.pipelines.auto import load_folder
from condgen.tasks.dry_run import Build, Done, announce, summary
from condgen.training import fsdp
from condgen.training.checkpoint import lock_run
from condgen.training.run_folder import Display, RunFolder, drive, milestones, read_status, wants_more
from condgen.training.trainer import FitConfig, Step, Trainer, bounded

Sheet = tuple[list, list[str]]
"""PIL images, and the labels below them."""
Scores = dict[str, float]


@dataclass(frozen=True)
class TaskConfig:
    """Options that every run has.

    Args:
        seed: of data order, weights and noise.
        minutes: limit on the training time of the run, shared by its stages; 0 sets none. Reading data and evaluation
            come on top.
        total_images: limit on the images that a stage sees; 0 sets none.
        eval_count: how many times to evaluate and write a sample sheet.
        save_every: seconds between checkpoints.
    """

    seed: int = limited(0, low=0)
    minutes: float = limited(0.0, low=0)
    total_images: int = limited(0, low=0)
    eval_count: int = limited(8, low=0)
    save_every: float = limited(60.0, low=0)

    def with_kind(self, kind: str, **options: Any) -> TaskConfig:
        """The config for another kind of model, with the default options of the kind or with those given."""
        if not hasattr(self, "kind"):
            raise CondgenError("This recipe trains one kind of model: leave --kind out.")
        return replace(self, kind=kind, **options)


@dataclass
class Stage:
    """One module to train.

    Args:
        name: name of its checkpoints, metrics and progress bar.
        module: the module with its initial weights.
        batches: step -> this process's part of a batch.
        fit: its training options.
        save: writes the trained module to the run folder; called in the first process.
        validate: evaluates the module at `eval_count` points of the run; called in the first process.
        model: the pipeline of the module, if this stage is the last one of a model.
    """

    name: str
    module: Trainable
    batches: Callable[[int], Batch]
    fit: FitConfig
    save: Callable[[nn.Module], None]
    validate: Callable[[nn.Module, Step], None] | None = None
    model: Callable[[nn.Module], Any] | None = None


class Task:
    """A training task: the data, the stages and the resulting pipeline; a subclass for every kind of model.

    Args:
        name, recipe: name of the recipe, and its entry in the table.
        root: the run folder.
        config: an instance of `config_class`.
    """

    config_class: ClassVar[type]
    needs: ClassVar[str]
    """Description of its training data, for messages."""
    cell: ClassVar[int] = 96
    """Edge of an image on the sample sheets, in pixels."""
    builds: dict[str, Build]
    """Section of the config -> function that builds a training and a batch of two rows, see `dry_run`."""
    display: Display
    run: RunFolder
    open_files: ExitStack
    """Closes what the stages hold open."""

    def __init__(self, name: str, recipe, root: Path, config):
        self.name, self.recipe, self.root, self.config = name, recipe, root, config

    # subclasses define these

    @classmethod
    def fits(cls, config) -> dict[str, FitConfig]:
        """The training options of every kind of stage."""
        raise NotImplementedError

    @property
    def stage_names(self) -> list[str]:
        """The stages of this run, in order."""
        raise NotImplementedError

    def check(self) -> None:
        """Raises `CondgenError` for a config or data that cannot be trained, before anything is written."""

    def open_data(self) -> Any:
        """The training data."""
        raise NotImplementedError

    def set_up(self) -> None:
        """Writes what the run needs beside its weights; called in every process once the folder exists."""

    def stages(self) -> Iterator[Stage]:
        """Yields the unfinished stages, each built after the one before is trained."""
        raise NotImplementedError

    def is_done(self, stage: str) -> bool:
        """Whether the trained module of a stage is in the run folder."""
        raise NotImplementedError

    def pipeline(self) -> Any:
        """The finished model, from the weights in the run folder."""
        raise NotImplementedError

    def present(self, folder: Path) -> str:
        """Adds examples to the exported model; returns a sentence about what to do next."""
        return f"Evaluate it: condgen evaluate {folder} --data PATH"

    # shared by all tasks

    @cached_property
    def data(self) -> Any:
        """The training data, opened on first use."""
        return self.open_data()

    @property
    def digest(self) -> dict[str, str]:
        """How the data are read (`memory`, `stream`) -> their digest."""
        return {"memory": self.data.digest}

    @property
    def trains_all(self) -> bool:
        """Whether the run skips finished stages; a stage chosen by name always trains on."""
        return True

    @property
    def exports(self) -> bool:
        """Whether the run ends with a model."""
        return True

    @property
    def bars(self) -> list[str]:
        """Names of the progress bars."""
        return self.stage_names

    def share(self, stage: str) -> float:
        """The fraction of the run's minutes that a stage gets."""
        return 1.0

    def fit(self, stage: str) -> FitConfig:
        """The training options of a stage within the run's `minutes` and `total_images`."""
        kind, c = stage.split()[0], self.config
        usual = [self.recipe.base, *map(self.recipe.config, self.recipe.sizes)]
        default = {self.fits(config)[kind].total_images for config in usual}
        return bounded(self.fits(c)[kind], self.minutes(stage), c.total_images, default)

    def minutes(self, stage: str) -> float:
        """The part of the run's minutes that a stage gets; 0 is no limit."""
        return self.config.minutes * self.share(stage)

    @cached_property
    def status(self) -> dict[str, Any]:
        """What the run had done when it was opened, see `read_status`."""
        return read_status(self.root)

    def wants_more(self, stage: str) -> bool:
        """Whether a trained stage has seen less than the present limits ask for; False without a checkpoint."""
        return wants_more(self.root, stage, self.fit(stage))

    def skips(self, stage: str) -> bool:
        """Whether a stage has nothing to do; if so, says it on the display."""
        done = self.trains_all and self.is_done(stage) and not self.wants_more(stage)
        if done:
            self.display.show(stage, 1.0, "done")
        return done

    def about(self, **more: Any) -> dict[str, Any]:
        """Facts about the training for the index of the model."""
        return {"name": self.root.resolve().name, "recipe": self.name, "data": self.data.name} | more

    def report(self, stage: str, step: Step, scores: Scores, sheet: Sheet | None = None, note: str = "") -> None:
        """Writes scores and a sample sheet to the run folder, and shows the scores."""
        text = f"{step.images:,} images" + "".join(f", {name} {value:.3f}" for name, value in scores.items())
        if sheet is not None:
            place = self.root / "samples" / f"{stage}-{step.images:09d}.png"
            write_sheet(place, grid(*sheet, columns=8, cell=self.cell))
            text += f" ({place.name})"
        if scores:
            self.run.log(stage, step.images, scores | {"seconds": step.seconds})
        self.display.say(text + note)


class SingleStageTask(Task):
    """A task of one stage. It exports the state with the best first score of `evaluate`.

    The loss may go on falling while the model gets worse, so the last state need not be the best.
    """

    stage: ClassVar[str]

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.best, self.last = self.root / "parts" / "best", self.root / "parts" / "last"

    def module(self) -> Trainable:
        """The module to train, with its initial weights."""
        raise NotImplementedError

    def batches(self) -> Callable[[int], Batch]:
        """A function step -> this process's part of the batch."""
        raise NotImplementedError

    def model(self, trained: nn.Module, about: dict[str, Any]) -> Any:
        """The pipeline of a trained module."""
        raise NotImplementedError

    def evaluate(self, model: Any) -> tuple[Scores, Sheet | None]:
        """Scores on held-out images, higher is better for the first, and a sample sheet."""
        return {}, None

    def finish(self, model: Any) -> Any:
        """Applies the last changes before the export."""
        return model

    @property
    def chooses(self) -> bool:
        """Whether the first score says which state is better; otherwise the last one is exported."""
        return True

    @classmethod
    def fits(cls, config) -> dict[str, FitConfig]:
        return {cls.stage: config.fit}

    @property
    def stage_names(self) -> list[str]:
        return [self.stage]

    def is_done(self, stage: str) -> bool:
        return (self.last / registry.INDEX).exists()

    def stages(self) -> Iterator[Stage]:
        if not self.skips(self.stage):
            module, fit = self.module(), self.fit(self.stage)
            yield Stage(self.stage, module, self.batches(), fit, self.save, self.validate, self.unfinished)

    def unfinished(self, trained: nn.Module) -> Any:
        """The pipeline of a module that is not trained to the end."""
        return self.model(trained, self.about())

    def save(self, trained: nn.Module) -> None:
        """Writes the final state."""
        self.model(trained, self.about()).save(self.last)

    def validate(self, trained: nn.Module, step: Step) -> None:
        """Evaluates the current state, and keeps it if it is the best."""
        scores, sheet = self.evaluate(self.model(trained, {}))
        scores = {name: value for name, value in scores.items() if math.isfinite(value)}  # the others say nothing
        chooses = self.chooses and bool(scores)
        better = not chooses or next(iter(scores.values())) >= self._best_so_far()
        self.report(self.stage, step, scores, sheet, "; the best so far" if chooses and better else "")
        if better:
            self.model(trained, self.about(metrics={"validation": scores | {"images": step.images}})).save(self.best)

    def _best_so_far(self) -> float:
        metrics = registry.about(self.best).get("metrics") if self.best.exists() else None
        scores = metrics.get("validation") if isinstance(metrics, dict) else None
        return next(iter(scores.values())) if isinstance(scores, dict) and len(scores) > 1 else float("-inf")

    def about(self, **more: Any) -> dict[str, Any]:
        return super().about(**{"reading": self.config.data.reading()} | more)

    def pipeline(self) -> Any:
        return self.finish(load_folder(self.best if self.best.exists() else self.last))


def train(task: Task) -> Path:
    """Trains the stages of a task that are not done yet, and exports the model.

    Processes that a launcher has started train together: each takes its part of every batch, and only the first
    writes. The same call resumes from the last checkpoint.

    Returns:
        The model folder, or the run folder if the trained stage makes no model.

    Raises:
        CondgenError: the config or the data cannot be trained, or the folder belongs to another run.
    """
    if (task.root / registry.RUN_CONFIG).exists():
        from condgen.training.older_runs import as_begun

        recipe = task.recipe
        task.config = as_begun(task.root, task.config, [recipe.base, *map(recipe.config, recipe.sizes)])
    task.check()
    fsdp.plan()  # refuses options that are not supported
    distributed.join()
    for fit in task.fits(task.config).values():
        distributed.split(fit.batch, distributed.rank(), distributed.world())
    with ExitStack() as lock:
        lock_run(task.root, lock)
        return _train(task)


def _train(task: Task) -> Path:
    digest = task.digest  # before anything is written: unusable data must leave no folder behind
    finished = task.trains_all and task.is_done(task.stage_names[-1])
    _ = task.status  # read before any process writes
    longer = [stage for stage in task.stage_names if finished and task.wants_more(stage)]
    task.run = RunFolder(task.root, {"recipe": task.name} | asdict(task.config), task.config.save_every, digest)
    if not distributed.rank():
        write_run_readme(task.root, task.name, task.recipe.base, task.config)
    task.set_up()
    with Display(task.bars) as task.display, ExitStack() as task.open_files:
        if longer:
            task.display.say(
                f"{task.root} was finished and trains on: {', '.join(longer)}. The learning rate follows the schedule "
                "of the longer run: where it had fallen, it rises again."
            )
        if digest and not distributed.rank():
            announce(task)
        done = [_train_stage(task, stage) for stage in task.stages()]
        if done and digest:
            task.display.say(summary(task, done))
    if not task.exports:
        return task.root
    with distributed.main_process_first():
        if not distributed.rank():
            _export(task)
    return task.root / "model"


def _train_stage(task: Task, stage: Stage) -> Done:
    if stage.model:
        with distributed.main_process_first():
            if not distributed.rank():
                task.run.keep_frame(stage.name, stage.module, stage.model(stage.module))
    trainer = Trainer(stage.module, stage.batches, stage.fit, task.config.seed)
    points = milestones(task.config.eval_count) if stage.validate else []
    for step in drive(trainer, task.run, stage.name, task.display, points):
        if stage.validate:
            trained = trainer.snapshot()
            if not distributed.rank():
                with torch.random.fork_rng(devices=[]), distributed.alone():
                    stage.validate(trained, step)
    task.run.update_status(exported=False)
    trained = trainer.snapshot()
    with distributed.main_process_first():
        if not distributed.rank():
            stage.save(trained)
    return Done(stage.name, trainer.images, trainer.seconds)


def _export(task: Task) -> None:
    """Writes `model/` with a card, unless it holds the latest weights: its card may have been completed since."""
    folder = task.root / "model"
    if folder.exists() and read_status(task.root).get("exported"):
        return task.display.say(
            f"{task.root} is finished; the model is in {folder}. More --minutes or --total_images train it longer."
        )
    shutil.rmtree(folder, ignore_errors=True)
    model = task.pipeline()
    card = write_card(model, task.name, task.recipe.base, task.config, task.root / "metrics.jsonl", len(task.data))
    model.save(folder, card)
    hint = task.present(folder)
    task.run.update_status(exported=True)
    for place in ("unfinished", registry.FRAME):
        shutil.rmtree(task.root / place, ignore_errors=True)
    task.display.say(f"The model is in {folder}. {hint}")
