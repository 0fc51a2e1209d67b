"""The folder from which the web server serves files: private, removed at the end, and bounded while it is in use."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

PREFIX = "condgen-studio-"
LOCK = "lock"
"""File that is locked while the studio of a folder runs; the lock ends with its process, however that ends."""
SERVED, UNSAVED = "served", "outputs"
"""Folders in a private folder: files that the server may serve, and images that are kept only while it is open."""
DAY, HOUR = 86400.0, 3600.0
GIB = 2**30
INTERVAL = 600.0
"""Seconds between two calls of `trim`."""


@contextmanager
def private_folder() -> Iterator[Path]:
    """A folder of this process, readable by its user alone, in which Gradio keeps its files ($GRADIO_TEMP_DIR overrides
    that); removed at the end. Folders that processes left behind which were killed are removed first."""
    before = os.environ.get("GRADIO_TEMP_DIR")
    remove_stale(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    try:
        with open(folder / LOCK, "a", encoding="utf-8") as file:
            _lock(file)
            if not before:
                (folder / SERVED).mkdir()
                os.environ["GRADIO_TEMP_DIR"] = str(folder / SERVED)
            yield folder
    finally:
        if not before:
            os.environ.pop("GRADIO_TEMP_DIR", None)
        shutil.rmtree(folder, ignore_errors=True)


def _lock(file: IO[str]) -> bool:
    """Locks a file for this process; False where another one holds it, or the system has no such locks."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


def remove_stale(place: Path) -> list[Path]:
    """Removes the private folders in `place` whose process has ended, and gives them; only those of this user."""
    removed = []
    for folder in place.glob(f"{PREFIX}*"):
        with suppress(OSError):
            own = not hasattr(os, "getuid") or folder.lstat().st_uid == os.getuid()
            if not own or folder.is_symlink() or not re.match(rf"{PREFIX}\d+-", folder.name):
                continue
            with open(folder / LOCK, "r+", encoding="utf-8") as file:
                if _lock(file):
                    shutil.rmtree(folder, ignore_errors=True)
                    removed.append(folder)
    return removed


def cache_folder() -> Path:
    """The folder from which Gradio serves files."""
    folder = Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir()) / "gradio")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def is_private(folder: Path) -> bool:
    """Whether a folder was made by `private_folder`, so that nothing of others lies in it."""
    return folder.name == SERVED and folder.parent.name.startswith(PREFIX)


def trim(folder: Path, age: float = DAY, limit: int = GIB, least: float = HOUR, now: float | None = None) -> int:
    """Removes files that were not read for `age` seconds, and then the oldest until `limit` bytes are left.

    Args:
        folder: a private folder of served files.
        least: files that were read or written within so many seconds are kept in any case: a request may use them.
        now: the time, in seconds since 1970.

    Returns:
        The number of removed files.
    """
    now = time.time() if now is None else now
    files, folders, removed, size = [], [], 0, 0
    for place, _, names in os.walk(folder):
        folders.append(Path(place))
        for name in names:
            with suppress(OSError):
                path = Path(place) / name
                state = path.lstat()
                own = state.st_size if state.st_nlink == 1 else 0  # another name of a kept image takes no space
                files.append((max(state.st_atime, state.st_ctime), own, path))
                size += own
    for used, own, path in sorted(files):
        if now - used < least or (now - used < age and size <= limit):
            break
        with suppress(OSError):
            path.unlink()
            removed, size = removed + 1, size - own
    for path in reversed(folders[1:]):
        with suppress(OSError):
            if now - path.stat().st_mtime > least:
                path.rmdir()
    return removed
