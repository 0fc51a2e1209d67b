"""The latent-space tab: sliders for the most informative latent dimensions, and interpolation between images.

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
from condgen.files.registry import class_name, found
from condgen.latent_space import interpolate, traverse
from condgen.latent_space.inputs import SEED, ImageSource
from condgen.pipelines.base import to_pil
from condgen.pipelines.latent import LatentModel
from condgen.studio.session import RANDOM_SEEDS, SEEDS, cache_folder, check_integer, check_number

SLIDERS = 8
SLIDER_RANGE = 4.0
"""Range of a slider to each side, in standard deviations."""
STEPS = (3, 15)
"""Minimum and maximum number of images of an interpolation."""
SAMPLES, TRAVERSED = 256, 2
"""Numbers of random latents: for the standard deviations, and for the traversals that rank the dimensions."""
CACHED = 4
"""Maximum number of models in memory."""

LatentModels = dict[str, LatentModel | Path]
"""Models by name; a path is loaded when the model is chosen."""
Source = str
"""Source of a latent: the path of an uploaded image, or seed:N."""


def latent_models(model: LatentModel | Path | None = None) -> LatentModels:
    """The autoencoders and GANs in `condgen list`, and `model`."""
    models: LatentModels = {}
    if isinstance(model, LatentModel):
        models[model.name] = model
    elif model is not None:
        models[model.parent.name if model.name == "model" else model.name] = model
    others = {name: path for name, path in found().items() if class_name(path) == LatentModel.__name__}
    return models | {name: path for name, path in others.items() if name not in models}


# Validation -----------------------------------------------------------------------------------------------------------


def check_model(models: LatentModels, model: Any) -> str:
    """Checks the name of a model; `CondgenError` for an unknown one."""
    if not isinstance(model, str) or model not in models:
        raise CondgenError(f"The model must be one of {', '.join(models)}, got {short(model)}.")
    return model


def check_source(seed: Any, image: Any) -> Source:
    """The source of a latent: an uploaded image, or else a seed; `CondgenError` if it is neither."""
    if image:
        if not isinstance(image, str):
            raise CondgenError(f"The image must be an uploaded file, got {short(image)}.")
        return image
    return f"{SEED}{check_integer('The seed', seed, 0, SEEDS - 1)}"


def check_shifts(shifts: tuple) -> list[float]:
    """Checks the values of the sliders, in standard deviations; `CondgenError` if one is beyond SLIDER_RANGE."""
    for number, value in enumerate(shifts, 1):
        check_number(f"Slider {number}", value)
        if abs(value) > SLIDER_RANGE:
            limits = f"from -{SLIDER_RANGE:g} to {SLIDER_RANGE:g}"
            raise CondgenError(f"Slider {number} goes {limits}, got {short(value)}.")
    return [float(value) for value in shifts]


# Results --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LatentControls:
    """A model, and the latent dimensions that have a slider.

    Args:
        dimensions: indices of latent dimensions, the most informative first, see `latent_space.traverse`.
        labels: one line about each dimension.
        sd: standard deviation of every dimension over random latents of the model, (Z,).
    """

    model: LatentModel
    dimensions: list[int]
    labels: list[str]
    sd: Tensor

    @classmethod
    def of(cls, model: LatentModel) -> LatentControls:
        """Measures the dimensions on images that the model generates, so that no data is needed."""
        z = model.draw(range(SAMPLES))
        real = model.decode(z) if model.encodes else None
        moved = traverse(model, z[:TRAVERSED], extent=2.0, steps=2, real=real)
        labels = []
        for k in moved.dimensions[:SLIDERS]:
            name, value = next(iter(moved.numbers["latents"][f"latent {k}"].items()))
            labels.append(f"latent {k}, {'KL' if name == 'kl' else name} {value:.2g}")
        return cls(model, moved.dimensions[:SLIDERS], labels, z.std(0))

    def decode(self, source: Source, shifts: list[float]) -> list[tuple[Image.Image, str]]:
        """The uploaded image, if there is one; its decoded latent; and the decoded shifted latent."""
        start = ImageSource(self.model).load([source])
        uploaded = start.dim() == 4
        z = self.model.encode(start) if uploaded else start
        shifted = z.clone()
        for k, shift in zip(self.dimensions, shifts):
            shifted[:, k] += shift * self.sd[k]
        shown = [(z, "its reconstruction" if uploaded else source.replace(SEED, "seed "))]
        if any(shifts[: len(self.dimensions)]):
            shown.append((shifted, "shifted"))
        images = [(to_pil(self.model.decode(latent))[0], caption) for latent, caption in shown]
        return [(to_pil(start)[0], "the image"), *images] if uploaded else images

    def between(self, first: Source, second: Source, steps: int) -> tuple[Path, Path]:
        """The sheet and the animation of the interpolations, as files in a new folder in `cache_folder`."""
        ends = ImageSource(self.model).load([first, second])
        paths = interpolate(self.model, ends[:1], ends[1:], steps)
        sheet, film = paths.save(tempfile.mkdtemp(prefix="interpolation-", dir=cache_folder()))
        return sheet, film


@contextmanager
def without_folders(*paths: Source | Path) -> Iterator[None]:
    """Removes folders from file names in error messages, since visitors must not see them."""
    try:
        yield
    except CondgenError as error:
        message = str(error)
        for path in map(str, paths):
            message = message.replace(path, Path(path).name)
        raise CondgenError(message) from None


# The page -------------------------------------------------------------------------------------------------------------


def page_of(models: LatentModels, user_errors: Callable, device: str = "cpu") -> gr.Blocks:
    """A page with only this tab; see `LatentTab`."""
    with gr.Blocks(title="condgen latent space", analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        gr.HTML("<h1>condgen studio</h1><p>Latent space</p>", elem_id="title")
        LatentTab(models, user_errors, page.load, device)
    page.queue(max_size=32, api_open=False)
    return page


class LatentTab:
    """Components and their callbacks, inside the page or tab that is being built.

    Args:
        models: models to choose from, at least one.
        user_errors: see `app.user_errors`.
        start: the event at which the first model is loaded.
        device: for the models that are loaded by path.
    """

    def __init__(self, models: LatentModels, user_errors: Callable, start: Callable, device: str = "cpu"):
        self.models, self.user_errors, self.device = models, user_errors, device
        self.controls = lru_cache(CACHED)(self._load)
        files: dict[str, Any] = {"file_types": ["image"], "height": 110}
        self.model = gr.Dropdown([*models], value=next(iter(models)), label="Model", elem_id="latent-model")
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                with gr.Row():
                    self.seed = gr.Number(0, label="Seed", info="of a random latent", min_width=120)
                    self.image = gr.File(label="or the latent of an image", **files)
                with gr.Row():
                    self.random = gr.Button("Random latent", size="sm", min_width=120)
                    self.reset = gr.Button("Reset sliders", size="sm", min_width=120)
                self.sliders = [
                    gr.Slider(-SLIDER_RANGE, SLIDER_RANGE, value=0, step=0.1, label=f"Latent {number}")
                    for number in range(1, SLIDERS + 1)
                ]
            with gr.Column(scale=3, min_width=320):
                self.images = gr.Gallery(
                    label="Images", show_label=False, columns=3, object_fit="contain", format="png", height="auto",
                    interactive=False, elem_id="decoded", elem_classes=["pixels"],
                )  # fmt: skip
                self.message = gr.Textbox(show_label=False, container=False, interactive=False)
        with gr.Accordion("From one image to another", open=True):
            with gr.Row():
                self.first = gr.Number(1, label="From seed")
                self.first_image = gr.File(label="or from an image", **files)
                self.second = gr.Number(2, label="To seed")
                self.second_image = gr.File(label="or to an image", **files)
                self.steps = gr.Slider(*STEPS, value=9, step=1, label="Images")
            self.go = gr.Button("Interpolate", variant="primary")
            with gr.Row():
                self.sheet = gr.Image(label="Interpolations", type="filepath", interactive=False, scale=3)
                self.film = gr.Image(label="Film", type="filepath", interactive=False, scale=1)
        self._connect(start)

    def _connect(self, start: Callable) -> None:
        alone: dict[str, Any] = {"concurrency_id": "latent", "concurrency_limit": 1}
        quick: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        answer: dict[str, Any] = {
            "fn": self._decode_function(),
            "inputs": [self.model, self.seed, self.image, *self.sliders],
            "outputs": [self.images, self.message],
        }
        fitted = [*self.sliders, self.image, self.first_image, self.second_image]
        gr.on(
            [*(slider.release for slider in self.sliders), self.seed.submit, self.image.upload, self.image.clear],
            **answer,
            api_name="decode",
            api_description="Decodes the latent of a seed or of an image, as it is and shifted by standard deviations "
            "along the most informative dimensions.",
            show_progress="minimal",
            **alone,
        )
        for chosen in (start, self.model.input):
            chosen(self._choose, self.model, fitted, api_visibility="private", **alone).success(
                **answer, api_visibility="private", **alone
            )
        self.random.click(lambda: (secrets.randbelow(RANDOM_SEEDS), None), None, [self.seed, self.image], **quick).then(
            **answer, api_visibility="private", **alone
        )
        self.reset.click(lambda: [0] * SLIDERS, None, self.sliders, **quick).then(
            **answer, api_visibility="private", **alone
        )
        self.go.click(
            self._interpolate,
            [self.model, self.first, self.second, self.first_image, self.second_image, self.steps],
            [self.sheet, self.film],
            api_name="interpolate",
            api_description="A sheet and a film of interpolations between two images, uploaded or generated from "
            "seeds: of pixels, and of latents along a line and along an arc.",
            **alone,
        )

    def _load(self, name: str) -> LatentControls:
        model = self.models[name]
        if isinstance(model, LatentModel):
            return LatentControls.of(model)
        with without_folders(model):
            return LatentControls.of(LatentModel.load(model).to(self.device))

    def _choose(self, model):
        """Labels the sliders with the dimensions of a model, and shows uploads if the model has an encoder."""
        with self.user_errors():
            controls = self.controls(check_model(self.models, model))
            sliders = [gr.update(visible=True, value=0, label=label) for label in controls.labels]
            sliders += [gr.update(visible=False, value=0)] * (SLIDERS - len(sliders))
            return [*sliders, *[gr.update(visible=controls.model.encodes, value=None)] * 3]

    def _decode_function(self):
        """`decode` with one parameter per slider, so that the API names them."""

        def decode(model, seed=0, image=None, *shifts):
            with self.user_errors():
                name, source, values = check_model(self.models, model), check_source(seed, image), check_shifts(shifts)
                with without_folders(source):
                    controls = self.controls(name)
                    images = controls.decode(source, values)
                shifted = [f"{label.split(',')[0]} {v:+g}" for label, v in zip(controls.labels, values) if v]
                return images, f"{name}: {', '.join(shifted) or 'not shifted'}"

        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        first = [parameter for parameter in inspect.signature(decode).parameters.values() if parameter.kind is kind]
        sliders = [f"latent_{number}" for number in range(1, SLIDERS + 1)]
        decode.__signature__ = inspect.Signature([*first, *(inspect.Parameter(k, kind, default=0) for k in sliders)])
        return decode

    def _interpolate(self, model, first=1, second=2, first_image=None, second_image=None, steps=9):
        with self.user_errors():
            name = check_model(self.models, model)
            sources = [check_source(first, first_image), check_source(second, second_image)]
            steps = check_integer("The number of images", steps, *STEPS)
            with without_folders(*sources):
                return [str(path) for path in self.controls(name).between(*sources, steps)]
