"""Threads: how many, and how they wait."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from condgen.contracts import CondgenError
from condgen.nn import devices

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "files, group, cores",
    [
        ({}, "0::/", math.inf),
        ({"cpu.max": "max 100000"}, "0::/", math.inf),
        ({"cpu.max": "150000 100000"}, "0::/", 1.5),
        ({"a/cpu.max": "200000 100000", "a/b/cpu.max": "max 100000"}, "0::/a/b", 2),
        ({"a/cpu.max": "400000 100000", "a/b/cpu.max": "50000 100000"}, "12:cpu:/x\n0::/a/b", 0.5),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, "3:cpu:/", 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "3:cpu:/", math.inf),
        ({"cpu.max": "rubbish"}, "rubbish", math.inf),
        ({"cpu.max": "0 0"}, "0::/../..", math.inf),
    ],
)
def test_the_quota_is_the_smallest_of_all_groups(files, group, cores, tmp_path):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "process").write_text(group)
    assert devices.quota(tmp_path, tmp_path / "process") == cores


@pytest.mark.parametrize("limit", [0.2, 1, 2.5, math.inf])
def test_there_are_never_more_threads_than_cores_and_never_none(limit, monkeypatch):
    monkeypatch.setattr(devices, "quota", lambda *_: limit)
    monkeypatch.setattr(devices, "affinity", lambda: 8)
    assert devices.cores() == min(8, max(1, math.ceil(min(limit, 8))))


@pytest.mark.parametrize("idle, own, threads", [(8, 0, 8), (7, 1, 8), (2, 1, 3), (0, 0.3, 1), (0, 0, 1), (3.6, 0, 4)])
def test_free_cores_are_those_that_other_programs_left(idle, own, threads, monkeypatch):
    """On 8 cores, in a second of 100 ticks each."""
    monkeypatch.setattr(devices, "affinity", lambda: 8)
    monkeypatch.setattr(devices, "quota", lambda *_: math.inf)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert devices.free_cores((50.0, 100.0, 1.0, 5.0), (50 + 100 * idle, 100.0 + 800, 1 + own, 6.0)) == threads


def settled(limit: str = "inf", **variables: str) -> list[str]:
    """What a new process has after `settle` with a quota: threads of torch, the policy, and threads after `adapt`."""
    code = (
        "import math, os; from condgen.nn import devices; devices.quota = lambda *_: math.LIMIT; devices.settle();"
        "import torch; print(torch.get_num_threads(), os.environ.get('OMP_WAIT_POLICY'), devices.is_chosen());"
        "devices.free_cores = lambda *_: 1 if math.LIMIT > 1 else 2; devices.adapt(); print(torch.get_num_threads())"
    ).replace("math.LIMIT", limit if limit != "inf" else "math.inf")
    names = (*devices.NUMBER, *devices.WAITING)
    env = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env | {"PYTHONPATH": str(ROOT)} | variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_waiting_is_passive_and_a_quota_is_kept():
    assert settled() == [str(devices.affinity()), "passive", "False", "1"]
    assert settled("1")[:3] == ["1", "passive", "False"]


def test_what_the_user_sets_wins():
    assert settled("1", OMP_NUM_THREADS="1") == ["1", "passive", "True", "1"]
    assert settled(OMP_WAIT_POLICY="active")[1] == "active"
    assert settled(GOMP_SPINCOUNT="10")[1] == "None"


@pytest.mark.parametrize("device, variable", [("cpu", "ACCELERATE_USE_CPU"), ("cpu:0", "ACCELERATE_TORCH_DEVICE")])
def test_training_takes_place_on_the_given_device(device, variable):
    code = (
        f"from condgen.nn.devices import train_on; train_on({device!r}); import os; print(os.environ[{variable!r}]);"
        "from accelerate import Accelerator; print(Accelerator().device.type)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["true" if device == "cpu" else device, "cpu"]


@pytest.mark.parametrize("command", [("train", "digits-vae"), ("compare", "digits-cvae"), ("benchmark",)])
def test_a_device_that_is_not_there_is_refused_before_training(command, condgen):
    code, _, err = condgen(*command, "-o", "out", "--device", "cuda:99")
    assert code == 2 and "There is no device 'cuda:99' here" in err and not Path("out").exists()


def test_several_processes_have_their_own_devices(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(CondgenError, match="several processes"):
        devices.train_on("cuda:0")
