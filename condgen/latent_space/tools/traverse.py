"""Change one latent dimension at a time, the most informative first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from condgen.contracts import CondgenError, short
from condgen.latent_space.adapters import Images, LatentSpace, as_space
from condgen.latent_space.measures import rmse
from condgen.latent_space.registry import Tool, ToolCall, images_option, option, register, separated
from condgen.latent_space.result import Analysis, sheet
from condgen.losses import kl_normal

MAX_ROWS = 12
"""Number of dimensions on the sheet if none are named."""


@dataclass(frozen=True)
class Traversal(Analysis):
    """The result of `traverse`: the dimensions, most informative first; images (N, dimensions, steps, C, S, S)."""

    dimensions: list[int]
    images: Tensor


def traverse(
    space: LatentSpace, start: Tensor, dimensions: Sequence[int] = (), extent: float = 2.5, steps: int = 9,
    real: Images | None = None,
) -> Traversal:  # fmt: skip
    """Moves one latent dimension through its range while the others stay fixed.

    Args:
        start: images (N, C, S, S), or latents (N, Z).
        dimensions: dimensions to move; by default all, of which MAX_ROWS are drawn. With `real` they are ordered by
            mean KL divergence from the prior in a variational space, and by variance in others; without `real` by the
            change of the image.
        extent: the range in standard deviations of the dimension over `real`, around its mean; without `real` in
            units around 0.
        steps: images in a row.
        real: real images.

    Raises:
        CondgenError: a dimension is unknown, there are fewer than two steps, or the extent is not positive.
    """
    space = as_space(space)
    latents = start.float() if start.dim() == 2 else space.encode(start)
    width = latents.shape[1]
    if [k for k in dimensions if not 0 <= k < width] or steps < 2 or not extent > 0:
        raise CondgenError(
            f"Expected dimensions from 0 to {width - 1}, 2 steps or more and a range above 0; got {short(dimensions)}, "
            f"{steps} and {extent}."
        )
    center, spread, statistics = torch.zeros(width), torch.ones(width), {}
    if real is not None and space.has_encoder:
        mean, log_var = space.posterior(real)
        center, spread = mean.mean(0), mean.std(0, correction=0)
        statistics["variance"] = spread.square()
        if log_var is not None:
            statistics = {"kl": kl_normal(mean, log_var).mean(0)} | statistics
            spread = (mean.var(0, correction=0) + log_var.exp().mean(0)).sqrt()  # of the aggregate posterior
    chosen = list(dimensions) or list(range(width))
    values = center[:, None] + spread[:, None] * torch.linspace(-extent, extent, steps)
    moved = latents[:, None, None].repeat(1, len(chosen), steps, 1)
    for row, k in enumerate(chosen):
        moved[:, row, :, k] = values[k]
    images = space.decode(moved.flatten(0, 2)).unflatten(0, moved.shape[:3])
    first, last = (images[:, :, end].flatten(0, 1) for end in (0, -1))
    change = rmse(first, last).unflatten(0, (len(latents), len(chosen))).mean(0)
    columns = {name: value[chosen] for name, value in statistics.items()} | {"change of the image": change}
    key = next(iter(columns))
    order = columns[key].argsort(descending=True).tolist()
    table = {f"latent {chosen[i]}": {name: value[i].item() for name, value in columns.items()} for i in order}
    chosen, images = [chosen[i] for i in order], images[:, order]
    rows = [
        (f"latent {k}, {key} {table[f'latent {k}'][key]:.2g}", image[row], [f"{v:.2f}" for v in values[k].tolist()])
        for image in images
        for row, k in enumerate(chosen[: None if dimensions else MAX_ROWS])
    ]
    return Traversal({"latents": table}, {"traversal.png": sheet(rows)}, chosen, images)


def run(call: ToolCall) -> Traversal:
    start, args = call.source.load(call.names(1)), call.args
    return traverse(call.space, start, args.dimensions, args.range, args.steps, call.real)


OPTIONS = (
    images_option("the first of the data"),
    option("--dimensions", type=separated(int), default=(), metavar="K,K",
           help="latent dimensions to change, from 0 (default all, the most informative first)"),
    option("--range", type=float, default=2.5, metavar="R", help="how far, in standard deviations"),
    option("--steps", type=int, default=9, metavar="K", help="images in a row"),
)  # fmt: skip
register(Tool("traverse", __doc__, OPTIONS, run))
