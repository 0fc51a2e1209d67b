"""What the studio does, without the web page: checking what is asked, painting it step by step, reading recipes."""

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
from condgen.encoders.tokenizer import clean
from condgen.files.images import GeneratedImage, read_recipe, slug, write_bytes
from condgen.pipelines.base import to_pil
from condgen.pipelines.text_to_image import MAX_PROMPT, TextToImage

MOST = 16
RATE = 6.0
"""CaptionBatches per second that are sent to the page; a step more often than that is not shown."""
SEEDS = 2**63
DRAWN = 10**6
"""Seeds that are drawn stay below this: enough to choose from, short enough to read."""
EXACT = 2**53
"""A web page keeps whole numbers exact below this."""
SCENES = (
    "a red circle above a blue square",
    "a large green triangle",
    "three purple diamonds",
    "a yellow cross left of a pink circle",
    "a small orange square",
    "a cyan diamond and a red triangle",
)


@dataclass(frozen=True)
class Order:
    """A request that has been checked: `count` images, image i with seed `seed + i`."""

    prompt: str
    count: int
    seed: int
    prior: str
    options: dict[str, float]


@dataclass(frozen=True)
class Finished:
    """An image that is done: its PNG, with the recipe inside, and what is said of it."""

    path: Path
    seed: int
    clip_score: float

    @property
    def caption(self) -> str:
        return f"seed {self.seed} · match {self.clip_score:.2f}"


@dataclass(frozen=True)
class View:
    """What there is to see at one moment.

    Args:
        order: what is being painted.
        step, steps: of the image being painted; step 0 when one was just finished.
        frame: the last that was seen of it; None when all are done.
        done: finished images; `archive` is a zip of them.
        notes: warnings to show now.
        seconds: since painting began.
    """

    order: Order
    step: int
    steps: int
    frame: Image.Image | None
    done: tuple[Finished, ...]
    archive: Path | None
    notes: tuple[str, ...]
    seconds: float

    @property
    def over(self) -> bool:
        return len(self.done) == self.order.count

    @property
    def fraction(self) -> float:
        """How much is painted, in [0, 1]."""
        return (len(self.done) + self.step / self.steps) / self.order.count

    @property
    def text(self) -> str:
        """One line: 'image 2 of 4, step 7 of 12', or what was painted."""
        count, seed = self.order.count, self.order.seed
        if not self.over:
            return f"image {len(self.done) + 1} of {count}, step {self.step} of {self.steps}"
        told = f"1 image, seed {seed}" if count == 1 else f"{count} images, seeds {seed} to {seed + count - 1}"
        return f"{told}, {self.seconds:.1f} s"


def priors_of(model: TextToImage) -> list[str]:
    """Names to choose from; the default comes first."""
    return [*model.priors, "none"]


def options_of(model: TextToImage) -> dict[str, SamplingOption]:
    """Every option with a slider: what some prior or the decoder turns, by name; of equal names the default prior's."""
    options: dict[str, SamplingOption] = {}
    for prior in priors_of(model):
        for option in model.sampling_options(prior):
            if not option.advanced:
                options.setdefault(option.name, option)
    return options


def examples_of(model: TextToImage) -> list[str]:
    """Prompts to try: those the model brings, else scenes whose every word it knows."""
    own = model.about.get("examples")
    if isinstance(own, list) and own:
        return [text for text in own if isinstance(text, str)]
    return [text for text in SCENES if not model.tokenizer.unseen(text)]


def check(model: TextToImage, prompt: Any, count: Any, seed: Any, prior: Any, options: dict[str, Any]) -> Order:
    """The one gate: everything that is asked of the studio, by page or by API, passes here.

    Args:
        prompt: text of at most MAX_PROMPT characters.
        count: images, 1 to MOST.
        seed: of the first image; -1 draws one.
        prior: one of `priors_of`.
        options: options by name; those that only another prior has are left out, missing ones get their default.

    Raises:
        CondgenError: something is of the wrong kind or out of range; the message names it.
    """
    if not isinstance(prompt, str):
        raise CondgenError(f"The prompt must be text, got {short(prompt)}.")
    if len(prompt) > MAX_PROMPT:
        raise CondgenError(f"The prompt has {len(prompt):,} characters; at most {MAX_PROMPT:,} are allowed.")
    prompt = prompt.encode("utf-8", "replace").decode("utf-8").strip()
    if not clean(prompt):
        raise CondgenError("The prompt is empty. Say what to paint, for example: a red circle above a blue square.")
    count = whole("The number of images", count, 1, MOST)
    seed = whole("The seed", seed, -1, SEEDS - count)
    if not isinstance(prior, str) or prior not in priors_of(model):
        raise CondgenError(f"The prior must be one of {', '.join(priors_of(model))}, got {short(prior)}.")
    offered, own = options_of(model), {option.name: option for option in model.sampling_options(prior)}
    asked = {name: value for name, value in options.items() if name in own or name not in offered}
    for name, value in asked.items():
        check_number(name, value)
    values = check_options(own.values(), asked)
    return Order(prompt, count, secrets.randbelow(DRAWN) if seed == -1 else seed, prior, values)


def check_number(what: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e300 < value < 1e300:
        raise CondgenError(f"{what} must be a number, got {short(value)}.")


def whole(what: str, value: Any, low: int, high: int) -> int:
    check_number(what, value)
    if not low <= value <= high or value != int(value):
        raise CondgenError(f"{what} must be a whole number from {low} to {high}, got {short(value)}.")
    return int(value)


class Easel:
    """Paints orders with one model, one at a time.

    Args:
        model: the model; nothing else may use it meanwhile.
    """

    def __init__(self, model: TextToImage):
        self.model = model
        self._lock = threading.Lock()

    def generate(self, order: Order) -> Iterator[View]:
        """Yields views while painting, the last with everything done. Closing the generator stops within a step.

        The files stay in a new folder in `scratch`; who serves them clears them away.
        """
        began = time.perf_counter()
        shown, done, archive = -1.0, (), None
        with self._lock:
            folder = Path(tempfile.mkdtemp(prefix="painting-", dir=scratch()))
            for seed in range(order.seed, order.seed + order.count):
                for progress, generated, notes in self._watch(order, seed):
                    now = time.perf_counter()
                    if generated is not None:
                        done += (Finished(generated.save(folder), seed, generated.clip_score),)
                        archive = pack([one.path for one in done], folder / f"{slug(order.prompt)}.zip")
                    elif now - shown < 1 / RATE and not notes:
                        continue
                    shown = now
                    frame = None if len(done) == order.count else to_pil(progress.images)[0]
                    step = 0 if generated is not None else progress.step
                    yield View(order, step, progress.steps, frame, done, archive, notes, now - began)

    def _watch(self, order: Order, seed: int) -> Iterator[tuple[Any, GeneratedImage | None, tuple[str, ...]]]:
        """The model's own steps, each with what it warned of; only the first image of an order warns."""
        with closing(self.model.generate_steps(order.prompt, seed, order.prior, **order.options)) as frames:
            while True:
                # not around the yield: the list of filters belongs to the whole process
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always", CondgenWarning)
                    step = next(frames, None)
                if step is None:
                    return
                notes = tuple(str(w.message) for w in caught if issubclass(w.category, CondgenWarning))
                yield *step, notes if seed == order.seed else ()


def scratch() -> Path:
    """The folder for images: Gradio's cache, which it serves from and clears away."""
    folder = Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir()) / "gradio")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def pack(files: list[Path], path: Path) -> Path:
    """Writes files into a zip, stored as they are, for a PNG does not get smaller; an old zip is replaced at once."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for file in files:
            archive.write(file, file.name)
    write_bytes(path, buffer.getvalue())
    return path


def open_recipe(model: TextToImage, path: Path) -> tuple[dict, Order | None, list[str]]:
    """Reads the recipe in an uploaded PNG.

    Returns:
        The recipe; the order that paints it again, None when this model cannot; and notes for the user.

    Raises:
        CondgenError: the file has no recipe; the message does not tell where the file lies.
    """
    try:
        recipe = read_recipe(path)
        if not isinstance(recipe, dict):
            raise CondgenError(f"The recipe in {path} is damaged.")
    except CondgenError as error:
        raise CondgenError(str(error).replace(str(path), path.name)) from None
    if "labels" in recipe:
        return recipe, None, ["This image was painted from labels; `condgen replay` paints it again."]
    notes = []
    if recipe["model_id"] != model.model_id:
        notes.append(
            f"This image was painted by another model, {short(recipe['model'])}; {model.name} will paint it anew."
        )
    prior = recipe["prior"]
    if prior not in priors_of(model):
        notes.append(f"This model has no prior {short(prior)}; {model.default_prior} is used instead.")
        prior = model.default_prior
    options = {name: recipe[name] for name in options_of(model) if name in recipe}
    try:
        order = check(model, recipe["prompt"], 1, recipe["seed"], prior, options)
    except CondgenError as error:
        return recipe, None, [*notes, f"The settings of this image were not taken over. {error}"]
    if order.seed >= EXACT:
        notes.append(f"The seed {order.seed} is too large for a web page; use `condgen generate` or the API.")
        return recipe, None, notes
    return recipe, order, notes
