"""The training loop for every Trainable.

trainer = Trainer(model, batches, FitConfig(total_images=100_000), seed=0)
for step in trainer:        # yields after the update
    if step.count % 100 == 0:
        print(step.images, step.losses)
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import GradientAccumulationPlugin
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from condgen import distributed
from condgen.contracts import Batch, CondgenError, HasMemory, Trainable, limited
from condgen.training import checkpoint, fsdp
from condgen.training.fsdp import like, local
from condgen.training.muon import Muon, matrices_of

REMEDY = "Lower the learning rate (--fit_STAGE.lr), or look at the data with `condgen data check`."
COUNTERS = ("count", "images", "seconds", "skipped", "in_a_row")
"""State of a run: steps, images, seconds of training, skipped steps, and how many of the last steps were skipped."""
clock = time.perf_counter
"""What seconds of training are measured with; benchmarks on busy machines count the processor's instead."""
MAX_CONSECUTIVE_SKIPS = 10
"""Maximum number of consecutive non-finite steps."""


@dataclass(frozen=True)
class FitConfig:
    """How long and how fast to train.

    Args:
        total_images: images to see, the unit of every schedule; training ends there.
        minutes: limit on the training time; 0 sets none. The learning rate follows the limit that is reached first.
        batch: images in a batch, over all processes.
        lr: peak learning rate.
        warmup: share of the training over which the learning rate rises.
        decay_start: share of the training after which it falls to zero.
        schedule: whether it falls linearly or along half a cosine.
        optimiser: `muon` for the weights of linear layers and convolutions and AdamW for the rest, or `adamw` for all.
        weight_decay: decoupled, on parameters of two and more dimensions.
        beta_1: beta_1 of AdamW.
        beta_2: beta_2 of AdamW.
        max_grad_norm: gradients are clipped to this norm.
        ema_gamma: gamma of the running mean of the weights; 0 keeps none.
    """

    total_images: int = limited(500_000, low=1)
    minutes: float = limited(0.0, low=0)
    batch: int = limited(64, low=1)
    lr: float = limited(1e-3, low=1e-12)
    warmup: float = limited(0.02, low=0)
    decay_start: float = limited(0.5, low=0)
    schedule: Literal["linear", "cosine"] = "linear"
    optimiser: Literal["muon", "adamw"] = "muon"
    weight_decay: float = limited(0.01, low=0)
    beta_1: float = 0.9
    beta_2: float = 0.99
    max_grad_norm: float = limited(1.0, low=1e-12)
    ema_gamma: float = limited(12.0, low=0)


@dataclass(frozen=True)
class Step:
    """Metrics of one optimiser step; `seconds` of training and `skipped` steps count since the start of the run."""

    count: int
    images: int
    progress: float
    lr: float
    losses: dict[str, float]
    seconds: float
    skipped: int


class NotFinite(CondgenError):
    """Too many consecutive steps were not finite.

    Args:
        message: description of the failure, with the turn.
        step: number of the last of these steps, counted from 1.
        batch: the batch of this step, for inspection.
    """

    def __init__(self, message: str, step: int, batch: Batch):
        super().__init__(message)
        self.step, self.batch = step, batch


class _Objective(nn.Module):
    """Computes the loss in `forward`, as distributed wrappers require."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, turn: str):
        return self.model.loss(batch, turn)


def progress_of(config: FitConfig, images: int, seconds: float) -> float:
    """The share of a run that is done after so many images and seconds of training, in [0, 1]."""
    by_time = seconds / (60 * config.minutes) if config.minutes else 0.0
    return min(1.0, max(images / config.total_images, by_time))


def bounded(fit: FitConfig, minutes: float, total_images: int, default_images: set[int]) -> FitConfig:
    """Limits the options of a stage to the limits of its run, where 0 means none.

    With `minutes`, time alone ends the stage and the learning rate follows it, unless a number of images was given:
    to the run, or to the stage other than those of the recipe, `default_images`.
    """
    images = min(fit.total_images, total_images) if total_images else fit.total_images
    if minutes and not total_images and fit.total_images in default_images:
        images = 10**12
    return replace(fit, minutes=minutes or fit.minutes, total_images=images)


class Trainer:
    """Trains one Trainable: iterate to train, `save` and `resume` at any step.

    Args:
        model: an nn.Module that keeps the Trainable contract.
        draw: step -> batch on the CPU; with several processes, the part of this one.
        config: see FitConfig.
        seed: fixes all random draws of the model.
        accelerator: by default one for all processes that a launcher has started, with bfloat16 on GPUs that support
            it, otherwise single precision.
    """

    def __init__(
        self,
        model: Trainable,
        draw: Callable[[int], Batch],
        config: FitConfig,
        seed: int = 0,
        accelerator: Accelerator | None = None,
    ):
        plan = fsdp.plan()  # before Accelerate checks for packages that may not be installed
        self.accelerator = accelerator or Accelerator(
            mixed_precision=distributed.precision(),
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            # with several turns, weights of other turns get no gradient
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=len(model.turns) > 1)],
        )
        self.model, self.draw, self.config, self.seed = model, draw, config, seed
        self.memory = set(model.memory) if isinstance(model, HasMemory) else set()
        self.objective, self.stand_ins = _Objective(model), {}
        self.sharded = plan is not None and distributed.world() > 1
        if self.sharded:
            self._plain = copy.deepcopy(model).cpu()
            # modules with turns use each other's weights, so all are gathered at once
            self.stand_ins = fsdp.shard(self.objective, plan, self.accelerator.device, len(model.turns) == 1)
        else:
            # every process updates a memory identically, so buffers are not broadcast at every step
            memory = [f"model.{name}" for name in self.memory]
            DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self.objective, memory)
            self.objective = self.accelerator.prepare(self.objective)
        self.optimisers = {turn: self._optimisers(self._owned(turn)) for turn in model.turns}
        self.ema = PowerEma(model, config.ema_gamma, self.memory) if config.ema_gamma else None
        self.count, self.images, self.seconds = 0, 0, 0.0
        self.skipped, self.in_a_row = 0, 0

    def _owned(self, turn: str) -> list[nn.Parameter]:
        """The parameters of a turn, with the stand-ins that its optimisers update."""
        return [self.stand_ins.get(p, p) for p in self.model.parameters_of(turn)]

    def _optimisers(self, parameters: list[nn.Parameter]) -> list[torch.optim.Optimizer]:
        c = self.config
        matrices = matrices_of(self.model) if c.optimiser == "muon" else set()
        rest = [p for p in parameters if p not in matrices]
        groups = [
            {"params": [p for p in rest if p.ndim >= 2], "weight_decay": c.weight_decay},
            {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
        ]
        optimisers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(groups, lr=c.lr, betas=(c.beta_1, c.beta_2), fused=True)
        ]
        if muon := [p for p in parameters if p in matrices]:
            optimisers.append(Muon(muon, c.lr, weight_decay=c.weight_decay))
        return optimisers if self.sharded else [self.accelerator.prepare(optimiser) for optimiser in optimisers]

    @property
    def progress(self) -> float:
        """Share of the run that is done, in [0, 1]."""
        return progress_of(self.config, self.images, self.seconds)

    @property
    def lr(self) -> float:
        """The learning rate: linear rise, plateau, fall to zero."""
        c, p = self.config, self.progress
        rise = min(1.0, (p + 1e-3) / max(c.warmup, 1e-9))
        left = min((1 - p) / max(1 - c.decay_start, 1e-9), 1.0)
        return c.lr * min(rise, left if c.schedule == "linear" else (1 - math.cos(math.pi * left)) / 2)

    def __iter__(self) -> Iterator[Step]:
        self.model.train()
        while self.progress < 1:
            began = clock()
            losses = self._step()
            self.seconds = distributed.maximum(self.seconds + clock() - began)
            yield Step(self.count, self.images, self.progress, self.lr, losses, self.seconds, self.skipped)
            self.model.train()
        if 2 * self.skipped > self.count:
            raise CondgenError(
                f"Of {self.count} steps {self.skipped} were skipped because their loss was not finite. {REMEDY}"
            )

    def _step(self) -> dict[str, float]:
        rank = self.accelerator.process_index
        torch.manual_seed(((self.seed * 1_000_003 + self.count) * 1009 + rank) % 2**63)
        batch = {k: v.to(self.accelerator.device, non_blocking=True) for k, v in self.draw(self.count).items()}
        losses: dict[str, float] = {}
        failed = [turn for turn in self.optimisers if not self._turn(turn, batch, losses)]
        self.count += 1
        self.images += self.config.batch
        self.in_a_row = self.in_a_row + 1 if failed else 0
        self.skipped += bool(failed)
        if self.in_a_row >= MAX_CONSECUTIVE_SKIPS:
            message = f"The loss of {failed[-1]} or its gradient was not finite {self.in_a_row} times in a row"
            raise NotFinite(f"{message}, last in step {self.count}. {REMEDY}", self.count, batch)
        if self.ema:
            self.ema.update(self.model, self.count)
        return losses

    def _turn(self, turn: str, batch: Batch, losses: dict[str, float]) -> bool:
        """Updates the parameters of a turn and adds to `losses`; changes nothing where loss or gradient is not finite.

        Other turns are not affected: turns share no parameters.

        Returns:
            Whether the update was made.
        """
        buffers = [buffer for name, buffer in self.model.named_buffers() if name not in self.memory]
        before = [buffer.clone() for buffer in buffers]  # a forward pass may change them
        self.model.zero_grad(set_to_none=True)
        with self.accelerator.autocast():
            parts = self.objective(batch, turn)
        finite = distributed.all_true(math.isfinite(parts["loss"].item()))
        if finite:
            self.backward(parts["loss"])
            norm = fsdp.whole(self.accelerator.clip_grad_norm_(self._owned(turn), self.config.max_grad_norm))
            finite = distributed.all_true(math.isfinite(norm))
        if not finite:
            fsdp.reshard(self.objective)
            self.model.zero_grad(set_to_none=True)
            for buffer, value in zip(buffers, before):
                buffer.copy_(value)
            return False
        lr = self.lr
        for optimiser in self.optimisers[turn]:
            for group in optimiser.param_groups:
                group["lr"] = lr
            optimiser.step()
        if isinstance(self.model, HasMemory):
            self.model.remember()
        losses |= {name if name != "loss" else f"loss/{turn}": value.item() for name, value in parts.items()}
        return True

    def backward(self, loss: torch.Tensor) -> None:
        """Computes the gradients of the joint batch: equal in every process, or sharded."""
        self.accelerator.backward(loss)
        fsdp.share_scalar_gradients(self.stand_ins)

    @property
    def sound(self) -> bool:
        """Whether the last step succeeded and the weights are finite, so that a checkpoint can be resumed from."""
        parts = (fsdp.local(p) for p in self.model.parameters())
        return not self.in_a_row and distributed.all_true(all(bool(p.isfinite().all()) for p in parts))

    def trained(self) -> dict[str, torch.Tensor]:
        """The weights to use: the running mean where there is one. Every process must call it."""
        weights = self.model.state_dict() | (self.ema.mean if self.ema else {})
        return {name: fsdp.whole(value) for name, value in weights.items()}

    def snapshot(self) -> nn.Module:
        """A copy of the model on the CPU with the weights to use. Every process must call it."""
        model = self._plain if self.sharded else copy.deepcopy(self.model).cpu()
        model.load_state_dict(self.trained())
        return model.train(self.model.training)

    def save(self, folder: Path) -> None:
        """Writes a checkpoint of everything that the next step needs. Every process must call it; the first writes.

        It does not depend on the number of processes or on whether weights are sharded.
        """
        if not (self.sharded or self.accelerator.is_main_process):
            return
        tensors = {"model": self.model.state_dict()} | ({"ema": self.ema.state_dict()} if self.ema else {})
        optimisers = {turn: [one.state_dict() for one in group] for turn, group in self.optimisers.items()}
        if self.sharded:
            tensors, optimisers = fsdp.gather(tensors), fsdp.gather(optimisers)
        if self.accelerator.is_main_process:
            state = {name: getattr(self, name) for name in COUNTERS}
            checkpoint.save(folder, self.count, tensors, optimisers, state)

    def resume(self, folder: Path) -> list[Path]:
        """Resumes from the newest valid checkpoint, where there is one; returns damaged newer ones."""
        place, damaged = checkpoint.newest(folder)
        if place is None:
            return damaged
        tensors, optimisers, state = checkpoint.load(place)
        current = self.model.state_dict()
        try:
            self.model.load_state_dict({k: fsdp.like(v, current.get(k, v)) for k, v in tensors["model"].items()})
        except RuntimeError as error:
            raise CondgenError(
                f"{place} belongs to another architecture ({str(error).splitlines()[-1].strip()}). "
                "Choose another output folder, or give the options of the original run."
            ) from None
        if self.ema:
            self.ema.load_state_dict(tensors["ema"])
        for turn, some in self.optimisers.items():
            for optimiser, state_of in zip(some, optimisers[turn], strict=True):
                optimiser.load_state_dict(_sharded_state(optimiser, state_of))
        for name in COUNTERS:
            setattr(self, name, state.get(name, 0))  # older checkpoints lack newer counters
        return damaged


def _sharded_state(optimiser: torch.optim.Optimizer, state: dict) -> dict:
    """The state of an optimiser with its tensors sharded like the parameters; step counts stay whole."""
    owned = [p for group in optimiser.param_groups for p in group["params"]]
    split = {
        i: {k: v if k == "step" else fsdp.like(v, owned[i]) for k, v in values.items()}
        for i, values in state["state"].items()
    }
    return state | {"state": split}


class PowerEma:
    """Averages the weights of step i with beta_i = (1 - 1/i)^(gamma + 1).

    Args:
        module: the module whose parameters and buffers to average.
        gamma: higher values average over a shorter time; 12 covers roughly the last 7 % of the run.
        without: names in the module's state to leave out.

    References:
        Analyzing and Improving the Training Dynamics of Diffusion Models (Karras et al., 2024), Eq. 3
    """

    def __init__(self, module: nn.Module, gamma: float = 12.0, without: Collection[str] = ()):
        self.gamma = gamma
        state = module.state_dict().items()
        self.mean = {name: value.detach().clone() for name, value in state if name not in without}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Updates the mean with the weights after optimiser step `step`, counted from 1."""
        beta = (1 - 1 / step) ** (self.gamma + 1)
        now = {name: value for name, value in module.state_dict().items() if name in self.mean}
        floating = [name for name, value in now.items() if value.is_floating_point()]
        means, weights = ([local(of[name].detach()) for name in floating] for of in (self.mean, now))
        torch._foreach_lerp_(means, weights, 1 - beta)
        for name in set(now) - set(floating):
            self.mean[name].copy_(now[name])

    def state_dict(self) -> dict[str, Tensor]:
        return self.mean

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.mean = {name: like(value.to(self.mean[name].device), self.mean[name]) for name, value in state.items()}
