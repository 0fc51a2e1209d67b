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
from condgen.pipelines.editing.base import Editor
from condgen.pipelines.editing.guide import Guide
from condgen.pipelines.generation import EmbeddingPipeline, GenerationPipeline
from condgen.pipelines.latent import LatentModel
from condgen.pipelines.presets import PRESETS
from condgen.pipelines.reranking import rerank_steps
from condgen.pipelines.text_to_image import TextToImage
from condgen.studio.checks import check_integer, check_number, check_text
from condgen.studio.tabs.generate.guides import IMAGES, check_guide

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
ACROSS = 8
"""Images of "one of each" value of a number."""
EXTRAS = ("candidates", "size", *IMAGES, "image_weight", "noise", "negative")
"""Options of requests beside the sampling options of models."""
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
        size: edge of the images in pixels, None for that of the model.
        guide: words and images together, in place of the condition; `options` then are those given alone.
        each: a condition for every image, all of them with the first seed.
    """

    condition: str | dict[str, Any] | None
    count: int
    seed: int
    options: dict[str, Any]
    candidates: int = 1
    size: int | None = None
    guide: Guide | None = None
    each: tuple[dict[str, Any], ...] = ()

    @property
    def seeds(self) -> list[int]:
        """The seed of every image."""
        return [self.seed] * self.count if self.each else list(range(self.seed, self.seed + self.count))

    @property
    def conditions(self) -> list[Any]:
        """The condition of every image."""
        return list(self.each) or [self.guide or self.condition] * self.count


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
        count, seeds = self.request.count, self.request.seeds
        if self.over:
            many = f"seeds {seeds[0]} to {seeds[-1]}" if seeds[0] != seeds[-1] else f"seed {seeds[0]}"
            return f"{count} image{'s' * (count > 1)}, {many}, {self.seconds:.1f} s"
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


def presets_of(model: Pipeline) -> dict[str, dict[str, int]]:
    """The presets of `pipelines.presets` that this model has: all options that they set exist."""
    known = {option.name for option in sampling_options_of(model)}
    known |= {"candidates"} if isinstance(model, TextToImage) else set()
    return {name: values for name, values in PRESETS.items() if set(values) <= known}


def sizes_of(model: Pipeline) -> list[int]:
    """Edges in pixels of the images that a model generates."""
    return model.sizes if isinstance(model, TextToImage) else [model.size]


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
        options: sampling options by name, which override the preset; missing ones get their default. Also those of
            EXTRAS: candidates, size, negative words, and images that guide the generation as paths, with their numbers.
        candidates: overrides the preset.

    Raises:
        CondgenError: a value has the wrong type or is out of range; the message names it.
    """
    if not isinstance(model, GenerationPipeline | LatentModel):
        raise CondgenError(f"{model.name} {model.kind().summary}; choose a model that generates images.")
    count = check_integer("The number of images", count, 1, MAX_IMAGES)
    seed = check_integer("The seed", seed, -1, SEEDS - count)
    seed = secrets.randbelow(RANDOM_SEEDS) if seed == -1 else seed
    options, extras = _separated(options)
    values = check_sampling(model, prior, options)
    chosen = check_preset(model, preset)
    best = chosen.pop("candidates", 1)
    best = next((one for one in (candidates, extras.get("candidates")) if one is not None), best)
    best = check_integer("The number of candidates", best, 1, MAX_IMAGES if isinstance(model, TextToImage) else 1)
    values |= {name: value for name, value in chosen.items() if name not in options}
    size, guide = check_size(model, extras.get("size")), check_guide(model, condition, prior, extras)
    if guide is None:
        return Request(check_condition(model, condition), count, seed, values, best, size)
    if best > 1 and not guide.prompt:
        raise CondgenError("Candidates are compared with the words of a prompt: give one, or ask for 1 candidate.")
    values = {name: value for name, value in values.items() if name in (*options, *chosen)}
    return Request(guide.prompt, count, seed, values, best, size, guide)


def _separated(options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sampling options, and those of EXTRAS that are given."""
    options = {} if options is None else options
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise CondgenError(f"The options must be numbers by name, got {short(options)}.")
    extras = {name: options[name] for name in EXTRAS if options.get(name) is not None}
    return {name: value for name, value in options.items() if name not in EXTRAS}, extras


def check_preset(model: Pipeline, preset: Any) -> dict[str, int]:
    """The values of a preset, see `presets_of`; '' is the default one."""
    presets = presets_of(model)
    if preset not in ("", None) and (not isinstance(preset, str) or preset not in presets):
        raise CondgenError(f"{model.name} has no preset {short(preset)}; it has {', '.join(presets)}.")
    return dict(presets[preset or "default"])


def check_size(model: Pipeline, size: Any) -> int | None:
    """The size, one of `sizes_of`; None for that of the model."""
    if size is None:
        return None
    listing = ", ".join(map(str, sizes_of(model)))
    if isinstance(size, bool) or not isinstance(size, int | float) or size not in sizes_of(model):
        raise CondgenError(f"The size of images of this model must be one of {listing}, got {short(size)}.")
    return None if size == model.size else int(size)


def one_of_each(model: Pipeline, condition: Any, name: Any) -> tuple[dict[str, Any], ...]:
    """A condition for each of the first MAX_IMAGES values of an attribute, or for ACROSS numbers from low to high."""
    if not isinstance(model, ClassToImage):
        raise CondgenError(f"{model.name} has no labels.")
    attribute, given = model.attribute(name), check_condition(model, condition)
    if attribute.values:
        values = attribute.values[:MAX_IMAGES]
    else:
        low, high = attribute.low, attribute.high
        if not high - low < 1e300:
            low, high = attribute.mean - 2 * attribute.sd, attribute.mean + 2 * attribute.sd
        values = [float(f"{low + (high - low) * k / (ACROSS - 1):.4g}") for k in range(ACROSS)]
    return tuple(model.resolve(given | {attribute.name: value}) for value in values)


def check_sampling(model: Pipeline, prior: Any, options: Any) -> dict[str, Any]:
    """All sampling options with their given or default values, and `prior` for a model with priors."""
    options, _ = _separated(options)
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


# Serving --------------------------------------------------------------------------------------------------------------

BUSY = threading.Lock()
"""Held by whoever computes: models are not safe to use from several threads, and more threads are not faster."""


def serve(model: Pipeline, request: Request) -> Iterator[Snapshot]:
    """Yields snapshots, the last with all images. Closing the generator stops within a step."""
    began, shown, done = time.perf_counter(), -1.0, ()
    pipeline = Editor(model) if request.guide else model
    with BUSY:
        for number, (condition, seed) in enumerate(zip(request.conditions, request.seeds, strict=True)):
            for progress, generated, notes in _steps(pipeline, request, condition, seed, warn=not number):
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
    pipeline: Pipeline, request: Request, condition: Any, seed: int, warn: bool
) -> Iterator[tuple[Progress | None, GeneratedImage | None, tuple[str, ...]]]:
    """The steps of one image with their warnings, if `warn`."""
    for step, notes in noting(_one(pipeline, request, condition, seed)):
        yield *step, notes if warn else ()


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


def _one(
    pipeline: Pipeline, request: Request, condition: Any, seed: int
) -> Iterator[tuple[Progress | None, GeneratedImage | None]]:
    """One image: its steps, then the image; without steps where a model has none."""
    options = request.options | ({} if request.size is None else {"size": request.size})
    if isinstance(pipeline, LatentModel):
        yield from ((None, generated) for generated in pipeline.generate(1, seed))
    elif request.candidates > 1:
        yield from rerank_steps(pipeline, condition, request.condition, seed, request.candidates, **options)
    else:
        yield from pipeline.generate_steps(condition, seed, **options)


def caption_of(generated: GeneratedImage, attribute: str = "") -> str:
    """The text under an image; for one of each value of an attribute, that value."""
    if attribute:
        value = generated.recipe["labels"][attribute]
        return f"{value:g}" if isinstance(value, float) else value
    return f"seed {generated.seed}"


def note_of(generated: GeneratedImage) -> str:
    """The second text under an image: how well it matches its prompt, '' where that was not measured."""
    return "" if generated.clip_score is None else f"match {generated.clip_score:.2f}"


def description_of(generated: GeneratedImage) -> str:
    """The text of an image for people who do not see it."""
    return f"{prompt_of(generated.recipe)}, seed {generated.seed}"


def retried(request: Request, seed: int) -> Request:
    """The same request for one image of another seed."""
    return replace(request, count=1, seed=seed)
