"""`condgen COMMAND ...`: runs the command, and turns errors into one line and an exit code.

    0        done
    1        done, and the result is negative (replay differs, data is not ready, doctor found a fault); or the disk
             failed
    2        something the user can fix
    128 + n  stopped by signal n

Importing this module is cheap; only the command that runs is imported.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from types import ModuleType

from condgen import __version__
from condgen.cli.terminal import Parser, hint, plain_warnings, say, stopped
from condgen.contracts import CondgenError, is_out_of_memory, out_of_memory
from condgen.files import renamed
from condgen.nn import devices

COMMANDS = {
    "generate": "generate",
    "sample": "sample",
    "translate": "translate",
    "edit": "edit",
    "invert": "invert",
    "vary": "vary",
    "mix": "mix",
    "probe": "probe",
    "replay": "replay",
    "list": "listing",
    "info": "info",
    "train": "train",
    "evaluate": "evaluate",
    "compare": "compare",
    "latent-space": "latent_space",
    "benchmark": "benchmark",
    "search": "search",
    "encode": "encode",
    "embed": "embed",
    "export": "export",
    "import": "importing",
    "data": "data",
    "doctor": "doctor",
}
"""Command -> module of this package, with HELP, `add_arguments` and `run`; `train` has a `main` that parses its own."""


def main(argv: list[str] | None = None) -> int:
    """Runs one command and gives its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    devices.settle()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # printed paths may not be valid UTF-8
    try:
        with plain_warnings():
            code = _dispatch(argv)
        sys.stdout.flush()
        return code
    except CondgenError as error:
        say(f"condgen: error: {error}")
        return 2
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        say(f"condgen: error: {out_of_memory(error, _advice(argv))}")
        return 2
    except BrokenPipeError:  # `condgen list | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        if is_out_of_memory(error):
            say(f"condgen: error: {out_of_memory(error, _advice(argv))}")
            return 2
        say(f"condgen: {f'{error.filename}: ' if error.filename else ''}{error.strerror or error}")
        return 1
    except ImportError as error:
        say(f"condgen: {error}. `condgen doctor` looks for the cause.")
        return 1
    except KeyboardInterrupt as error:
        return stopped(error, "stopped")


def _advice(argv: list[str]) -> str:
    """What to lower in a command that ran out of memory."""
    if argv[:1] == ["train"]:
        batches = "--fit_clip.batch, --fit_prior.batch and --fit_decoder.batch" if "captions" in argv else "--fit.batch"
        return (
            f"Lower the batch ({batches}) or the size of the images (--data.size), choose a smaller --size, or close "
            "other programs; the same command goes on from the last checkpoint."
        )
    known = parser_of(renamed.COMMANDS.get(argv[0], argv[0]))._option_string_actions
    lower = [f"--{name}" for name in ("batch", "size", "images") if f"--{name}" in known] + ["-n"] * ("-n" in known)
    first = f"Lower {' or '.join(lower)}, close" if lower else "Take a smaller model or less data, close"
    return f"{first} other programs, or use a computer with more memory."


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0].startswith("-"):
        overview().parse_args(argv)  # prints help or version and exits, or raises
    if argv[0] == "train":
        return _module("train").main(argv[1:])
    args = parse(argv)
    return args.run(args)


def parse(argv: list[str]) -> argparse.Namespace:
    """Parses any command except `train`; `run` is its function, `more` holds arguments that are parsed later."""
    command, *rest = argv
    if command in renamed.COMMANDS:
        command = renamed.COMMANDS[command]
        say(f"warning: the command {argv[0]} is now called {command}")
    if command not in COMMANDS:
        raise CondgenError(
            f"There is no command {command!r}.{hint(command, COMMANDS)} Commands: {', '.join(COMMANDS)}."
        )
    args, unknown = parser_of(command).parse_known_args(rest)
    if unknown and not hasattr(args, "more"):
        args.parser.refuse(unknown)
    args.more = unknown  # options that depend on the model
    return args


def parser_of(command: str) -> Parser:
    """Builds the parser of any command except `train`."""
    module = _module(command)
    parser = Parser(prog=f"condgen {command}", description=f"{module.HELP[0].upper()}{module.HELP[1:]}.")
    parser.set_defaults(run=module.run, parser=parser)
    module.add_arguments(parser)
    return parser


def _module(command: str) -> ModuleType:
    return importlib.import_module(f"condgen.cli.{COMMANDS[command]}")


def overview() -> Parser:
    """Builds the parser of `condgen --help`."""
    parser = Parser(prog="condgen", description="Train and run your own DALL-E 2.")
    parser.add_argument("--version", action="version", version=f"condgen {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        commands.add_parser(command, help=_module(command).HELP)
    return parser
