"""The device, and the threads of a processor: how many, and how they wait for each other.

Importing this module is cheap, so that `settle` can run before torch is loaded.
"""

from __future__ import annotations

import math
import os
import sys
import time
from pathlib import Path

from condgen.contracts import CondgenError

CGROUPS = Path("/sys/fs/cgroup")
NUMBER = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables by which a user sets the number of threads."""
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Variables by which a user sets how long threads that wait for others keep their core busy."""


def check_device(device: str) -> None:
    """Raises `CondgenError` if a device is not available."""
    import torch

    try:
        torch.zeros(1, device=device).item()  # a device without memory, such as meta, cannot return values
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise CondgenError(f"There is no device {device!r} here ({reason}). Try --device cpu.") from None


def chosen(device: str) -> str:
    """The device that is meant: `auto` is a GPU if there is one, else the processor."""
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def train_on(device: str | None) -> None:
    """Sets the device of all training in this process, by Accelerate's variables; None leaves the choice to Accelerate.

    Raises:
        CondgenError: the device is not available, or there are several processes, of which each has its own.
    """
    if device is None:
        return
    if device != "cpu" and os.environ.get("WORLD_SIZE", "1") != "1":
        raise CondgenError("With several processes each trains on a GPU of its own. Leave --device out, or give cpu.")
    check_device(device)
    name = "ACCELERATE_USE_CPU" if device == "cpu" else "ACCELERATE_TORCH_DEVICE"
    os.environ[name] = "true" if device == "cpu" else device


def settle() -> None:
    """Sets the variables that torch reads when it is loaded: threads that wait sleep, and none exceeds the quota.

    Threads that spin while they wait take the cores from those they wait for when other programs run, too. Variables
    that the user has set are kept; nothing is changed once torch is loaded.
    """
    if "torch" in sys.modules:
        return
    if not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "passive"
    if not is_chosen():
        _since.append(_usage())
        if cores() < affinity():
            os.environ[NUMBER[0]] = str(cores())


def is_chosen() -> bool:
    """Whether the user has set the number of threads."""
    return not _since and any(name in os.environ for name in NUMBER)


def adapt() -> None:
    """Gives torch as many threads as cores are free since `settle`, at least one; keeps a number that the user has set.

    For results that do not depend on the number of threads.
    """
    import torch

    if found := free():
        torch.set_num_threads(found)


def free() -> int | None:
    """The cores that are free since `settle`, at least one; None where that is not known."""
    if _since and (then := _since[0]) and (now := _usage()):
        return free_cores(then, now)
    return None


Usage = tuple[float, float, float, float]
"""Ticks in which cores of the machine were idle, and all ticks; seconds that this process computed; seconds."""
_since: list[Usage | None] = []
"""The usage when `settle` chose the threads; empty if it did not."""


def _usage() -> Usage | None:
    """The usage until now; None where the system does not tell it."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            ticks = [int(value) for value in file.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    return ticks[3] + ticks[4], sum(ticks), time.process_time(), time.perf_counter()


def free_cores(then: Usage, now: Usage) -> int:
    """The cores that other programs left free between two moments, at least one and at most `cores()`."""
    idle, ticks, own, seconds = (b - a for a, b in zip(then, now))
    if ticks <= 0 or seconds <= 0:
        return cores()
    free = idle / ticks * (os.cpu_count() or 1) + own / seconds
    return min(max(1, round(free)), cores())


def affinity() -> int:
    """The number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cores() -> int:
    """The number of cores that this process may keep busy: by affinity, and by the quota of its container."""
    return max(1, math.ceil(min(affinity(), quota(CGROUPS))))


def quota(root: Path, process: Path = Path("/proc/self/cgroup")) -> float:
    """The cores that the control groups of this process allow, infinite without a limit.

    Args:
        root: where the groups are mounted, of version 1 or 2.
        process: the file that names the groups of this process.
    """
    limits = [_quota_of(root / "cpu"), _quota_of(root)]  # version 1, and the group of a container
    try:
        group = next(line[3:] for line in process.read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration, ValueError):
        return min(limits)
    place = root / group.strip("/")
    while place != root and root in place.parents:
        limits.append(_quota_of(place))
        place = place.parent
    return min(limits)


def _quota_of(group: Path) -> float:
    try:
        if (group / "cpu.max").exists():
            allowed, period = (group / "cpu.max").read_text().split()
        else:
            allowed, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return float(allowed) / float(period) if float(allowed) > 0 and float(period) > 0 else math.inf
    except (OSError, ValueError):  # no such file, or "max"
        return math.inf
