"""`condgen generate PROMPT...`: images with their recipe inside, and a labelled sheet of them."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from condgen.cli.terminal import say
from condgen.contracts import CondgenError
from condgen.text import check_prompt

HELP = "paint images from prompts"
OPTIONS = (
    ("--guidance", "W", float, "how closely to follow the prompt; 1 is off"),
    ("--guidance-low", "T", float, "noise level from 0 to 1 below which nothing is guided"),
    ("--guidance-high", "T", float, "noise level from 0 to 1 above which nothing is guided"),
    ("--steps", "K", int, "denoising steps"),
    ("--temperature", "T", float, "sd of the code of a CVAE; smaller is safer and less varied"),
    ("--truncation", "T", float, "bound of the noise of a GAN; smaller is safer and less varied"),
    ("--best-of", "N", int, "embeddings the prior draws; the one most similar to the text is kept"),
    ("--prior-steps", "K", int, "denoising steps of the prior"),
    ("--prior-guidance", "W", float, "guidance of the prior; 1 is off"),
)
MOST_ON_SHEET = 200
LONGEST_NAME = 255
"""What common file systems take."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that are not given stay as the model has them; `condgen info MODEL` lists ranges and defaults."""
    parser.add_argument("prompts", nargs="*", metavar="PROMPT", help="what to paint")
    parser.add_argument("--prompts-file", type=Path, metavar="FILE", help="prompts, one a line")
    add_model_arguments(parser)
    parser.add_argument("-n", type=int, default=1, metavar="N", help="images of every prompt (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the first image of a prompt; then +1 (default 0)")
    parser.add_argument("--prior", metavar="P", help="a prior of the model, or `none`: the text embedding as it is")
    for flag, metavar, kind, text in OPTIONS:
        parser.add_argument(flag, type=kind, metavar=metavar, help=text)
    parser.add_argument("-o", "--out", type=Path, default=Path("out"), help="folder, made if missing (default out)")
    parser.add_argument("--json", action="store_true", help="one JSON object an image on stdout")


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """`--model` and `--device`."""
    parser.add_argument("--model", metavar="M", help="a name that `condgen list` shows, or a path")
    parser.add_argument("--device", default="cpu", help="where to compute: cpu (default), cuda, cuda:1, mps")


def run(args: argparse.Namespace) -> int:
    """Everything that can be refused without the model is refused before torch is imported."""
    from condgen.files.registry import find

    prompts = read_prompts(args.prompts, args.prompts_file)
    check_folder(args.out)
    folder = find(args.model)
    from condgen.pipelines.text_to_image import TextToImage

    model = load_model(TextToImage.load, folder, args.device)
    names = [flag.strip("-").replace("-", "_") for flag, *_ in OPTIONS]
    options = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    paintings = model.generate(prompts, n=args.n, seed=args.seed, prior=args.prior, **options)
    total = len(prompts) * args.n
    shown = []
    with progress(paintings, total) as (paintings, show):
        for generated in paintings:
            show(line_of(generated, generated.save(args.out), args.json))
            if len(shown) < MOST_ON_SHEET:
                shown.append((generated.image, label(generated.prompt, generated.seed)))
    if total > 1:
        say(f"sheet: {save_sheet(shown, total, args.out)}")
    return 0


def read_prompts(prompts: list[str], file: Path | None) -> list[str]:
    """The prompts of the command line, then those of the file, whose empty lines are skipped.

    Raises:
        CondgenError: there is none, one is empty or no text, or the file cannot be read.
    """
    prompts = list(prompts)
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except OSError as error:
            raise CondgenError(f"{file} cannot be read ({error.strerror}).") from None
        except ValueError:
            raise CondgenError(f"{file} is not UTF-8 text. Expected prompts, one a line.") from None
        prompts += [line for line in lines if line.strip()]
    if not prompts:
        where = f"{file} holds no prompt" if file else "There is no prompt"
        raise CondgenError(f"{where}. Say what to paint, for example: condgen generate 'a red circle'.")
    for prompt in prompts:
        check_prompt(prompt)
        if any("\ud800" <= c <= "\udfff" for c in prompt):
            raise CondgenError(f"The prompt {prompt!r} is not UTF-8 text.")
    return prompts


def check_folder(folder: Path) -> None:
    """Raises `CondgenError` when images could not be written there; makes nothing yet."""
    there = folder.absolute()
    if any("\0" in part or len(part.encode("utf-8", "replace")) > LONGEST_NAME for part in there.parts):
        told = f"a name has no NUL and at most {LONGEST_NAME} bytes"
        raise CondgenError(f"The folder {str(folder)[:60]!r} cannot be made ({told}). Choose another with -o.")
    while not os.path.exists(there) and there != there.parent:
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        why = "may not be written" if there.is_dir() else "is a file"
        raise CondgenError(f"The folder {folder} cannot be written ({there} {why}). Choose another with -o.")


def load_model(load: Callable, folder: Path, device: str):
    """The model that `load` reads from a folder, on its device."""
    check_device(device)
    return load(folder).to(device)


def check_device(device: str) -> None:
    """Raises `CondgenError` when nothing can be computed there."""
    import torch

    try:
        torch.zeros(1, device=device).item()  # a device without memory, such as meta, has nothing to give back
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise CondgenError(f"There is no device {device!r} here ({reason}). Try --device cpu.") from None


def line_of(generated, path: Path, as_json: bool) -> str:
    """A line for stdout about one image."""
    score, ms = round(generated.clip_score, 4), round(generated.ms, 1)
    if as_json:
        told = {"prompt": generated.prompt, "seed": generated.seed, "path": str(path), "clip_score": score, "ms": ms}
        return json.dumps(told)
    return f"{path}  seed {generated.seed}  clip score {score:.3f}  {ms:.0f} ms"


@contextmanager
def progress(items: Iterable, total: int) -> Iterator[tuple[Iterable, Callable[[str], None]]]:
    """The same items and a function that prints a result; on a terminal under a bar that goes away at the end."""
    show = partial(print, flush=True)
    if not sys.stderr.isatty():
        yield items, show
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("painting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    if sys.stdout.isatty():  # the results share the screen with the bar, which must step aside for them
        show = partial(console.print, soft_wrap=True, markup=False, highlight=False)
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        yield bar.track(items, total=total), show


def label(prompt: str, seed: int) -> str:
    """What stands under an image of the sheet."""
    short = prompt if len(prompt) <= 60 else f"{prompt[:57]}..."
    return f"{short}, seed {seed}"


def save_sheet(shown: list[tuple], total: int, folder: Path, columns: int = 0) -> Path:
    """Writes `grid.png`, see `paintings.grid` and `paintings.write_beside`."""
    from condgen.files.images import grid, png_bytes, write_beside

    if total > len(shown):
        say(f"The sheet shows the first {len(shown)} of {total} images.")
    sheet = grid([image for image, _ in shown], [text for _, text in shown], columns)
    return write_beside(folder / "grid.png", png_bytes(sheet))
