"""What the images of operations are decoded from, and as arguments of a decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from condgen.diffusion.samplers import Init
from condgen.pipelines.generation import EmbeddingPipeline


@dataclass(frozen=True)
class Decoding:
    """What one image is decoded from.

    Args:
        z: (D,), after the normalizer.
        prompt: words for the decoder, '' for none.
        noise: eps (C, S, S) in place of noise from the seed.
        image: (C, S, S) in [-1, 1], to begin from.
        t: noise level at which sampling begins.
        keep: bool (1, S, S): True where `image` stays.
        resample: calls of the denoiser at every level.
        use_z: False decodes without z.
        negative: words to steer away from, '' for none.
        negative_z: z to steer away from, (D,), None for none.
    """

    z: Tensor
    prompt: str = ""
    noise: Tensor | None = None
    image: Tensor | None = None
    t: float = 1.0
    keep: Tensor | None = None
    resample: int = 1
    use_z: bool = True
    negative: str = ""
    negative_z: Tensor | None = None


def init_of(rows: Sequence[Decoding]) -> Init | None:
    """Where the sampler begins for a batch; None for the usual beginning of every row."""
    parts = {name: [getattr(row, name) for row in rows] for name in ("noise", "image", "keep")}
    given = {name: torch.stack(values) for name, values in parts.items() if values[0] is not None}
    if not given:
        return None
    return Init(given.get("noise"), given.get("image"), rows[0].t, given.get("keep"), rows[0].resample)


def negative_of(model: EmbeddingPipeline, rows: Sequence[Decoding]) -> dict[str, Any]:
    """The condition to steer away from, as `sample` takes it; rows without one have the null condition."""
    given = [row.negative_z for row in rows]
    if not any(row.negative for row in rows) and all(one is None for one in given):
        return {}
    own = torch.stack([torch.zeros_like(row.z) if one is None else one for one, row in zip(given, rows)])
    cond = model.condition(own, [row.negative for row in rows])
    cond["has_z"] = torch.tensor([one is not None for one in given], device=model.device)
    return {"negative": cond}
