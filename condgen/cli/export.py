"""`condgen export RUN -o DIR`: the model of a run as one folder, also of a run that is not finished.

`condgen export MODEL --to LIBRARY -o DIR`: an encoder for open_clip or transformers, verified before it is kept.
"""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path

from condgen.cli.terminal import check_folder, say, show_json
from condgen.contracts import CondgenError
from condgen.files.registry import find

HELP = "write the model of a run, finished or not, or an encoder for open_clip or transformers"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, the library and the folder."""
    text = "a model or run: a name that `condgen list` shows, or a path"
    parser.add_argument("model", nargs="?", metavar="MODEL", help=text)
    parser.add_argument("--to", choices=("open_clip", "transformers"), help="the library that will read the encoder")
    text = "folder to write, which must not exist; without it, a run keeps its model in its own folder"
    parser.add_argument("-o", "--out", type=Path, metavar="DIR", help=text)
    parser.add_argument("--json", action="store_true", help="print the result as JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Prints the folder and, for another library, the largest difference between the embeddings of both."""
    if args.out is not None:
        check_folder(args.out)
    if args.to is None:
        return export_model(args)
    if args.out is None:
        raise CondgenError("Give the folder to write with -o DIR.")
    from condgen.data.embeddings.compute import load_encoder
    from condgen.encoders.interop.convert import export
    from condgen.files.card import exported_facts

    encoder, facts = load_encoder(args.model), {}
    with suppress(CondgenError):  # a run without an exported model, or a name of another library, tells nothing more
        facts = exported_facts(find(args.model))
    differences = export(*encoder, args.to, args.out, facts)
    if args.json:
        show_json({"path": str(args.out), "largest_difference": differences})
    else:
        print(f"{args.out}  largest difference: text {differences['text']:.1e}, image {differences['image']:.1e}")
    return 0


def export_model(args: argparse.Namespace) -> int:
    """Writes a model folder of condgen: that of a finished run, or of the last checkpoint of another."""
    import shutil

    from condgen.files.registry import FRAME, RUN_CONFIG

    run = Path(str(args.model))
    begun = (run / RUN_CONFIG).is_file() and not (run / "model").is_dir()
    if begun and not (run / FRAME).is_dir():
        _keep_frame(run)
    folder = find(args.model)
    if args.out is not None:
        if args.out.exists():
            raise CondgenError(f"{args.out} exists already. Choose another -o.")
        aside = args.out.with_name(f".{args.out.name}.tmp")
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(folder, aside)
        folder = aside.rename(args.out)
    if args.json:
        show_json({"path": str(folder), "finished": not begun})
    else:
        print(folder)
    return 0


def _keep_frame(run: Path) -> None:
    """Completes a run of an earlier version, which did not write the frame of its model: reads its data."""
    from contextlib import ExitStack
    from dataclasses import asdict

    from condgen.cli.train import find_kind, read_config, read_yaml
    from condgen.distributed import locked
    from condgen.files.registry import RUN_CONFIG
    from condgen.recipes import find_recipe
    from condgen.training.run_folder import Display, RunFolder

    values = read_yaml(run / RUN_CONFIG)
    name = str(values.get("recipe"))
    recipe = find_recipe(name)
    config = read_config(name, recipe.config(None, find_kind([values], [])), [run / RUN_CONFIG], [])
    say(f"{run} lacks what a model of its last checkpoint needs: the data of the run are read once more.")
    task = recipe.task()(name, recipe, run, config)
    task.check()
    with locked(run), Display(task.bars) as task.display, ExitStack() as task.open_files:
        task.run = RunFolder(run, {"recipe": name} | asdict(config), config.save_every, task.digest)
        task.set_up()
        stage = next(task.stages(), None)
        if stage is not None and stage.model:
            task.run.keep_frame(stage.name, stage.module, stage.model(stage.module))
