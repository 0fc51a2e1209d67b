"""Embeddings of images and texts, generated images, and the report of the priors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from condgen import distributed
from condgen.data.batches.base import to_float, to_uint8
from condgen.data.datasets.captions import CaptionedImages
from condgen.metrics.retrieval import prior_report
from condgen.pipelines.reranking import best_images
from condgen.text import read_texts


def in_batches(
    compute: Callable[[Tensor], Tensor], images: np.ndarray, device: torch.device | str, batch: int = 256
) -> Tensor:
    """Applies a function of images (B, C, S, S) in [-1, 1] to uint8 (N, C, S, S); processes share the work."""

    def part(rows: slice) -> Tensor:
        parts = torch.from_numpy(np.ascontiguousarray(images[rows])).split(batch)
        return torch.cat([compute(to_float(some).to(device)) for some in parts])

    return distributed.share_rows(part, len(images))


@torch.inference_mode()
def embed_images(clip, images: np.ndarray) -> Tensor:
    """uint8 (N, 3, S, S) -> unit vectors (N, D)."""
    return in_batches(clip.embed_image, images, clip.log_scale.device)


@torch.inference_mode()
def embed_texts(clip, tokenizer, texts: list[str]) -> Tensor:
    """Texts -> unit vectors (N, D); the texts are not checked as prompts are."""
    texts = read_texts(tokenizer, texts)
    parts = [torch.from_numpy(tokenizer.encode(texts[i : i + 512])) for i in range(0, len(texts), 512)]
    return torch.cat([clip.embed_text(part.to(clip.log_scale.device)) for part in parts])


def generate_prompts(model, prompts: list, seeds: list[int], candidates: int = 1, **options) -> np.ndarray:
    """Generates prompt or condition i with seed i, as uint8 (N, C, S, S); processes share the work.

    Args:
        candidates: images of every seed, of which the one nearest to the prompt is kept, see `pipelines.reranking`.
        options: further arguments of `model.generate_batch`.
    """

    def generate(rows: slice) -> Tensor:
        if candidates > 1:
            return torch.from_numpy(to_uint8(best_images(model, prompts[rows], seeds[rows], candidates, **options)))
        *_, last = model.generate_batch(prompts[rows], seeds[rows], **options)
        return torch.from_numpy(to_uint8(last.images))

    return distributed.share_rows(generate, len(prompts)).numpy()


def same_text(data: CaptionedImages, n: int) -> Tensor:
    """bool (n, n), true where the first caption of image i is among the captions of image j."""
    captions = data.captions[:n]
    return torch.from_numpy((captions[:, None, :1] == captions[None, :, :]).any(-1))


def priors_report(model, data: CaptionedImages, n: int = 500) -> dict[str, dict[str, float]]:
    """`metrics.retrieval.prior_report` of every prior of the model, on n images with their first caption."""
    ids = data.captions[:n, 0]
    image_embed = embed_images(model.clip, data.images[:n])
    text = model.embed_text([data.texts[i] for i in ids])
    out = {}
    for name in [*model.priors, "none"]:
        rng = [torch.Generator().manual_seed(i) for i in range(len(ids))]
        embed = model.normalizer.back(model.draw_embed(text, rng, name))
        out[name] = prior_report(embed, image_embed, text.embed, same_text(data, n))
    return out
