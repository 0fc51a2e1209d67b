"""`condgen train RECIPE -o RUN`: every field of the recipe's config is an option and a YAML key.

Options go before the files of --config, later files before earlier ones, and all of them before the recipe's own.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import re
from pathlib import Path

from condgen.cli.terminal import Parser, stopped
from condgen.contracts import CondgenError

HELP = "train a recipe: encoder, priors, decoder, model"
USAGE = "condgen train RECIPE -o RUN [--data PATH] [--size S] [--minutes M] [--config FILE.yaml] [--FIELD VALUE ...]"
OWN = ("out", "size", "config", "print_config", "help")


def main(argv: list[str]) -> int:
    """Trains, or goes on where the same command was stopped; prints the model's folder."""
    if argv[:1] in (["-h"], ["--help"]):
        print(overview())
        return 0
    if not argv or argv[0].startswith("-"):
        raise CondgenError(f"Give the recipe first: {USAGE}. See condgen train --help.")
    from condgen import distributed, recipes

    recipe = recipes.find_recipe(argv[0])
    own, fields = own_parser(argv[0]).parse_known_args(argv[1:])
    config = read_config(argv[0], recipe.config(own.size), own.config, fields)
    if own.out is None:
        raise CondgenError("Say where the run goes: -o RUN. The same command again goes on with it.")
    try:
        place = recipes.train(argv[0], own.out, config)
        if not distributed.rank():
            print(place)
    except KeyboardInterrupt as error:
        return stopped(error, "stopped; the same command goes on")
    finally:
        distributed.leave()
    return 0


def overview() -> str:
    """What can be trained."""
    from condgen.cli.listing import recipe_lines, recipe_rows

    more = "condgen train RECIPE --help lists the options of a recipe, --print_config writes them as YAML."
    return "\n".join([f"usage: {USAGE}", "", *recipe_lines(recipe_rows()), "", more])


def own_parser(recipe: str) -> Parser:
    """The options that are no field of the config."""
    parser = Parser(prog=f"condgen train {recipe}", add_help=False)
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--size")
    parser.add_argument("--config", type=Path, action="append", default=[])
    return parser


def read_config(recipe: str, base, files: list[Path], fields: list[str]):
    """The recipe's config, changed by YAML files and then by options.

    Args:
        base: a frozen tree of dataclasses, `configs.Corridor`.
        files: YAML; the `config.yaml` of a run will do.
        fields: options, `--fit_clip.lr 1e-3` and so on; `--help` and `--print_config` end the program.

    Raises:
        CondgenError: a key is unknown, a value of the wrong type, or a file is no YAML; the message names it.
    """
    names = dotted(dataclasses.asdict(base))
    for file in files:
        check_file(file, [*names, "recipe"])
    parser = config_parser(recipe, base)
    try:
        parsed = parser.parse_args([*(word for file in files for word in ("--config", str(file))), *fields])
    except argparse.ArgumentError as error:
        raise CondgenError(f"{explain(str(error), names)} See condgen train {recipe} --help.") from None
    if parsed.recipe != recipe:
        raise CondgenError(f"The config is that of the recipe {parsed.recipe}, not of {recipe}.")
    built = parser.instantiate(parsed)
    return type(base)(**{field.name: built[field.name] for field in dataclasses.fields(base)})


def config_parser(recipe: str, base):
    """A jsonargparse parser with an option for every field, whose defaults are those of `base`."""
    from jsonargparse import SUPPRESS, ArgumentParser

    parser = ArgumentParser(
        prog=f"condgen train {recipe}",
        usage=USAGE.replace("RECIPE", recipe),
        description="-o RUN: folder of the run, made if missing. --size S: one of the recipe's sizes. --config FILE: "
        "YAML with any of the fields below, several may be given; options go before files. Lists are written '[1, 2]'.",
        exit_on_error=False,
        allow_abbrev=False,
        default_env=False,
    )
    parser.add_argument("--config", action="config", help=SUPPRESS)
    parser.add_argument("--recipe", default=recipe, help=SUPPRESS)
    parser.add_class_arguments(type(base), None)
    parser.set_defaults(dataclasses.asdict(base))
    return parser


def dotted(config: dict, prefix: str = "") -> list[str]:
    """The names of all leaves: {'fit': {'lr': 1}} -> ['fit.lr']."""
    names = []
    for key, value in config.items():
        names += dotted(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [f"{prefix}{key}"]
    return names


def check_file(path: Path, names: list[str]) -> None:
    """Raises `CondgenError` when a file is no YAML of known keys."""
    import yaml

    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CondgenError(f"{path} cannot be read ({error.strerror}).") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CondgenError(f"{path} is not YAML ({' '.join(str(error).split())}).") from None
    if not isinstance(config, dict) or not all(isinstance(key, str) for key in config):
        raise CondgenError(f"{path} is no config. Expected lines such as `minutes: 10`.")
    for key in dotted(config):
        if key not in names:
            raise CondgenError(f"{path} has an unknown key {key}.{suggest(key, names)}")


def suggest(name: str, names: list[str], prefix: str = "") -> str:
    """' Did you mean ...?': fields of that name in any part of the config, else the closest one."""
    same = [known for known in names if known.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1]]
    close = same or difflib.get_close_matches(name, names, n=1)
    return f" Did you mean {' or '.join(prefix + known for known in close)}?" if close else ""


def explain(message: str, names: list[str]) -> str:
    """jsonargparse's message as one of ours."""
    if found := re.search(r"unrecognized arguments: (.*)", message, re.S):
        words = found[1].split()
        option = next((word for word in words if word.startswith("--")), words[0]).split("=")[0]
        if not option.startswith("--"):
            return f"{option!r} was not expected here."
        return f"There is no option {option}.{suggest(option[2:], [*names, *OWN], prefix='--')}"
    if found := re.search(r'Parser key "([^"]+)":\s*Expected an? (.+)\. Got value: (.*)', message, re.S):
        kind = re.sub(r"<class '(\w+)'>|typing\.", r"\1", found[2])
        listed = " Lists are written '[1, 2]'." if "tuple" in kind else ""
        return f"{found[1]} must be {kind}, got {found[3]!r}.{listed}"
    return f"{' '.join(message.split()).rstrip('.')}."
