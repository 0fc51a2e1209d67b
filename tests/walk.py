"""Counts the files of condgen behind a command: those that run a function, and those that are only imported.

python tests/walk.py generate "a red circle" -o out
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

NEWLOCALS = 0x02
"""Flag of the code of functions, which modules and bodies of classes do not have."""


def walk(argv: list[str]) -> tuple[set[str], set[str], set[str]]:
    """Runs `condgen ARGV` in this process, which must not have imported condgen yet.

    Returns:
        Files relative to the package: those that run a function; those among them that do so only while a module is
        imported; and those that are imported and run none.
    """
    root = str(Path(__file__).parents[1] / "condgen") + "/"
    ran: set[str] = set()
    later: set[str] = set()  # outside of imports
    importing = 0

    def profile(frame, event, arg) -> None:
        nonlocal importing
        code = frame.f_code
        if not code.co_filename.startswith(root):
            return
        if code.co_name == "<module>" and event in ("call", "return"):
            importing += 1 if event == "call" else -1
        elif event == "call" and code.co_flags & NEWLOCALS:
            (ran if importing else later).add(code.co_filename[len(root) :])

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        from condgen.cli.main import main

        code = main(argv)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    if code:
        raise SystemExit(code)
    files = {module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] == "condgen"}
    names = {file[len(root) :] for file in files if file}
    return ran | later, ran - later, names - ran - later


if __name__ == "__main__":
    titles = ("run", "of these at import only", "imported only")
    for title, files in zip(titles, walk(sys.argv[1:]), strict=True):
        print(f"{title}: {len(files)}", *sorted(files), sep="\n  ", file=sys.stderr)
