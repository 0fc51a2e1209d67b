"""Guidance wraps a denoiser and is a denoiser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from condgen.contracts import Batch
from condgen.diffusion.precondition import Denoiser


@dataclass(frozen=True)
class Guided:
    """Classifier-free guidance: null + w (conditional - null); w = 1 is off, w = 0 ignores the condition.

    Both passes see the same x_t and run as one batch.

    Args:
        denoise: the conditional denoiser.
        null: turns a condition into one that says nothing.
        w: guidance scale.

    References:
        Classifier-Free Diffusion Guidance (Ho, Salimans, 2022)
    """

    denoise: Denoiser
    null: Callable[[Batch], Batch]
    w: float

    def __call__(self, x_t: Tensor, t: Tensor, cond: Batch) -> Tensor:
        if self.w == 1:
            return self.denoise(x_t, t, cond)
        nothing = self.null(cond)
        if self.w == 0:
            return self.denoise(x_t, t, nothing)
        both = {name: torch.cat([cond[name], nothing[name]]) for name in cond}
        conditional, null = self.denoise(torch.cat([x_t, x_t]), torch.cat([t, t]), both).chunk(2)
        return null + self.w * (conditional - null)
