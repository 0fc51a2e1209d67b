"""What the verbs share: plain lines on stderr, an argument parser whose errors are ours, suggestions, sizes.

Importing this module imports nothing heavy.
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import signal
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from condgen.contracts import CondgenError
from condgen.files import renamed
from condgen.text import printable


def say(text: str) -> None:
    """One line on stderr; stdout is for results."""
    print(printable(" ".join(str(text).split("\n"))), file=sys.stderr, flush=True)


def show_json(value: object) -> None:
    """A result as indented JSON on stdout."""
    print(json.dumps(value, indent=2))


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Warnings become one line on stderr, `warning: ...`, each of them once."""
    said: set[str] = set()

    def show(message, category, filename, lineno, file=None, line=None) -> None:
        if (text := str(message)) not in said:
            said.add(text)
            say(f"warning: {text}")

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = show
        yield


def stopped(error: KeyboardInterrupt, message: str) -> int:
    """The exit code of a command that a signal ended; the signal's number is the argument of the interrupt."""
    number = error.args[0] if error.args and isinstance(error.args[0], int) else signal.SIGINT
    say(message)
    return 128 + number


def hint(word: str, words: Iterable[str]) -> str:
    """' Did you mean ...?' where one of the words is close, else nothing."""
    close = difflib.get_close_matches(word, list(words), n=1)
    return f" Did you mean {close[0]}?" if close else ""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser without abbreviations; what it refuses is a `CondgenError`."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def parse_known_args(self, args=None, namespace=None):
        """As argparse does, with old names of options in the place of the present ones; warns of each."""
        words = self.prog.split()
        names = renamed.OPTIONS.get(words[1], {}) if len(words) > 1 else {}
        args = list(sys.argv[1:] if args is None else args)
        for k, word in enumerate(args[: args.index("--")] if "--" in args else args):
            name, equals, value = word.partition("=")
            if name in names and name not in self._option_string_actions:
                say(f"warning: {name} is now called {names[name]}")
                args[k] = names[name] + equals + value
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        choice = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message)
        close = hint(choice[1], re.findall(r"[\w-]+", choice[2])) if choice else ""
        raise CondgenError(f"{message}.{close} See {self.prog} --help.")

    def refuse(self, unknown: list[str]) -> NoReturn:
        """Raises for arguments that nothing took, with the closest option."""
        options = [word for word in unknown if word.startswith("-")]
        if not options:
            raise CondgenError(f"{unknown[0]!r} was not expected here. See {self.prog} --help.")
        name = options[0].split("=")[0]
        known = [option for option in self._option_string_actions if option.startswith("--")]
        raise CondgenError(f"There is no option {name}.{hint(name, known)} See {self.prog} --help.")


def bytes_of(folder: Path) -> int:
    """Size of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def human(size: float) -> str:
    """1234567 -> '1.2 MB'."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def table(rows: Iterable[Iterable[object]], indent: int = 2) -> list[str]:
    """Rows as aligned text; the last column is as long as it is."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    return [" " * indent + "  ".join(c.ljust(w) for c, w in zip(row, widths)).rstrip() for row in cells]
