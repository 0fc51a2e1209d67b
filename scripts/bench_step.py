"""Shows where the time of a training step goes, for the stages of a text-to-image recipe.

    python scripts/bench_step.py scenes32 --threads 1
    torchrun --nproc_per_node 2 scripts/bench_step.py scenes32 --threads 1

Shares of the wall time of one step: drawing the batch, forward and backward pass, clipping, each optimiser, the
running mean of the weights, and the rest. In several processes the backward pass contains the exchange of gradients.
Batches are drawn as in training, from few images.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from condgen import distributed
from condgen.recipes import RECIPES
from condgen.tasks.base import Stage
from condgen.training.run_folder import Display, RunFolder
from condgen.training.trainer import Trainer

WARM_UP = 3
"""Steps that are not counted."""


def timed(place: object, name: str, spent: dict[str, float], label: str) -> None:
    """Replaces a method by one that adds its seconds to `spent[label]`."""
    call = getattr(place, name)

    def measured(*args, **kwargs):
        began = time.perf_counter()
        try:
            return call(*args, **kwargs)
        finally:
            spent[label] += time.perf_counter() - began

    setattr(place, name, measured)


def profile(stage: Stage, steps: int) -> dict[str, float]:
    """Milliseconds a step of every part, and images per second."""
    fit = replace(stage.fit, total_images=10**9, minutes=0.0)
    trainer, spent = Trainer(stage.module, stage.batches, fit), defaultdict(float)
    timed(trainer, "draw", spent, "data")
    timed(trainer.objective, "forward", spent, "forward")
    timed(trainer, "backward", spent, "backward")
    timed(trainer.accelerator, "clip_grad_norm_", spent, "clipping")
    for optimiser in (one for some in trainer.optimisers.values() for one in some):
        timed(optimiser, "step", spent, type(getattr(optimiser, "optimizer", optimiser)).__name__)
    if trainer.ema:
        timed(trainer.ema, "update", spent, "running mean")
    before = 0.0
    for step in trainer:
        if step.count == WARM_UP:
            spent.clear()
            before = step.seconds
        if step.count == WARM_UP + steps:
            break
    total = step.seconds - before
    out = {name: 1000 * value / steps for name, value in spent.items()}
    out["rest"] = 1000 * total / steps - sum(out.values())
    return out | {"step": 1000 * total / steps, "images_per_s": steps * fit.batch / total}


def stages_of(recipe: str, scenes: int, folder: Path) -> dict[str, Callable[[], Stage]]:
    """Name -> function that builds a stage of a recipe of scenes, on the encoder and priors of the bundled model."""
    chosen = RECIPES[recipe]
    config = chosen.config(init_from="scenes32", eval_count=0)
    config = replace(config, data=replace(config.data, scenes=scenes))
    task = chosen.task()(recipe, chosen, folder, config)
    task.run = RunFolder(folder, {})
    task.take_over()
    task.display = Display(task.bars)
    build = {"clip": task._clip_stage, "prior": task._prior_stage, "decoder": task._decoder_stage}
    return {name: lambda name=name: build[name.split()[0]](name) for name in task.stage_names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="?", default="scenes32")
    parser.add_argument("--stage", default="", help="only stages whose name begins so")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--scenes", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=0, help="of torch, in each process; 0 leaves its own choice")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    distributed.join()
    report = {}
    with tempfile.TemporaryDirectory() as folder:
        places = [folder]
        if distributed.world() > 1:
            torch.distributed.broadcast_object_list(places)
        for name, build in stages_of(args.recipe, args.scenes, Path(places[0]) / "run").items():
            if name.startswith(args.stage):
                report[name] = profile(build(), args.steps)
        distributed.barrier()
    if not distributed.rank():
        if args.json:
            print(json.dumps(report, indent=2))
        for name, parts in {} if args.json else report.items():
            print(f"{name}: {parts['step']:.1f} ms a step, {parts['images_per_s']:.1f} images a second")
            for part, value in sorted(parts.items(), key=lambda item: -item[1]):
                if part not in ("step", "images_per_s"):
                    print(f"  {part:14} {value:7.1f} ms  {value / parts['step']:5.1%}")
    distributed.leave()


if __name__ == "__main__":
    main()
