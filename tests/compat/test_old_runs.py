"""Runs that the first edition left half-way go on by the same command and end in the weights that it would have got."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.compat.outputs import lacks_only_the_folder, run, sha, unpack, weights_of

HERE = Path(__file__).resolve().parent
EXPECTED = json.loads((HERE / "expected.json").read_text(encoding="utf-8"))
RUNS = EXPECTED["runs"]
CLOSE = 1e-3
"""Largest difference of a weight, as a share of its tensor's largest one. Exported weights have 11 bits or more."""
SHARE = 0.9
"""Of the weights that must be so close where the machine rounds otherwise: Adam's first steps keep but the sign of a
gradient, which is rounding noise where the true one is zero."""


def place_inputs(options: list[str], folder: Path) -> None:
    """Puts there what the options of a run name: data, and models to begin with."""
    unpack(HERE / "data", folder / "data")
    if "embeds" in options:
        unpack(HERE / "embeds", folder / "embeds")
    for model in (word for word in options if word.startswith("models/")):
        unpack(HERE / model, folder / model)


@pytest.mark.parametrize("name", RUNS)
def test_old_run_goes_on(name, tmp_path, monkeypatch, same_rounding):
    wanted = RUNS[name]
    place_inputs(wanted["options"], tmp_path)
    place = unpack(HERE / "runs" / name, tmp_path / "runs" / name)
    monkeypatch.chdir(tmp_path)
    assert not (place / "model").exists()
    run("train", wanted["recipe"], *wanted["options"], "-o", f"runs/{name}")
    found = weights_of(place / "model")
    if same_rounding:  # by content, for tensors and their files may have other names now
        before = Counter(own for part in wanted["weights"].values() for own in part.values())
        now = Counter(sha(array) for part in found.values() for array in part.values())
        missing = before - now
        names = [f"{file} {n}" for file, part in wanted["weights"].items() for n, own in part.items() if own in missing]
        assert not missing, f"{missing.total()} of {before.total()} tensors differ, such as {', '.join(names[:5])}"
    if wanted["model"]:
        check_close(found, reference(wanted["model"], tmp_path), wanted)


def reference(model: str, folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """The weights of a model of the first edition, under the names that this edition writes."""
    import condgen

    condgen.load(unpack(HERE / "models" / model, folder / "old")).save(folder / "again")
    return weights_of(folder / "again")


def check_close(found: dict, before: dict, wanted: dict) -> None:
    assert found.keys() == before.keys()
    files = found if len(wanted["as_in_model"]) == len(wanted["weights"]) else wanted["as_in_model"]
    compared = 0
    for file in (file for file in files if file in found):
        assert found[file].keys() == before[file].keys(), file
        near, total = 0, 0
        for name, array in found[file].items():
            one, other = array.astype(np.float64), before[file][name].astype(np.float64)
            assert one.shape == other.shape, f"{file} {name}"
            near += (np.abs(one - other) <= CLOSE * max(np.abs(other).max(initial=0), 1e-6)).sum()
            total += one.size
        assert near >= SHARE * total, f"{file}: {near} of {total} weights are close"
        compared += 1
    assert compared


@pytest.mark.parametrize("name", RUNS)
def test_old_config_is_read(name):
    """The `config.yaml` of a run serves as a --config file: nothing in it is unknown or of another type."""
    understood, message = lacks_only_the_folder(
        RUNS[name]["recipe"], "--config", str(HERE / "runs" / name / "config.yaml")
    )
    assert understood, message
