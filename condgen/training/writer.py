"""Which process trains a run, for those who watch."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import IO, Any

from condgen.distributed import LOCK


def writer_of(folder: Path) -> dict[str, Any] | None:
    """The process that writes into a folder, `pid`, `host` and `since`, see `distributed.locked`; None for none.

    The file of a lock outlives a process that was killed; the lock itself does not.
    """
    try:
        with open(folder / LOCK, encoding="utf-8") as file:
            writer = json.load(file)
            if not isinstance(writer, dict) or (writer.get("host") == socket.gethostname() and _has_ended(writer)):
                return None
            return writer if _is_locked(file, writer) else None
    except (OSError, ValueError, RecursionError):
        return None


def _is_locked(file: IO[str], writer: dict[str, Any]) -> bool:
    """Whether a process holds the lock; where the file system has no locks, a process of this machine is trusted."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (ImportError, OSError):
        return writer.get("host") == socket.gethostname()
    return False


def _has_ended(writer: dict[str, Any]) -> bool:
    pid = writer.get("pid")
    if not isinstance(pid, int) or not 0 < pid < 2**31:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
