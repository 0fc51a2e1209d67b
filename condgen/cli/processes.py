"""Several processes of one training on the cores of this machine, without a launcher."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from condgen.cli.terminal import say
from condgen.contracts import CondgenError
from condgen.nn import devices

GRACE = 20.0
"""Seconds that the first process has for its own message after another one has failed."""
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS")
"""What a launcher tells its processes."""


@contextmanager
def others(count: int, argv: list[str]) -> Iterator[None]:
    """Makes this process the first of `count`, and starts the others with the same command, for the block.

    Their output goes to a file. Where one ends with an error while this process waits for it, this process ends too,
    with the last line of that file.
    """
    import torch

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    threads = max(1, devices.cores() // count)
    torch.set_num_threads(threads)
    values = ("0", str(count), "0", str(count), "127.0.0.1", str(port), str(threads))
    os.environ.update(zip(VARIABLES, values))
    done = threading.Event()
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        started = [_start(rank, argv, log) for rank in range(1, count)]
        threading.Thread(target=_watch, args=(started, log, done), daemon=True).start()
        patience = 5.0
        try:
            yield
            patience = 30.0
        except RuntimeError:  # the connection to a process that has ended
            time.sleep(1.0)
            if failed := _failed(started):
                raise CondgenError(_reason(failed[0], log)) from None
            raise
        finally:
            done.set()
            for process in started:
                _end(process, patience)
            for name in VARIABLES:
                os.environ.pop(name, None)


def _start(rank: int, argv: list[str], log: IO[str]) -> subprocess.Popen:
    env = os.environ | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    command = [sys.executable, "-m", "condgen", "train", *argv]
    return subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _watch(started: list[subprocess.Popen], log: IO[str], done: threading.Event) -> None:
    """Ends this process where another one has failed: it would wait for that one for ever."""
    while not done.wait(1.0):
        failed = _failed(started)
        if failed and not done.wait(GRACE):
            for process in started:
                process.kill()
            say(f"condgen: error: {_reason(failed[0], log)}")
            os._exit(2)


def _failed(started: list[subprocess.Popen]) -> list[subprocess.Popen]:
    """Processes that ended with an error."""
    return [process for process in started if process.poll()]


def _reason(process: subprocess.Popen, log: IO[str]) -> str:
    log.seek(0)
    lines = [line.strip() for line in log if line.strip()]
    last = f" Its last line was: {lines[-1]}" if lines else ""
    how = f"signal {-process.returncode}" if process.returncode < 0 else f"exit code {process.returncode}"
    return (
        f"Another process of this training ended ({how}). The same command goes on from the last checkpoint; "
        f"--processes 1 trains in one process.{last}"
    )


def _end(process: subprocess.Popen, seconds: float) -> None:
    """Waits for a process, which does what this one does; kills it after `seconds`."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
