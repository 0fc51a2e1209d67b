"""`condgen VERB ...`: finds the verb, and turns what goes wrong into one line and an exit code.

    0        done
    1        done, and the answer is no (replay differs, data is not ready, doctor found a fault); or the disk failed
    2        something the user can mend
    128 + n  stopped by signal n

Importing this module imports nothing heavy; every verb imports what it needs when it runs.
"""

from __future__ import annotations

import os
import sys

from condgen import __version__
from condgen.cli import (
    compare,
    data,
    doctor,
    embed,
    encode,
    evaluate,
    export,
    generate,
    importing,
    info,
    latent_space,
    listing,
    replay,
    sample,
    search,
    shelf,
    translate,
)
from condgen.cli.terminal import Parser, hint, plain_warnings, say, stopped
from condgen.contracts import CondgenError
from condgen.files import renamed

VERBS = {
    "generate": generate,
    "sample": sample,
    "translate": translate,
    "replay": replay,
    "list": listing,
    "info": info,
    "train": None,  # parses its own arguments: they are the fields of the recipe's config
    "evaluate": evaluate,
    "compare": compare,
    "latent-space": latent_space,
    "shelf": shelf,
    "search": search,
    "encode": encode,
    "embed": embed,
    "export": export,
    "import": importing,
    "data": data,
    "doctor": doctor,
}
TRAIN_HELP = "train a recipe: encoder, priors, decoder, model"


def main(argv: list[str] | None = None) -> int:
    """Runs one command and gives its exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path that is printed need not be UTF-8
    try:
        with plain_warnings():
            code = _dispatch(argv)
        sys.stdout.flush()
        return code
    except CondgenError as error:
        say(f"condgen: error: {error}")
        return 2
    except BrokenPipeError:  # `condgen list | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        say(f"condgen: {f'{error.filename}: ' if error.filename else ''}{error.strerror or error}")
        return 1
    except ImportError as error:
        say(f"condgen: {error}. `condgen doctor` looks for the cause.")
        return 1
    except KeyboardInterrupt as error:
        return stopped(error, "stopped")


def _dispatch(argv: list[str]) -> int:
    if argv and argv[0] in renamed.COMMANDS:
        say(f"warning: the command {argv[0]} is now called {renamed.COMMANDS[argv[0]]}")
        argv = [renamed.COMMANDS[argv[0]], *argv[1:]]
    if argv[:1] == ["train"]:
        from condgen.cli import train

        return train.main(argv[1:])
    if argv and not argv[0].startswith("-") and argv[0] not in VERBS:
        raise CondgenError(f"There is no command {argv[0]!r}.{hint(argv[0], VERBS)} Commands: {', '.join(VERBS)}.")
    args, unknown = _parser().parse_known_args(argv)
    if unknown and not hasattr(args, "more"):
        args.parser.refuse(unknown)
    args.more = unknown  # options that are known once the model is
    return args.run(args)


def _parser() -> Parser:
    parser = Parser(prog="condgen", description="Train and run your own DALL-E 2.")
    parser.add_argument("--version", action="version", version=f"condgen {__version__}")
    verbs = parser.add_subparsers(title="commands", dest="verb", metavar="COMMAND", required=True)
    for verb, module in VERBS.items():
        if module is None:
            verbs.add_parser(verb, help=TRAIN_HELP)
            continue
        own = verbs.add_parser(verb, help=module.HELP, description=f"{module.HELP[0].upper()}{module.HELP[1:]}.")
        own.set_defaults(run=module.run, parser=own)
        module.add_arguments(own)
    return parser
