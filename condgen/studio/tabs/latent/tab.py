"""The tab for the latent spaces of autoencoders, VAEs and GANs.

from gradio_client import Client
result = Client("http://127.0.0.1:7860").predict("faces", 7, shifts={"3": 1.5}, api_name="/decode")
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from typing import Any

import gradio as gr

from condgen.contracts import CondgenError
from condgen.files.images import png_bytes, read_recipe, slug
from condgen.latent_space import interpolate
from condgen.latent_space.inputs import SEED, ImageSource
from condgen.pipelines.base import Pipeline
from condgen.pipelines.latent import LatentModel
from condgen.studio import theme
from condgen.studio.checks import number
from condgen.studio.components import latent_sliders, wide_images
from condgen.studio.images.outputs import SavedImage
from condgen.studio.library import ModelEntry
from condgen.studio.session import BUSY, RANDOM_SEEDS, check_integer
from condgen.studio.studio import COMPUTE, PIXELS, QUICK, uploaded, user_errors, without_folders
from condgen.studio.tabs.base import Page, Tab, shown_if
from condgen.studio.tabs.latent.controls import (
    DIRECTION,
    SLIDER_RANGE,
    STEPS,
    LatentControls,
    Start,
    check_latent,
    check_seed,
)

NEED = "This tab needs a model with a latent space: an autoencoder, a VAE or a GAN."
CACHED = 4
"""Models whose dimensions are remembered."""


def is_latent(entry: ModelEntry) -> bool:
    """Whether a model has a latent space."""
    return entry.kind.name == LatentModel.__name__


class LatentTab(Tab):
    """A start and an image that follows the sliders; below, the images between two ends."""

    id, title = "latent", "Latent space"

    def build(self, page: Page) -> None:
        self._controls: OrderedDict[str, LatentControls] = OrderedDict()
        self.needed = self.build_needs()
        with gr.Column(elem_classes=["cg-off"]) as self.body:
            with gr.Row():
                with gr.Column(scale=4, min_width=320):
                    self.sliders = latent_sliders(SLIDER_RANGE, DIRECTION, elem_id="latent-sliders")
                with gr.Column(scale=1, min_width=240):
                    self.start = End(page, "Start", "latent-start", 1)
            gr.HTML("<h2>From one image to another</h2>")
            with gr.Row():
                with gr.Column(scale=1, min_width=220):
                    self.first = End(page, "From", "latent-from", 1)
                with gr.Column(scale=1, min_width=220):
                    self.second = End(page, "To", "latent-to", 2)
                with gr.Column(scale=1, min_width=220):
                    self.steps = gr.Slider(*STEPS, value=9, step=1, label="Images on the way")
                    self.go = gr.Button("Interpolate", variant="primary", elem_classes=["run"])
            self.progress = gr.HTML(theme.progress_line(), elem_id="latent-progress", elem_classes=["progress"])
            self.between = wide_images("Interpolations", elem_id="latent-between")
        page.remembered |= {"latent": self.sliders, "latent steps": self.steps, "latent between": self.between}
        page.kept_images.append(self.between)
        self.ends = (self.start, self.first, self.second)
        self.model_outputs = [*self.needed, self.body, self.sliders, *(end.slot for end in self.ends)]

    def connect(self, page: Page) -> None:
        live = {"inputs": [page.model, *self.start.inputs, self.sliders], "outputs": self.sliders, **COMPUTE}
        live |= {"api_visibility": "private", "show_progress": "hidden", "trigger_mode": "always_last"}
        self.sliders.begin(self._begin, **live)
        self.sliders.move(self._move, **live)
        # the page computes when it is looked at
        changed = [component.change for component in self.start.inputs]
        gr.on(changed, None, None, None, js="() => dispatchEvent(new Event('latent-start'))", api_visibility="private")
        for end in self.ends:
            end.connect()
        inputs = [page.model, *self.first.inputs, *self.second.inputs, self.steps]
        self.go.click(
            self._between, inputs, [self.between, self.progress], api_visibility="private", show_progress="hidden",
            **COMPUTE,
        )  # fmt: skip
        page.receive("latent", self.id, self.start.inputs, self._receive)
        gr.api(self.decode, api_name="decode", **COMPUTE)
        gr.api(self.interpolate_latents, api_name="interpolate_latents", **COMPUTE)

    def on_model(self, entry: ModelEntry, request: gr.Request) -> list:
        needed, usable = self.needs(entry, is_latent, NEED), is_latent(entry)
        images = usable and self.studio.open(entry.name).encodes
        # all in one: of updates before the tab is opened only the last holds
        sliders = gr.update(model=entry.name if usable else "", stale=secrets.token_hex(4))
        return [*needed, shown_if(usable), sliders, *[shown_if(images)] * 3]

    # Events -----------------------------------------------------------------------------------------------------------

    def _begin(self, name: str, seed: str, slot: dict, shifts: dict, request: gr.Request):
        """All of the page: the dimensions and what they do at a start, and the image."""
        with user_errors(), BUSY:
            controls = self._of(self.studio.open(name))
            found = self._start(controls, seed, slot, request)
            own = set(map(str, controls.dimensions))
            kept = {k: v for k, v in (shifts if isinstance(shifts, dict) else {}).items() if k in own}
            dimensions = [
                {"index": k, "note": note, "low": theme.data_url(low), "high": theme.data_url(high)}
                for k, note, (low, high) in zip(controls.dimensions, controls.notes, controls.directions(found.z))
            ]
            small = [(found.given, "as the model reads it")] if found.given else []
            small += [(controls.image(found.z), "its reconstruction" if found.given else found.text)]
            shown = [{"url": theme.data_url(image), "caption": text} for image, text in small]
            image = controls.image(controls.moved(found.z, controls.check_shifts(kept)))
            return gr.update(
                dimensions=dimensions, starts=shown, image=_full(image), pixels=controls.model.size < PIXELS,
                file=f"{slug(name)}-{slug(found.text)}.png",
            )  # fmt: skip

    def _move(self, name: str, seed: str, slot: dict, shifts: dict, request: gr.Request):
        """The image alone."""
        with user_errors(), BUSY:
            controls = self._of(self.studio.open(name))
            z = self._start(controls, seed, slot, request).z
            return gr.update(image=_full(controls.image(controls.moved(z, controls.check_shifts(shifts)))))

    def _between(self, name, seed, slot, other_seed, other_slot, steps, request: gr.Request):
        with user_errors():
            try:
                model = self.studio.open(name)
                check_latent(model)
                ends = [self._source(model, *end, request) for end in ((seed, slot), (other_seed, other_slot))]
                yield gr.skip(), theme.progress_line("Computing.")
                sheet, film = self._interpolated(model, [source for source, _ in ends], steps, request)
            except CondgenError as error:
                yield gr.skip(), theme.progress_line(str(error))
                raise
            text = f"{name}: from {ends[0][1]} to {ends[1][1]}"
            cards = [self.studio.card(one, f"{title}, {text}", request) for one, title in
                     ((sheet, "All images"), (film, "Film"))]  # fmt: skip
            yield cards, theme.progress_line(text, 1.0)

    def _receive(self, image: SavedImage, name: str, request: gr.Request) -> list:
        """The seed of an image that the chosen model generated, else the image itself."""
        model = self.studio.open(name)
        check_latent(model)
        try:
            recipe = read_recipe(image.path)
        except CondgenError:
            recipe = {}
        if recipe.get("model_id") == model.model_id and isinstance(recipe.get("seed"), int):
            return [str(recipe["seed"]), None]
        model.check_encodes()
        return [gr.skip(), self.studio.slot(image, request)]

    # Computing --------------------------------------------------------------------------------------------------------

    def _of(self, model: Pipeline) -> LatentControls:
        """The controls of a model; measured once."""
        kept = self._controls.get(model.name)
        if kept is None or kept.model is not model:
            kept = self._controls[model.name] = LatentControls.of(model)
            while len(self._controls) > CACHED:
                self._controls.popitem(last=False)
        self._controls.move_to_end(model.name)
        return kept

    def _start(self, controls: LatentControls, seed: Any, slot: Any, request: gr.Request) -> Start:
        source, text = self._source(controls.model, seed, slot, request)
        with without_folders(source):
            return controls.start(source, text)

    def _source(self, model: LatentModel, seed: Any, slot: Any, request: gr.Request) -> tuple[str, str]:
        """The source that an end names, and its text; the seed where the model reads no images."""
        if slot and model.encodes:
            path = self.studio.image(slot, request)
            return str(path), str(slot.get("name") or path.name)[:80]
        source = check_seed(number(seed))
        return source, source.replace(SEED, "seed ")

    def _interpolated(
        self, model: Pipeline, sources: list[str], steps: Any, request: gr.Request | None
    ) -> tuple[SavedImage, SavedImage]:
        steps = check_integer("The number of images", steps, *STEPS)
        with BUSY, without_folders(*sources):
            ends = ImageSource(model).load(sources)
            found = interpolate(model, ends[:1], ends[1:], steps)
        save, person = self.studio.outputs.save, self.studio.person(request)
        return tuple(save(person, f"{slug(model.name)}-{name}", data) for name, data in found.sheets.items())

    # API --------------------------------------------------------------------------------------------------------------

    def decode(
        self, model: str, seed: int = 0, image: dict | None = None, shifts: dict | None = None,
        request: gr.Request | None = None,
    ) -> dict:  # fmt: skip
        """Decodes the latent of a seed or of an image, moved by {dimension: standard deviations}.

        `images` are files: the image as the model reads it, if one was given; its decoded latent; and, with shifts,
        the moved one. `dimensions` are the most informative ones.
        """
        with user_errors():
            opened = self.studio.open(model)
            check_latent(opened)
            source = str(uploaded(image)) if image else check_seed(seed)
            with BUSY, without_folders(source):
                controls = self._of(opened)
                checked = controls.check_shifts(shifts or {})
                start = controls.start(source)
                images = [(start.given, "the image")] if start.given else []
                images += [(controls.image(start.z), "its reconstruction" if start.given else start.text)]
                images += [(controls.image(controls.moved(start.z, checked)), "moved")] if any(checked.values()) else []
            files = [self.studio.file(f"{slug(text)}.png", png_bytes(one)) for one, text in images]
            return {"images": files, "captions": [text for _, text in images], "dimensions": controls.dimensions}

    def interpolate_latents(
        self, model: str, first_seed: int = 1, second_seed: int = 2, first_image: dict | None = None,
        second_image: dict | None = None, steps: int = 9, request: gr.Request | None = None,
    ) -> dict:  # fmt: skip
        """The images between two ends, of seeds or given: a sheet and a film (GIF) of lines of pixels and of latents,
        and of an arc of latents.
        """
        with user_errors():
            opened = self.studio.open(model)
            check_latent(opened)
            given = ((first_seed, first_image), (second_seed, second_image))
            sources = [str(uploaded(image)) if image else check_seed(seed) for seed, image in given]
            kept = self._interpolated(opened, sources, steps, request)
            shown = [self.studio.outputs.shown(self.studio.person(request), one) for one in kept]
            files = [gr.FileData(path=str(path), orig_name=path.name).model_dump() for path in shown]
            return dict(zip(("sheet", "film"), files))


class End:
    """A seed or an image, from which a latent is made: three components.

    Args:
        seed: the first one.
    """

    def __init__(self, page: Page, label: str, name: str, seed: int):
        with gr.Row():
            self.seed = gr.Textbox(str(seed), label=f"{label}: seed", min_width=100, scale=3, elem_id=f"{name}-seed")
            self.dice = gr.Button("New seed", size="sm", min_width=80, scale=1, elem_id=f"{name}-dice")
        self.slot = page.slot(f"{label}: or an image", elem_id=name)
        self.inputs = [self.seed, self.slot]
        page.remembered |= {f"{name} seed": self.seed, name: self.slot}

    def connect(self) -> None:
        self.dice.click(lambda: (str(secrets.randbelow(RANDOM_SEEDS)), None), None, self.inputs, **QUICK)


def _full(image: Any) -> str:
    return theme.data_url(image, None)
