"""A run on disk and on screen: config, metrics, curves, sample sheets, checkpoints, one progress display."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from condgen.contracts import CondgenError, CondgenWarning
from condgen.training.loop import Fit, Step

MAY_CHANGE = ("minutes", "images", "stage", "start", "watch", "fit_clip", "fit_prior", "fit_decoder")
"""Config entries that a resumed run may give anew; any other is part of what the run is."""
FIXED = ("optimiser", "ema", "weight_decay", "beta_2")
"""Of a `fit_`, the fields that may not: the state in its checkpoints is of their making."""
UNTOLD = ("stage", "start", "watch")
"""Of these, the ones that do not touch the result: a change is not worth a word."""


SAVE_EVERY = 60.0
"""Seconds between checkpoints."""


class RunFolder:
    """The folder of one training run.

    Args:
        root: made if missing.
        config: the resolved config; written as `config.yaml`, and held against the one that is there.

    Raises:
        CondgenError: the folder belongs to a run with other data or another architecture, or holds other things (it
            is left as it was), or it cannot be written.
    """

    def __init__(self, root: Path, config: dict):
        self.root = root
        self._tensorboard = None
        try:
            self._check(config)
            root.mkdir(parents=True, exist_ok=True)
            aside = root / "config.yaml.tmp"  # renamed, so that a crash leaves the old file or the new one
            aside.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
            os.replace(aside, root / "config.yaml")
            (root / "samples").mkdir(exist_ok=True)
        except OSError as error:
            raise CondgenError(f"The folder {root} cannot be written ({error.strerror}). Choose another.") from None

    def _check(self, config: dict) -> None:
        path = self.root / "config.yaml"
        if not path.exists():
            if self.root.exists() and any(child.name != "config.yaml.tmp" for child in self.root.iterdir()):
                raise CondgenError(f"{self.root} is not empty and holds no run of condgen. Choose another folder.")
            return
        before, now = _flat(_read(path)), _flat(config)
        changed = [k for k in sorted(before | now) if before.get(k) != now.get(k)]
        told = [f"{k}: {before.get(k)} -> {now.get(k)}" for k in changed]
        if fixed := [t for t, k in zip(told, changed) if not _may_change(k)]:
            raise CondgenError(
                f"{self.root} holds a run with other settings ({'; '.join(fixed)}). Give the settings it began with, "
                "or another output folder."
            )
        told = [t for t, k in zip(told, changed) if k not in UNTOLD]
        if told:
            warnings.warn(f"Going on with changed settings: {'; '.join(told)}", CondgenWarning, stacklevel=3)

    def log(self, stage: str, images: int, values: dict[str, float]) -> None:
        """Adds a line to `metrics.jsonl` and points to the tensorboard curves; a tracker that fails is told once."""
        line = {"stage": stage, "images": images, "time": round(time.time(), 1)} | values
        with open(self.root / "metrics.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if self._tensorboard is False:
            return
        try:
            if self._tensorboard is None:
                from torch.utils.tensorboard import SummaryWriter

                self._tensorboard = SummaryWriter(str(self.root / "tensorboard"))
            for name, value in values.items():
                self._tensorboard.add_scalar(f"{stage}/{name}", value, images)
        except Exception as error:
            self._tensorboard = False
            warnings.warn(f"Tensorboard is off: {error}", CondgenWarning, stacklevel=2)


def _read(path: Path) -> dict:
    """The `config.yaml` of a run."""
    told = "Put a sound copy of it back, or choose another output folder."
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CondgenError(f"{path} is not YAML ({' '.join(str(error).split())}). {told}") from None
    if not isinstance(config, dict):
        raise CondgenError(f"{path} holds no config of a run (expected lines such as `seed: 0`). {told}")
    return config


def _may_change(key: str) -> bool:
    """Whether a resumed run may give `fit_clip.lr` or the like anew."""
    part, _, name = key.partition(".")
    return part in MAY_CHANGE and name not in FIXED


def _flat(config: dict, prefix: str = "") -> dict:
    out = {}
    for key, value in config.items():
        if isinstance(value, dict):
            out |= _flat(value, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return out


class Display:
    """One progress display for all stages: bars with ETA on a terminal, a line now and then elsewhere."""

    def __init__(self, stages: Sequence[str]):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self.console = Console(stderr=True)
        self.live = self.console.is_terminal
        columns = (
            TextColumn("{task.description:>18}", markup=False), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(), TextColumn("{task.fields[told]}", markup=False),
        )  # fmt: skip
        self.progress = Progress(*columns, console=self.console, disable=not self.live)
        self.tasks = {stage: self.progress.add_task(stage, total=1.0, told="waiting") for stage in stages}
        self._said = 0.0

    def __enter__(self) -> Display:
        self.progress.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self.progress.__exit__(*error)

    def show(self, stage: str, done: float, told: str) -> None:
        """Moves the bar of a stage to `done` in [0, 1]."""
        self.progress.update(self.tasks[stage], completed=done, told=told)
        if not self.live and (time.monotonic() - self._said > 30 or done >= 1):
            self._said = time.monotonic()
            print(f"{stage}: {done:.1%} {told}", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """A line above the bars, letter by letter: a caption may hold what rich would read as markup."""
        self.console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)


def drive(fit: Fit, run: RunFolder, stage: str, display: Display, milestones: Sequence[float] = ()) -> Iterator[Step]:
    """Trains to the end from the last checkpoint, and yields at the milestones (shares of the run) and at the end.

    Metrics are logged every five seconds, checkpoints written every SAVE_EVERY seconds; an interrupt finishes the step,
    writes one more and is raised again.
    """
    folder = run.root / "checkpoints" / stage
    for broken in fit.resume(folder):
        then = "going on from the one before" if fit.count else "no other is whole, so this stage begins again"
        display.say(f"A checkpoint was damaged, and is now {broken}; {then}.")
    ahead = [m for m in milestones if m > fit.progress]
    logged = saved = time.monotonic()
    began, first, behind = time.monotonic(), fit.images, fit.progress
    with _Interrupts() as interrupts:
        for step in fit:
            now = time.monotonic()
            if now - logged > 5 or step.progress >= 1:
                logged = now
                speed = (step.images - first) / max(now - began, 1e-9)
                run.log(stage, step.images, {**step.losses, "lr": step.lr, "images_per_s": speed,
                                             "seconds": step.seconds})  # fmt: skip
                left = (now - began) / max(step.progress - behind, 1e-9) * (1 - step.progress)
                display.show(stage, step.progress, _told(step, speed, left))
            if now - saved >= SAVE_EVERY or interrupts.asked or step.progress >= 1:
                fit.save(folder)
                saved = time.monotonic()
            if interrupts.asked:
                raise KeyboardInterrupt(interrupts.asked)
            if (ahead and step.progress >= ahead[0]) or step.progress >= 1:
                ahead = [m for m in ahead if m > step.progress]
                yield step


def _told(step: Step, speed: float, left: float) -> str:
    clock = f"{int(left // 3600)}:{int(left % 3600 // 60):02}:{int(left % 60):02}"
    loss = next((f"{v:.4f}" for k, v in step.losses.items() if k.startswith("loss")), "-")
    return f"{step.images:,} images, {speed:.0f}/s, loss {loss}, {clock} left"


class _Interrupts:
    """Holds SIGINT and SIGTERM back until the step is done; a second one leaves at once."""

    asked: int | None = None

    def __enter__(self) -> _Interrupts:
        try:
            self._before = {s: signal.signal(s, self._ask) for s in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not in the main thread: nobody sends us signals
            self._before = {}
        return self

    def _ask(self, number, frame) -> None:
        if self.asked:
            raise KeyboardInterrupt(number)
        self.asked = number

    def __exit__(self, *error) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
