"""Find the nearest images by latents and by pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from condgen.data.attributes import LABEL
from condgen.data.datasets.labels import LabelledImages
from condgen.latent_space.adapters import LatentSpace, as_float, as_space
from condgen.latent_space.measures import means, rmse
from condgen.latent_space.registry import Tool, ToolCall, images_option, option, positive, register
from condgen.latent_space.result import Analysis, sheet
from condgen.metrics.prdc import nearest

SHOWN = 8
"""Images on the sheet."""


@dataclass(frozen=True)
class Neighbours(Analysis):
    """The result of `neighbours`: rows of `real`, the nearest first, int64 (N, K) each."""

    by_latents: Tensor
    by_pixels: Tensor


def neighbours(
    space: LatentSpace, images: Tensor, real: LabelledImages, k: int = 6, labels: Tensor | None = None
) -> Neighbours:
    """Finds the nearest images among latents, and among pixels.

    Args:
        images: (N, C, S, S).
        real: images to search; an image that is among them is not its own neighbour.
        k: neighbours of each image.
        labels: int64 (N,), the classes of `images`, to measure how often neighbours share them.

    Raises:
        CondgenError: there is no encoder, or the images have a wrong shape.
    """
    space = as_space(space)
    images, pixels = as_float(images), as_float(real.images)
    spaces = {
        "latents": (space.encode(images), space.encode(pixels)),
        "pixels": (images.flatten(1), pixels.flatten(1)),
    }
    found = {name: _others(x, y, images, pixels, min(k, len(real))) for name, (x, y) in spaces.items()}
    table: dict[str, dict[str, float]] = {}
    for name, rows in found.items():
        table[name] = {}
        if labels is not None and LABEL in [factor.name for factor in real.attributes]:
            same = torch.from_numpy(real.labels)[rows] == labels[:, None]
            table[name]["of the same class"] = same.double().mean().item()
        table[name] |= means(distance_in_pixels=torch.stack([rmse(images, pixels[one]) for one in rows.T]))
    shared = (found["latents"][:, :, None] == found["pixels"][:, None, :]).any(2).double().mean().item()
    rows = [
        (f"by {name} ({i + 1})", torch.cat([images[i : i + 1], pixels[found[name][i]]]), ["image"])
        for i in range(min(SHOWN, len(images)))
        for name in found
    ]
    numbers = {"neighbours": table | {"both": {"shared": shared}}}
    return Neighbours(numbers, {"neighbours.png": sheet(rows)}, found["latents"], found["pixels"])


def _others(x: Tensor, y: Tensor, images: Tensor, real: Tensor, k: int) -> Tensor:
    """Rows of y that are the k nearest to x, except for those with the same pixels."""
    rows = nearest(x, y, min(k + 1, len(y)))[1]
    same = torch.stack([(real[one] == images).flatten(1).all(1) for one in rows.T], 1)
    order = same.int().argsort(dim=1, stable=True)  # moved to the end; the others keep their order
    return rows.gather(1, order)[:, :k]


def run(call: ToolCall) -> Neighbours:
    names, source = call.names(200), call.source
    return neighbours(call.space, source.load(names), source.train, call.args.k, source.labels(names))


OPTIONS = (
    images_option("200 of the data"),
    option("-k", type=positive, default=6, metavar="K", help="neighbours of each image"),
)
register(Tool("neighbours", __doc__, OPTIONS, run))
