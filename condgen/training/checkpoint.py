"""Atomic checkpoints: written to a temporary folder, hashed and renamed; then older ones are removed.

step-0000200            a checkpoint
tmp-...                 one that is being written or removed, or that a crash left incomplete
damaged-step-0000300    one that is invalid, renamed so that it is not used
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from condgen import distributed
from condgen.contracts import CondgenError
from condgen.files import renamed
from condgen.files.weights import file_hash

MANIFEST = "manifest.json"


def folder_of(run: Path, stage: str) -> Path:
    """The folder of a stage's checkpoints in a run folder; runs of earlier versions have spaces in its name."""
    before = run / "checkpoints" / stage
    return before if before.is_dir() else run / "checkpoints" / stage.replace(" ", "_")


def save(
    root: Path, step: int, tensors: dict[str, dict[str, torch.Tensor]], optimisers: dict[str, Any], state: dict, keep=2
) -> Path:
    """Writes `root/step-NNNNNNN`.

    Args:
        root: folder of the checkpoints.
        step: optimiser steps done.
        tensors: file name without suffix -> flat dict of tensors, written as safetensors.
        optimisers: name -> optimiser state, written by torch, read with `weights_only=True`.
        state: counters, as JSON.
        keep: how many checkpoints to keep, and how many damaged ones.

    Raises:
        CondgenError: the disk is full or the folder cannot be written; earlier checkpoints are untouched.
    """
    aside, place = root / f"tmp-{step:07d}", root / f"step-{step:07d}"
    for rest in root.glob("tmp-*"):  # left by a process that was killed
        shutil.rmtree(rest, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        for name, flat in tensors.items():
            save_file({k: v.detach().cpu().contiguous() for k, v in flat.items()}, aside / f"{name}.safetensors")
        torch.save(optimisers, aside / "optimisers.pt")
        (aside / "state.json").write_text(json.dumps(state))
        hashes = {file.name: file_hash(file) for file in sorted(aside.iterdir())}
        (aside / MANIFEST).write_text(json.dumps(hashes, indent=2))
        for written in (*aside.iterdir(), aside):
            _sync(written)
        if place.exists():
            _remove(place)
        aside.rename(place)
        _sync(root)
    except (OSError, SafetensorError, RuntimeError) as error:  # the second and the third are raised if the disk is full
        free = shutil.disk_usage(root).free if root.exists() else 0
        shutil.rmtree(aside, ignore_errors=True)
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        reason = "torch names no reason" if isinstance(error, RuntimeError) else reason
        raise CondgenError(
            f"Checkpoint {place} could not be written ({reason}; {free:,} bytes were free). Earlier ones are "
            "untouched; free some space and give the same command again."
        ) from None
    others = sorted((old for old in root.glob("step-*") if old != place), reverse=True)
    for old in [*others[keep - 1 :], *sorted(root.glob("damaged-*"), reverse=True)[keep:]]:
        with suppress(OSError):
            _remove(old)
    return place


def _remove(folder: Path) -> None:
    """Renames a checkpoint before deleting it, so that an interruption leaves no incomplete checkpoint."""
    gone = folder.rename(folder.with_name(f"tmp-{folder.name}"))
    shutil.rmtree(gone, ignore_errors=True)


def newest(root: Path) -> tuple[Path | None, list[Path]]:
    """The newest valid checkpoint, and the newer damaged ones, which are renamed to `damaged-...`.

    Raises:
        CondgenError: a damaged one cannot be renamed.
    """
    damaged = []
    for folder in sorted(root.glob("step-*"), reverse=True):
        if verify(folder):
            return folder, damaged
        damaged.append(_put_aside(folder))
    return None, damaged


def _put_aside(folder: Path) -> Path:
    place = folder.with_name(f"damaged-{folder.name}")
    shutil.rmtree(place, ignore_errors=True)
    try:
        folder.rename(place)
    except FileNotFoundError:  # another process of this run has renamed it
        pass
    except OSError as error:
        raise CondgenError(
            f"{folder} is damaged and cannot be renamed ({error.strerror}). Delete it and give the same command again."
        ) from None
    return place


def verify(folder: Path) -> bool:
    """Whether every file has the hash in the manifest."""
    try:
        hashes = json.loads((folder / MANIFEST).read_text())
        return bool(hashes) and all(file_hash(folder / name) == value for name, value in hashes.items())
    except (OSError, ValueError, AttributeError):  # the last: JSON without hashes
        return False


def read_state(folder: Path) -> dict:
    """The counters of a checkpoint."""
    return json.loads((folder / "state.json").read_text())


def load_tensors(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The tensors of a checkpoint, by file name without suffix; `CondgenError` as in `load`."""
    with _explained(folder):
        return {file.stem: _tensors(file) for file in folder.glob("*.safetensors")}


def load(folder: Path) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, Any], dict]:
    """Loads the arguments of `save`: tensors, optimisers, state.

    Raises:
        CondgenError: a file with a valid hash was not written by `save`; code in it never runs.
    """
    with _explained(folder):
        optimisers = torch.load(folder / "optimisers.pt", weights_only=True, map_location="cpu")
        return load_tensors(folder), optimisers, read_state(folder)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, RuntimeError, LookupError, EOFError, SafetensorError, UnpicklingError) as error:
        raise CondgenError(
            f"{folder} is not a checkpoint of condgen ({type(error).__name__}). Delete it, and the same command "
            "resumes from the one before."
        ) from None


def _tensors(file: Path) -> dict[str, torch.Tensor]:
    return {renamed.tensor_name(name): tensor for name, tensor in load_file(file).items()}


def _sync(path: Path) -> None:
    """Flushes a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def exactly_once(path: Path, write: Callable[[Path], None]) -> None:
    """Lets the first process write a missing folder atomically; the others wait."""
    with distributed.main_process_first():
        if not distributed.rank() and not path.exists():
            aside = path.with_name(f"{path.name}.tmp")
            shutil.rmtree(aside, ignore_errors=True)
            write(aside)
            aside.rename(path)


def lock_run(root: Path, lock: ExitStack) -> None:
    """Locks the run folder in the first process until the stack is closed; all fail if it cannot."""
    fault = None
    if not distributed.rank():
        try:
            lock.enter_context(distributed.locked(root))
        except CondgenError as error:
            fault = error
    if not distributed.all_true(fault is None):
        raise fault or CondgenError(f"The first process could not lock {root}.")
