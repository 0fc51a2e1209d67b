"""Stages after the decoder that distill it to few steps, of text-to-image and of class-to-image runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import nn

from condgen.contracts import Batch, CondgenError, short
from condgen.decoders import DECODERS
from condgen.decoders.distillation import DistillationObjective, DistillationTraining, student_of
from condgen.files.registry import about, find
from condgen.files.weights import WEIGHTS, fingerprint, load_part, save_part
from condgen.nn.specs import CondSpec
from condgen.pipelines.class_to_image import ClassToImage
from condgen.pipelines.text_to_image import TextToImage
from condgen.pipelines.upsampling import add_upsamplers
from condgen.tasks.base import Stage, Task
from condgen.tasks.generator import GeneratorConfig, new_decoder
from condgen.training import checkpoint
from condgen.training.trainer import FitConfig, Step

SHARE = 0.4
"""Fraction of the run's minutes, beside those of `text_to_image.SHARES`."""


@dataclass(frozen=True)
class DistilledConfig(GeneratorConfig):
    """Options of a decoder that may be distilled to few steps.

    Args:
        distill: numbers of steps to distill the decoder to, one after another, e.g. `4` or `4,2`; each is a stage after
            the decoder, and the last one is the decoder of the model.
    """

    distill: str = ""
    distill_objective: DistillationObjective = field(default_factory=DistillationObjective)
    fit_distill: FitConfig = field(default_factory=lambda: FitConfig(total_images=60_000, batch=16, lr=1e-3))


def stages_of(config: DistilledConfig) -> list[str]:
    """Names of the stages that `--distill` asks for."""
    return [f"distill {steps.strip()}" for steps in config.distill.split(",") if steps.strip()]


def check(config: DistilledConfig) -> None:
    """Raises `CondgenError` unless `--distill` lists falling numbers of steps, and the decoder has steps."""
    words = config.distill.split(",")
    steps = [int(word) for word in words if word.strip().isdecimal()]
    falling = all(0 < n <= 64 for n in steps) and all(a > b and a % b == 0 for a, b in pairwise(steps))
    if len(steps) < len(words) or not falling:
        raise CondgenError(
            f"--distill is {short(config.distill)}; expected numbers of steps from 1 to 64, each a divisor of the one "
            "before: --distill 4, or --distill 4,2."
        )
    if not DECODERS[config.kind].distills:
        able = ", ".join(name for name, kind in DECODERS.items() if kind.distills)
        raise CondgenError(f"--distill needs a decoder of many steps, of kind {able}; {config.kind} has one step.")


def check_alone(task: Task) -> None:
    """Raises `CondgenError` where a text-to-image run with `--stage distill` has no decoder to begin with."""
    c = task.config
    if not c.distill:
        raise CondgenError("--stage distill distills a decoder: give the numbers of steps, for example --distill 4.")
    if c.encoder:
        raise CondgenError("--stage distill needs a whole model, not only an encoder: --init_from MODEL.")
    if c.init_from and (size := about(find(c.init_from)).get("size")) != c.data.size:
        raise CondgenError(f"{c.init_from} generates {size} x {size} pixels. Give --data.size {size}.")
    if not c.init_from and not (task.parts / "decoder" / WEIGHTS).exists():
        raise CondgenError(
            f"{task.root} holds no decoder yet. Train it first (--stage all), or give a model or a run that has one: "
            "--init_from MODEL."
        )


def check_labels(task: Task) -> None:
    """Raises `CondgenError` where a class-to-image run cannot begin with the decoder of `init_from`."""
    c = task.config
    if not c.distill:
        raise CondgenError("--init_from gives a trained decoder, to distill: add the numbers of steps, --distill 4.")
    model, data = ClassToImage.load(find(c.init_from)), task.data
    given, read = ({one.name: (one.values, one.mean, one.sd) for one in some.attributes} for some in (model, data))
    if given != read or (model.size, model.image_channels) != (data.size, data.image_channels):
        raise CondgenError(
            f"{c.init_from} generates {model.size} x {model.size} pixels of {', '.join(given)}; the data have "
            f"{data.size} x {data.size} pixels of {', '.join(read)}, or other values. Give the data that it was "
            "trained on, read in the same way."
        )
    if DECODERS.name_of(model.decoder) != c.kind:
        raise CondgenError(f"{c.init_from} has a decoder of kind {DECODERS.name_of(model.decoder)}, not {c.kind}.")


def copy_parts(source: Path, folder: Path, without: tuple[str, ...] = ()) -> None:
    """Copies the parts of a model or of a run, except those whose names begin so."""
    for part in source.iterdir():
        if part.is_dir() and not part.name.startswith(without):
            shutil.copytree(part, folder / part.name)


def dry_run_distillation(config: DistilledConfig, stage: str, spec: CondSpec, batch: Batch) -> tuple[nn.Module, Batch]:
    """A training and its batch for `dry_run`."""
    names, teacher = stages_of(config), new_decoder(config, spec)
    for name in names[: names.index(stage)]:
        teacher = student_of(teacher, int(name.split()[1]), config.distill_objective)
    student = student_of(teacher, int(stage.split()[1]), config.distill_objective)
    return DistillationTraining(student, teacher, config.distill_objective, config.decoder_objective), batch


def decoder_part(task: Task, before: str = "") -> Path:
    """Folder of the decoder of a run: the last one that was distilled, or the decoder itself.

    Args:
        before: name of a stage; only those before it count.
    """
    names = stages_of(task.config)
    names = names[: names.index(before)] if before else names
    places = [task.root / "parts" / name.replace(" ", "_") for name in reversed(names)]
    return next((place for place in places if (place / WEIGHTS).exists()), task.root / "parts" / "decoder")


def save_decoder(task: Task, stage: str, decoder: nn.Module) -> None:
    """Writes the decoder of a stage; removes what was distilled from an earlier one."""
    place, network = task.root / "parts" / stage.replace(" ", "_"), type(decoder)
    before = fingerprint(load_part(network, place)) if (place / WEIGHTS).exists() else None
    save_part(decoder, place)
    if before in (None, fingerprint(load_part(network, place))):
        return
    names = stages_of(task.config)
    for later in names[names.index(stage) + 1 :] if stage in names else names:
        shutil.rmtree(task.root / "parts" / later.replace(" ", "_"), ignore_errors=True)
        shutil.rmtree(checkpoint.folder_of(task.root, later), ignore_errors=True)


def distill_stage(
    task: Task,
    name: str,
    batches: Callable[[int], Batch],
    pipeline: Callable[[nn.Module], Any],
    validate: Callable[[str, Any, Step], None],
) -> Stage:
    """The stage `distill STEPS`.

    Args:
        batches: those of the decoder's training.
        pipeline: decoder -> model.
        validate: (stage, model, step), as `Stage.validate`.
    """
    c = task.config
    teacher = load_part(DECODERS[c.kind].network, decoder_part(task, name))
    torch.manual_seed(c.seed)
    student = student_of(teacher, int(name.split()[1]), c.distill_objective)
    module = DistillationTraining(student, teacher, c.distill_objective, c.decoder_objective)

    def evaluate(trained: nn.Module, step: Step) -> None:
        validate(name, pipeline(trained.decoder), step)

    def save(trained: nn.Module) -> None:
        save_decoder(task, name, trained.decoder)

    return Stage(name, module, batches, task.fit(name), save, evaluate, lambda trained: pipeline(trained.decoder))


def text_to_image_of(task: Task, decoder: nn.Module) -> TextToImage:
    """The model that a run began with, with its decoder replaced."""
    before = TextToImage.load(find(task.config.init_from), encoder=task.given)
    facts = {name: value for name, value in before.about.items() if name != "metrics"}  # of another decoder
    facts["name"] = f"{before.name}-{decoder.config.steps}-steps"
    model = TextToImage(before.clip, before.tokenizer, before.normalizer, before.priors, decoder, facts)
    if before.upsamplers:
        add_upsamplers(model, before.upsamplers)
    return model
