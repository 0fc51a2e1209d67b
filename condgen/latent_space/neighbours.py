"""How near images are to real ones, in pixels and in codes; and which real ones are the nearest."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from condgen.data.attributes import LABEL
from condgen.data.datasets.labels import LabelledImages
from condgen.latent_space.adapters import Images, LatentSpace, as_float, encoded, encodes, rebuilt
from condgen.latent_space.result import Analysis, apart, mean_of, sheet
from condgen.metrics.prdc import nearest

SHOWN = 8
"""Images on the sheet."""


def nearest_real(images: Tensor, among: Images) -> Tensor:
    """Distance of images to the nearest of some others, per pixel (see `study.apart`): (N,)."""
    return nearest(as_float(images).flatten(1), as_float(among).flatten(1))[0][:, 0] / math.sqrt(images[0].numel())


def realism(space: LatentSpace, images: Tensor, among: Images | None) -> dict[str, float]:
    """Means over images: the distance to what the space makes of them, and to the nearest real image.

    The first is small where the space knows such images, the second where there are such images; a soft image is
    near to many, so both are lower bounds of how wrong an image looks.
    """
    row = {"pictures": len(images)}
    if encodes(space):
        row |= mean_of(to_its_reconstruction=apart(rebuilt(space, images), images))
    if among is not None:
        row |= mean_of(to_the_nearest_real_picture=nearest_real(images, among))
    return row


@dataclass(frozen=True)
class Neighbours(Analysis):
    """What `neighbours` found.

    Args:
        by_code, by_pixels: rows of the images that were looked through, the nearest first, int64 (N, K) each.
    """

    by_code: Tensor
    by_pixels: Tensor


def neighbours(
    space: LatentSpace, images: Images, among: LabelledImages, k: int = 6, labels: Tensor | None = None
) -> Neighbours:
    """The nearest images in the space of codes, and in that of pixels.

    Args:
        images: (N, C, S, S).
        among: images to look through; an image that is there itself is passed over.
        k: neighbours of each.
        labels: int64 (N,), the classes of `images`, where `among` has classes: how often neighbours share them is told.

    Raises:
        CondgenError: there is no encoder, or the images do not fit.
    """
    images = as_float(images)
    real = as_float(among.images)
    spaces = {"codes": (encoded(space, images), encoded(space, real)), "pixels": (images.flatten(1), real.flatten(1))}
    k = min(k, len(among))
    found = {name: _others(x, y, images, real, k) for name, (x, y) in spaces.items()}
    table: dict[str, dict[str, float]] = {name: {} for name in found}
    if labels is not None and LABEL in [attribute.name for attribute in among.attributes]:
        own = torch.from_numpy(among.labels)
        for name, rows in found.items():
            table[name]["of the same class"] = (own[rows] == labels[:, None]).double().mean().item()
    for name, rows in found.items():
        table[name] |= mean_of(apart_in_pixels=torch.stack([apart(images, real[one]) for one in rows.T]))
    both = (found["codes"][:, :, None] == found["pixels"][:, None, :]).any(2).double().mean().item()
    rows = []
    for i in range(min(SHOWN, len(images))):
        rows.append((f"by codes ({i + 1})", torch.cat([images[i : i + 1], real[found["codes"][i]]]), ["the image"]))
        rows.append(("by pixels", torch.cat([images[i : i + 1], real[found["pixels"][i]]]), ["the image"]))
    numbers = {"neighbours": table | {"both": {"shared": both}}}
    return Neighbours(numbers, {"neighbours.png": sheet(rows)}, found["codes"], found["pixels"])


def _others(x: Tensor, among: Tensor, images: Tensor, real: Tensor, k: int) -> Tensor:
    """Rows of the k nearest, without the image itself where it is there."""
    rows = nearest(x, among, min(k + 1, len(among)))[1]
    itself = torch.stack([(real[own] == images).flatten(1).all(1) for own in rows.T], 1)
    order = itself.int().argsort(dim=1, stable=True)  # itself goes last, the others keep their order
    return rows.gather(1, order)[:, :k]
