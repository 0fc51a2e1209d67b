"""Benchmark: trains small versions of all baselines, and writes an illustrated page with their metrics and limits.

run_benchmark(Benchmark("docs", "runs/benchmark"))                                      # digits and drawn scenes
run_benchmark(Benchmark("docs", "runs/benchmark", "fashion", "fashion-mnist", minutes=2))   # Fashion-MNIST
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from condgen.benchmarks.models import LONGER, Benchmark, one_line
from condgen.benchmarks.sections import SECTIONS
from condgen.contracts import CondgenError
from condgen.files.images import make_folder, write_bytes
from condgen.recipes.unconditional import COLLECTIONS

PAGE = "baselines.md"


def run_benchmark(benchmark: Benchmark, sections: Sequence[str] = ()) -> Path:
    """Trains and evaluates every baseline, and writes the page; returns its path. A repeated call continues.

    Args:
        benchmark: folders, data and budget.
        sections: names from SECTIONS; by default all.

    Raises:
        CondgenError: the dataset or a section is unknown, or the data cannot be read.
    """
    if benchmark.dataset not in COLLECTIONS or benchmark.dataset == "scenes":
        there = ", ".join(name for name in COLLECTIONS if name != "scenes")
        raise CondgenError(f"There is no dataset {benchmark.dataset!r}; choose from {there}.")
    if benchmark.dataset != "digits" and not benchmark.data:
        raise CondgenError(f"The dataset {benchmark.dataset} needs its images: --data PATH.")
    if unknown := [name for name in sections if name not in SECTIONS]:
        raise CondgenError(f"There is no section {unknown[0]!r}; there are {', '.join(SECTIONS)}.")
    for folder in (benchmark.out, benchmark.runs):
        make_folder(folder)
    chosen = [name for name in SECTIONS if not sections or name in sections]
    lines = _head(benchmark)
    for k, name in enumerate(chosen):
        benchmark.share = k / len(chosen)
        lines += SECTIONS[name](benchmark)
    write_bytes(benchmark.out / PAGE, "\n".join(lines).encode())
    benchmark.progress(1.0, "done")
    return benchmark.out / PAGE


def _head(benchmark: Benchmark) -> list[str]:
    command = ["condgen", "benchmark", "-o", "docs", "--minutes", f"{benchmark.minutes:g}"]
    command += ["--dataset", benchmark.dataset, "--data", "DATA"] if benchmark.data else []
    return [
        "# Baselines",
        "",
        one_line(f"""
            Image models without text, each trained for {benchmark.minutes:g} minutes on one thread (convolutional GANs
            for {benchmark.minutes * LONGER:g}) from one seed, and evaluated on test images. So short a training shows
            what an idea does, not how good it can get; results of longer trainings are in [results.md](results.md).
            One command writes this page:
        """),
        "",
        "```bash",
        shlex.join(command),
        "```",
        "",
    ]
