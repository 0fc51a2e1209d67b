"""The whole shelf, trained small, on one illustrated page: what each idea can and cannot do, with its own numbers.

make_shelf("docs", "runs/shelf")                                          # digits and drawn scenes: nothing to fetch
make_shelf("docs", "runs/shelf", "fashion", "fashion-mnist", minutes=2)   # Fashion-MNIST in the place of the digits
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from condgen.benchmarks.chapters import CHAPTERS
from condgen.benchmarks.models import LONGER, Shelf, said
from condgen.contracts import CondgenError, ProgressCallback
from condgen.files.images import make_folder, write_bytes
from condgen.recipes.autoencoders import COLLECTIONS

PAGE = "shelf.md"


def make_shelf(
    out: Path | str, runs: Path | str, collection: str = "digits", data: str = "", minutes: float = 1.0, seed: int = 0,
    chapters: Sequence[str] = (), progress: ProgressCallback = lambda share, what: None,
) -> Path:  # fmt: skip
    """Trains every kind for so long, judges it, and writes the page; gives its path. The same call goes on.

    Args:
        out: folder of `shelf.md` and its images.
        runs, collection, data, minutes, seed, progress: see `Shelf`.
        chapters: names among CHAPTERS; by default all.

    Raises:
        CondgenError: no such collection or chapter, or data that cannot be read.
    """
    if collection not in COLLECTIONS or collection == "scenes":
        there = ", ".join(name for name in COLLECTIONS if name != "scenes")
        raise CondgenError(f"There is no collection {collection!r}; choose from {there}.")
    if collection != "digits" and not data:
        raise CondgenError(f"The collection {collection} needs its images: --data PATH.")
    if unknown := [name for name in chapters if name not in CHAPTERS]:
        raise CondgenError(f"There is no chapter {unknown[0]!r}; there are {', '.join(CHAPTERS)}.")
    shelf = Shelf(make_folder(out), make_folder(runs), collection, data, minutes, seed, progress)
    chosen = [name for name in CHAPTERS if not chapters or name in chapters]
    parts = []
    for k, name in enumerate(chosen):
        shelf.share = k / len(chosen)
        parts += CHAPTERS[name](shelf)
    lines = [*_head(shelf), *parts]
    write_bytes(shelf.out / PAGE, "\n".join(lines).encode())
    progress(1.0, "done")
    return shelf.out / PAGE


def _head(shelf: Shelf) -> list[str]:
    words = ["condgen", "benchmark", "-o", "docs", "--minutes", f"{shelf.minutes:g}"]
    words += ["--dataset", shelf.collection, "--data", "DATA"] if shelf.data else []
    return [
        "# The shelf",
        "",
        said(f"""
            Every idea on the way to text-to-picture that needs no text, each trained for {shelf.minutes:g} minutes of
            one thread (GANs of convolutions for {shelf.minutes * LONGER:g}), from one seed, and judged on images that
            it never saw. So short a training shows what an idea does, not how good it can get; numbers of longer
            trainings are in [results.md](results.md). This page is written by one command:
        """),
        "",
        "```bash",
        shlex.join(words),
        "```",
        "",
    ]
