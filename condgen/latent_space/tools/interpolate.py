"""Interpolate between images: in pixel space, along a line of latents, along an arc of latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from condgen.contracts import CondgenError, short
from condgen.latent_space.adapters import Images, LatentSpace, as_float, as_space
from condgen.latent_space.measures import realism
from condgen.latent_space.registry import Tool, ToolCall, images_option, option, register, separated
from condgen.latent_space.result import Analysis, Numbers, animation, sheet
from condgen.pipelines.editing.sphere import slerp

PATHS = {"pixels": "line of pixels", "line": "line of latents", "sphere": "arc of latents"}
SHOWN = 6
"""Pairs on the sheet."""


@dataclass(frozen=True)
class Interpolation(Analysis):
    """The result of `interpolate`; `images`: path -> (N, steps, C, S, S)."""

    images: dict[str, Tensor]


def interpolate(
    space: LatentSpace, a: Tensor, b: Tensor, steps: int = 9, paths: Sequence[str] = tuple(PATHS),
    real: Images | None = None,
) -> Interpolation:  # fmt: skip
    """Interpolates from each image of `a` to that of `b`.

    Args:
        a, b: images (N, C, S, S), or latents (N, Z).
        steps: images on a path, including both ends.
        paths: `pixels`, the weighted mean of both images; `line`, the weighted mean of their latents; `sphere`, latents
            along a great circle, with the length interpolated: nearly all of a normal distribution in many dimensions
            lies at one distance from the origin, and a line leaves that region.
        real: real images; the distance of the interpolated images to the nearest one is measured.

    Raises:
        CondgenError: there are fewer than three steps, a path is unknown, images have a wrong shape, or there is no
            encoder for them.
    """
    space = as_space(space)
    if steps < 3 or not paths or set(paths) - set(PATHS):
        raise CondgenError(f"Expected 3 steps or more and some of the paths {', '.join(PATHS)}; got {steps}, "
                           f"{short(paths)}.")  # fmt: skip
    if a.shape != b.shape or not len(a):
        raise CondgenError(f"Expected as many end images as start images, got {len(a)} and {len(b)}.")
    z_a, z_b = (ends if ends.dim() == 2 else space.encode(ends) for ends in (a, b))
    x_a, x_b = (as_float(ends) if ends.dim() == 4 else space.decode(ends) for ends in (a, b))
    shares = torch.linspace(0, 1, steps).tolist()
    found = {}
    for path in paths:
        if path == "pixels":
            images = [torch.lerp(x_a, x_b, t) for t in shares]
        else:
            images = [space.decode((slerp if path == "sphere" else torch.lerp)(z_a, z_b, t)) for t in shares]
        found[path] = torch.stack(images, 1)
    numbers: Numbers = {}
    if real is not None or space.has_encoder:
        table = {PATHS[path]: realism(space, images[:, 1:-1].flatten(0, 1), real) for path, images in found.items()}
        numbers["realism"] = table | {"both ends": realism(space, torch.cat([x_a, x_b]), real)}
    return Interpolation(numbers, _draw(found, shares), found)


def _draw(found: dict[str, Tensor], shares: list[float]) -> dict[str, bytes]:
    pairs = range(min(SHOWN, len(next(iter(found.values())))))
    rows = [(PATHS[path], images[k], [f"{t:.2f}" for t in shares]) for k in pairs for path, images in found.items()]
    frames = [torch.cat([images[:1, i] for images in found.values()]) for i in range(len(shares))]
    gif = animation(frames, [PATHS[path] for path in found])
    return {"interpolation.png": sheet(rows), "interpolation.gif": gif}


def run(call: ToolCall) -> Interpolation:
    ends = call.source.load(call.names(6))
    if len(ends) % 2:
        raise CondgenError(f"An interpolation has two ends: name an even number of images, not {len(ends)}.")
    return interpolate(call.space, ends[::2], ends[1::2], call.args.steps, call.args.paths, call.real)


OPTIONS = (
    images_option("three pairs of the data"),
    option("--steps", type=int, default=9, metavar="K", help="images on a path"),
    option(
        "--paths",
        type=separated(),
        default=tuple(PATHS),
        metavar="A,B",
        help=f"some of {', '.join(PATHS)} (default all)",
    ),
)
register(Tool("interpolate", __doc__, OPTIONS, run))
