"""Evaluation on scenes: SceneEval on seen and on held-out combinations, the swap test, the ablation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from condgen.contracts import ProgressCallback
from condgen.data.synthetic.detector import VERSION, detect
from condgen.data.synthetic.grammar import Meaning, captions_of, parse, say, swaps_of
from condgen.data.synthetic.prompts import questions
from condgen.data.synthetic.scenes import draw_scenes, render, scenes
from condgen.evaluation.base import Example, Findings, Report, reranked
from condgen.evaluation.embed import embed_images, embed_texts, generate_prompts, priors_report
from condgen.evaluation.options import TextToImageOptions
from condgen.metrics.failures import count_failures, failure_cause
from condgen.metrics.geneval import TASKS, passes, score
from condgen.metrics.retrieval import swap_accuracy

BATCH = 64
SIDES = {"seen": False, "held_out": True}
ABLATION: dict[str, dict] = {
    "full stack": {},
    "regression prior": {"prior": "regression"},
    "diffusion prior": {"prior": "diffusion"},
    "autoregressive prior": {"prior": "autoregressive"},
    "diffusion prior, best of 8": {"prior": "diffusion", "best_of": 8},
    "text embedding fed zero-shot": {"prior": "none"},
    "image embedding alone (no words)": {"use_words": False},
    "text embedding zero-shot, no words": {"prior": "none", "use_words": False},
    "words alone (no image embedding)": {"use_z": False},
    "no guidance": {"guidance": 1.0},
    "guidance 2": {"guidance": 2.0},
    "guidance 5": {"guidance": 5.0},
    "6 steps": {"steps": 6},
    "24 steps": {"steps": 24},
}
"""Row -> arguments of `generate_batch` that leave a stage out or change an option."""


@dataclass(frozen=True)
class EvaluatedImage:
    """An image of SceneEval, uint8 (3, S, S): whether it passed its task, and what is wrong (see `metrics.failures`).

    `cause` is None if it shows everything in the prompt and nothing else.
    """

    task: str
    prompt: Meaning
    image: np.ndarray
    passed: bool
    cause: str | None


def scene_eval_images(
    model, held_out: bool, prompts: int = 50, images_per_prompt: int = 4, seed: int = 0, **options
) -> list[EvaluatedImage]:
    """SceneEval: GenEval's six tasks on scenes, evaluated by the detector.

    Args:
        model: a TextToImage of scenes.
        held_out: use prompts with combinations that are held out from training.
        prompts: maximum number of prompts per task.
        images_per_prompt: number of images per prompt.
        seed: seed of the prompts and of the first image; further images have the following seeds.
        options: candidates, and options of `generate_batch`: prior, use_z, use_words, sampling options.

    Returns:
        the images of the first prompt, then those of the next.
    """
    asked = [(task, m) for task in TASKS for m in questions(task, prompts, held_out, seed)]
    jobs = [job for job in asked for _ in range(images_per_prompt)]
    results = []
    for start in range(0, len(jobs), BATCH):
        part = jobs[start : start + BATCH]
        seeds = [seed + start + i for i in range(len(part))]
        generated = generate_prompts(model, [say(m) for _, m in part], seeds, **options)
        results += [
            EvaluatedImage(task, meaning, image, passes(task, meaning, seen), failure_cause(meaning, seen))
            for (task, meaning), image, seen in zip(part, generated, detect(generated))
        ]
    return results


def scene_eval(
    model, held_out: bool, prompts: int = 50, images_per_prompt: int = 4, seed: int = 0, **options
) -> tuple[dict[str, float], list[Example]]:
    """The scores of SceneEval; arguments as in `scene_eval_images`.

    Returns:
        (scores, examples): see `metrics.geneval.score`; (caption, uint8 (3, S, S), passed), one per prompt.
    """
    images = scene_eval_images(model, held_out, prompts, images_per_prompt, seed, **options)
    return scores_of(images), examples_of(images[::images_per_prompt])


def scores_of(images: list[EvaluatedImage]) -> dict[str, float]:
    """See `metrics.geneval.score`."""
    return score([(one.task, one.passed, one.cause is None) for one in images])


def failures_of(images: list[EvaluatedImage]) -> dict[str, dict[str, int]]:
    """Failed images by task and cause, see `metrics.failures.count_failures`."""
    return count_failures((one.task, one.passed, one.cause) for one in images)


def examples_of(images: list[EvaluatedImage]) -> list[Example]:
    """Images for a sheet: (caption, uint8 (3, S, S), passed)."""
    return [(say(one.prompt), one.image, one.passed) for one in images]


def scene_scores(model) -> dict[str, float]:
    """Returns scores on captions of scenes, for combinations of the training set and for held-out ones."""
    scores: dict[str, float] = {}
    for part in ("seen", "held_out"):
        found, _ = scene_eval(model, part == "held_out", prompts=12, images_per_prompt=1)
        scores |= {f"{part}/{name}": value for name, value in found.items()}
    return scores


def images_evaluated(held_out: bool, prompts: int, images_per_prompt: int, seed: int = 0) -> dict[str, int]:
    """Number of images that `scene_eval` generates for every task; some tasks have few combinations."""
    return {task: images_per_prompt * len(questions(task, prompts, held_out, seed)) for task in TASKS}


def scene_swaps(clip, tokenizer, held_out: bool, n: int = 2000, seed: int = 1, size: int = 0) -> dict[str, float]:
    """Share of scenes whose caption the encoder prefers to one with swapped colours, shapes or relation.

    Scenes are drawn with edge length `size`, by default that of the encoder.
    """
    layout, things = draw_scenes(n, seed + 10_000, held_out)
    captions = [captions_of(scene)[0] for scene in things]
    image_embed = embed_images(clip, render(layout, size or clip.size))
    text_embed = embed_texts(clip, tokenizer, captions)
    out = {}
    for kind in ("colour", "shape", "relation", "size", "number"):
        wrong = [(i, say(swaps[kind])) for i, c in enumerate(captions) if kind in (swaps := swaps_of(parse(c)))]
        rows = [i for i, _ in wrong]
        wrong_embed = embed_texts(clip, tokenizer, [text for _, text in wrong])
        out[kind] = swap_accuracy(image_embed[rows], text_embed[rows], wrong_embed)
    return out


def ablation_of(model, table: dict[str, dict]) -> dict[str, dict]:
    """The rows of an ablation whose priors the model has."""
    return {name: how for name, how in table.items() if how.get("prior", "none") in (*model.priors, "none")}


def evaluate_scenes(model, options: TextToImageOptions, progress: ProgressCallback) -> Findings:
    """SceneEval, swap test, priors and ablation.

    Further models to compare with are rows of the ablation; the section `failures` counts failed images by cause.
    """
    report: Report = {"kind": "scenes", "detector": {"shapes of scenes": {"version": VERSION}}} | reranked(options)
    sections = ("scene_eval", "failures", "images_evaluated", "swap_accuracy", "prior", "ablation")
    report |= {name: {} for name in sections}
    asked, examples = (options.prompts, options.images_per_prompt), []
    for k, (side, held_out) in enumerate(SIDES.items()):
        progress(0.05 + 0.25 * k, f"SceneEval, {side}")
        images = scene_eval_images(model, held_out, *asked, candidates=options.candidates)
        report["scene_eval"][side], report["failures"][side] = scores_of(images), failures_of(images)
        report["images_evaluated"][side] = images_evaluated(held_out, *asked)
        shown = images[:: options.images_per_prompt]
        examples += examples_of(shown[:: max(1, len(shown) // 24)][:24])
        progress(0.25 + 0.25 * k, f"encoder and priors, {side}")
        report["swap_accuracy"][side] = scene_swaps(model.clip, model.tokenizer, held_out, size=model.size)
        data = scenes(500, 20_000, model.size, held_out, negatives="none")
        report["prior"][side] = priors_report(model, data)
    rows = [(name, model, how) for name, how in ablation_of(model, ABLATION).items()]
    rows += [(f"{other.name} ({other.model_id})", other, {}) for other in options.compare_with]
    for k, (name, evaluated, how) in enumerate(rows if options.ablate else ()):
        progress(0.55 + 0.45 * k / len(rows), f"ablation: {name}")
        scores = {side: scene_eval(evaluated, held, options.ablate, 1, 1, **how)[0] for side, held in SIDES.items()}
        report["ablation"][name] = {f"{s} {x}": scores[s][x] for s in SIDES for x in ("overall", "exact")}
    return Findings(report, {"sheet": examples})
