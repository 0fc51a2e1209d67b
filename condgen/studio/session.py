"""Requests of the studio without the web page: checked, and served step by step with one model."""

from __future__ import annotations

import secrets
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from condgen.contracts import CondgenError, CondgenWarning, SamplingOption, check_options, short
from condgen.files.images import GeneratedImage, prompt_of
from condgen.pipelines.base import Pipeline, Progress, to_pil
from condgen.pipelines.class_to_image import ClassToImage
from condgen.pipelines.generation import EmbeddingPipeline, GenerationPipeline
from condgen.pipelines.latent import LatentModel
from condgen.pipelines.presets import preset_of
from condgen.pipelines.reranking import rerank
from condgen.pipelines.text_to_image import TextToImage
from condgen.text import MAX_PROMPT, check_prompt

MAX_IMAGES = 16
RATE = 6.0
"""Snapshots per second that are sent to the page; steps in between are not shown."""
SEEDS = 2**63
RANDOM_SEEDS = 10**6
"""Random seeds are below this, so that people can read and retype them."""
RANDOM = -1
"""The seed that stands for a random one."""
EXACT = 2**53
"""Web pages keep integers exact below this."""
SCENES = (
    "a red circle above a blue square",
    "a large green triangle",
    "three purple diamonds",
    "a yellow cross left of a pink circle",
    "a small orange square",
    "a cyan diamond and a red triangle",
)


@dataclass(frozen=True)
class Request:
    """A checked request: `count` images, image i with seed `seed + i`.

    Args:
        condition: a prompt, values by attribute, or None for a model without a condition.
        options: sampling options; for a model with priors also `prior`.
        candidates: images of every seed, of which the best is kept, see `pipelines.reranking`.
    """

    condition: str | dict[str, Any] | None
    count: int
    seed: int
    options: dict[str, Any]
    candidates: int = 1

    @property
    def seeds(self) -> range:
        return range(self.seed, self.seed + self.count)


@dataclass(frozen=True)
class Snapshot:
    """The progress of a request at one moment.

    Args:
        request: the request that is served.
        step, steps: step of the current image, and number of its steps; step 0 after an image was finished.
        frame: the current image so far; None where there is none.
        done: finished images.
        notes: warnings to show now.
        seconds: time since the start.
    """

    request: Request
    step: int
    steps: int
    frame: Image.Image | None
    done: tuple[GeneratedImage, ...]
    notes: tuple[str, ...]
    seconds: float

    @property
    def over(self) -> bool:
        return len(self.done) == self.request.count

    @property
    def fraction(self) -> float:
        """The share that is done, in [0, 1]."""
        return (len(self.done) + self.step / self.steps) / self.request.count

    @property
    def text(self) -> str:
        """One line: 'image 2 of 4, step 7 of 12, 3 s left', or a summary at the end."""
        count, seed = self.request.count, self.request.seed
        if self.over:
            summary = f"1 image, seed {seed}" if count == 1 else f"{count} images, seeds {seed} to {seed + count - 1}"
            return f"{summary}, {self.seconds:.1f} s"
        step = f", step {self.step} of {self.steps}" if self.steps > 1 else ""
        return f"image {len(self.done) + 1} of {count}{step}{self.left}"

    @property
    def left(self) -> str:
        """The time that is left, where it can be estimated and exceeds a second: ', 12 s left'."""
        return time_left(self.fraction, self.seconds)


def time_left(fraction: float, seconds: float) -> str:
    """The time that is left after `seconds` for a fraction in [0, 1], where it can be estimated: ', 12 s left'."""
    if fraction < 0.02 or seconds < 0.5:
        return ""
    left = seconds / fraction - seconds
    return f", {left:.0f} s left" if 1 <= left < 100 else f", {left / 60:.0f} min left" * (left >= 100)


# What a model offers --------------------------------------------------------------------------------------------------


def priors_of(model: Pipeline) -> list[str]:
    """Names of the priors, the default first; [] for a model without."""
    if not isinstance(model, EmbeddingPipeline):
        return []
    return [*model.priors, *(["none"] if model.reads_text else [])]


def sampling_options_of(model: Pipeline, prior: str | None = None) -> tuple[SamplingOption, ...]:
    """The sampling options of a model of any kind; with priors, those of one of them."""
    options = getattr(model, "sampling_options", ())
    if not callable(options):
        return tuple(options)
    return tuple(options(prior or None) if priors_of(model) else options())


def examples_of(model: Pipeline) -> list[str]:
    """Example prompts: those of the model, or else scenes whose words it knows."""
    if not isinstance(model, TextToImage):
        return []
    examples = model.about.get("examples")
    if isinstance(examples, list) and examples:
        return [text for text in examples if isinstance(text, str)]
    return [text for text in SCENES if not model.tokenizer.unseen(text)]


# Checks ---------------------------------------------------------------------------------------------------------------


def check(
    model: Pipeline, condition: Any, count: Any = 1, seed: Any = RANDOM, prior: Any = "", preset: Any = "default",
    options: Any = None, candidates: Any = None,
) -> Request:  # fmt: skip
    """Validates every request, by page or by API.

    Args:
        condition: a prompt of at most MAX_PROMPT characters; values by attribute; ignored by other models.
        count: images, 1 to MAX_IMAGES.
        seed: seed of the first image; -1 for a random one.
        prior: one of `priors_of`; '' for the default one.
        preset: see `pipelines.presets`.
        options: sampling options by name, which override the preset; missing ones get their default.
        candidates: overrides the preset.

    Raises:
        CondgenError: a value has the wrong type or is out of range; the message names it.
    """
    if not isinstance(model, GenerationPipeline | LatentModel):
        raise CondgenError(f"{model.name} {model.kind().summary}; choose a model that generates images.")
    count = check_integer("The number of images", count, 1, MAX_IMAGES)
    seed = check_integer("The seed", seed, -1, SEEDS - count)
    seed = secrets.randbelow(RANDOM_SEEDS) if seed == -1 else seed
    values = check_sampling(model, prior, options)
    given = preset_of(preset, sampling_options_of(model)) if preset not in ("", "default") else {}
    best = given.pop("candidates", 1) if candidates is None else candidates
    best = check_integer("The number of candidates", best, 1, MAX_IMAGES) if isinstance(model, TextToImage) else 1
    values |= {name: value for name, value in given.items() if name not in (options or {})}
    return Request(check_condition(model, condition), count, seed, values, best)


def check_sampling(model: Pipeline, prior: Any, options: Any) -> dict[str, Any]:
    """All sampling options with their given or default values, and `prior` for a model with priors."""
    options = {} if options is None else options
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise CondgenError(f"The options must be numbers by name, got {short(options)}.")
    priors = priors_of(model)
    if priors and prior not in ("", None, *priors):
        raise CondgenError(f"The prior must be one of {', '.join(priors)}, got {short(prior)}.")
    for name, value in options.items():
        check_number(name, value)
    known = {option.name for name in priors or [""] for option in sampling_options_of(model, name)}
    available = sampling_options_of(model, prior)
    names = {option.name for option in available}
    values = check_options(available, {k: v for k, v in options.items() if k in names or k not in known})
    return values | ({"prior": prior or priors[0]} if priors and isinstance(model, TextToImage) else {})


def check_condition(model: Pipeline, condition: Any) -> Any:
    """The condition as `model` reads it."""
    if isinstance(model, ClassToImage):
        if not isinstance(condition, Mapping):
            raise CondgenError(f"Expected values by attribute, such as {model.attribute_summary}.")
        return model.resolve(condition)
    return check_text("The prompt", condition) if isinstance(model, TextToImage) else None


def check_text(name: str, text: Any, empty: bool = False) -> str:
    """A text of at most MAX_PROMPT characters without surrounding spaces; empty only if `empty`."""
    if not isinstance(text, str):
        raise CondgenError(f"{name} must be text, got {short(text)}.")
    if len(text) > MAX_PROMPT:
        raise CondgenError(f"{name} has {len(text):,} characters; at most {MAX_PROMPT:,} are allowed.")
    text = text.encode("utf-8", "replace").decode("utf-8").strip()
    if not (empty and not text):
        check_prompt(text)
    return text


def check_number(name: str, value: Any) -> None:
    """Raises `CondgenError` where a value is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e300 < value < 1e300:
        raise CondgenError(f"{name} must be a number, got {short(value)}.")


def check_integer(name: str, value: Any, low: int, high: int) -> int:
    """The value as an integer; `CondgenError` where it is not one from `low` to `high`."""
    check_number(name, value)
    if not low <= value <= high or value != int(value):
        raise CondgenError(f"{name} must be a whole number from {low} to {high}, got {short(value)}.")
    return int(value)


# Serving --------------------------------------------------------------------------------------------------------------

BUSY = threading.Lock()
"""Held by whoever computes: models are not safe to use from several threads, and more threads are not faster."""


def serve(model: Pipeline, request: Request) -> Iterator[Snapshot]:
    """Yields snapshots, the last with all images. Closing the generator stops within a step."""
    began, shown, done = time.perf_counter(), -1.0, ()
    with BUSY:
        for seed in request.seeds:
            for progress, generated, notes in _steps(model, request, seed):
                now = time.perf_counter()
                if generated is not None:
                    done += (generated,)
                elif now - shown < 1 / RATE and not notes:
                    continue
                shown = now
                frame = None if generated is not None or progress is None else to_pil(progress.images)[0]
                step, steps = (progress.step, progress.steps) if progress else (0, 1)
                step = 0 if generated is not None else step
                yield Snapshot(request, step, steps, frame, done, notes, now - began)


def _steps(
    model: Pipeline, request: Request, seed: int
) -> Iterator[tuple[Progress | None, GeneratedImage | None, tuple[str, ...]]]:
    """The steps of a model with their warnings; only the first image of a request warns."""
    for step, notes in noting(_one(model, request, seed)):
        yield *step, notes if seed == request.seed else ()


def noting(items: Iterator[Any]) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Items, each with the warnings that were given while it was computed; closes `items` at the end."""
    with closing(items):
        while True:
            # not around the yield: warning filters are global to the process
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", CondgenWarning)
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item, tuple(str(w.message) for w in caught if issubclass(w.category, CondgenWarning))


def _one(model: Pipeline, request: Request, seed: int) -> Iterator[tuple[Progress | None, GeneratedImage | None]]:
    """One image: its steps, then the image; without steps where a model has none."""
    condition, options = request.condition, request.options
    if isinstance(model, LatentModel):
        yield from ((None, generated) for generated in model.generate(1, seed))
    elif request.candidates > 1:
        yield from (
            (None, one) for one in rerank(model, [condition], [condition], [seed], request.candidates, **options)
        )
    else:
        yield from model.generate_steps(condition, seed, **options)


def caption_of(generated: GeneratedImage) -> str:
    """The text under an image."""
    score = "" if generated.clip_score is None else f", match {generated.clip_score:.2f}"
    return f"seed {generated.seed}{score}"


def description_of(generated: GeneratedImage) -> str:
    """The text of an image for people who do not see it."""
    return f"{prompt_of(generated.recipe)}, seed {generated.seed}"


def retried(request: Request, seed: int) -> Request:
    """The same request for one image of another seed."""
    return replace(request, count=1, seed=seed)
