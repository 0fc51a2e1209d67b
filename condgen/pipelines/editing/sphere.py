"""Interpolation on the sphere of embeddings."""

from __future__ import annotations

import torch
from torch import Tensor

from condgen.priors.transformer import EmbeddingNormalizer


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Spherical interpolation of directions, linear interpolation of lengths: (N, Z) each.

    At t = 0 and t = 1 it is exactly a and b. If they have equal or opposite directions, it is the straight line.

    References:
        Animating Rotation with Quaternion Curves (Shoemake, 1985), slerp
        Sampling Generative Networks (White, 2016), for latents
    """
    if t in (0, 1):
        return b if t else a
    length_a, length_b = (x.norm(dim=1, keepdim=True) for x in (a, b))
    u, v = a / length_a.clamp(min=1e-12), b / length_b.clamp(min=1e-12)
    angle = (u * v).sum(1, keepdim=True).clamp(-1, 1).arccos()
    sine = angle.sin()
    arc = (((1 - t) * angle).sin() * u + (t * angle).sin() * v) / sine.clamp(min=1e-12)
    return torch.where(sine > 1e-4, arc * torch.lerp(length_a, length_b, t), torch.lerp(a, b, t))


def slerp_z(normalizer: EmbeddingNormalizer, a: Tensor, b: Tensor, t: float) -> Tensor:
    """`slerp` of normalised embeddings z, (N, D) each, in the space of the embeddings themselves."""
    if t in (0, 1):
        return b if t else a
    return normalizer(slerp(*(z * normalizer.sd + normalizer.mean for z in (a, b)), t))
