"""Deterministic inversion: the noise from which a denoiser generates a given image."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from condgen.contracts import Batch
from condgen.diffusion.objectives import Denoiser
from condgen.diffusion.samplers import levels

CORRECTIONS = 1
"""Corrections of the first step. Further ones reconstruct slightly better, but the variance of the noise grows."""


@torch.inference_mode()
def invert(denoise: Denoiser, x_0: Tensor, cond: Batch, steps: int) -> Iterator[Tensor]:
    """Yields x_t after every step from the image to noise: `steps` times (B, *shape); the last one is the noise.

    Every step reverses that of the deterministic first-order solver, x_s = (s/t) x_t + (1 - s/t) D(x_t, t), with the
    denoiser's estimate D(x_s, s) at the lower level in place of D(x_t, t). At s = 0 there is no such estimate: the
    first step looks for the x_t that is denoised to x_0.

    Args:
        denoise: a denoiser; guidance would lead away from noise of variance 1.
        x_0: (B, *shape).
        cond: the conditions of B images.
        steps: number of noise levels; the more, the smaller the error.

    References:
        Denoising Diffusion Implicit Models (Song et al., 2021), section 4.3
        Hierarchical Text-Conditional Image Generation with CLIP Latents (Ramesh et al., 2022), section 3
    """
    first, *rest = sorted(levels(steps))[1:]

    def x_0_at(x: Tensor, t: float) -> Tensor:
        return denoise(x, torch.full((len(x),), t, device=x.device, dtype=x.dtype), cond)

    x = x_0
    for _ in range(CORRECTIONS):
        x = x + x_0 - x_0_at(x, first)
    yield x
    for s, t in pairwise([first, *rest]):
        x = t / s * x + (1 - t / s) * x_0_at(x, s)
        yield x
