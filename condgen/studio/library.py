"""The models that the studio offers: found on disk by name, loaded when first used, a few at a time."""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from condgen.contracts import CondgenError, CondgenWarning, short
from condgen.files.registry import ASSETS, DEFAULT, INDEX, RUNS, UNFINISHED, class_name, find, found, unfinished_runs
from condgen.pipelines.auto import KINDS, PipelineKind, load_folder
from condgen.pipelines.base import Pipeline

CAPACITY = 4
"""Models in memory, at most."""


@dataclass(frozen=True)
class ModelEntry:
    """A model that can be chosen.

    Args:
        name: its name in the studio; unique.
        kind: what it does.
        folder: the model directory, or the training run that is not finished; None for a model from Python.
        place: `package`, `models`, `runs` or the folder that contains it.
        unfinished: a training run whose last checkpoint is opened.
    """

    name: str
    kind: PipelineKind
    folder: Path | None
    place: str
    unfinished: bool = False


class ModelLibrary:
    """Finds and loads models; safe to use from several threads.

    Args:
        first: the model that is chosen at the start: a loaded one, a path, a name, or None for the default.
        device: where models compute.

    Raises:
        CondgenError: there is no such model.
    """

    def __init__(self, first: Pipeline | Path | str | None = None, device: str = "cpu"):
        self.device = device
        self._given: dict[str, Pipeline] = {}
        self._extra: dict[str, Path] = {}
        self._open: OrderedDict[tuple, Pipeline] = OrderedDict()
        self._lock = threading.RLock()
        self.default = self._add(first)

    def _add(self, first: Pipeline | Path | str | None) -> str:
        if isinstance(first, Pipeline):
            self._given[first.name] = first.to(self.device)
            return first.name
        folder = find(first)
        for entry in self.entries().values():
            if entry.folder is not None and entry.folder.resolve() in (folder.resolve(), folder.parent.resolve()):
                return entry.name
        name = folder.parent.name if folder.name in ("model", "unfinished") else folder.name
        name = name if name not in self.entries() else str(folder)
        self._extra[name] = folder
        return name

    def entries(self) -> dict[str, ModelEntry]:
        """All models by name, in the order of their kinds; looked for anew at every call."""
        entries = [ModelEntry(name, model.kind(), None, "Python") for name, model in self._given.items()]
        folders = self._extra | found()
        entries += [
            ModelEntry(name, KINDS[class_name(folder)], folder, _place(folder))
            for name, folder in folders.items()
            if name not in self._given and class_name(folder) in KINDS
        ]
        known = {entry.name for entry in entries}
        for run in unfinished_runs():
            kind = KINDS.get(class_name(run / "parts" / "unfinished"))
            if kind and run.name not in known:
                entries.append(ModelEntry(run.name, kind, run, RUNS.name, unfinished=True))
        order = list(KINDS)
        return {entry.name: entry for entry in sorted(entries, key=lambda entry: order.index(entry.kind.name))}

    def entry(self, name: object) -> ModelEntry:
        """The model of a name; `CondgenError` lists the names for an unknown one."""
        entries = self.entries()
        if not isinstance(name, str) or name not in entries:
            raise CondgenError(f"There is no model {short(name)} here. Models: {', '.join(entries)}.")
        return entries[name]

    def open(self, name: object) -> Pipeline:
        """The loaded model of a name; it is read again after its folder changed.

        Raises:
            CondgenError: there is no such model, or it is damaged; the message does not contain its folder.
        """
        entry = self.entry(name)
        if entry.folder is None:
            return self._given[entry.name]
        with self._lock:
            folder = self._folder_of(entry)
            key = (entry.name, (folder / INDEX).stat().st_mtime_ns)
            if key not in self._open:
                for old in [old for old in self._open if old[0] == entry.name]:
                    del self._open[old]
                try:
                    self._open[key] = load_folder(folder).to(self.device)
                except CondgenError as error:
                    raise CondgenError(str(error).replace(str(folder), entry.name)) from None
                while len(self._open) > CAPACITY:
                    self._open.popitem(last=False)
            self._open.move_to_end(key)
            return self._open[key]

    @staticmethod
    def _folder_of(entry: ModelEntry) -> Path:
        if not entry.unfinished:
            return entry.folder
        import importlib

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CondgenWarning)
            return importlib.import_module(UNFINISHED).model_of(entry.folder)


def _place(folder: Path) -> str:
    """Where a model lies, in a word."""
    if folder.is_relative_to(ASSETS):
        return "package"
    return (folder.parent.parent if folder.name == "model" else folder.parent).name or "here"


def is_default(name: str) -> bool:
    """Whether a model is the one that is opened when none is named."""
    return name == DEFAULT
