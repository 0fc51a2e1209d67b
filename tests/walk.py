"""Counts the files of condgen behind a command: those that run a function, and those that are only imported.

python tests/walk.py generate "a red circle" -o out
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

NEWLOCALS = 0x02
"""Flag of the code of functions, which modules and bodies of classes do not have."""


def walk(argv: list[str]) -> tuple[set[str], set[str]]:
    """Runs `condgen ARGV` in this process, which must not have imported condgen yet.

    Returns:
        The files that ran a function or method, and those that were imported and ran none, relative to the package.
    """
    root = str(Path(__file__).parents[1] / "condgen") + "/"
    ran: set[str] = set()

    def profile(frame, event, arg) -> None:
        code = frame.f_code
        if event == "call" and code.co_flags & NEWLOCALS and code.co_filename.startswith(root):
            ran.add(code.co_filename[len(root) :])

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
    return ran, {file[len(root) :] for file in files if file} - ran


if __name__ == "__main__":
    ran, imported = walk(sys.argv[1:])
    for title, files in (("run", ran), ("imported only", imported)):
        print(f"{title}: {len(files)}", *sorted(files), sep="\n  ", file=sys.stderr)
