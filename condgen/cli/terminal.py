"""Shared parts of the commands: output, progress, common options and their checks, a parser with suggestions.

Importing this module is cheap.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import secrets
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NoReturn

from condgen.contracts import CondgenError, ProgressCallback, to_json
from condgen.files import renamed
from condgen.nn.devices import check_device as check_device
from condgen.text import printable

MAX_ON_SHEET = 200
"""Maximum number of images on a sheet."""
MAX_NAME_BYTES = 255
"""Maximum length of a file name on common file systems."""

# Output ---------------------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """Prints a line on stderr; stdout is for results."""
    print(printable(" ".join(str(text).split("\n"))), file=sys.stderr, flush=True)


def show_json(value: object) -> None:
    """Prints a result as indented JSON on stdout."""
    print(to_json(value, indent=2))


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Prints each distinct warning once, as one line on stderr, `warning: ...`."""
    shown: set[str] = set()

    def show(message, category, filename, lineno, file=None, line=None) -> None:
        if (text := str(message)) not in shown:
            shown.add(text)
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


@contextmanager
def progress_bar(title: str, quiet: bool = False) -> Iterator[ProgressCallback]:
    """Yields a progress callback that moves a bar on a terminal, prints lines elsewhere, or does nothing (`quiet`)."""
    if quiet:
        yield lambda share, message: None
        return
    if not sys.stderr.isatty():
        yield lambda share, message: say(f"{share:.0%} {message}")
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda share, message: bar.update(task, completed=share, description=message)


@contextmanager
def counted(items: Iterable, total: int) -> Iterator[tuple[Iterable, Callable[[str], None]]]:
    """Yields the items and a function that prints results; on a terminal with a bar that disappears at the end."""
    show = partial(print, flush=True)
    if not sys.stderr.isatty():
        yield items, show
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("generating"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    if sys.stdout.isatty():  # results and bar are on the same screen
        show = partial(console.print, soft_wrap=True, markup=False, highlight=False)
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        yield bar.track(items, total=total), show


def save_sheet(shown: list[tuple], total: int, folder: Path, columns: int = 0) -> Path:
    """Writes `grid.png` from (image, text) pairs, see `files.images.grid` and `write_beside`."""
    from condgen.files.images import grid, write_sheet

    if total > len(shown):
        say(f"The sheet shows the first {len(shown)} of {total} images.")
    sheet = grid([image for image, _ in shown], [text for _, text in shown], columns)
    return write_sheet(folder / "grid.png", sheet, keep=True)


def bytes_of(folder: Path) -> int:
    """Size of all files below a folder, without those that systems left there."""
    from condgen.files.registry import is_stranger

    files = [file for file in folder.rglob("*") if not any(map(is_stranger, file.relative_to(folder).parts))]
    return sum(file.stat().st_size for file in files if file.is_file())


def human(size: float) -> str:
    """1234567 -> '1.2 MB'."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def table(rows: Iterable[Iterable[object]], indent: int = 2) -> list[str]:
    """Formats rows as aligned text; the last column is not padded."""
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    return [" " * indent + "  ".join(c.ljust(w) for c, w in zip(row, widths)).rstrip() for row in cells]


# Arguments ------------------------------------------------------------------------------------------------------------


def hint(word: str, words: Iterable[str]) -> str:
    """' Did you mean ...?' if one of the words is close, otherwise ''."""
    close = difflib.get_close_matches(word, list(words), n=1)
    return f" Did you mean {close[0]}?" if close else ""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser without abbreviations, whose errors are `CondgenError`."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def parse_known_args(self, args=None, namespace=None):
        """Like argparse, but replaces old names of options by the present ones, with a warning."""
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
        """Raises `CondgenError` for unknown arguments; suggests the closest option."""
        options = [word for word in unknown if word.startswith("-")]
        if not options:
            raise CondgenError(f"{unknown[0]!r} was not expected here. See {self.prog} --help.")
        name = options[0].split("=")[0]
        known = [option for option in self._option_string_actions if option.startswith("--")]
        raise CondgenError(f"There is no option {name}.{hint(name, known)} See {self.prog} --help.")


def comma_separated(text: str) -> tuple[str, ...]:
    """'a, b' -> ('a', 'b')."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def key_values(texts: list[str], flag: str = "--set") -> dict[str, str]:
    """Parses ['smiling=1', ...] to a dict; raises `CondgenError` for a text without =, or a repeated name."""
    values: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise CondgenError(f"{flag} {text} is not understood. Expected NAME=VALUE; separate several by spaces.")
        if name in values:
            raise CondgenError(f"{flag} names {name} twice, as {values[name]!r} and {value!r}.")
        values[name] = value
    return values


def add_device_argument(parser: argparse.ArgumentParser) -> None:
    """`--device`, see `check_device`."""
    parser.add_argument("--device", default="cpu", help="device to compute on: cpu (default), cuda, cuda:1, mps")


def add_training_device(parser: argparse.ArgumentParser) -> None:
    """`--device` of commands that train, see `devices.train_on`."""
    text = "device to train on: cpu, cuda, cuda:1, mps (default: a GPU if there is one)"
    parser.add_argument("--device", metavar="DEVICE", help=text)


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """`--model` and `--device`."""
    parser.add_argument("--model", metavar="M", help="a name that `condgen list` shows, or a path")
    add_device_argument(parser)


def add_output_arguments(parser: argparse.ArgumentParser, json_help: str) -> None:
    """`-o FOLDER` and `--json`."""
    parser.add_argument("-o", "--out", type=Path, default=Path("out"), help="folder, made if missing (default out)")
    parser.add_argument("--json", action="store_true", help=json_help)


RANDOM_SEEDS = 10**6
"""Random seeds are below this, so that people can read and retype them."""


def add_seed_argument(parser: argparse.ArgumentParser, each: str) -> None:
    """`--seed N`, `--seed random` or `--seed -1`; `each` names what its images have in common."""
    each = f"an {each}" if each[0] in "aeiou" else f"a {each}"
    text = f"seed of the first image of {each}, +1 for each further one (default 0); random, or -1, chooses one"
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help=text)


def add_size_argument(parser: argparse.ArgumentParser) -> None:
    """`--size`, see `pipelines.upsampling`."""
    parser.add_argument("--size", type=int, metavar="S", help="edge in pixels, one of those that `condgen info` lists")


def _seed(text: str) -> int:
    if text.strip().lower() not in ("random", "-1"):
        try:
            return int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no seed: expected an integer, or random") from None
    seed = secrets.randbelow(RANDOM_SEEDS)
    say(f"seed {seed}")
    return seed


def check_folder(folder: Path) -> None:
    """Raises `CondgenError` if a folder cannot be made or written; does not make it."""
    existing = folder.absolute()
    if any("\0" in part or len(part.encode("utf-8", "replace")) > MAX_NAME_BYTES for part in existing.parts):
        rule = f"a name has no NUL and at most {MAX_NAME_BYTES} bytes"
        raise CondgenError(f"The folder {str(folder)[:60]!r} cannot be made ({rule}). Choose another with -o.")
    while not os.path.exists(existing) and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        reason = "may not be written" if existing.is_dir() else "is a file"
        raise CondgenError(f"The folder {folder} cannot be written ({existing} {reason}). Choose another with -o.")
