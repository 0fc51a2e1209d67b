"""Add and subtract the mean latents of sets of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from condgen.contracts import CondgenError
from condgen.latent_space.adapters import Images, LatentSpace, as_float, as_space
from condgen.latent_space.measures import realism
from condgen.latent_space.registry import Tool, ToolCall, option, positive, register
from condgen.latent_space.result import Analysis, sheet

SHOWN = 8
"""Images of each set on the sheet."""


@dataclass(frozen=True)
class Arithmetic(Analysis):
    """The result of `arithmetic`: the latent (1, Z) and its image (1, C, S, S)."""

    latent: Tensor
    image: Tensor


def arithmetic(
    space: LatentSpace, plus: Sequence[Images], minus: Sequence[Images] = (), real: Images | None = None
) -> Arithmetic:
    """Adds and subtracts the mean latents of sets of images: smiling women minus women plus men.

    Args:
        plus, minus: sets of images, (N, C, S, S) each.
        real: real images; the distance of the result to the nearest one is measured.

    Raises:
        CondgenError: there is no set, a set is empty, or there is no encoder.

    References:
        Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks (Radford et al.,
        2016), section 6.3.2
    """
    space = as_space(space)
    if not plus:
        raise CondgenError("There is no set of images to add. Name at least one.")
    terms = [(sign, as_float(images)) for sign, sets in ((1, plus), (-1, minus)) for images in sets]
    centers = [space.encode(images).mean(0, keepdim=True) for _, images in terms]
    latent = sum(sign * z for (sign, _), z in zip(terms, centers))
    image = space.decode(latent)
    pixels = sum(sign * images.mean(0, keepdim=True) for sign, images in terms).clamp(-1, 1)
    numbers = {"realism": {"latents": realism(space, image, real), "pixels": realism(space, pixels, real)}}
    rows = [
        ("plus" if sign > 0 else "minus", torch.cat([space.decode(z), images[:SHOWN]]), ["mean of the latents"])
        for (sign, images), z in zip(terms, centers)
    ]
    rows.append(("result", torch.cat([image, pixels]), ["of latents", "of pixels"]))
    return Arithmetic(numbers, {"arithmetic.png": sheet(rows)}, latent, image)


def run(call: ToolCall) -> Arithmetic:
    args = call.args
    plus, minus = ([call.source.load_set(name, args.n) for name in names] for names in (args.plus, args.minus))
    return arithmetic(call.space, plus, minus, call.real)


OPTIONS = (
    option("--plus", action="append", default=[], metavar="SET",
           help="a class or attribute value (colour=red) of the data, or images separated by commas; repeatable"),
    option("--minus", action="append", default=[], metavar="SET", help="a set to subtract; repeatable"),
    option("-n", type=positive, default=100, metavar="N", help="images of a class"),
)  # fmt: skip
register(Tool("arithmetic", __doc__, OPTIONS, run))
