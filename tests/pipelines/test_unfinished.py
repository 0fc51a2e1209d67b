"""A run of any kind that was stopped has a model: the running mean of the weights of its last checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

import condgen
from condgen.cli.main import main
from condgen.contracts import CondgenWarning
from condgen.files.weights import read_tensors
from condgen.training import checkpoint
from tests.compat.outputs import unpack
from tests.compat.test_old_runs import HERE, RUNS, place_inputs

MAKES_A_MODEL = [name for name in RUNS if name not in ("text-in-clip", "text-in-prior")]


def expected(run: Path) -> dict[str, torch.Tensor]:
    """The weights to use of the last checkpoint: the running mean where there is one."""
    [folder] = [
        f for f in (run / "checkpoints").iterdir() if f.name not in ("clip",) or RUNS[run.name]["recipe"] == "clip"
    ][-1:]
    place, _ = checkpoint.newest(folder)
    tensors = checkpoint.load_tensors(place)
    return tensors["model"] | tensors.get("ema", {})


@pytest.mark.parametrize("name", MAKES_A_MODEL)
def test_a_stopped_run_of_any_kind_has_a_model(name, tmp_path, monkeypatch, capsys):
    """Runs of the first edition, which hold checkpoints only: `condgen export` completes them with their data."""
    place_inputs(RUNS[name]["options"], tmp_path)
    run = unpack(HERE / "runs" / name, tmp_path / "runs" / name)
    monkeypatch.chdir(tmp_path)
    assert main(["export", f"runs/{name}", "-o", "copy"]) == 0
    assert capsys.readouterr().out.strip() == "copy" and not (run / "model").exists()
    weights, found = expected(run), 0
    for file in Path("copy").glob("*/model.safetensors"):
        for tensor, value in read_tensors(file).items():
            same = [w for k, w in weights.items() if k.endswith(f".{tensor}") and w.shape == value.shape]
            found += any(torch.equal(w.to(value.dtype), value) for w in same)
    assert found
    shutil.rmtree("data")
    with pytest.warns(CondgenWarning, match="is not finished"):
        model = condgen.load(f"runs/{name}")  # now without the data
    assert model.about["unfinished"]["checkpoint"].startswith("step-")
