"""From one image to another: through the pixels, along a line of codes, around a sphere of codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from condgen.contracts import CondgenError, short
from condgen.latent_space.adapters import Images, LatentSpace, as_float, decoded, encoded, encodes
from condgen.latent_space.neighbours import realism
from condgen.latent_space.result import Analysis, Numbers, film, sheet

WAYS = ("pixels", "line", "sphere")
TITLES = {"pixels": "line of pixels", "line": "line of codes", "sphere": "arc of codes"}
SHOWN = 6
"""Pairs on the sheet."""


@dataclass(frozen=True)
class Interpolation(Analysis):
    """What `interpolate` found.

    Args:
        images: way -> (N, steps, C, S, S).
    """

    images: dict[str, Tensor]


def interpolate(
    space: LatentSpace, a: Tensor, b: Tensor, steps: int = 9, ways: Sequence[str] = WAYS, among: Images | None = None
) -> Interpolation:
    """Goes from each image of `a` to that of `b`.

    Args:
        a, b: images (N, C, S, S); or codes (N, Z), whose ends are what the space paints from them.
        steps: images of a way, both ends among them.
        ways: `pixels`, the weighted mean of the two images; `line`, of their codes; `sphere`, the codes along a great
            circle, while their length goes evenly from one to the other: of a normal in many dimensions nearly all lies
            at one distance from the middle, and a line goes through where nothing is.
        among: real images to measure how near the images between the ends are to any of these.

    Raises:
        CondgenError: fewer than three steps, an unknown way, images that do not fit, or no encoder for them.
    """
    if steps < 3 or not ways or set(ways) - set(WAYS):
        raise CondgenError(f"There are 3 steps or more, and the ways {', '.join(WAYS)}; got {steps}, {short(ways)}.")
    if a.shape != b.shape or not len(a):
        raise CondgenError(f"There must be as many images to go to as to start from: {len(a)} and {len(b)}.")
    z_a, z_b = (ends if ends.dim() == 2 else encoded(space, ends) for ends in (a, b))
    x_a, x_b = (as_float(ends) if ends.dim() == 4 else decoded(space, ends) for ends in (a, b))
    at = torch.linspace(0, 1, steps)
    found = {}
    for way in ways:
        between = [arc(z_a, z_b, t) if way == "sphere" else torch.lerp(z_a, z_b, t) for t in at.tolist()]
        images = [torch.lerp(x_a, x_b, t) for t in at.tolist()] if way == "pixels" else None
        images = images or [decoded(space, z) for z in between]
        found[way] = torch.stack(images, 1)
    return Interpolation(_numbers(space, found, torch.cat([x_a, x_b]), among), _drawn(found, at.tolist()), found)


def arc(a: Tensor, b: Tensor, t: float) -> Tensor:
    """The point a share t of the angle from a to b, its length that share between theirs: (N, Z) each.

    Where a and b have opposite or the same directions, the straight line.

    References:
        Animating Rotation with Quaternion Curves (Shoemake, 1985), slerp
        Sampling Generative Networks (White, 2016), for codes
    """
    length_a, length_b = (x.norm(dim=1, keepdim=True) for x in (a, b))
    u, v = a / length_a.clamp(min=1e-12), b / length_b.clamp(min=1e-12)
    angle = (u * v).sum(1, keepdim=True).clamp(-1, 1).arccos()
    sine = angle.sin()
    round_ = (((1 - t) * angle).sin() * u + (t * angle).sin() * v) / sine.clamp(min=1e-12)
    return torch.where(sine > 1e-4, round_ * torch.lerp(length_a, length_b, t), torch.lerp(a, b, t))


def _numbers(space: LatentSpace, found: dict[str, Tensor], ends: Tensor, among: Images | None) -> Numbers:
    """How real the images between the ends are, beside the ends themselves."""
    if among is None and not encodes(space):
        return {}
    table = {TITLES[way]: realism(space, images[:, 1:-1].flatten(0, 1), among) for way, images in found.items()}
    return {"how_real": table | {"the two ends": realism(space, ends, among)}}


def _drawn(found: dict[str, Tensor], at: list[float]) -> dict[str, bytes]:
    pairs = range(min(SHOWN, len(next(iter(found.values())))))
    rows = [(TITLES[way], images[k], [f"{t:.2f}" for t in at]) for k in pairs for way, images in found.items()]
    frames = [torch.cat([images[: len(pairs), i] for images in found.values()]) for i in range(len(at))]
    titles = [TITLES[way] for way in found for _ in pairs]
    if len(pairs) > 1:  # one pair in a film is enough to see the ways side by side
        frames, titles = [frame[:: len(pairs)] for frame in frames], titles[:: len(pairs)]
    return {"interpolation.png": sheet(rows), "interpolation.gif": film(frames, titles)}
