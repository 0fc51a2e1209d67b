"""Which process trains a run: seen from outside, by its lock."""

import json
import multiprocessing
import os
import socket
from contextlib import suppress

import pytest

from condgen.distributed import LOCK, locked
from condgen.training.writer import writer_of

FORK = multiprocessing.get_context("fork")


def hold(folder, ours, theirs):
    """Holds the lock of a folder until the pipe is closed."""
    theirs.close()
    with locked(folder):
        ours.send("held")
        with suppress(EOFError):
            ours.recv()


def test_the_process_that_holds_the_lock_is_seen_until_it_is_killed(tmp_path):
    run = tmp_path / "run"
    assert writer_of(run) is None
    mine, its = FORK.Pipe()
    process = FORK.Process(target=hold, args=(run, its, mine))
    process.start()
    its.close()
    assert mine.recv() == "held"
    writer = writer_of(run)
    assert (writer["pid"], writer["host"]) == (process.pid, socket.gethostname())
    process.kill()
    process.join()
    assert (run / LOCK).exists() and writer_of(run) is None


@pytest.mark.parametrize("host", ["here", "elsewhere"])
def test_a_process_that_lives_but_holds_no_lock_is_no_writer(tmp_path, host):
    """The number of a process that was killed may be that of another one now."""
    host = socket.gethostname() if host == "here" else host
    (tmp_path / LOCK).write_text(json.dumps({"pid": os.getpid(), "host": host}))
    assert writer_of(tmp_path) is None
    with locked(tmp_path):
        pass  # looking did not keep the lock
    assert not (tmp_path / LOCK).exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"pid": "1"}', '{"pid": -1}', '{"pid": 1e99}', "\udcff"])
def test_a_damaged_lock_names_nobody(tmp_path, text):
    (tmp_path / LOCK).write_bytes(text.encode("utf-8", "surrogateescape"))
    assert writer_of(tmp_path) is None
