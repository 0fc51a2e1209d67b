"""Samplers along x_t = (1 - t) x_0 + t eps, and guidance, which wraps a denoiser and is a denoiser.

The default solver is implemented here, because importing a diffusers scheduler takes as long as importing torch; a test
compares it with diffusers'. The other solvers are diffusers'.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from condgen.contracts import Batch, CondgenError
from condgen.diffusion.objectives import Denoiser, add_noise

T_MAX = 0.999
SHIFT = 2.0
"""Timestep shift towards high noise, where the layout is decided; 1 spaces the levels evenly."""
SOLVERS = ("dpm++", "ddim", "unipc", "euler")


@dataclass(frozen=True)
class Init:
    """Where sampling begins, and what of it stays.

    Args:
        noise: eps, (B, *shape), in place of noise from the generators.
        x_0: (B, *shape): sampling begins at x_t = (1 - t) x_0 + t eps.
        t: the noise level at which it begins, in (0, 1]; 1 is the usual beginning.
        keep: bool, broadcasts against x_0: True where x_0 stays. Along the whole path these values are x_0 with the
            noise eps, so that the rest fits to them.
        resample: calls of the denoiser at every level; before each but the last of a level, x_t goes one level down and
            up again with new noise, so that what is generated fits to what stays.

    References:
        SDEdit: Guided Image Synthesis and Editing with Stochastic Differential Equations (Meng et al., 2022), for t
        RePaint: Inpainting using Denoising Diffusion Probabilistic Models (Lugmayr et al., 2022), for resample
    """

    noise: Tensor | None = None
    x_0: Tensor | None = None
    t: float = 1.0
    keep: Tensor | None = None
    resample: int = 1


NOISE = Init()
"""The usual beginning: noise from the generators."""


def levels(steps: int, t: float = 1.0) -> list[float]:
    """Noise levels from t, or from almost 1, to 0, steps + 1 numbers.

    References:
        Scaling Rectified Flow Transformers for High-Resolution Image Synthesis (Esser et al., 2024), equation 23
    """
    return [shifted(t) for t in even_levels(steps, t)]


def shifted(t: float) -> float:
    """A level of `even_levels` after the shift."""
    return SHIFT * t / (1 + (SHIFT - 1) * t)


def even_levels(steps: int, t: float = 1.0) -> list[float]:
    """The levels of `levels` before the shift, evenly spaced."""
    highest = min(T_MAX, t / (SHIFT - (SHIFT - 1) * t))
    return [highest * (1 - i / steps) for i in range(steps + 1)]


class DPMSolverPP2M:
    """Second-order multistep solver in the data prediction.

    References:
        DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models (Lu et al., 2022), Algorithm 2

    Args:
        path: the noise levels, falling.
    """

    def __init__(self, path: list[float]):
        self.t = path
        self._previous: tuple[Tensor, float] | None = None  # x_0 and lambda of the previous step

    def step(self, i: int, x_t: Tensor, x_0: Tensor) -> Tensor:
        """From level i to level i + 1, given the denoiser's x_0 at level i."""
        t, s = self.t[i], self.t[i + 1]
        if s == 0:
            return x_0
        now, then = _log_snr(t), _log_snr(s)
        h, d = then - now, x_0
        if self._previous is not None:
            x_0_previous, previous = self._previous
            d = x_0 + (x_0 - x_0_previous) * (h / (now - previous)) / 2
        self._previous = (x_0, now)
        return s / t * x_t - (1 - s) * math.expm1(-h) * d


def _log_snr(t: float) -> float:
    return math.log((1 - t) / t)


class DDIM:
    """First-order deterministic solver, of decoders that were distilled to few steps: x_s on the line from x_t to x_0.

    References:
        Denoising Diffusion Implicit Models (Song et al., 2021), equation 12 with sigma = 0

    Args:
        path: the noise levels, falling.
    """

    def __init__(self, path: list[float]):
        self.t = path

    def step(self, i: int, x_t: Tensor, x_0: Tensor) -> Tensor:
        """From level i to level i + 1, given the denoiser's x_0 at level i."""
        return torch.lerp(x_0, x_t, self.t[i + 1] / self.t[i])


class DiffusersSolver:
    """A diffusers scheduler on the same noise levels: `unipc` or `euler`."""

    def __init__(self, name: str, steps: int, t: float = 1.0):
        if name == "unipc":
            from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

            self.scheduler = UniPCMultistepScheduler(
                use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=SHIFT
            )
            self.scheduler.set_timesteps(steps, sigmas=np.array(even_levels(steps, t)[:-1]) if t < 1 else None)
        else:
            from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

            self.scheduler = FlowMatchEulerDiscreteScheduler()
            self.scheduler.set_timesteps(sigmas=levels(steps, t)[:-1])
        self.t = [float(sigma) for sigma in self.scheduler.sigmas]

    def step(self, i: int, x_t: Tensor, x_0: Tensor) -> Tensor:
        velocity = (x_t - x_0) / self.t[i]
        return self.scheduler.step(velocity, self.scheduler.timesteps[i], x_t).prev_sample


def solver_of(name: str, steps: int, t: float = 1.0) -> DPMSolverPP2M | DDIM | DiffusersSolver:
    """A solver for one sampling run that begins at noise level t; `CondgenError` for an unknown name."""
    if name not in SOLVERS:
        raise CondgenError(f"There is no solver {name!r}; choose {', '.join(SOLVERS)}.")
    own = {"dpm++": DPMSolverPP2M, "ddim": DDIM}
    return own[name](levels(steps, t)) if name in own else DiffusersSolver(name, steps, t)


def noise(shape: tuple[int, ...], rng: list[torch.Generator]) -> Tensor:
    """(len(rng), *shape): sample i comes from generator i alone, so that a seed determines an image."""
    return torch.stack([torch.randn(shape, generator=generator) for generator in rng])


@torch.inference_mode()
def sample(
    denoise: Denoiser,
    shape: tuple[int, ...],
    cond: Batch,
    rng: list[torch.Generator],
    steps: int,
    solver: str = "dpm++",
    device: torch.device | str = "cpu",
    init: Init = NOISE,
) -> Iterator[Tensor]:
    """Yields the denoiser's estimate of x_0 at every step but the last, and then the sample: `steps` times (B, *shape).

    Args:
        denoise: a denoiser, guided or not.
        shape: shape of one sample.
        cond: B conditions.
        rng: B generators on the CPU.
        steps: number of calls of the denoiser, without resampling.
        solver: a name in SOLVERS.
        init: where to begin, by default at noise.
    """
    solver_run = solver_of(solver, steps, init.t)
    x_t = (noise(shape, rng) if init.noise is None else init.noise).to(device)
    if init.x_0 is not None:
        x_t = add_noise(init.x_0, x_t, torch.full((len(x_t),), solver_run.t[0], device=device))
    for i in range(steps):
        t = torch.full((len(x_t),), solver_run.t[i], device=device, dtype=x_t.dtype)
        for again in reversed(range(init.resample)):
            x_0 = denoise(x_t, t, cond)
            if init.keep is not None:
                x_0 = torch.where(init.keep, init.x_0, x_0)
            if again:
                x_t = _renoised(x_t, x_0, solver_run.t[i], solver_run.t[i + 1], noise(shape, rng).to(device))
        x_t = solver_run.step(i, x_t, x_0)
        yield x_0 if i + 1 < steps else x_t


def _renoised(x_t: Tensor, x_0: Tensor, t: float, s: float, eps: Tensor) -> Tensor:
    """From level t down to s by the deterministic step, and up to t with new noise: x_t given x_s is normal with mean
    (1 - t) / (1 - s) x_s, and its variance makes that of x_t given x_0 the square of t.
    """
    x_s, share = torch.lerp(x_0, x_t, s / t), (1 - t) / (1 - s)
    return share * x_s + math.sqrt(t**2 - (share * s) ** 2) * eps


@dataclass(frozen=True)
class Guided:
    """Classifier-free guidance: null + w (conditional - null); w = 1 is off, w = 0 ignores the condition.

    Both passes see the same x_t and run as one batch.

    Args:
        denoise: the conditional denoiser.
        null: maps a condition to its null condition.
        w: guidance scale.
        low, high: only noise levels t in this interval are guided.

    References:
        Classifier-Free Diffusion Guidance (Ho, Salimans, 2022)
        Applying Guidance in a Limited Interval Improves Sample and Distribution Quality (Kynkäänniemi et al., 2024)
    """

    denoise: Denoiser
    null: Callable[[Batch], Batch]
    w: float
    low: float = 0.0
    high: float = 1.0

    def __call__(self, x_t: Tensor, t: Tensor, cond: Batch) -> Tensor:
        everywhere = self.low <= 0 and self.high >= 1  # then a GPU need not be waited for
        if self.w == 1 or not (everywhere or self.low <= t[0].item() <= self.high):
            return self.denoise(x_t, t, cond)
        null_cond = self.null(cond)
        if self.w == 0:
            return self.denoise(x_t, t, null_cond)
        both = {name: torch.cat([cond[name], null_cond[name]]) for name in cond}
        conditional, null = self.denoise(torch.cat([x_t, x_t]), torch.cat([t, t]), both).chunk(2)
        return null + self.w * (conditional - null)


@dataclass(frozen=True)
class Autoguided:
    """Autoguidance: weak + w (good - weak); w = 1 is off.

    Args:
        denoise: the good denoiser.
        weak: a version that was trained for a shorter time; it makes similar but larger errors.
        w: guidance scale.

    References:
        Guiding a Diffusion Model with a Bad Version of Itself (Karras et al., 2024)
    """

    denoise: Denoiser
    weak: Denoiser
    w: float

    def __call__(self, x_t: Tensor, t: Tensor, cond: Batch) -> Tensor:
        good = self.denoise(x_t, t, cond)
        if self.w == 1:
            return good
        weak = self.weak(x_t, t, cond)
        return weak + self.w * (good - weak)
