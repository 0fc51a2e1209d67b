"""Agreement of embeddings: swapped captions, retrieval, and the predictions of priors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from condgen.contracts import Undefined

ROWS = 1024
"""Rows of a matrix of similarities that are held at a time."""


def swap_accuracy(image_embed: Tensor, true_embed: Tensor, wrong_embed: Tensor) -> float:
    """Share of images that are closer to their caption than to the swapped one; a tie counts as wrong.

    Args:
        image_embed, true_embed, wrong_embed: unit vectors, (N, D) each.
    """
    return ((image_embed * true_embed).sum(1) > (image_embed * wrong_embed).sum(1)).float().mean().item()


def wrong_before(query: Tensor, gallery: Tensor, same: Tensor) -> Tensor:
    """For every query, the number of wrong entries at least as near as its nearest correct one, int64 (N,).

    Ties count as wrong, so that an encoder that maps everything to one vector scores 0.

    Args:
        query: unit vectors (N, D). gallery: unit vectors (M, D).
        same: bool (N, M), true for correct entries; all entries with an equal text are correct.

    Returns:
        0 where the nearest entry is correct; M where no entry is correct.
    """
    near, same = query @ gallery.T, same.to(query.device)
    best = near.masked_fill(~same, -torch.inf).amax(1, keepdim=True)
    return ((near >= best) & ~same).sum(1)


def retrieval_at_1(query: Tensor, gallery: Tensor, same: Tensor) -> float:
    """Share of queries whose nearest gallery entry is correct; arguments as in `wrong_before`.

    It is `Undefined` where every entry is correct, so that any order would score 1.
    """
    if same.all():
        return Undefined(_nothing_wrong(same.shape[1]))
    return (wrong_before(query, gallery, same) == 0).float().mean().item()


def retrieval(
    query: Tensor, gallery: Tensor, query_keys: Tensor, gallery_keys: Tensor, at: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """Share of queries with a correct entry among their k nearest, and its expectation for a random order.

    Args:
        query: unit vectors (N, D). gallery: unit vectors (M, D).
        query_keys, gallery_keys: int64 (N, A) and (M, B), numbers of the texts of each row, -1 for none; an entry is
            correct where it shares a text with the query.
        at: values of k.

    Returns:
        `R@k`, and `chance R@k`, its exact expectation for a random order. Where chance is 1, `R@k` is `Undefined`.
    """
    keys, order = gallery_keys.flatten().sort()
    owner = order // gallery_keys.shape[1]
    wrong, right = [], []
    for rows, some in zip(query.split(ROWS), query_keys.split(ROWS)):
        same = _sharing(some, keys, owner, len(gallery))
        wrong.append(wrong_before(rows, gallery, same))
        right.append(same.sum(1))
    wrong, right = torch.cat(wrong), torch.cat(right)
    chance = {k: chance_within(right, len(gallery), k) for k in at}
    found = {
        f"R@{k}": (wrong < k).double().mean().item()
        if chance[k] < 1 - 1e-9
        else Undefined(_nothing_wrong(len(gallery), k))
        for k in at
    }
    return found | {f"chance R@{k}": chance[k] for k in at}


def _nothing_wrong(entries: int, k: int = 1) -> str:
    return f"a random order of the {entries} candidates would score 1 among the first {k}"


def _sharing(query_keys: Tensor, keys: Tensor, owner: Tensor, entries: int) -> Tensor:
    """bool (R, entries), true for entries that share a key with the query (R, A); `owner` gives the entry of a key."""
    same = torch.zeros(len(query_keys), entries, dtype=torch.bool)
    for column in query_keys.T.contiguous().cpu():
        first, last = torch.searchsorted(keys.cpu(), column), torch.searchsorted(keys.cpu(), column, right=True)
        count = torch.where(column >= 0, last - first, 0)
        rows = torch.repeat_interleave(torch.arange(len(query_keys)), count)
        place = torch.arange(len(rows)) - torch.repeat_interleave(count.cumsum(0) - count, count)
        same[rows, owner.cpu()[first[rows] + place]] = True
    return same


def chance_within(right: Tensor, entries: int, k: int) -> float:
    """Mean probability that one of `right` correct entries, int64 (N,), is among the first k of a random order."""
    missed = torch.ones(len(right), dtype=torch.float64)
    for drawn in range(min(k, entries)):
        missed = missed * ((entries - right.cpu() - drawn).clamp(min=0) / (entries - drawn))
    return (1 - missed).mean().item()


def prior_report(predicted: Tensor, image_embed: Tensor, text_embed: Tensor, same: Tensor) -> dict[str, float]:
    """Scores of a prior on images that training never showed.

    Args:
        predicted: the prior's image embeddings for N captions, unit length, (N, D).
        image_embed: embeddings of the images that the captions belong to, (N, D).
        text_embed: embeddings of the captions, (N, D).
        same: bool (N, N); [i, j] is true where caption i is among the captions of image j.

    Returns:
        cosines to the true image embedding, to the caption and to an unrelated caption; recall at 1 of the image
        among the N (any image with that caption is a hit); the variance of the predictions over that of the true
        embeddings (1 is right, 0 is collapse to the mean). What needs different captions or images is `Undefined`
        without them.
    """
    spread = image_embed.var(0, correction=0).sum()
    shifted = torch.roll(text_embed, len(text_embed) // 2, 0)
    return {
        "cos_true": (predicted * image_embed).sum(1).mean().item(),
        "cos_text": (predicted * text_embed).sum(1).mean().item(),
        "cos_unrelated": (
            Undefined("every image has every caption") if same.all() else (predicted * shifted).sum(1).mean().item()
        ),
        "recall_at_1": retrieval_at_1(predicted, image_embed, same),
        "variance_ratio": (
            (predicted.var(0, correction=0).sum() / spread).item()
            if spread > 1e-12
            else Undefined("the embeddings of all images are equal")
        ),
    }
