"""One number of the code at a time: what does each of them say?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from condgen.contracts import CondgenError, short
from condgen.latent_space.adapters import Images, LatentSpace, decoded, encoded, encodes, posterior
from condgen.latent_space.result import Analysis, apart, sheet
from condgen.losses import kl_normal

MOST_ROWS = 12
"""Latents on the sheet where none are named."""


@dataclass(frozen=True)
class Traversal(Analysis):
    """What `traverse` found.

    Args:
        latents: which were moved, the most informative first.
        images: (N, latents, steps, C, S, S).
    """

    latents: list[int]
    images: Tensor


def traverse(
    space: LatentSpace, start: Tensor, latents: Sequence[int] = (), extent: float = 2.5, steps: int = 9,
    among: Images | None = None,
) -> Traversal:  # fmt: skip
    """Moves one latent through its range while the others stay as they are.

    Args:
        start: images (N, C, S, S), or codes (N, Z).
        latents: which to move; by default all, the most informative first (MOST_ROWS of them are drawn). Those are by
            their mean KL divergence from the prior where the space is a variational one and `among` is given, by their
            variance over `among` where it is none; without `among` by how much they change the image.
        extent: the range in standard deviations of the latent over `among`, around its mean; without, in units, around
            0.
        steps: images of a row.
        among: real images.

    Raises:
        CondgenError: no such latent, or a range that is none.
    """
    codes = start.float() if start.dim() == 2 else encoded(space, start)
    width = codes.shape[1]
    wrong = [k for k in latents if not 0 <= k < width]
    if wrong or steps < 2 or not extent > 0:
        raise CondgenError(
            f"Latents are 0 to {width - 1}, there are 2 steps or more, and the range is above 0; got {short(latents)}, "
            f"{steps} and {extent}."
        )
    middle, spread, facts = torch.zeros(width), torch.ones(width), {}
    if among is not None and encodes(space):
        mean, log_var = posterior(space, among)
        middle, spread = mean.mean(0), mean.std(0, correction=0)
        facts["variance"] = spread.square()
        if log_var is not None:
            facts = {"kl": kl_normal(mean, log_var).mean(0)} | facts
            spread = (mean.var(0, correction=0) + log_var.exp().mean(0)).sqrt()  # of the aggregate posterior
    chosen = list(latents) or list(range(width))
    values = middle[:, None] + spread[:, None] * torch.linspace(-extent, extent, steps)
    moved = codes[:, None, None].repeat(1, len(chosen), steps, 1)
    for row, k in enumerate(chosen):
        moved[:, row, :, k] = values[k]
    images = decoded(space, moved.flatten(0, 2)).unflatten(0, moved.shape[:3])
    ends = [images[:, :, side].flatten(0, 1) for side in (0, -1)]
    change = apart(*ends).unflatten(0, (len(codes), len(chosen))).mean(0)
    by = next(iter(facts.values()))[chosen] if facts else change
    order = by.argsort(descending=True).tolist()
    chosen, images = [chosen[i] for i in order], images[:, order]
    table = {}
    for row, k in enumerate(chosen):
        told = {name: value[k].item() for name, value in facts.items()}
        table[f"latent {k}"] = told | {"change of the image": change[order[row]].item()}
    first = next((name for name in facts), "change of the image")
    drawn = []
    for n in range(len(codes)):
        for row, k in enumerate(chosen[: MOST_ROWS if not latents else None]):
            title = f"latent {k}, {first} {table[f'latent {k}'][first]:.2g}"
            drawn.append((title, images[n, row], [f"{v:.2f}" for v in values[k].tolist()]))
    return Traversal({"latents": table}, {"traversal.png": sheet(drawn)}, chosen, images)
