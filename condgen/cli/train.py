"""`condgen train RECIPE -o RUN`: every field of the recipe's config is an option and a YAML key.

Options override the files of --config, later files override earlier ones, and all override the recipe.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import json
import os
import re
from collections.abc import Collection
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from condgen.cli.terminal import Parser, add_training_device, say, stopped
from condgen.contracts import CondgenError
from condgen.files import renamed
from condgen.nn import devices

HELP = "train a recipe: encoder, priors, decoder, model"
USAGE = "condgen train RECIPE -o RUN [--data PATH] [--size S] [--minutes M] [--config FILE.yaml] [--FIELD VALUE ...]"
LONG_MINUTES = 3.0
"""Limit in minutes from which on a run is worth the start of further processes."""
LONG_IMAGES = 50_000
"""Images of the longest stage from which on a run without a limit in minutes is."""
MOST = 8
"""Processes that are started without being asked for, at most."""
RUN_OPTIONS = ("out", "size", "device", "processes", "config", "print_config", "help", "help-all", "data")


def main(argv: list[str]) -> int:
    """Trains, or resumes where the same command was stopped; prints the model's folder."""
    if argv[:1] in (["-h"], ["--help"]):
        print(overview())
        return 0
    if not argv or argv[0].startswith("-"):
        raise CondgenError(f"Give the recipe first: {USAGE}. See condgen train --help.")
    from condgen import distributed, recipes

    recipe = recipes.find_recipe(argv[0])
    args, words = run_parser(argv[0]).parse_known_args(argv[1:])
    files = [read_yaml(path) for path in args.config]
    base = recipe.config(args.size, find_kind(files, words))
    if args.help or args.help_all:
        from condgen.cli.train_help import help_text

        print(help_text(argv[0], recipe, base, args.help_all))
        return 0
    config = read_config(argv[0], base, args.config, words)
    if args.out is None:
        raise CondgenError("Name the run folder: -o RUN. The same command again goes on with it.")
    devices.train_on(args.device)
    count = number_of_processes(args.processes, config, recipe.task().fits(config))
    with ExitStack() as started:
        if count > 1:
            from condgen.cli.processes import others

            started.enter_context(others(count, argv))
        started.callback(distributed.leave)
        try:
            place = recipes.train(argv[0], args.out, config)
            if not distributed.rank():
                print(place)
        except KeyboardInterrupt as error:
            return stopped(error, "stopped; the same command goes on")
    return 0


def number_of_processes(asked: int, config: Any, fits: dict[str, Any]) -> int:
    """The number of processes for a run.

    Args:
        asked: what the user asked for; 0 leaves the choice: one for every free core of a CPU where the run is long, the
            batches can be split, and neither a launcher nor OMP_NUM_THREADS has decided.
        config: the config of the task.
        fits: its training options, by stage.

    Raises:
        CondgenError: a launcher has started processes, too, or a batch cannot be split.
    """
    from condgen import distributed

    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if asked < 0:
        raise CondgenError(f"--processes must be at least 1, or 0 to leave the choice, got {asked}.")
    if launched > 1:
        if asked not in (0, 1, launched):
            raise CondgenError(f"--processes {asked}, but a launcher has started {launched} processes: leave it out.")
        return 1
    if asked:
        for fit in fits.values():
            distributed.split(fit.batch, 0, asked)
        return asked
    if devices.is_chosen() or distributed.device_of_training().type != "cpu":
        return 1
    images = min(max(fit.total_images for fit in fits.values()), config.total_images or 10**12)
    if config.minutes < LONG_MINUTES if config.minutes else images < LONG_IMAGES:
        return 1
    most = min(devices.free() or devices.cores(), MOST)
    return next((n for n in range(most, 1, -1) if all(fit.batch % n == 0 for fit in fits.values())), 1)


def overview() -> str:
    """Formats the recipes."""
    from condgen.cli.listing import recipe_lines, recipe_rows

    more = "condgen train RECIPE --help lists the options of a recipe, --print_config writes them as YAML."
    return "\n".join([f"usage: {USAGE}", "", *recipe_lines(recipe_rows()), "", more])


def run_parser(recipe: str) -> Parser:
    """Builds the parser of the options that are not fields of the config."""
    parser = Parser(prog=f"condgen train {recipe}", add_help=False)
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--size")
    add_training_device(parser)
    parser.add_argument("--processes", type=int, default=0)
    parser.add_argument("--config", type=Path, action="append", default=[])
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--help-all", action="store_true")
    return parser


def find_kind(files: list[dict], words: list[str]) -> str | None:
    """Finds the requested kind of model, which determines the other options."""
    kind = None
    for name in ("kind", "way", "method"):
        for config in files:
            kind = config.get(name, kind)
        for k, word in enumerate(words):
            option, equals, value = word.partition("=")
            if option == f"--{name}":
                kind = value if equals else next(iter(words[k + 1 : k + 2]), None)
    return kind if isinstance(kind, str) else None


def read_config(recipe: str, base: Any, files: list[Path], words: list[str]) -> Any:
    """The recipe's config, changed by YAML files and then by options. Names of earlier versions are accepted.

    Args:
        base: a frozen tree of dataclasses, the config of a task.
        files: YAML; the `config.yaml` of a run will do.
        words: options, `--fit.lr 1e-3` and so on; `--print_config` ends the program.

    Raises:
        CondgenError: a key is unknown, a value has the wrong type, or a file is not YAML; the message names it.
    """
    names, kind = renamed.flat(dataclasses.asdict(base)).keys(), getattr(base, "kind", "")
    given: list[str] = []
    for file in files:
        config = renamed.run_config(read_yaml(file), names, kind)
        for key in renamed.flat(config):
            if key not in (*names, "recipe"):
                raise CondgenError(f"{file} has an unknown key {key}.{suggest(key, names)}")
        given += ["--config", json.dumps(config)]
    parser = config_parser(recipe, base)
    try:
        parsed = parser.parse_args([*given, *present_options(words, names, kind)])
    except argparse.ArgumentError as error:
        raise CondgenError(f"{explain(str(error), names)} See condgen train {recipe} --help.") from None
    if parsed.recipe != recipe:
        raise CondgenError(f"The config is that of the recipe {parsed.recipe}, not of {recipe}.")
    built = parser.instantiate(parsed)
    fields = [field.name for field in dataclasses.fields(base) if field.name in built]
    return dataclasses.replace(base, **{name: built[name] for name in fields})


def present_options(words: list[str], names: Collection[str], kind: str) -> list[str]:
    """Replaces old names of options, with a warning; drops options of other kinds of models."""
    out: list[str] = []
    words = list(words)
    per_kind = renamed.has_sections_per_kind(word[2:] for word in words if word.startswith("--"))
    while words:
        option, equals, value = (word := words.pop(0)).partition("=")
        new = renamed.run_option(option[2:], names, kind, per_kind) if option.startswith("--") else None
        if new is None or new == option[2:]:
            out.append(word)
            continue
        if new:
            out.append(f"--{new}{equals}{renamed.run_value(new, value)}")
            if not equals and words:
                words[0] = renamed.run_value(new, words[0])
            if option != "--data":
                say(f"warning: {option} is now called --{new}")
            continue
        say(f"warning: {option} is an option of another kind of model; it has no effect here")
        if not equals and words and not words[0].startswith("--"):
            words.pop(0)
    return out


def config_parser(recipe: str, base: Any):
    """A jsonargparse parser with an option for every field, whose defaults are those of `base`."""
    from jsonargparse import SUPPRESS, ArgumentParser

    parser = ArgumentParser(
        prog=f"condgen train {recipe}", exit_on_error=False, allow_abbrev=False, default_env=False, add_help=False
    )
    parser.add_argument("--config", action="config", help=SUPPRESS)
    parser.add_argument("--recipe", default=recipe, help=SUPPRESS)
    values = {field.name: getattr(base, field.name) for field in dataclasses.fields(base)}
    sections = {name: value for name, value in values.items() if dataclasses.is_dataclass(value)}
    absent = {name for name, value in values.items() if value is None}
    parser.add_class_arguments(type(base), None, skip=absent | sections.keys())
    for name, value in sections.items():
        parser.add_class_arguments(type(value), name)
    parser.set_defaults({name: value for name, value in dataclasses.asdict(base).items() if name not in absent})
    return parser


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads the keys of a YAML file; raises `CondgenError` if it has none."""
    import yaml

    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CondgenError(f"{path} cannot be read ({error.strerror}).") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CondgenError(f"{path} is not YAML ({' '.join(str(error).split())}).") from None
    if not isinstance(config, dict) or not all(isinstance(key, str) for key in config):
        raise CondgenError(f"{path} is not a config. Expected lines such as `minutes: 10`.")
    return config


ELSEWHERE = {
    "epochs num_epochs max_epochs num_train_epochs n_epochs": "total_images minutes",
    "steps max_steps max_train_steps iterations iters num_steps": "total_images minutes",
    "batch_size train_batch_size per_device_train_batch_size bs": "batch",
    "learning_rate base_lr max_lr": "lr",
    "resolution image_size img_size imsize image_resolution input_size res": "data.size",
    "output_dir output outdir out_dir run run_dir save_dir logdir": "out",
    "train_data_dir data_dir dataset dataset_name dataset_path data_path train_data": "data",
    "config_file cfg": "config",
    "random_seed manual_seed": "seed",
    "optimizer optim": "optimiser",
    "wd adam_weight_decay": "weight_decay",
    "grad_clip clip_grad max_grad": "max_grad_norm",
    "lr_scheduler scheduler": "schedule",
    "hflip flip horizontal_flip": "random_flip",
    "checkpointing_steps save_steps save_interval": "save_every",
}
"""Options of other programs -> what the option is called here, or the last part of its name."""
NOTES = {
    "total_images": "training ends after this number of images: epochs x images of the data, or steps x batch",
    "data.size": "the edge of the images in pixels; --size names a size of the model",
}


def suggest(name: str, names: Collection[str], prefix: str = "") -> str:
    """' Did you mean ...?': fields of that name in any section of the config, otherwise the closest one."""
    plain = name.lower().replace("-", "_")
    other = next((there for words, there in ELSEWHERE.items() if plain in words.split()), "")
    wanted = [name.rsplit(".", 1)[-1], *other.split(), *([plain] if "-" in name else [])]
    same = [known for known in names if known in other.split()]
    same = same or [known for known in names if known.rsplit(".", 1)[-1] in wanted]
    if notes := [note for known, note in NOTES.items() if known in same and other]:
        return f" Did you mean {' or '.join(prefix + known for known in same)}? ({'; '.join(notes)})"
    close = same or difflib.get_close_matches(name, names, n=1)
    return f" Did you mean {' or '.join(prefix + known for known in close)}?" if close else ""


def explain(message: str, names: Collection[str]) -> str:
    """Rewrites a message of jsonargparse in plain terms."""
    if found := re.search(r"unrecognized arguments: (.*)", message, re.S):
        words = found[1].split()
        option = next((word for word in words if word.startswith("--")), words[0]).split("=")[0]
        if not option.startswith("--"):
            return f"{option!r} was not expected here."
        return f"There is no option {option}.{suggest(option[2:], [*names, *RUN_OPTIONS], prefix='--')}"
    if found := re.search(r'Parser key "([^"]+)":\s*Expected an? (.+)\. Got value: (.*)', message, re.S):
        kind = re.sub(r"<class '(\w+)'>|typing\.", r"\1", found[2])
        listed = " Lists are written '[1, 2]'." if "tuple" in kind else ""
        return f"{found[1]} must be {kind}, got {found[3]!r}.{listed}"
    return f"{' '.join(message.split()).rstrip('.')}."
