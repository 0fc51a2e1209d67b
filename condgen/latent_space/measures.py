"""Measures shared by several tools: pixel distances and realism."""

from __future__ import annotations

import math

from torch import Tensor

from condgen.latent_space.adapters import Images, LatentSpace, as_float, as_space
from condgen.metrics.prdc import nearest


def rmse(x: Tensor, y: Tensor) -> Tensor:
    """Root mean square difference of images (N, ...), on the scale of [-1, 1]: (N,)."""
    return (x - y).flatten(1).square().mean(1).sqrt()


def means(**columns: Tensor) -> dict[str, float]:
    """A row of a table: the mean of each column; underscores in names become spaces."""
    return {name.replace("_", " "): value.double().mean().item() for name, value in columns.items()}


def nearest_real(images: Tensor, real: Images) -> Tensor:
    """RMSE of each image to its nearest real image: (N,)."""
    return nearest(as_float(images).flatten(1), as_float(real).flatten(1))[0][:, 0] / math.sqrt(images[0].numel())


def realism(space: LatentSpace, images: Tensor, real: Images | None) -> dict[str, float]:
    """Mean RMSE of images to their reconstruction, and to the nearest real image.

    The first is small where the space models such images, the second where such images exist. A blurred image is near
    many images, so both are lower bounds of how unrealistic an image looks.
    """
    space, row = as_space(space), {"images": len(images)}
    if space.has_encoder:
        row |= means(to_its_reconstruction=rmse(space.reconstruct(images), images))
    if real is not None:
        row |= means(to_the_nearest_real_image=nearest_real(images, real))
    return row
