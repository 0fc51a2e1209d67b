"""The studio without the web page: checks requests, generates images step by step, and reads recipes."""

from __future__ import annotations

import io
import os
import secrets
import tempfile
import threading
import time
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from condgen.contracts import CondgenError, CondgenWarning, SamplingOption, check_options, short
from condgen.files.images import GeneratedImage, read_recipe, slug, write_bytes
from condgen.pipelines.base import to_pil
from condgen.pipelines.text_to_image import TextToImage
from condgen.text import MAX_PROMPT, check_prompt

MAX_IMAGES = 16
RATE = 6.0
"""Snapshots per second that are sent to the page; steps in between are not shown."""
SEEDS = 2**63
RANDOM_SEEDS = 10**6
"""Random seeds are below this, so that people can read and retype them."""
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
    """A checked request: `count` images, image i with seed `seed + i`."""

    prompt: str
    count: int
    seed: int
    prior: str
    options: dict[str, float]


@dataclass(frozen=True)
class FinishedImage:
    """A generated image: its PNG, which contains the recipe, its seed and CLIP score."""

    path: Path
    seed: int
    clip_score: float

    @property
    def caption(self) -> str:
        return f"seed {self.seed} · match {self.clip_score:.2f}"


@dataclass(frozen=True)
class Snapshot:
    """The progress of a request at one moment.

    Args:
        request: the request that is served.
        step, steps: step of the current image, and number of its steps; step 0 after an image was finished.
        frame: the current image so far; None when all are done.
        done: finished images; `archive` is a zip of them.
        notes: warnings to show now.
        seconds: time since the start.
    """

    request: Request
    step: int
    steps: int
    frame: Image.Image | None
    done: tuple[FinishedImage, ...]
    archive: Path | None
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
        """One line: 'image 2 of 4, step 7 of 12', or a summary at the end."""
        count, seed = self.request.count, self.request.seed
        if not self.over:
            return f"image {len(self.done) + 1} of {count}, step {self.step} of {self.steps}"
        summary = f"1 image, seed {seed}" if count == 1 else f"{count} images, seeds {seed} to {seed + count - 1}"
        return f"{summary}, {self.seconds:.1f} s"


def priors_of(model: TextToImage) -> list[str]:
    """Names of the priors, the default first."""
    return [*model.priors, "none"]


def options_of(model: TextToImage) -> dict[str, SamplingOption]:
    """All options with a slider, of decoder and priors, by name; for equal names, that of the default prior."""
    options: dict[str, SamplingOption] = {}
    for prior in priors_of(model):
        for option in model.sampling_options(prior):
            if not option.advanced:
                options.setdefault(option.name, option)
    return options


def examples_of(model: TextToImage) -> list[str]:
    """Example prompts: those of the model, or else scenes whose words it knows."""
    examples = model.about.get("examples")
    if isinstance(examples, list) and examples:
        return [text for text in examples if isinstance(text, str)]
    return [text for text in SCENES if not model.tokenizer.unseen(text)]


def check(model: TextToImage, prompt: Any, count: Any, seed: Any, prior: Any, options: dict[str, Any]) -> Request:
    """Validates every request, by page or by API.

    Args:
        prompt: text of at most MAX_PROMPT characters.
        count: images, 1 to MAX_IMAGES.
        seed: seed of the first image; -1 for a random one.
        prior: one of `priors_of`.
        options: sampling options by name; those of another prior are ignored, missing ones get their default.

    Raises:
        CondgenError: a value has the wrong type or is out of range; the message names it.
    """
    if not isinstance(prompt, str):
        raise CondgenError(f"The prompt must be text, got {short(prompt)}.")
    if len(prompt) > MAX_PROMPT:
        raise CondgenError(f"The prompt has {len(prompt):,} characters; at most {MAX_PROMPT:,} are allowed.")
    prompt = prompt.encode("utf-8", "replace").decode("utf-8").strip()
    check_prompt(prompt)
    count = check_integer("The number of images", count, 1, MAX_IMAGES)
    seed = check_integer("The seed", seed, -1, SEEDS - count)
    if not isinstance(prior, str) or prior not in priors_of(model):
        raise CondgenError(f"The prior must be one of {', '.join(priors_of(model))}, got {short(prior)}.")
    offered, available = options_of(model), {option.name: option for option in model.sampling_options(prior)}
    given = {name: value for name, value in options.items() if name in available or name not in offered}
    for name, value in given.items():
        check_number(name, value)
    values = check_options(available.values(), given)
    return Request(prompt, count, secrets.randbelow(RANDOM_SEEDS) if seed == -1 else seed, prior, values)


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


class GenerationSession:
    """Serves requests with one model, one at a time.

    Args:
        model: a model that nothing else uses at the same time.
    """

    def __init__(self, model: TextToImage):
        self.model = model
        self._lock = threading.Lock()

    def generate(self, request: Request) -> Iterator[Snapshot]:
        """Yields snapshots, the last with all images. Closing the generator stops within a step.

        The files stay in a new folder below `cache_folder`, which Gradio clears.
        """
        began = time.perf_counter()
        shown, done, archive = -1.0, (), None
        with self._lock:
            folder = Path(tempfile.mkdtemp(prefix="images-", dir=cache_folder()))
            for seed in range(request.seed, request.seed + request.count):
                for progress, generated, notes in self._steps(request, seed):
                    now = time.perf_counter()
                    if generated is not None:
                        done += (FinishedImage(generated.save(folder), seed, generated.clip_score),)
                        archive = pack([one.path for one in done], folder / f"{slug(request.prompt)}.zip")
                    elif now - shown < 1 / RATE and not notes:
                        continue
                    shown = now
                    frame = None if len(done) == request.count else to_pil(progress.images)[0]
                    step = 0 if generated is not None else progress.step
                    yield Snapshot(request, step, progress.steps, frame, done, archive, notes, now - began)

    def _steps(self, request: Request, seed: int) -> Iterator[tuple[Any, GeneratedImage | None, tuple[str, ...]]]:
        """The steps of the model with their warnings; only the first image of a request warns."""
        with closing(self.model.generate_steps(request.prompt, seed, prior=request.prior, **request.options)) as frames:
            while True:
                # not around the yield: warning filters are global to the process
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always", CondgenWarning)
                    step = next(frames, None)
                if step is None:
                    return
                notes = tuple(str(w.message) for w in caught if issubclass(w.category, CondgenWarning))
                yield *step, notes if seed == request.seed else ()


def cache_folder() -> Path:
    """The folder for images: Gradio's cache, which it serves from and clears."""
    folder = Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir()) / "gradio")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def pack(files: list[Path], path: Path) -> Path:
    """Writes files into a zip without compression, which does not help PNGs; an old zip is replaced atomically."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for file in files:
            archive.write(file, file.name)
    write_bytes(path, buffer.getvalue())
    return path


def open_recipe(model: TextToImage, path: Path) -> tuple[dict, Request | None, list[str]]:
    """Reads the recipe in an uploaded PNG.

    Returns:
        The recipe; the request that generates it again, None where this model cannot; and notes for the user.

    Raises:
        CondgenError: the file has no recipe; the message does not contain the folder of the file.
    """
    try:
        recipe = read_recipe(path)
    except CondgenError as error:
        raise CondgenError(str(error).replace(str(path), path.name)) from None
    if "labels" in recipe:
        return recipe, None, ["This image was generated from labels; `condgen replay` generates it again."]
    notes = []
    if recipe["model_id"] != model.model_id:
        notes.append(
            f"This image was generated by another model, {short(recipe['model'])}; the result of {model.name} will "
            "differ."
        )
    prior = recipe["prior"]
    if prior not in priors_of(model):
        notes.append(f"This model has no prior {short(prior)}; {model.default_prior} is used instead.")
        prior = model.default_prior
    options = {name: recipe[name] for name in options_of(model) if name in recipe}
    try:
        request = check(model, recipe["prompt"], 1, recipe["seed"], prior, options)
    except CondgenError as error:
        return recipe, None, [*notes, f"The settings of this image were not adopted. {error}"]
    if request.seed >= EXACT:
        notes.append(f"The seed {request.seed} is too large for a web page; use `condgen generate` or the API.")
        return recipe, None, notes
    return recipe, request, notes
