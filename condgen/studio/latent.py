"""The tab of codes: sliders for what a code says most by, and the way from one image to another.

launch(build("runs/vae"))

from gradio_client import Client
images, message = Client("http://127.0.0.1:7860").predict(model="vae", seed=7, latent_1=2, api_name="/decode")
"""

from __future__ import annotations

import inspect
import secrets
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image
from torch import Tensor

from condgen.contracts import CondgenError, short
from condgen.files.registry import found
from condgen.latent_space import interpolate, traverse
from condgen.latent_space.inputs import SEED, ImageSource
from condgen.pipelines.auto import task_of
from condgen.pipelines.base import to_pil
from condgen.pipelines.latent import LatentModel
from condgen.studio.session import DRAWN, SEEDS, check_number, scratch, whole

SLIDERS = 8
FARTHEST = 4.0
"""How far a slider goes, in standard deviations."""
STEPS = (3, 15)
"""Least and most images of a way."""
SAMPLES, MOVED = 256, 2
"""Codes that the spread is told from, and those that are moved to see what matters."""
OPEN = 4
"""Models that are kept in memory."""

Shelf = dict[str, LatentModel | Path]
"""Models by name, opened when they are asked for."""
Place = str
"""The path of an uploaded file, or seed:N."""


def shelf_of(model: LatentModel | Path | None = None) -> Shelf:
    """The models with codes that `condgen list` shows, `model` before them."""
    own: Shelf = {}
    if isinstance(model, LatentModel):
        own[model.name] = model
    elif model is not None:
        own[model.parent.name if model.name == "model" else model.name] = model
    return own | {name: path for name, path in found().items() if task_of(path) == "unconditional" and name not in own}


# What is asked --------------------------------------------------------------------------------------------------------


def check_model(shelf: Shelf, model: Any) -> str:
    """The name of a model; `CondgenError` where it is none of the shelf."""
    if not isinstance(model, str) or model not in shelf:
        raise CondgenError(f"The model must be one of {', '.join(shelf)}, got {short(model)}.")
    return model


def check_place(seed: Any, picture: Any) -> Place:
    """Where a code comes from: an uploaded image, else a seed; `CondgenError` where it is neither."""
    if picture:
        if not isinstance(picture, str):
            raise CondgenError(f"The image must be an uploaded file, got {short(picture)}.")
        return picture
    return f"{SEED}{whole('The seed', seed, 0, SEEDS - 1)}"


def check_moves(moves: tuple) -> list[float]:
    """How far each slider is, in standard deviations; `CondgenError` where one is beyond FARTHEST."""
    for number, value in enumerate(moves, 1):
        check_number(f"Slider {number}", value)
        if abs(value) > FARTHEST:
            raise CondgenError(f"Slider {number} goes from -{FARTHEST:g} to {FARTHEST:g}, got {short(value)}.")
    return [float(value) for value in moves]


# What is answered -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Codes:
    """A model, and what of its codes is offered to be moved.

    Args:
        latents: numbers of the code, the most informative first, see `latent_space.traverse`.
        labels: one line about each latent.
        spread: standard deviation of every number over codes that the model draws, (Z,).
    """

    model: LatentModel
    latents: list[int]
    labels: list[str]
    spread: Tensor

    @classmethod
    def of(cls, model: LatentModel) -> Codes:
        """Measured on images that the model draws, so that no data is needed."""
        codes = model.draw(range(SAMPLES))
        among = model.decode(codes) if model.encodes else None
        moved = traverse(model, codes[:MOVED], extent=2.0, steps=2, real=among)
        labels = []
        for k in moved.dimensions[:SLIDERS]:
            name, value = next(iter(moved.numbers["latents"][f"latent {k}"].items()))
            labels.append(f"latent {k}, {'KL' if name == 'kl' else name} {value:.2g}")
        return cls(model, moved.dimensions[:SLIDERS], labels, codes.std(0))

    def decode(self, place: Place, moves: list[float]) -> list[tuple[Image.Image, str]]:
        """The image, where it was uploaded; what its code paints; and what that paints when it is moved."""
        start = ImageSource(self.model).load([place])
        code = start if start.dim() == 2 else self.model.encode(start)
        new = code.clone()
        for k, move in zip(self.latents, moves):
            new[:, k] += move * self.spread[k]
        shown = [(code, "its code" if start.dim() == 4 else place.replace(SEED, "seed "))]
        if any(moves[: len(self.latents)]):
            shown.append((new, "moved"))
        pictures = [(to_pil(self.model.decode(z))[0], caption) for z, caption in shown]
        return [(to_pil(start)[0], "the image"), *pictures] if start.dim() == 4 else pictures

    def between(self, first: Place, second: Place, steps: int) -> tuple[Path, Path]:
        """The sheet and the film of the ways from one to the other, as files in a new folder of `scratch`."""
        ends = ImageSource(self.model).load([first, second])
        ways = interpolate(self.model, ends[:1], ends[1:], steps)
        sheet, film = ways.save(tempfile.mkdtemp(prefix="interpolation-", dir=scratch()))
        return sheet, film


@contextmanager
def without_places(*places: Place | Path) -> Iterator[None]:
    """Messages name a file by its name alone: where uploads and models lie is nothing for visitors."""
    try:
        yield
    except CondgenError as error:
        message = str(error)
        for place in map(str, places):
            message = message.replace(place, Path(place).name)
        raise CondgenError(message) from None


# The page -------------------------------------------------------------------------------------------------------------


def page_of(shelf: Shelf, plainly: Callable) -> gr.Blocks:
    """A page with nothing else."""
    with gr.Blocks(title="condgen latent space", analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        gr.HTML("<h1>condgen studio</h1><p>Latent space</p>", elem_id="title")
        Latent(shelf, plainly, page.load)
    page.queue(max_size=32, api_open=False)
    return page


class Latent:
    """Components and what they do, inside the page or tab that is being built.

    Args:
        shelf: models to choose from, one at least.
        plainly: turns errors into messages for people, see `app.plainly`.
        begins: the event at which the first model is opened.
    """

    def __init__(self, shelf: Shelf, plainly: Callable, begins: Callable):
        self.shelf, self.plainly = shelf, plainly
        self.opened = lru_cache(OPEN)(self._open)
        files: dict[str, Any] = {"file_types": ["image"], "height": 110}
        self.model = gr.Dropdown([*shelf], value=next(iter(shelf)), label="Model", elem_id="latent-model")
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                with gr.Row():
                    self.seed = gr.Number(0, label="Seed", info="names a code", min_width=120)
                    self.picture = gr.File(label="or the code of an image", **files)
                with gr.Row():
                    self.random = gr.Button("Random code", size="sm", min_width=120)
                    self.reset = gr.Button("Reset sliders", size="sm", min_width=120)
                self.sliders = [
                    gr.Slider(-FARTHEST, FARTHEST, value=0, step=0.1, label=f"Latent {number}")
                    for number in range(1, SLIDERS + 1)
                ]
            with gr.Column(scale=3, min_width=320):
                self.pictures = gr.Gallery(
                    label="Images", show_label=False, columns=3, object_fit="contain", format="png", height="auto",
                    interactive=False, elem_id="decoded", elem_classes=["pixels"],
                )  # fmt: skip
                self.message = gr.Textbox(show_label=False, container=False, interactive=False)
        with gr.Accordion("From one image to another", open=True):
            with gr.Row():
                self.first = gr.Number(1, label="From seed")
                self.first_picture = gr.File(label="or from an image", **files)
                self.second = gr.Number(2, label="To seed")
                self.second_picture = gr.File(label="or to an image", **files)
                self.steps = gr.Slider(*STEPS, value=9, step=1, label="Images")
            self.go = gr.Button("Interpolate", variant="primary")
            with gr.Row():
                self.sheet = gr.Image(label="Ways", type="filepath", interactive=False, scale=3)
                self.film = gr.Image(label="Film", type="filepath", interactive=False, scale=1)
        self._connect(begins)

    def _connect(self, begins: Callable) -> None:
        alone: dict[str, Any] = {"concurrency_id": "latent", "concurrency_limit": 1}
        quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        asked = [self.model, self.seed, self.picture, *self.sliders]
        answer: dict[str, Any] = {
            "fn": self._decode_function(),
            "inputs": asked,
            "outputs": [self.pictures, self.message],
        }
        fitted = [*self.sliders, self.picture, self.first_picture, self.second_picture]
        gr.on(
            [*(slider.release for slider in self.sliders), self.seed.submit, self.picture.upload, self.picture.clear],
            **answer,
            api_name="decode",
            api_description="Images of a code: of a seed or of an image, as it is, and moved by standard deviations "
            "along the latents that say most.",
            show_progress="minimal",
            **alone,
        )
        for chosen in (begins, self.model.input):
            chosen(self._choose, self.model, fitted, api_visibility="private", **alone).success(
                **answer, api_visibility="private", **alone
            )
        self.random.click(lambda: (secrets.randbelow(DRAWN), None), None, [self.seed, self.picture], **quick).then(
            **answer, api_visibility="private", **alone
        )
        self.reset.click(lambda: [0] * SLIDERS, None, self.sliders, **quick).then(
            **answer, api_visibility="private", **alone
        )
        self.go.click(
            self._interpolate,
            [self.model, self.first, self.second, self.first_picture, self.second_picture, self.steps],
            [self.sheet, self.film],
            api_name="interpolate",
            api_description="A sheet and a film of the ways between two images, uploaded or drawn by a seed: through "
            "the pixels, along a line of codes, along an arc.",
            **alone,
        )

    def _open(self, name: str) -> Codes:
        model = self.shelf[name]
        if isinstance(model, LatentModel):
            return Codes.of(model)
        with without_places(model):
            return Codes.of(LatentModel.load(model))

    def _choose(self, model):
        """Names the sliders after the latents of a model, and offers files where it reads images."""
        with self.plainly():
            codes = self.opened(check_model(self.shelf, model))
            sliders = [gr.update(visible=True, value=0, label=label) for label in codes.labels]
            sliders += [gr.update(visible=False, value=0)] * (SLIDERS - len(sliders))
            return [*sliders, *[gr.update(visible=codes.model.encodes, value=None)] * 3]

    def _decode_function(self):
        """`decode` with one parameter for each slider, so that the API names them."""

        def decode(model, seed=0, picture=None, *moves):
            with self.plainly():
                name, place, far = check_model(self.shelf, model), check_place(seed, picture), check_moves(moves)
                with without_places(place):
                    codes = self.opened(name)
                    pictures = codes.decode(place, far)
                moved = [f"{label.split(',')[0]} {move:+g}" for label, move in zip(codes.labels, far) if move]
                return pictures, f"{name}: {', '.join(moved) or 'as it is'}"

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        first = [own for own in inspect.signature(decode).parameters.values() if own.kind is kind]
        sliders = [f"latent_{number}" for number in range(1, SLIDERS + 1)]
        decode.__signature__ = inspect.Signature([*first, *(inspect.Parameter(k, kind, default=0) for k in sliders)])
        return decode

    def _interpolate(self, model, first=1, second=2, first_picture=None, second_picture=None, steps=9):
        with self.plainly():
            name = check_model(self.shelf, model)
            places = [check_place(first, first_picture), check_place(second, second_picture)]
            pictures = whole("The number of images", steps, *STEPS)
            with without_places(*places):
                return [str(path) for path in self.opened(name).between(*places, pictures)]
