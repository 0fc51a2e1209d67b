"""The folder and the progress display of a run: config, metrics, curves, sample sheets, checkpoints."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from condgen import distributed
from condgen.contracts import Batch, CondgenError, CondgenWarning, to_json
from condgen.files import renamed
from condgen.files.registry import FRAME
from condgen.training import checkpoint
from condgen.training.trainer import FitConfig, NotFinite, Step, Trainer, progress_of

SILENT = ("stage", "init_from", "embeds", "eval_count", "save_every", "prompts", "upsample", "distill")
"""Options that do not affect the result: a resumed run may change them without a warning."""
MAY_CHANGE = (*SILENT, "minutes", "total_images", "upsampler", "upsampler_objective", "distill_objective")
"""Options that a resumed run may change, like those of `fit` and `fit_STAGE`; all others define the run."""
PLACES = ("data.path",)
"""Where the data are: may change if their content, which is compared, is that of before."""
FIXED = ("optimiser", "ema_gamma", "weight_decay", "beta_1", "beta_2")
"""Options of `fit` that a resumed run may not change: the state in its checkpoints depends on them."""
ECHO = 3.0
"""A second signal within this many seconds is ignored as a launcher's copy of the first."""
STATUS = "status.json"
"""File of what a run has done: whether `model` holds the latest weights, and seconds spent outside of its stages."""
FRAME_FACTS = "stage.json"
"""File of the frame, see `RunFolder.keep_frame`, that names the stage and the parts that it trains."""


class RunFolder:
    """The folder of a training run. Only the first process writes into it.

    Args:
        root: the folder, made if missing.
        config: the resolved config; written as `config.yaml`, and compared with an existing one.
        save_every: seconds between checkpoints.
        data: how the data are read (`memory`, `stream`) -> their digest, kept in `data.json`; a resumed run must have
            the same data.

    Raises:
        CondgenError: the folder belongs to a run with other data or another architecture, holds other files (it is
            left unchanged), or cannot be written.
    """

    def __init__(self, root: Path, config: dict, save_every: float = 60.0, data: dict[str, str] | None = None):
        self.root, self.save_every = root, save_every
        self._metrics = True
        self._tensorboard = None
        try:
            before = self._data_before()
            self._check(config, places_are_free=bool(before.keys() & (data or {}).keys()))
            data = self._check_data(before, data or {})
            distributed.barrier()
            if distributed.rank():
                return
            root.mkdir(parents=True, exist_ok=True)
            _write(root / "config.yaml", yaml.safe_dump(config, sort_keys=False))
            if data:
                _write(root / "data.json", to_json(data))
            (root / "samples").mkdir(exist_ok=True)
        except OSError as error:
            raise CondgenError(f"The folder {root} cannot be written ({error.strerror}). Choose another.") from None

    def _check(self, config: dict, places_are_free: bool) -> None:
        path = self.root / "config.yaml"
        if not path.exists():
            if self.root.exists() and any(
                child.name not in (distributed.LOCK, "config.yaml.tmp") for child in self.root.iterdir()
            ):
                raise CondgenError(f"{self.root} is not empty and holds no run of condgen. Choose another folder.")
            return
        now = renamed.flat(config)
        before = renamed.flat(renamed.run_config(read_config(path), now, config.get("kind", "")))
        before = now | before if before.keys() <= now.keys() else before  # an option that was added later
        changed = [k for k in sorted(before | now) if before.get(k) != now.get(k)]
        changes = {k: f"{k}: {before.get(k)} -> {now.get(k)}" for k in changed}
        fixed = [t for k, t in changes.items() if not (may_change(k) or (places_are_free and k in PLACES))]
        if fixed:
            raise CondgenError(
                f"{self.root} holds a run with other settings ({'; '.join(fixed)}). Give the settings it began with, "
                "or another output folder."
            )
        if audible := [text for k, text in changes.items() if k not in SILENT]:
            warnings.warn(f"Resuming with changed settings: {'; '.join(audible)}", CondgenWarning, stacklevel=3)

    def _data_before(self) -> dict[str, str]:
        """The digests in the folder; {} for a new run, an older one without the file, and a damaged file."""
        try:
            before = json.loads((self.root / "data.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return before if isinstance(before, dict) else {}

    def _check_data(self, before: dict[str, str], data: dict[str, str]) -> dict[str, str]:
        """Checks the data against the digests in the folder; returns the digests of both."""
        if changed := [f"{before[how]} -> {now}" for how, now in data.items() if before.get(how, now) != now]:
            raise CondgenError(
                f"The data of {self.root} are not those of the original run ({changed[0]}): images or captions have "
                "changed, or were added or removed. Give it the same data, or choose another output folder."
            )
        return before | data

    def update_status(self, **changes: Any) -> None:
        """Changes entries of the status file, see `read_status`."""
        if not distributed.rank():
            _write(self.root / STATUS, to_json(read_status(self.root) | changes, indent=2))
            (self.root / "exported").unlink(missing_ok=True)  # an empty file of earlier versions

    def keep_frame(self, stage: str, module: nn.Module, pipeline: Any) -> None:
        """Writes the model that a stage is going to train: with a checkpoint it makes a model of an unfinished run.

        Args:
            stage: name of the stage.
            module: the Trainable.
            pipeline: the model; the modules that it shares with `module` are trained.
        """
        names = {id(one): name for name, one in module.named_modules()}
        parts = {part: names[id(one)] for part, one in pipeline.modules.items() if id(one) in names}
        place = self.root / FRAME
        aside = place.with_name(f"{place.name}.tmp")
        shutil.rmtree(aside, ignore_errors=True)
        pipeline.save(aside)
        _write(aside / FRAME_FACTS, to_json({"stage": stage, "parts": parts}))
        shutil.rmtree(place, ignore_errors=True)
        aside.rename(place)

    def log(self, stage: str, images: int, values: dict[str, float]) -> None:
        """Adds a line to `metrics.jsonl` and points to the TensorBoard curves.

        A failure does not end the run: it gives one warning, and nothing more is written there.
        """
        if distributed.rank():
            return
        line = {"stage": stage, "images": images, "time": round(time.time(), 1)} | values
        if self._metrics:
            try:
                _append(self.root / "metrics.jsonl", to_json(line) + "\n")
            except OSError as error:
                self._metrics = False
                warnings.warn(f"{self.root / 'metrics.jsonl'} is off: {error.strerror}", CondgenWarning, stacklevel=2)
        if self._tensorboard is False:
            return
        try:
            if self._tensorboard is None:
                self._tensorboard = _curves(self.root / "tensorboard")
            for name, value in values.items():
                self._tensorboard.add_scalar(f"{stage}/{name}", value, images)
        except Exception as error:
            self._tensorboard = False
            warnings.warn(f"Tensorboard is off: {error}", CondgenWarning, stacklevel=2)

    def keep_batch(self, stage: str, step: int, batch: Batch) -> str:
        """Writes the batch of a failed step to `faults/`, replacing an earlier one of the stage.

        Returns:
            A sentence that says where it is, or why it could not be written.
        """
        name = stage.replace(" ", "_") + (f"-process-{distributed.rank()}" if distributed.world() > 1 else "")
        place = self.root / "faults" / f"{name}-step-{step:07d}.safetensors"
        try:
            place.parent.mkdir(exist_ok=True)
            for old in place.parent.glob(f"{name}-step-*"):
                old.unlink()
            save_file({key: value.detach().cpu().contiguous().clone() for key, value in batch.items()}, place)
        except (OSError, SafetensorError) as error:
            return f"The batch of step {step} could not be written to {place} ({error})."
        return f"The batch of step {step} is in {place}."


def read_status(root: Path) -> dict[str, Any]:
    """What a run has done; {} for a folder without a status, or with a damaged one.

    exported     whether `model` holds the latest weights
    embedding    seconds spent on embeddings of the training data
    """
    try:
        status = json.loads((root / STATUS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        status = {"exported": True} if (root / "exported").exists() else {}  # of earlier versions
    return status if isinstance(status, dict) else {}


def _write(path: Path, text: str) -> None:
    """Writes a file atomically: a crash leaves the old file or the new one."""
    aside = path.with_name(f"{path.name}.tmp")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)


def _curves(folder: Path):
    """A TensorBoard writer whose thread prints no tracebacks: the next point raises the same error."""
    from torch.utils.tensorboard import SummaryWriter

    before = threading.excepthook
    threading.excepthook = lambda args: type(args.thread).__module__.startswith("tensorboard") or before(args)
    return SummaryWriter(str(folder))


def _append(path: Path, line: str) -> None:
    """Appends a line atomically."""
    data = line.encode()
    with open(path, "ab", buffering=0) as file:
        end = file.tell()
        written = file.write(data)
        if written < len(data):
            file.truncate(end)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_config(path: Path) -> dict:
    """The `config.yaml` of a run."""
    remedy = "Restore it from a copy, or choose another output folder."
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CondgenError(f"{path} is not YAML ({' '.join(str(error).split())}). {remedy}") from None
    if not isinstance(config, dict):
        raise CondgenError(f"{path} holds no config of a run (expected lines such as `seed: 0`). {remedy}")
    return config


def may_change(key: str) -> bool:
    """Whether a resumed run may change an option."""
    part, _, name = key.partition(".")
    return part in MAY_CHANGE or ((part == "fit" or part.startswith("fit_")) and name not in FIXED)


class Display:
    """Progress of all stages: bars with the time left on a terminal, otherwise a line every half minute.

    Only the first process shows anything.
    """

    def __init__(self, stages: Sequence[str]):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self.console = Console(stderr=True, quiet=distributed.rank() > 0)
        self.live = self.console.is_terminal
        columns = (
            TextColumn("{task.description:>18}", markup=False), BarColumn(), TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(), TextColumn("{task.fields[message]}", markup=False),
        )  # fmt: skip
        self.progress = Progress(*columns, console=self.console, disable=not self.live)
        self.tasks = {stage: self.progress.add_task(stage, total=1.0, message="waiting") for stage in stages}
        self._printed = 0.0

    def __enter__(self) -> Display:
        self.progress.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self.progress.__exit__(*error)

    def show(self, stage: str, done: float, message: str) -> None:
        """Moves the bar of a stage to `done` in [0, 1]."""
        self.progress.update(self.tasks[stage], completed=done, message=message)
        if not self.live and not self.console.quiet and (time.monotonic() - self._printed > 30 or done >= 1):
            self._printed = time.monotonic()
            print(f"{stage}: {done:.1%} {message}", file=sys.stderr, flush=True)

    def say(self, text: str) -> None:
        """Prints a line above the bars, without interpreting markup: captions may contain it."""
        self.console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)


def drive(
    fit: Trainer, run: RunFolder, stage: str, display: Display, milestones: Sequence[float] = ()
) -> Iterator[Step]:
    """Trains to the end from the last checkpoint, and yields at the milestones (shares of the run) and at the end.

    Metrics are logged every five seconds, and checkpoints written every `run.save_every` seconds while weights are
    finite. An interrupt finishes the step, writes a checkpoint and is raised again.

    Raises:
        CondgenError: too many consecutive steps were not finite, or a checkpoint could not be written.
    """
    folder = checkpoint.folder_of(run.root, stage)
    for broken in fit.resume(folder):
        then = "resuming from the one before" if fit.count else "no other is valid, so this stage starts again"
        display.say(f"A checkpoint was damaged and renamed to {broken}; {then}.")
    if fit.sharded:
        display.say(f"The weights of the {stage} are split over {distributed.world()} processes.")
    ahead = [m for m in milestones if m > fit.progress]
    logged = saved = time.monotonic()
    began, first, behind = time.monotonic(), fit.images, fit.progress
    with _Interrupts() as interrupts, _explained(fit, run, stage):
        for step in fit:
            now = time.monotonic()
            if now - logged > 5 or step.progress >= 1:
                logged = now
                speed = (step.images - first) / max(now - began, 1e-9)
                run.log(stage, step.images, {**step.losses, "lr": step.lr, "images_per_s": speed,
                                             "seconds": step.seconds, "skipped": step.skipped,
                                             "progress": step.progress})  # fmt: skip
                left = (now - began) / max(step.progress - behind, 1e-9) * (1 - step.progress)
                display.show(stage, step.progress, _describe(step, speed, left))
            asked = int(distributed.maximum(interrupts.asked or 0))  # all processes stop after the same step
            due = asked or not distributed.all_true(now - saved < run.save_every)  # and save after the same step
            if step.progress >= 1 or (due and fit.sound):
                fit.save(folder)
                saved = time.monotonic()
            if asked:
                distributed.barrier()  # the first to exit makes the launcher signal the rest
                raise KeyboardInterrupt(asked)
            if (ahead and step.progress >= ahead[0]) or step.progress >= 1:
                ahead = [m for m in ahead if m > step.progress]
                yield step


def milestones(count: int) -> list[float]:
    """The shares of a run at which to evaluate, closer together at first; the last is its end."""
    return [(k / count) ** 1.5 for k in range(1, count + 1)]


def wants_more(root: Path, stage: str, config: FitConfig) -> bool:
    """Whether a stage of a run has seen less than the present limits ask for; False without a checkpoint."""
    place, _ = checkpoint.newest(checkpoint.folder_of(root, stage))
    if place is None:
        return False
    state = checkpoint.read_state(place)
    return progress_of(config, state["images"], state["seconds"]) < 1


@contextmanager
def _explained(fit: Trainer, run: RunFolder, stage: str) -> Iterator[None]:
    """Completes the message of a non-finite loss or gradient: where the batch is, and where the run resumes."""
    try:
        yield
    except NotFinite as error:
        place, _ = checkpoint.newest(checkpoint.folder_of(run.root, stage))
        then = f"The same command resumes from {place}, which is kept." if place else "No checkpoint was written yet."
        raise CondgenError(f"{error} {run.keep_batch(stage, error.step, error.batch)} {then}") from None


def _describe(step: Step, speed: float, left: float) -> str:
    clock = f"{int(left // 3600)}:{int(left % 3600 // 60):02}:{int(left % 60):02}"
    loss = next((f"{v:.4f}" for k, v in step.losses.items() if k.startswith("loss")), "-")
    if "floor" in step.losses:  # the minimum of a contrastive loss, for comparison
        loss += f" (floor {step.losses['floor']:.4f})"
    skipped = f", {step.skipped} steps skipped" if step.skipped else ""
    return f"{step.images:,} images, {speed:.0f}/s, loss {loss}, {clock} left{skipped}"


class _Interrupts:
    """Delays SIGINT and SIGTERM until the step is done; a second signal stops at once.

    A launcher forwards signals that the terminal has sent to its processes already; such a copy is ignored.
    """

    asked: int | None = None
    when: float = 0.0

    def __enter__(self) -> _Interrupts:
        try:
            self._before = {s: signal.signal(s, self._ask) for s in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # signals arrive in the main thread only
            self._before = {}
        return self

    def _ask(self, number, frame) -> None:
        if self.asked and time.monotonic() - self.when > (ECHO if distributed.world() > 1 else 0):
            raise KeyboardInterrupt(number)
        self.asked, self.when = self.asked or number, time.monotonic()

    def __exit__(self, *error) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
