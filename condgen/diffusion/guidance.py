"""Guidance wraps a denoiser and is a denoiser: classifier-free guidance and autoguidance."""

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
        null: gives the null condition of a condition.
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
        if self.w == 1 or not self.low <= t[0].item() <= self.high:
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
        weak: a version of it that was trained for less long: it makes the same errors, larger.
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
