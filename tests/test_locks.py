"""The lock of a folder that a command writes into."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import signal
import socket
from contextlib import suppress

import pytest

from condgen.contracts import CondgenError
from condgen.distributed import LOCK, locked

FORK = multiprocessing.get_context("fork")


def hold(folder, ours, theirs):
    """Holds the lock of a folder until the pipe is closed."""
    theirs.close()
    with locked(folder):
        ours.send("held")
        with suppress(EOFError):
            ours.recv()


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of `tmp_path/run`, and the pipe that ends it."""
    mine, its = FORK.Pipe()
    process = FORK.Process(target=hold, args=(tmp_path / "run", its, mine))
    process.start()
    its.close()
    assert mine.recv() == "held"
    yield process, mine
    process.kill()
    process.join()


def test_a_folder_that_another_process_writes_into_is_refused_by_its_name(tmp_path, holder):
    before = contents(tmp_path / "run")
    with pytest.raises(CondgenError) as error, locked(tmp_path / "run"):
        pass
    assert f"process {holder[0].pid} on {socket.gethostname()}" in str(error.value)
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, None])
def test_the_lock_ends_with_its_process(tmp_path, holder, how):
    (tmp_path / "run" / "weights").write_bytes(b"1")
    process, pipe = holder
    if how is None:
        pipe.close()
    else:
        os.kill(process.pid, how)
    process.join()
    with locked(tmp_path / "run"):
        assert json.loads((tmp_path / "run" / LOCK).read_text())["pid"] == os.getpid()
    assert contents(tmp_path / "run") == {"weights": b"1"}


def test_what_stays_empty_is_removed_and_the_rest_is_kept(tmp_path):
    with locked(tmp_path / "a" / "b"):
        pass
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / "a" / "b"):
        (tmp_path / "a" / "file").touch()
    assert contents(tmp_path) == {"a/file": b""}


def test_a_lock_whose_file_was_just_removed_is_no_lock(tmp_path, monkeypatch):
    """The holder removes its file between the opening and the locking of another process."""
    flock, calls = fcntl.flock, []

    def late(file, how):
        calls.append(file)
        if len(calls) == 1:
            (tmp_path / LOCK).unlink()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with locked(tmp_path):
        assert len(calls) == 2
        with pytest.raises(CondgenError, match="already writes"), locked(tmp_path):
            pass


@pytest.mark.parametrize(
    "holder, free",
    [
        ({"pid": os.getpid(), "host": socket.gethostname()}, False),
        ({"pid": 2**22 + 1, "host": socket.gethostname()}, True),  # no process has this number
        ({"pid": 2**22 + 1, "host": "another"}, False),
        ({}, True),
    ],
)
def test_where_the_file_system_has_no_locks_the_file_decides(tmp_path, monkeypatch, holder, free):
    def fail(file, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    (tmp_path / LOCK).write_text(json.dumps(holder) if holder else "")
    if free:
        with locked(tmp_path):
            assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    else:
        with pytest.raises(CondgenError, match=f"delete {tmp_path / LOCK}"), locked(tmp_path):
            pass
