"""`condgen latent-space TOOL MODEL ...`: analyses of a model's latent space, see `condgen.latent_space.registry`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from condgen.cli.terminal import Parser, check_device, check_folder, key_values, progress_bar, say, show_json
from condgen.files import renamed
from condgen.latent_space.registry import Tool, find_tool, first_line, option, separated, tool_help

HELP = "analyse a model's latent space: interpolation, directions, tangents, holes, anomalies"
SHARED = (
    option("--data", default="", metavar="PATH", help="real images (default the training data)"),
    option("--split", default="test", help="split of the data to analyse"),
    option("--filter", default="", metavar="COLUMN=VALUE", help="keep only these rows; separate several by commas"),
    option("--attribute-columns", type=separated(), default=(), metavar="A,B", help="attribute columns of the data"),
    option("--cond", action="append", default=[], metavar="NAME=VALUE", help="condition of a CVAE or cGAN; repeatable"),
    option("--device", default="cpu", help="device to compute on: cpu, cuda, cuda:1, mps"),
    option("-o", "--out", type=Path, default=Path("out"), metavar="FOLDER",
           help="folder for the images, made if missing (default out)"),
    option("--json", action="store_true", help="print the numbers as JSON on stdout"),
)  # fmt: skip
"""Options that all tools share."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the names of the tools. Their arguments are parsed later, when the tool is imported."""
    parser.set_defaults(more=[])
    tools = parser.add_subparsers(title="tools", dest="tool", metavar="TOOL", required=True)
    for name, text in tool_help().items():
        tools.add_parser(name, help=text, add_help=False)
    for name in renamed.TOOLS:
        tools.add_parser(name, add_help=False)


def tool_parser(tool: Tool) -> Parser:
    """Builds the parser of a tool: the model, the options of the tool, then the shared ones."""
    text = first_line(tool.help)
    parser = Parser(prog=f"condgen latent-space {tool.name}", description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument("model", metavar="MODEL", help="an autoencoder, a GAN; or a CVAE or cGAN, see --cond")
    for flags, arguments in (*tool.options, *SHARED):
        parser.add_argument(*flags, **arguments)
    return parser


def run(args: argparse.Namespace) -> int:
    """Runs a tool, prints its numbers and writes its images."""
    if args.tool in renamed.TOOLS:
        say(f"warning: the tool {args.tool} is now called {renamed.TOOLS[args.tool]}")
    tool = find_tool(renamed.TOOLS.get(args.tool, args.tool))
    parser = tool_parser(tool)
    args, unknown = parser.parse_known_intermixed_args(args.more)
    if unknown:
        parser.refuse(unknown)
    check_folder(args.out)
    condition = key_values(args.cond, "--cond")
    from condgen.files.registry import find

    folder = find(args.model)
    check_device(args.device)
    from condgen.latent_space.adapters import as_space
    from condgen.latent_space.inputs import ImageSource
    from condgen.latent_space.registry import ToolCall
    from condgen.pipelines.auto import load_folder

    space = as_space(load_folder(folder).to(args.device), condition)
    reading = {"filter": args.filter, "attribute_columns": args.attribute_columns}
    source = ImageSource(space, args.data, args.split, reading)
    with progress_bar(tool.name) as progress:
        found = tool.run(ToolCall(space, source, args, progress, _classifier_with(progress)))
    written = found.save(args.out)
    head = {"model": space.name, "model_id": space.model_id}
    if args.json:
        show_json(head | found.numbers | {"files": [str(path) for path in written]})
    else:
        from condgen.evaluation.report import markdown

        print(markdown(head | found.numbers).rstrip())
    say(f"images: {', '.join(map(str, written))}")
    return 0


def _classifier_with(progress: Callable[[float, str], None]) -> Callable[..., Callable]:
    """Makes `ToolCall.fit_classifier`, which trains a classifier of labelled images or reads a stored one."""

    def fit(data, folder: Path) -> Callable:
        from condgen.data.batches.base import to_uint8
        from condgen.evaluation.classifier import ClassifierFitConfig, cached_classifier, features_of, predict

        check_folder(folder)
        classifier = cached_classifier(data, folder, ClassifierFitConfig(), progress)
        return lambda images: predict(classifier, features_of(classifier, to_uint8(images)))

    return fit
