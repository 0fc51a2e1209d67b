"""Several processes of one training, started by `condgen train` itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from condgen.cli import processes, train
from condgen.contracts import CondgenError
from condgen.nn import devices
from condgen.recipes import RECIPES

DIGITS = ("digits-diffusion", "--eval_count", "1")


@pytest.fixture
def free_machine(monkeypatch):
    """Four free cores, and nobody who chose threads or processes."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(devices, "free", lambda: 4)
    monkeypatch.setattr(devices, "is_chosen", lambda: False)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    return monkeypatch


def number(asked: int = 0, recipe: str = "scenes32", **options) -> int:
    chosen = RECIPES[recipe]
    config = chosen.config(**options)
    return train.number_of_processes(asked, config, chosen.task().fits(config))


def test_long_runs_use_the_free_cores_and_short_ones_one_process(free_machine):
    assert number(minutes=20.0) == 4 and number() == 4
    assert number(minutes=1.0) == 1 and number(total_images=5000) == 1
    free_machine.setattr(devices, "free", lambda: 2)
    assert number(minutes=20.0) == 2
    free_machine.setattr(devices, "free", lambda: 1)
    assert number(minutes=20.0) == 1


def test_a_choice_of_threads_or_a_launcher_leaves_one_process(free_machine):
    free_machine.setattr(devices, "is_chosen", lambda: True)
    assert number(minutes=20.0) == 1 and number(3 - 1, minutes=1.0) == 2
    free_machine.setattr(devices, "is_chosen", lambda: False)
    free_machine.setenv("WORLD_SIZE", "2")
    assert number(minutes=20.0) == 1 and number(2) == 1
    with pytest.raises(CondgenError, match="launcher has started 2"):
        number(3)


def test_as_many_as_the_batches_can_be_split_over(free_machine):
    config = RECIPES["scenes32"].config(minutes=20.0)
    config = replace(config, fit_decoder=replace(config.fit_decoder, batch=18))
    fits = RECIPES["scenes32"].task().fits(config)
    assert train.number_of_processes(0, config, fits) == 2
    with pytest.raises(CondgenError, match="18 cannot be split over 4"):
        train.number_of_processes(4, config, fits)
    with pytest.raises(CondgenError, match="--processes"):
        train.number_of_processes(-1, config, fits)


def start(*options: str, out: Path) -> subprocess.Popen:
    env = {name: value for name, value in os.environ.items() if name not in processes.VARIABLES}
    command = [sys.executable, "-m", "condgen", "train", *DIGITS, "-o", str(out), *options]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_train_one_model_and_end_together(tmp_path):
    run = start("--processes", "2", "--total_images", "640", out=tmp_path / "run")
    out, err = run.communicate(timeout=300)
    assert run.returncode == 0, err
    assert out.strip() == str(tmp_path / "run" / "model") and (tmp_path / "run" / "model" / "model_index.json").exists()
    assert err.count("The model is in") == 1


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def until(holds, seconds: float = 240.0):
    end = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < end
        time.sleep(0.2)
    return found


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are read from /proc")
@pytest.mark.parametrize("killed", [True, False], ids=["killed", "stopped"])
def test_what_ends_one_process_ends_all_and_the_run_goes_on(tmp_path, killed):
    """A process that is killed ends the run with a message; a signal to the first one saves and stops all of them."""
    run = start("--processes", "2", "--total_images", "6400000", out=tmp_path / "run")
    until(lambda: list(tmp_path.glob("run/samples/*")) or (tmp_path / "run" / "metrics.jsonl").exists())
    (child,) = children(run.pid)
    os.kill(child, signal.SIGKILL) if killed else os.kill(run.pid, signal.SIGTERM)
    _, err = run.communicate(timeout=120)
    assert run.returncode == (2 if killed else 143), err
    assert "Traceback" not in err
    assert ("--processes 1" if killed else "stopped; the same command goes on") in err
    until(lambda: not Path(f"/proc/{child}").exists(), 30)
    if not killed:
        assert list(tmp_path.glob("run/checkpoints/*/*"))
