"""Interpolation on the sphere of embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from condgen.priors.transformer import EmbeddingNormalizer

ITERATIONS = 50
"""Steps of the search for a mean, at most; it takes about five."""


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
    return normalizer(slerp(normalizer.unscaled(a), normalizer.unscaled(b), t))


def spherical_mean(points: Tensor, weights: Sequence[float]) -> Tensor:
    """The weighted mean of K points on the sphere, and of their lengths: (K, Z) -> (Z,); for two points it is `slerp`.

    The mean is the point whose weighted sum of tangents to the points is zero. With the whole weight at one point it
    is exactly that point.

    Args:
        weights: not negative; their sum is 1.

    References:
        Spherical Averages and Applications to Spherical Splines and Interpolation (Buss, Fillmore, 2001), algorithm A1
    """
    used = [k for k, weight in enumerate(weights) if weight > 0]
    if len(used) <= 2:
        a, b = points[used[0]], points[used[-1]]
        return slerp(a[None], b[None], 0.0 if len(used) == 1 else weights[used[1]])[0]
    weight = torch.tensor([weights[k] for k in used], dtype=torch.float64)[:, None]
    chosen = points[used].cpu().double()
    length = chosen.norm(dim=1, keepdim=True)
    unit = chosen / length.clamp(min=1e-12)
    mean = normalize((weight * unit).sum(0), dim=0)
    for _ in range(ITERATIONS):
        cosine = (unit @ mean).clamp(-1, 1)[:, None]
        tangent = unit - cosine * mean
        step = (weight * tangent * (cosine.arccos() / tangent.norm(dim=1, keepdim=True).clamp(min=1e-12))).sum(0)
        size = step.norm()
        if size < 1e-12:
            break
        mean = normalize(size.cos() * mean + size.sin() * step / size, dim=0)
    return (mean * (weight * length).sum()).to(points)
