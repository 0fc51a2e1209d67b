"""Re-ranking: several images of every seed, of which the one is kept that the model's own encoder finds nearest to the
words.

References:
    Zero-Shot Text-to-Image Generation (Ramesh et al., 2021), section 2.6, for re-ranking by CLIP
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from condgen.contracts import CondgenError, short
from condgen.data.batches.base import to_float, to_uint8
from condgen.files.images import GeneratedImage
from condgen.nn.layers import one_thread
from condgen.pipelines.base import Candidate, Progress, generator
from condgen.pipelines.generation import GenerationPipeline

MOST = 64
"""Candidates of a seed, at most."""
DECIMALS = 4
"""Of scores; of candidates with equal scores the first is kept."""


def rerank(
    pipeline: GenerationPipeline, conditions: Sequence[Any], words: Sequence[str], seeds: Sequence[int],
    candidates: int, **options: Any,
) -> Iterator[GeneratedImage]:  # fmt: skip
    """The best of `candidates` images of every condition and seed.

    Candidate 0 has the noise of the seed, so it is the image that is generated without re-ranking; see `Candidate` for
    the others. The recipe names the candidate that was kept, and the scores of all, rounded.

    Args:
        pipeline: the model, or an editor of it.
        conditions: as `pipeline.generate_batch` takes them.
        words: the words that the images of every condition are compared with.
        seeds: seeds of every condition.
        candidates: images of every seed, 1 to MOST.
        options: further arguments of `pipeline.generate_batch`.

    Raises:
        CondgenError: the number of candidates is out of range, or a condition has no words.
    """
    _check(candidates, words)
    tried = [Candidate(seed, k) for seed in seeds for k in range(candidates)]
    images = pipeline._in_batches(conditions, tried, **options)
    for prompt in words:
        for seed in seeds:
            group = list(islice(images, candidates))
            yield _best(group, [score_of(pipeline, one, prompt) for one in group], seed)


def rerank_steps(
    pipeline: GenerationPipeline, condition: Any, words: str, seed: int, candidates: int, **options: Any
) -> Iterator[tuple[Progress, GeneratedImage | None]]:
    """One image of `rerank`, with all steps of all candidates; the last step again with the image, as `generate_steps`.

    Every candidate is generated alone.

    Raises:
        CondgenError: see `rerank`.
    """
    _check(candidates, [words])
    group, scores = [], []
    for k in range(candidates):
        for progress, generated in pipeline.generate_steps(condition, Candidate(seed, k), **options):
            total = candidates * progress.steps
            step = Progress(k * progress.steps + progress.step, total, progress.images)
            if generated is None:
                yield step, None
            else:
                group.append(generated)
                scores.append(score_of(pipeline, generated, words))
    yield step, _best(group, scores, seed)


def _check(candidates: int, words: Sequence[str]) -> None:
    if type(candidates) is not int or not 1 <= candidates <= MOST:
        raise CondgenError(f"The number of candidates must be an integer from 1 to {MOST}, got {short(candidates)}.")
    if not all(words):
        raise CondgenError("Candidates are compared with the words of a prompt: give one, or ask for 1 candidate.")


def _best(group: list[GeneratedImage], scores: list[float], seed: int) -> GeneratedImage:
    """The candidate with the highest score; its recipe names it and the scores of all."""
    kept = scores.index(max(scores))
    about = {"seed": seed, "candidates": len(group), "candidate": kept, "scores": scores}
    recipe, ms = group[kept].recipe | about, sum(one.ms for one in group)
    return replace(group[kept], recipe=recipe, clip_score=scores[kept], ms=ms)


@torch.inference_mode()
def score_of(pipeline: Any, generated: GeneratedImage, words: str) -> float:
    """Cosine similarity of words and an image as it is saved, rounded; computed alone, so that no batch changes it."""
    model = getattr(pipeline, "model", pipeline)  # an editor scores with its model
    array = np.asarray(generated.image)
    array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    with one_thread() if model.exact and model.device.type == "cpu" else nullcontext():
        return round(model.score(to_float(array[None].copy()).to(model.device), words), DECIMALS)


def best_images(model: Any, prompts: list[str], seeds: list[int], candidates: int, **options: Any) -> Tensor:
    """Of every prompt i and seed i the image that `rerank` keeps, (B, C, S, S) in [-1, 1], without recipes.

    Args:
        model: a TextToImage.
        options: further arguments of `generate_batch`.
    """
    text, images, scores = model.embed_text(prompts), [], []
    for k in range(candidates):
        *_, last = model.generate_batch(prompts, [Candidate(seed, k) for seed in seeds], **options)
        images.append(last.images)
        scores.append(model.clip_score(to_float(to_uint8(last.images)).to(model.device), text).round(decimals=DECIMALS))
    kept = torch.stack(scores).argmax(0)  # the first of equal ones
    return torch.stack(images)[kept, torch.arange(len(prompts), device=kept.device)]


def replay(model: Any, recipe: dict[str, Any]) -> GeneratedImage:
    """Generates the candidate that was kept, and no other; the scores are those of the recipe.

    Raises:
        CondgenError: the recipe is damaged.
    """
    about = {name: recipe.get(name) for name in ("candidates", "candidate", "scores")}
    count, kept, scores = about.values()
    if type(count) is not int or type(kept) is not int or not 0 <= kept < count or not isinstance(scores, list):
        raise CondgenError(f"The recipe is damaged: candidate {short(kept)} of {short(count)}.")
    generator(recipe["seed"])
    rest = {name: value for name, value in recipe.items() if name not in about}
    generated = model.replay(rest | {"seed": Candidate(recipe["seed"], kept)})
    return replace(generated, recipe=generated.recipe | {"seed": recipe["seed"]} | about)
