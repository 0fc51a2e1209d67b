"""Attention, transformer blocks, residual convolutions, timestep embeddings; computing in chunks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint


class Attention(nn.Module):
    """Multi-head attention with normalised queries and keys, which keeps high learning rates stable.

    Without `qk_norm` it is the attention of the original transformer, with whose weights it is compatible.

    References:
        Scaling Vision Transformers to 22 Billion Parameters (Dehghani et al., 2023), for the normalisation
    """

    def __init__(self, width: int, heads: int, context_width: int | None = None, qk_norm: bool = True):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.context_kv = nn.Linear(context_width, 2 * width) if context_width else None
        self.q_norm = nn.RMSNorm(width // heads, eps=1e-6) if qk_norm else nn.Identity()
        self.k_norm = nn.RMSNorm(width // heads, eps=1e-6) if qk_norm else nn.Identity()
        self.out = nn.Linear(width, width)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        context: Tensor | None = None,
        causal: bool = False,
        cache: list[Tensor] | None = None,
    ) -> Tensor:
        """Every token attends to all tokens of x, of the context and of the cache.

        Args:
            x: (B, N, width).
            context: (B, K, context_width).
            mask: bool (B, M), False for those of the M tokens that are not attended to; or (B, N, M), a row for every
                token of x. M = N + K, or N after C cached tokens: M = C + N.
            causal: every token attends to itself and to those before it; without mask and context.
            cache: keys and values of the tokens of earlier calls; empty at the first. Those of x are added to it.
        """
        q, k, v = (self._split(part) for part in self.qkv(x).chunk(3, -1))
        if context is not None and self.context_kv is not None:
            more_k, more_v = (self._split(part) for part in self.context_kv(context).chunk(2, -1))
            k, v = torch.cat([k, more_k], 2), torch.cat([v, more_v], 2)
        k = self.k_norm(k)
        if cache is not None:
            cache[:] = k, v = [torch.cat([*pair], 2) for pair in zip(cache, (k, v))] if cache else [k, v]
        seen = mask if mask is None else mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]
        out = F.scaled_dot_product_attention(self.q_norm(q), k, v, attn_mask=seen, is_causal=causal)
        return self.out(out.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, N, width / heads)


class Block(nn.Module):
    """Pre-norm transformer block: attention, then an MLP."""

    def __init__(self, width: int, heads: int, context_width: int | None = None, expand: int = 4, qk_norm: bool = True):
        super().__init__()
        self.norm_1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads, context_width, qk_norm)
        self.norm_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, expand * width), nn.GELU(), nn.Linear(expand * width, width))

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        context: Tensor | None = None,
        causal: bool = False,
        cache: list[Tensor] | None = None,
    ) -> Tensor:
        """Arguments as of `Attention`."""
        x = x + self.attention(self.norm_1(x), mask, context, causal, cache)
        return x + self.mlp(self.norm_2(x))


class ResBlock(nn.Module):
    """Two 3x3 convolutions with group norm and a skip connection; an optional condition vector scales and shifts the
    second norm.

    References:
        Diffusion Models Beat GANs on Image Synthesis (Dhariwal, Nichol, 2021), adaptive group norm
    """

    def __init__(self, in_channels: int, channels: int, cond_width: int | None = None):
        super().__init__()
        self.norm_1 = nn.GroupNorm(_groups(in_channels), in_channels)
        self.conv_1 = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.norm_2 = nn.GroupNorm(_groups(channels), channels)
        self.conv_2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulate = nn.Linear(cond_width, 2 * channels) if cond_width else None
        self.skip = nn.Conv2d(in_channels, channels, 1) if in_channels != channels else nn.Identity()
        nn.init.zeros_(self.conv_2.weight)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        h = self.norm_2(self.conv_1(F.silu(self.norm_1(x))))
        if self.modulate is not None and cond is not None:
            scale, shift = self.modulate(cond)[:, :, None, None].chunk(2, 1)
            h = h * (1 + scale) + shift
        return self.skip(x) + self.conv_2(F.silu(h))


def _groups(channels: int) -> int:
    return math.gcd(8, channels)


def timestep_embedding(t: Tensor, width: int) -> Tensor:
    """Sinusoidal embedding of a noise level in [0, 1]: (B,) -> (B, width)."""
    frequencies = torch.exp(torch.linspace(0, math.log(1000.0), width // 2, device=t.device))
    angles = t.float()[:, None] * frequencies[None]
    return torch.cat([angles.sin(), angles.cos()], 1)


def in_chunks(compute: Callable[..., Tensor], size: int, *rows: Tensor) -> Tensor:
    """Applies `compute` to `size` rows at a time and concatenates the results; 0 takes all rows at once.

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


FEW = {F.linear: 8, F.conv2d: 16}
"""Layer -> rows or pixels of an image up to which `PerImage` computes it by itself."""


class PerImage(TorchFunctionMode):
    """Within this context, layers over a few rows or pixels compute each image of a batch by itself, with one thread.

    Matrix libraries take other kernels for a few rows than for many, so that sums are rounded differently. With this
    mode, an image of a batch has the same bits as one that is computed alone with one thread, where the kernels for
    many rows do not depend on their number.

    Args:
        images: number of images B; the first dimension of inputs is B or a multiple, and row i and every B-th after it
            belong to image i.
    """

    def __init__(self, images: int):
        super().__init__()
        self.images = images

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func not in FEW or len(args[0]) % self.images:
            return func(*args, **kwargs)
        x, *rest = args
        features = x.shape[-1] if func is F.linear else x.shape[1]
        if x.numel() > FEW[func] * features * self.images:
            return func(*args, **kwargs)
        layout = torch.preserve_format
        if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
            layout = torch.channels_last
        out = None
        with one_thread():
            for i in range(self.images):
                row = func(x[i :: self.images].clone(memory_format=layout), *rest, **kwargs)
                if out is None:
                    out = torch.empty_like(row.repeat(self.images, *[1] * (row.ndim - 1)))
                    if row.ndim == 4 and row.is_contiguous(memory_format=torch.channels_last):
                        out = out.contiguous(memory_format=torch.channels_last)
                out[i :: self.images] = row
        return out


@contextmanager
def one_thread() -> Iterator[None]:
    """Within this context, torch computes with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
