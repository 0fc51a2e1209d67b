"""Checks a config before anything is written: ranges of numbers, and that every module can be built and called;
and whether the data are enough to learn from.

Before a run starts, a step of every stage is measured, so that data, model and time can be compared with the budget.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from condgen import distributed
from condgen.contracts import Batch, CondgenError, CondgenWarning, check_ranges, short
from condgen.training.trainer import FitConfig, Trainer

if TYPE_CHECKING:
    from condgen.tasks.base import Task

MIN_STEPS = 200
"""A stage that gets fewer steps is nearly untrained."""
LONG_STEP = 20.0
"""Seconds; a step that takes longer is said before the run starts."""
MEASURED = 1.0
"""Seconds of a step that are enough to compute those of a larger batch from."""
SLOW = 4.0
"""Seconds of a step of few rows that are not measured twice."""
SMALL_RUN = 10_000
"""Runs of fewer images are not measured, unless time limits them."""
ENOUGH = ((0.01, "a test of the setup"), (0.1, "a first impression"), (0.5, "a usable model, not its best"))
"""Share of the images of the recipe -> what they are enough for; more are a full training."""
Build = Callable[[], tuple[nn.Module, Batch]]
"""Builds a Trainable and a batch for it."""


def dry_run(config: Any, modules: dict[str, Build]) -> None:
    """Checks a config on torch's `meta` device, without allocating weights.

    Args:
        config: a tree of config dataclasses.
        modules: section of the config, or stage, which begins with it -> function that builds its module and a batch.

    Raises:
        CondgenError: a number is out of range, or options do not fit together; the message names the option.
    """
    check_ranges(config)
    for section, build in modules.items():
        try:
            with torch.device("meta"):
                module, batch = build()
                for turn in module.turns:
                    module.loss(batch, turn)
        except (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, AssertionError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            raise CondgenError(f"The options --{section.split()[0]}.* do not fit together: {reason}.") from None


def images(size: int, channels: int = 3) -> Tensor:
    """(2, C, S, S), a batch of black images."""
    return torch.zeros(2, channels, size, size)


def token_ids() -> Tensor:
    """int64 (2, 4), a batch of captions."""
    return torch.ones(2, 4, dtype=torch.long)


def all_equal(images: np.ndarray) -> bool:
    """Whether all images of uint8 (N, C, S, S) are the same, also where there is only one."""
    return bool((images[:64] == images[:1]).all() and (images == images[:1]).all())


def check_contrast(name: str, images: np.ndarray, texts: Collection[object] | None = None) -> None:
    """Refuses data in which a contrastive loss finds nothing to tell apart.

    Args:
        name: name of the data.
        images: uint8 (N, C, S, S), the training images.
        texts: the captions or classes, if the loss compares images with them.

    Raises:
        CondgenError: all images are equal, or all texts.
    """
    what = ""
    if all_equal(images):
        what = "one training image" if len(images) == 1 else f"{len(images)} training images that are all equal"
    elif texts is not None and len(set(texts)) < 2:
        what = f"one caption or class ({short(next(iter(texts), ''))}) for all of its images"
    if what:
        raise CondgenError(
            f"{name} has {what}. Contrastive training learns to tell images apart, so that it needs at least two "
            f"different images{'' if texts is None else ' with different captions or classes'}. Add such images with "
            "--data, or read all splits with --data.split all."
        )


def warn_of_little(name: str, images: np.ndarray, texts: Collection[object] | None = None) -> None:
    """Warns of data that can only be memorised: arguments as in `check_contrast`."""
    notes = []
    if all_equal(images):
        many = "one training image" if len(images) == 1 else f"{len(images)} training images, all equal"
        notes.append(f"{many}: a model can reproduce it, and nothing else")
    if texts is not None and len(set(texts)) < 2 and len(images) > 1:
        notes.append(f"one caption or class ({short(next(iter(texts), ''))}) for all images: it cannot steer the model")
    for note in notes:
        warnings.warn(f"{name} has {note}.", CondgenWarning, stacklevel=3)


# Budget ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Done:
    """What a stage has seen at its end: images, and seconds of training."""

    stage: str
    images: int
    seconds: float


def announce(task: Task) -> None:
    """Says before the training what it is: data, parameters, device, time, epochs, and what they are enough for.

    Warns where the budget gives a stage fewer than `MIN_STEPS` steps, or where a step takes long.
    """
    stages = [stage for stage in task.stage_names if not task.is_done(stage) or task.wants_more(stage)]
    if not stages:
        return
    n, size, device = len(task.data), task.data.size, distributed.device_of_training()
    builds = {stage: task.builds.get(stage) or next(iter(task.builds.values()), None) for stage in stages}
    timed = any(task.fit(stage).minutes or task.fit(stage).total_images > SMALL_RUN for stage in stages)
    parts, shares, total = [], {}, 0.0
    for stage, build in builds.items():
        fit = task.fit(stage)
        seconds, count = measure(build, fit) if build and timed and distributed.world() == 1 else (0.0, 0)
        images = fit.total_images
        if seconds and fit.minutes:
            images = min(images, max(1, int(60 * fit.minutes / seconds)) * fit.batch)
        total += images / fit.batch * seconds
        text = f"{stage}{f' of {count / 1e6:.1f} million parameters' if count else ''}"
        if images < 10**12:
            shares[stage] = images / usual_images(task, stage)
            text += f" {'about ' * bool(seconds and fit.minutes)}{_epochs(images, n)}"
        parts.append(f"{text}{f' at {fit.batch / seconds:,.0f} images/s' if seconds else ''}")
        _warn_of_budget(stage, fit, seconds, images, size)
    time_text = f"; {_clock(total)} of training" if total else ""
    enough = f"; enough for {enough_for(shares)}" if shares else ""
    threads, several = torch.get_num_threads(), f"{distributed.world()} processes of " * (distributed.world() > 1)
    task.display.say(
        f"{n:,} images of {size} x {size} pixels, on {device} with {several}{threads} thread{'s' * (threads > 1)}: "
        f"{', '.join(parts)}{time_text}{enough}."
    )


def summary(task: Task, done: list[Done]) -> str:
    """A sentence at the end of the training, in the terms of `announce`."""
    n, embedding = len(task.data), task.status.get("embedding", 0.0)
    parts = [f"{one.stage} {_epochs(one.images, n)} in {_clock(one.seconds)}" for one in done]
    parts += [f"embeddings of the data in {_clock(embedding)}"] if embedding >= 1 else []
    enough = enough_for({one.stage: one.images / usual_images(task, one.stage) for one in done})
    return f"Trained {', '.join(parts)}; enough for {enough}."


def usual_images(task: Task, stage: str) -> int:
    """Number of images that the recipe trains a stage with."""
    return task.fits(task.recipe.base)[stage.split()[0]].total_images


def enough_for(shares: dict[str, float]) -> str:
    """What the stage with the smallest share of its usual images is trained enough for."""
    stage, share = min(shares.items(), key=lambda pair: pair[1])
    level = next((text for limit, text in ENOUGH if share < limit), "a full training")
    return f"{level} ({stage}: {100 * share:.3g} % of the images of the recipe)"


def measure(build: Build, fit: FitConfig) -> tuple[float, int]:
    """Seconds of a training step, and the number of parameters; (0, 0) where the device cannot compute it.

    It trains a module of its own on repeated rows: on two, then on more, until a step takes `MEASURED` seconds. The
    time of a whole batch follows from the last two of these: a part for every step and a part for every row. No
    random state changes.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            module, rows = build()
            trainer = Trainer(module, lambda step: part, replace(fit, minutes=0.0, total_images=10**12))
            count, times = 2, {}
            while not times or (count < fit.batch and times[count] < (SLOW if len(times) < 2 else MEASURED)):
                count = min(fit.batch, (2 if times and times[count] > MEASURED else 4) * count) if times else count
                part = {name: row[torch.arange(count) % 2] for name, row in rows.items()}
                times[count] = _seconds(trainer._step)  # the first also allocates
                if times[count] < SLOW:
                    times[count] = min(times[count], _seconds(trainer._step))
        (few, fast), (many, slow) = (0, 0.0) if len(times) < 2 else [*times.items()][-2], [*times.items()][-1]
        a_row = max(0.0, slow - fast) / (many - few)
        return slow + max(0, fit.batch - many) * a_row, sum(p.numel() for p in module.parameters())
    except (RuntimeError, ValueError, LookupError, CondgenError):  # too little memory, or rows that must differ
        return 0.0, 0


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _warn_of_budget(stage: str, fit: FitConfig, seconds: float, images: int, size: int) -> None:
    steps, cheaper = images / fit.batch, "a smaller --data.size, --size or batch makes a step cheaper"
    problem = ""
    if seconds and fit.minutes and steps < MIN_STEPS:
        factor = math.ceil(MIN_STEPS / max(steps, 1e-9))
        problem = (
            f"the {stage} gets about {steps:.0f} step{'s' * (steps >= 1.5)} of {_clock(seconds)} in its "
            f"{fit.minutes:.2g} minutes, and with fewer than {MIN_STEPS} it is nearly untrained. Give --minutes "
            f"{factor:,.0f} times as large; "
        )
    elif seconds > LONG_STEP:
        problem = f"a step of the {stage} takes about {seconds:.0f} s ({fit.batch} images of {size} x {size} pixels); "
    if problem:
        warnings.warn(f"{problem}{cheaper}.", CondgenWarning, stacklevel=4)


def _epochs(images: int, n: int) -> str:
    epochs = images / max(n, 1)
    return f"{images:,} images ({f'{epochs:,.0f}' if epochs >= 9.5 else f'{epochs:.2g}'} epochs)"


def _clock(seconds: float) -> str:
    """'40 s', '12 minutes', '3.5 hours', '4.2 days'."""
    if seconds < 9.5:
        return f"{seconds:.2g} s"
    for limit, unit, name in ((90, 1, "s"), (5400, 60, "minutes"), (129_600, 3600, "hours")):
        if seconds < limit:
            return f"{seconds / unit:.2g} {name}" if unit > 1 else f"{seconds:.0f} {name}"
    return f"{seconds / 86400:.1f} days"
