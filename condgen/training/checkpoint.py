"""Checkpoints that are whole or not there: written aside, hashed, renamed into place, older ones pruned after."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from condgen.contracts import CondgenError

MANIFEST = "manifest.json"


def save(
    root: Path, step: int, tensors: dict[str, dict[str, torch.Tensor]], optimisers: dict[str, Any], state: dict, keep=2
) -> Path:
    """Writes `root/step-NNNNNNN`.

    Args:
        root: folder of the checkpoints.
        step: optimiser steps done.
        tensors: file name (no ending) -> flat dict of tensors, written as safetensors.
        optimisers: name -> optimiser state, written by torch, read with `weights_only=True`.
        state: counters, as JSON.
        keep: how many of the newest to keep.
    """
    root.mkdir(parents=True, exist_ok=True)
    aside, place = root / f"tmp-{step:07d}", root / f"step-{step:07d}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        for name, flat in tensors.items():
            save_file({k: v.detach().cpu().contiguous() for k, v in flat.items()}, aside / f"{name}.safetensors")
        torch.save(optimisers, aside / "optimisers.pt")
        (aside / "state.json").write_text(json.dumps(state))
        hashes = {file.name: _hash(file) for file in sorted(aside.iterdir())}
        (aside / MANIFEST).write_text(json.dumps(hashes, indent=2))
        for file in aside.iterdir():
            with open(file, "rb+") as handle:
                os.fsync(handle.fileno())
        shutil.rmtree(place, ignore_errors=True)
        aside.rename(place)
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise CondgenError(
            f"Checkpoint {place} could not be written ({error.strerror or error}). Earlier ones are untouched; free "
            "some space and give the same command again."
        ) from None
    for old in sorted(root.glob("step-*"))[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return place


def newest(root: Path) -> tuple[Path | None, list[Path]]:
    """The newest checkpoint that verifies, and the newer ones that do not."""
    damaged = []
    for folder in sorted(root.glob("step-*"), reverse=True):
        if verify(folder):
            return folder, damaged
        damaged.append(folder)
    return None, damaged


def verify(folder: Path) -> bool:
    """Whether every file is there and has the hash that the manifest names."""
    try:
        hashes = json.loads((folder / MANIFEST).read_text())
        return bool(hashes) and all(_hash(folder / name) == value for name, value in hashes.items())
    except (OSError, ValueError):
        return False


def load(folder: Path) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, Any], dict]:
    """What `save` was given: tensors, optimisers, state."""
    tensors = {file.stem: load_file(file) for file in folder.glob("*.safetensors")}
    optimisers = torch.load(folder / "optimisers.pt", weights_only=True, map_location="cpu")
    return tensors, optimisers, json.loads((folder / "state.json").read_text())


def _hash(file: Path) -> str:
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
