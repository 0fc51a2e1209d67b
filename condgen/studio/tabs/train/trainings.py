"""Trainings of the studio: each is a `condgen train` process of its own, which goes on when the studio ends.

trainings = Trainings()
trainings.start(check_order("digits-gan", "my-digits", minutes=1))
trainings.list()                # the runs below runs/, also those that were begun in a terminal
trainings.stop("my-digits")     # a checkpoint is saved
trainings.resume("my-digits")

Its output is in `runs/.studio/NAME.log`.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import condgen
from condgen.contracts import CondgenError, short
from condgen.distributed import LOCK
from condgen.files import registry
from condgen.recipes import RECIPES, find_recipe
from condgen.studio.tabs.train.runs import Metrics, Run, Stage, error_in, read_run
from condgen.training.writer import writer_of

NAME = re.compile(r"[^\W_][\w.-]{0,62}[\w-]|[^\W_]")
"""Names of runs: letters, digits, `_`, `-` and `.` inside."""
OPTION = re.compile(r"--([a-z][\w.-]*)(?:=(.*))?", re.DOTALL)
OWN = {
    "out": "the name of the run", "config": "", "print_config": "", "help": "", "help-all": "", "recipe": "the recipe",
    "data": "the folder", "data.path": "the folder", "data.size": "the image size", "size": "the model size",
    "minutes": "the minutes", "device": "the device",
}  # fmt: skip
"""Options that have a field of their own, or no use here."""
LOGS = ".studio"
"""Folder, below that of the runs, of what trainings print."""
TAIL = 8000
"""Bytes of a log that are read."""
MOST = 4
"""Trainings that run at the same time, at most."""
STOPPED = (130, 143, -signal.SIGINT, -signal.SIGTERM)
"""Exit codes of trainings that were asked to stop."""
SECRETS = ("CONDGEN_AUTH",)
"""Variables of the environment that trainings do not get."""
DEVICE = re.compile(r"cpu|mps|cuda(:\d{1,2})?")


@dataclass(frozen=True)
class Order:
    """A checked training: the recipe, the name of the run, and the options of `condgen train`."""

    recipe: str
    name: str
    options: tuple[str, ...] = ()

    @property
    def words(self) -> list[str]:
        """The words after `condgen`."""
        return ["train", self.recipe, "-o", str(registry.RUNS / self.name), *self.options]

    @property
    def command(self) -> str:
        """The command line, for a shell."""
        return shlex.join(["condgen", *self.words])


def check_order(
    recipe: Any, name: Any, data: Any = "", minutes: Any = 0, image_size: Any = 0, model_size: Any = "",
    device: Any = "", options: Any = "",
) -> Order:  # fmt: skip
    """Validates what is asked for.

    Args:
        recipe: name of a recipe.
        name: name of the run.
        data: path of the data; '' for a recipe that draws its own.
        minutes: minutes of training; 0 for as many images as the recipe says.
        image_size: edge of the images in pixels; 0 for that of the recipe.
        model_size: a size of the recipe; '' for its usual one.
        device: '' or `auto` for a GPU if there is one.
        options: further options of `condgen train`, as text: `--fit.batch 32 --seed 1`.

    Raises:
        CondgenError: a value cannot be used; the message names it.
    """
    chosen = find_recipe(recipe if isinstance(recipe, str) else str(recipe))
    words = []
    if folder := _text("The folder of the data", data):
        words.append(f"--data={_path(folder)}")
    elif chosen.needs_data:
        raise CondgenError(f"The recipe {recipe} needs data: give their folder or table.")
    if (size := _text("The model size", model_size)) and size not in chosen.sizes:
        raise CondgenError(f"The recipe {recipe} has {', '.join(chosen.sizes) or 'one size'}, got {short(size)}.")
    words += [f"--size={size}"] * bool(size)
    if pixels := _number("The image size", image_size, 4096, whole=True):
        words.append(f"--data.size={pixels:.0f}")
    if limit := _number("The number of minutes", minutes, 10**6):
        words.append(f"--minutes={limit:g}")
    place = _text("The device", device)
    if place not in ("", "auto"):
        if not DEVICE.fullmatch(place):
            raise CondgenError(f"The device must be auto, cpu, cuda, cuda:1 or mps, got {short(place)}.")
        words.append(f"--device={place}")
    return Order(recipe, check_name(name), (*words, *further_options(options)))


def check_name(name: Any) -> str:
    """The name of a run; `CondgenError` for one that could be a path, an option or a hidden file."""
    text = unicodedata.normalize("NFC", name.strip()) if isinstance(name, str) else ""
    if not NAME.fullmatch(text):
        raise CondgenError(
            f"The name of the run must be a word of at most 64 letters, digits, '-', '_' and '.', such as my-scenes; "
            f"got {short(name)}."
        )
    return text


def folder_of(name: Any) -> Path:
    """The folder of a run that may be there; `CondgenError` for what is no plain name."""
    plain = isinstance(name, str) and name == Path(name).name and "\0" not in name and "\\" not in name
    if not plain or not name or registry.is_stranger(name) or len(name) > 200:
        raise CondgenError(f"There is no run {short(name)}.")
    return registry.RUNS / name


def free_name(recipe: str) -> str:
    """A name for a new run of a recipe that no run and no model has."""
    taken, name = registry.found(), f"my-{recipe}"
    names = [name, *(f"{name}-{k}" for k in range(2, 1000))]
    return next((one for one in names if one not in taken and not (registry.RUNS / one).exists()), name)


def further_options(text: Any) -> list[str]:
    """Options in a text, each as one word `--key=value`.

    Raises:
        CondgenError: something else than `--key value`, or an option that has a field of its own.
    """
    try:
        words = shlex.split(_text("The further options", text))
    except ValueError as error:
        raise CondgenError(f"The further options cannot be read: {error}. A quotation mark may be missing.") from None
    found = []
    while words:
        word = words.pop(0)
        match = OPTION.fullmatch(word)
        if not match:
            raise CondgenError(f"Further options are written --key value, such as --fit.batch 32; got {short(word)}.")
        key, value = match.groups()
        if key in OWN:
            hint = f"use the field for {OWN[key]}" if OWN[key] else "it has no use here"
            raise CondgenError(f"The option --{key} cannot be given here: {hint}.")
        if value is None:
            if not words or OPTION.fullmatch(words[0]):
                raise CondgenError(f"The option --{key} has no value, such as --{key} 1 or --{key} true.")
            value = words.pop(0)
        found.append(f"--{key}={value}")
    return found


def _text(what: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > 4000 or "\0" in value:
        raise CondgenError(f"{what} must be text, got {short(value)}.")
    return value.strip()


def _path(text: str) -> str:
    return os.path.expanduser(text) if text.startswith("~") else text


def _number(what: str, value: Any, most: float, whole: bool = False) -> float:
    """A number from 0 to `most`; 0 for nothing."""
    if value in (None, ""):
        return 0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise CondgenError(f"{what} must be a number from 0 to {most:,}, got {short(value)}.")
    if whole and value != int(value):
        raise CondgenError(f"{what} must be a whole number, got {short(value)}.")
    return value


class Trainings:
    """Starts, lists, stops and resumes trainings; safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._processes: dict[str, subprocess.Popen] = {}
        self._asked: dict[str, int] = {}  # name of a run -> process that was asked to stop
        self._metrics: dict[Path, Metrics] = {}

    # What there is ----------------------------------------------------------------------------------------------------

    def list(self) -> list[Run]:
        """All runs, those that train first, then the latest."""
        with self._lock:
            folders = {}
            for mark in (registry.RUN_CONFIG, LOCK):
                for file in registry.RUNS.glob(f"*/{mark}"):
                    if not registry.is_stranger(file.parent.name):
                        folders[file.parent.name] = file.parent
            for name in self._processes:
                folders.setdefault(name, registry.RUNS / name)
            runs = [self._read(folder) for folder in folders.values()]
        return sorted(runs, key=lambda run: (not run.active, -_changed(run.folder), run.name))

    def get(self, name: Any) -> Run:
        """The run of a name; `CondgenError` where there is none."""
        folder = folder_of(name)
        marks = (folder / registry.RUN_CONFIG, folder / LOCK)
        if folder.name not in self._processes and not any(mark.is_file() for mark in marks):
            raise CondgenError(f"There is no run {short(name)} in {registry.RUNS.name}/.")
        with self._lock:
            return self._read(folder)

    def stages(self, name: Any) -> dict[str, Stage]:
        """The stages of a run with their curves."""
        with self._lock:
            return self._metrics_of(folder_of(name)).update()

    def log(self, name: Any) -> str:
        """The end of what a training of the studio has printed, with its command; '' for others."""
        try:
            with open(self.log_path(folder_of(name).name), "rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
                return file.read().decode("utf-8", "replace")
        except OSError:
            return ""

    @staticmethod
    def log_path(name: str) -> Path:
        return registry.RUNS / LOGS / f"{name}.log"

    def _metrics_of(self, folder: Path) -> Metrics:
        return self._metrics.setdefault(folder, Metrics(folder / "metrics.jsonl"))

    def _read(self, folder: Path) -> Run:
        process = self._processes.get(folder.name)
        lives = process is not None and process.poll() is None
        run = read_run(folder, self._metrics_of(folder), "" if lives else self._last_words(folder))
        if lives and not run.writer:  # it is starting
            run = replace(run, state="running", message="", writer={"pid": process.pid, "host": socket.gethostname()})
        if not run.active:
            self._asked.pop(folder.name, None)
        elif self._asked.get(folder.name, -1) == run.writer.get("pid"):
            run = replace(run, state="stopping")
        return run

    def _last_words(self, folder: Path) -> str:
        """The log of a run, unless it has been trained elsewhere since."""
        written, trained = _changed(self.log_path(folder.name), ""), _changed(folder, "metrics.jsonl")
        return self.log(folder.name) if written >= trained else ""

    # What to do -------------------------------------------------------------------------------------------------------

    def start(self, order: Order) -> None:
        """Starts a training; see `settled` for whether it took its arguments and data.

        Raises:
            CondgenError: there is a run or a model of that name, or too many trainings run.
        """
        with self._lock:
            folder = registry.RUNS / order.name
            if self._lives(order.name) or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
                raise CondgenError(f"There is a run {order.name} already. Resume it, or choose another name.")
            if order.name in registry.found():
                raise CondgenError(f"There is a model {order.name} already. Choose another name for the run.")
            self._launch(order.name, order.words, "w")

    def resume(self, name: Any) -> Run:
        """Goes on with a run from its last checkpoint, with the settings that it began with.

        Raises:
            CondgenError: there is no such run, it is running, or its settings cannot be read.
        """
        with self._lock:
            run = self.get(name)
            if run.active or run.state == "finished":
                raise CondgenError(f"The run {run.name} is {run.state}, so there is nothing to resume.")
            if not run.recipe or run.recipe not in RECIPES:
                recipe = f"The recipe {short(run.recipe)} is unknown" if run.recipe else "Its config names no recipe"
                raise CondgenError(f"The run {run.name} cannot be resumed. {run.message or recipe + '.'}")
            place = registry.RUNS / run.name
            words = ["train", run.recipe, "-o", str(place), f"--config={place / registry.RUN_CONFIG}"]
            words += [word for word in self._words_before(run.name) if word.startswith("--device=")]
            self._launch(run.name, words, "a")
            return self._read(run.folder)

    def stop(self, name: Any) -> Run:
        """Asks a training to stop after its step and to save a checkpoint, as Ctrl-C in a terminal does.

        Raises:
            CondgenError: there is no such run, it does not run, or it runs elsewhere.
        """
        with self._lock:
            run = self.get(name)
            if run.state == "stopping":  # a second signal would stop it without a checkpoint
                return run
            if not run.active:
                raise CondgenError(f"The run {run.name} is not running.")
            pid, host = run.writer.get("pid"), run.writer.get("host")
            if host != socket.gethostname():
                raise CondgenError(f"The run {run.name} runs on {short(host)}; stop it there.")
            if not isinstance(pid, int) or pid <= 1 or pid == os.getpid():
                raise CondgenError(f"The process of the run {run.name} is unknown. Stop it where it was started.")
            try:
                os.kill(pid, signal.SIGTERM)
            except OSError as error:
                raise CondgenError(f"The run {run.name} cannot be stopped ({error.strerror}).") from None
            self._asked[run.name] = pid
            return self._read(run.folder)

    def settled(self, name: str) -> bool:
        """Whether a training that was started has taken its arguments and its data, or has ended.

        Raises:
            CondgenError: it has ended with an error; the message is its own.
        """
        process, folder = self._processes.get(name), registry.RUNS / name
        if process is not None and process.poll() and process.returncode not in STOPPED:
            log = self.log(name)
            last = next((line for line in reversed(log.splitlines()) if line.strip()), "")
            raise CondgenError(error_in(log) or f"The training ended with status {process.returncode}. {last}".strip())
        if process is None or process.returncode is not None:
            return True
        writes = (writer_of(folder) or {}).get("pid") == process.pid
        return writes and (folder / registry.RUN_CONFIG).is_file()

    def await_start(self, name: str, seconds: float = 60.0) -> Run:
        """Waits until a training has settled; errors as in `settled`."""
        until = time.monotonic() + seconds
        while not self.settled(name) and time.monotonic() < until:
            time.sleep(0.2)
        return self.get(name)

    def _lives(self, name: str) -> bool:
        process = self._processes.get(name)
        return (process is not None and process.poll() is None) or writer_of(registry.RUNS / name) is not None

    def _words_before(self, name: str) -> list[str]:
        """The words of the last command of a training of the studio, from the first line of its log."""
        try:
            with open(self.log_path(name), encoding="utf-8", errors="replace") as file:
                return shlex.split(file.readline(TAIL).removeprefix("$ "))
        except (OSError, ValueError):
            return []

    def _launch(self, name: str, words: list[str], mode: str) -> None:
        active = sum(process.poll() is None for process in self._processes.values())
        if active >= MOST:
            raise CondgenError(f"{active} trainings are running. Wait until one has ended, or stop one.")
        log = self.log_path(name)
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            with open(log, f"{mode}b") as file:
                file.write(f"$ {shlex.join(['condgen', *words])}\n".encode("utf-8", "replace"))
                file.flush()
                self._processes[name] = subprocess.Popen(
                    [sys.executable, "-m", "condgen", *words], stdin=subprocess.DEVNULL, stdout=file,
                    stderr=subprocess.STDOUT, start_new_session=True, env=environment(),
                )  # fmt: skip
        except (OSError, ValueError) as error:
            raise CondgenError(f"The training cannot be started ({error}).") from None


def environment() -> dict[str, str]:
    """The variables of a process of condgen: it finds this package, and gets no password."""
    variables = {name: value for name, value in os.environ.items() if name not in SECRETS}
    paths = [str(Path(condgen.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return variables | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONIOENCODING": "utf-8"}


def _changed(folder: Path, *names: str) -> float:
    """When a run was written to last; 0 where nothing is there."""
    times = [0.0]
    for name in names or ("metrics.jsonl", registry.RUN_CONFIG, LOCK):
        try:
            times.append((folder / name).stat().st_mtime)
        except OSError:
            continue
    return max(times)
