"""Gradient caching: a batch that is larger than memory is embedded in chunks, with the gradients of the whole."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def in_chunks(compute: Callable[..., Tensor], size: int, *rows: Tensor) -> Tensor:
    """`compute` of `size` rows at a time, concatenated; 0 takes all at once.

    Where gradients are needed, a chunk is computed without storing activations, and once more, with the same random
    numbers, in the backward pass.

    References:
        Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup (Gao et al., 2021)
    """
    if not size or len(rows[0]) <= size:
        return compute(*rows)
    parts = zip(*(x.split(size) for x in rows))
    if not torch.is_grad_enabled():
        return torch.cat([compute(*part) for part in parts])
    return torch.cat([checkpoint(compute, *part, use_reentrant=False) for part in parts])
