"""Shared parts of the commands that operate on image embeddings: vary, mix, edit, invert, probe."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from condgen.cli.generate import OPTIONS
from condgen.cli.generate import options_of as options_of
from condgen.cli.terminal import (
    add_model_arguments,
    add_output_arguments,
    add_seed_argument,
    add_size_argument,
    check_device,
    check_folder,
)
from condgen.contracts import CondgenError

if TYPE_CHECKING:
    from condgen.pipelines.generation import EmbeddingPipeline

EPILOG = "Further options are the model's sampling options, which `condgen info MODEL` lists."
PER_IMAGE = "print one JSON object per image on stdout"


def add_editing_arguments(parser: argparse.ArgumentParser, each: str = "", json_help: str = PER_IMAGE) -> None:
    """`--model`, `--device`, `-o`, `--json`, and where images are generated the seed and the sampling options.

    Args:
        each: what the images have in common whose seeds are counted, see `add_seed_argument`; '' for no seed.
    """
    parser.epilog = EPILOG
    parser.set_defaults(more=[])
    add_model_arguments(parser)
    if each:
        add_seed_argument(parser, each)
        add_size_argument(parser)
        for flag, metavar, kind, text in OPTIONS:
            if flag not in parser._option_string_actions:
                parser.add_argument(flag, type=kind, metavar=metavar, help=text)
    add_output_arguments(parser, json_help)


def some_words(text: str) -> str:
    """The argument of an option that may be left out, but not be empty."""
    if not text.strip():
        raise argparse.ArgumentTypeError("expected words; leave the option out for none")
    return text


def open_model(args: argparse.Namespace) -> EmbeddingPipeline:
    """The model of `--model` on its device.

    Raises:
        CondgenError: it decodes no image embeddings, or the folder for the results cannot be written.
    """
    from condgen.files.registry import find

    check_folder(args.out)
    folder = find(args.model)
    from condgen.nn.devices import adapt
    from condgen.pipelines.auto import kind_of, load_folder
    from condgen.pipelines.generation import SMALL, EmbeddingPipeline

    kind = kind_of(folder)
    if not issubclass(kind.pipeline_class, EmbeddingPipeline):
        raise CondgenError(
            f"{folder} {kind.summary} and decodes no image embeddings. {args.parser.prog} needs a model of an encoder, "
            "a prior and a decoder, such as `condgen train captions` and `condgen train images` make."
        )
    check_device(args.device)
    model = load_folder(folder).to(args.device)
    if model.size <= SMALL:  # images that do not depend on the number of threads
        adapt()
    return model
