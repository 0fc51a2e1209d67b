"""Guidance wraps a denoiser and is a denoiser: by what it says to nothing at all, or by a worse version of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from condgen.contracts import Batch
from condgen.diffusion.objectives import Denoiser


@dataclass(frozen=True)
class Guided:
    """Classifier-free guidance: null + w (conditional - null); w = 1 is off, w = 0 ignores the condition.

    Both passes see the same x_t and run as one batch.

    Args:
        denoise: the conditional denoiser.
        null: turns a condition into one that says nothing.
        w: guidance scale.
        low, high: the interval of noise levels t that are guided; the others are not.

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
        if self.w == 1 or not self.low <= t[0].item() <= self.high:
            return self.denoise(x_t, t, cond)
        nothing = self.null(cond)
        if self.w == 0:
            return self.denoise(x_t, t, nothing)
        both = {name: torch.cat([cond[name], nothing[name]]) for name in cond}
        conditional, null = self.denoise(torch.cat([x_t, x_t]), torch.cat([t, t]), both).chunk(2)
        return null + self.w * (conditional - null)


@dataclass(frozen=True)
class Autoguided:
    """Guidance by a worse version of the same denoiser: weak + w (good - weak); w = 1 is off.

    Args:
        denoise: the good one.
        weak: one that was trained for less long, which errs the same way and further.
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
