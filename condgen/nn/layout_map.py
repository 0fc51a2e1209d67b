"""The layout map: a coarse map of what goes where, computed from the condition alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from condgen.contracts import Batch
from condgen.nn.layers import Block

LAYOUT = 32
"""Channels of the layout map."""


def bottom_edge(size: int, levels: int) -> int:
    """Edge of the lowest level; `ValueError` where images of this size cannot be halved so often."""
    if size % 2**levels:
        raise ValueError(f"images of {size} pixels cannot be halved {levels} times")
    return size // 2**levels


class Layout(nn.Module):
    """Encoded condition -> layout map, by a transformer over the places of the map.

    Every place attends to the tokens of the condition and to the other places.

    Args:
        width: of the condition tokens.
        edge: of the map.
        hidden: width of the transformer.
        depth: its blocks.
        heads: of every attention.
    """

    def __init__(self, width: int, edge: int, hidden: int = 64, depth: int = 3, heads: int = 4):
        super().__init__()
        self.edge = edge
        self.where = nn.Parameter(torch.randn(1, edge**2, hidden) * 0.5)
        self.blocks = nn.ModuleList(Block(hidden, heads, context_width=width) for _ in range(depth))
        self.out = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, LAYOUT))

    def forward(self, cond: Batch) -> Tensor:
        """-> (B, LAYOUT, edge, edge)"""
        places = torch.ones(len(cond["seen"]), self.edge**2, dtype=torch.bool, device=cond["seen"].device)
        mask = torch.cat([places, cond["seen"]], 1)
        h = self.where.expand(len(places), -1, -1)
        for block in self.blocks:
            h = block(h, mask, cond["tokens"])
        return self.out(h).transpose(1, 2).unflatten(2, (self.edge, self.edge))
