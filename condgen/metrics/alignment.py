"""How well embeddings agree: swaps, retrieval, and whether a prior's guess lies where the picture's embedding lies."""

from __future__ import annotations

import torch
from torch import Tensor


def swap_accuracy(image_embed: Tensor, true_embed: Tensor, wrong_embed: Tensor) -> float:
    """Share of pictures that lie closer to their caption than to the swapped one; a tie counts as wrong.

    Args:
        image_embed, true_embed, wrong_embed: unit vectors, (N, D) each.
    """
    return ((image_embed * true_embed).sum(1) > (image_embed * wrong_embed).sum(1)).float().mean().item()


def retrieval_at_1(query: Tensor, gallery: Tensor, same: Tensor) -> float:
    """Share of queries whose nearest gallery entry is a right one.

    Args:
        query: unit vectors (N, D). gallery: unit vectors (M, D).
        same: bool (N, M), every right entry; entries with an equal text are all right.
    """
    best = (query @ gallery.T).argmax(1)
    return same[torch.arange(len(query)), best].float().mean().item()


def prior_report(predicted: Tensor, image_embed: Tensor, text_embed: Tensor, same: Tensor) -> dict[str, float]:
    """What a prior is judged by, on pictures it never saw.

    Args:
        predicted: the prior's image embeddings for N captions, unit length, (N, D).
        image_embed: embeddings of the pictures that the captions belong to, (N, D).
        text_embed: embeddings of the captions, (N, D).
        same: bool (N, N), [i, j] whether caption i is among the captions of picture j.

    Returns:
        cosines to the true image embedding, to the caption and to an unrelated caption; recall at 1 of the picture
        among the N (any picture with that caption is a hit); the variance of the predictions over that of the true
        embeddings (1 is right, 0 is collapse to the mean; NaN where N is 1).
    """
    shifted = torch.roll(text_embed, len(text_embed) // 2, 0)
    return {
        "cos_true": (predicted * image_embed).sum(1).mean().item(),
        "cos_text": (predicted * text_embed).sum(1).mean().item(),
        "cos_unrelated": (predicted * shifted).sum(1).mean().item(),
        "recall_at_1": retrieval_at_1(predicted, image_embed, same),
        "variance_ratio": (predicted.var(0, correction=0).sum() / image_embed.var(0, correction=0).sum()).item(),
    }
