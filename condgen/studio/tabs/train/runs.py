"""Reads training runs while they are written: state, progress, losses, sample sheets.

Everything in a run folder may be missing, damaged, or of an earlier version.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from condgen.files import registry
from condgen.files.plots import Curve
from condgen.training.writer import writer_of

POINTS = 400
"""Points of a curve that are kept, at least; of longer curves every second one is dropped."""
CURVES, STAGES = 40, 40
"""Curves of a stage and stages of a run that are read, at most."""
FRAMES = 120
"""Sample sheets that are shown, at most."""
COUNTERS = ("images", "time", "lr", "images_per_s", "seconds", "skipped", "progress")
"""Fields of a line of `metrics.jsonl` that are neither losses nor scores."""
SHEET = re.compile(r"(.+)-(\d+)\.png")


@dataclass
class Stage:
    """What is known about a stage: its curves over the images seen, and the last value of every counter."""

    name: str
    curves: dict[str, Curve] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)

    def add(self, line: dict[str, Any]) -> None:
        """Adds a line of `metrics.jsonl`; what is no finite number is left out."""
        values = {key: float(value) for key, value in line.items() if _is_number(value)}
        self.last |= values
        for name in values.keys() - set(COUNTERS):
            if name not in self.curves and len(self.curves) >= CURVES:
                continue
            curve = self.curves.setdefault(name, Curve(name, [], []))
            curve.x.append(values.get("images", 0.0))
            curve.y.append(values[name])
            if len(curve.x) >= 2 * POINTS:
                del curve.x[1:-1:2], curve.y[1:-1:2]

    @property
    def losses(self) -> list[Curve]:
        return [curve for name, curve in sorted(self.curves.items()) if name.startswith("loss")]

    @property
    def scores(self) -> list[Curve]:
        return [curve for name, curve in sorted(self.curves.items()) if not name.startswith("loss")]


class Metrics:
    """The stages in a `metrics.jsonl`; `update` reads only what was added since."""

    def __init__(self, path: Path):
        self.path, self.stages = path, {}
        self._file, self._read = None, 0

    def update(self) -> dict[str, Stage]:
        """The stages by name, in the order of their first line."""
        try:
            stat = self.path.stat()
            if stat.st_ino != self._file or stat.st_size < self._read:  # another file
                self.stages, self._file, self._read = {}, stat.st_ino, 0
            if stat.st_size > self._read:
                with open(self.path, "rb") as file:
                    file.seek(self._read)
                    whole = file.read().rpartition(b"\n")[0]
                self._read += len(whole) + bool(whole)
                for line in whole.split(b"\n"):
                    self._add(line)
        except OSError:
            self.stages, self._file, self._read = {}, None, 0
        return self.stages

    def _add(self, text: bytes) -> None:
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            return
        name = line.get("stage") if isinstance(line, dict) else None
        if isinstance(name, str) and name and (name in self.stages or len(self.stages) < STAGES):
            self.stages.setdefault(name, Stage(name)).add(line)


@dataclass(frozen=True)
class Run:
    """A training run at one moment.

    Args:
        name, folder: its folder, and the name of that.
        state: `running`, `stopping`, `stopped`, `finished` or `failed`.
        recipe: name of the recipe; '' if unknown.
        stage: the stage that was trained last; '' before the first.
        images: images that it has seen.
        progress: share of the run that is done, or of the stage where the run has no limit of time; None if unknown.
        seconds: seconds of training, of all stages.
        left: seconds that are left, of the run or of the stage; None if unknown.
        loss: the last loss of the stage; None if unknown.
        message: why it failed or cannot be read; '' for nothing to say.
        writer: the process that trains, see `training.writer`.
        model: whether `model/` is there.
    """

    name: str
    folder: Path
    state: str
    recipe: str = ""
    stage: str = ""
    images: int = 0
    progress: float | None = None
    seconds: float = 0.0
    left: float | None = None
    loss: float | None = None
    message: str = ""
    writer: dict[str, Any] | None = None
    model: bool = False

    @property
    def active(self) -> bool:
        return self.state in ("running", "stopping")

    def as_dict(self) -> dict[str, Any]:
        """The run as plain values, without its folder and its process."""
        names = [
            "name",
            "state",
            "recipe",
            "stage",
            "images",
            "progress",
            "seconds",
            "left",
            "loss",
            "message",
            "model",
        ]
        return {name: getattr(self, name) for name in names}


def read_run(folder: Path, metrics: Metrics, log: str = "") -> Run:
    """The state of a run.

    Args:
        folder: its folder.
        metrics: of this folder, kept from call to call.
        log: the end of what its last process printed, if it was begun here.
    """
    writer, (config, fault) = writer_of(folder), read_config(folder)
    from condgen.training.run_folder import read_status  # late: it imports much of torch

    stages, status = metrics.update(), read_status(folder)
    model = (folder / "model" / registry.INDEX).is_file()
    stage = max(stages.values(), key=lambda one: one.last.get("time", 0.0), default=None) or last_checkpoint(folder)
    last = stage.last
    seconds = sum(one.last.get("seconds", 0.0) for one in stages.values()) or last.get("seconds", 0.0)
    progress = _progress(config, stage, seconds)
    ended = error_in(log)
    if writer:
        state = "running"
    elif (model and status.get("exported", True)) or _is_trained(config, last):
        state, progress = "finished", 1.0
    else:
        state = "failed" if ended else "stopped"
    left = seconds_left(config, stage, seconds) if writer else None
    loss = next((curve.y[-1] for curve in stage.losses if curve.y), None)
    message = (ended if state == "failed" else "") or fault
    recipe = config.get("recipe", "")
    return Run(
        folder.name, folder, state, recipe if isinstance(recipe, str) else "", stage.name, int(last.get("images", 0)),
        progress, seconds, left, loss, message, writer, model,
    )  # fmt: skip


def last_checkpoint(folder: Path) -> Stage:
    """The stage of the newest checkpoint with its counters; without a name where there is none.

    A run that is stopped in its first seconds has no metrics yet.
    """
    for state in sorted(folder.glob("checkpoints/*/step-*/state.json"), reverse=True):
        try:
            counters = json.loads(state.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(counters, dict):
            numbers = {key: float(value) for key, value in counters.items() if _is_number(value)}
            return Stage(state.parents[1].name, last=numbers)
    return Stage("")


def read_config(folder: Path) -> tuple[dict[str, Any], str]:
    """The `config.yaml` of a run, {} where it cannot be read, and what is wrong with it."""
    import yaml

    path = folder / registry.RUN_CONFIG
    try:
        config = yaml.load(path.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except FileNotFoundError:
        return {}, ""
    except (OSError, yaml.YAMLError, ValueError, RecursionError):
        config = None
    return (config, "") if isinstance(config, dict) else ({}, f"Its {registry.RUN_CONFIG} cannot be read.")


def error_in(log: str) -> str:
    """The message of the error with which a program ended; '' if it did not end with one."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    if not lines:
        return ""
    known = re.fullmatch(r"condgen: (?:error: )?(.+)", lines[-1])
    if known:
        return known[1]
    crashed = re.match(r"[\w.]*(Error|Exception|Interrupt)\b", lines[-1]) and "Traceback (most recent call last)" in log
    return lines[-1] if crashed else ""


def seconds_left(config: dict[str, Any], stage: Stage, seconds: float) -> float | None:
    """Seconds of training that are left of the run, if it has a limit of time, or else of the stage."""
    if limit := _number(config, "minutes"):
        return max(0.0, 60 * limit - seconds)
    done, own = _progress(config, stage, seconds), stage.last.get("seconds", 0.0)
    return own * (1 - done) / done if done and own else None


def _progress(config: dict[str, Any], stage: Stage, seconds: float) -> float | None:
    """The share that is done; runs of earlier versions do not write it, so it follows from the number of images."""
    if limit := _number(config, "minutes"):
        return min(1.0, seconds / (60 * limit))
    if (done := stage.last.get("progress")) is not None:
        return min(1.0, max(0.0, done))
    fit = config.get(f"fit_{stage.name.split(' ')[0]}", config.get("fit"))
    limits = [_number(config, "total_images"), _number(fit if isinstance(fit, dict) else {}, "total_images")]
    limit = min((one for one in limits if one), default=0)
    return min(1.0, stage.last.get("images", 0.0) / limit) if limit and stage.last else None


def _is_trained(config: dict[str, Any], last: dict[str, float]) -> bool:
    """Whether a run of a single stage that makes no model is at its end."""
    return config.get("stage") in ("clip", "prior") and last.get("progress", 0.0) >= 1


def sheets_of(folder: Path, stages: dict[str, Stage]) -> list[tuple[Path, str, int]]:
    """The sample sheets of a run in order: file, stage, images seen; FRAMES of them, the last among them."""
    order, found = {name.replace(" ", "_"): i for i, name in enumerate(stages)}, []
    try:
        files = list((folder / "samples").iterdir())
    except OSError:
        files = []
    for file in files:
        if (parts := SHEET.fullmatch(file.name)) and len(parts[2]) < 18:
            found.append((file, parts[1], int(parts[2])))
    found.sort(key=lambda one: (order.get(one[1].replace(" ", "_"), -1), one[1], one[2]))
    step = math.ceil(len(found) / FRAMES) or 1
    return found[::-1][::step][::-1]


def _number(config: dict[str, Any], name: str) -> float:
    value = config.get(name)
    return float(value) if _is_number(value) and value > 0 else 0.0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e300 < value < 1e300
