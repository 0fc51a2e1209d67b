"""The controls beside the images of the Generate tab: count, seed, preset, and what stands under Advanced."""

from __future__ import annotations

import base64
import secrets
from dataclasses import replace
from typing import Any

import gradio as gr

from condgen.pipelines.base import Pipeline
from condgen.pipelines.editing.guide import NOISE, WEIGHT
from condgen.pipelines.text_to_image import TextToImage
from condgen.studio.checks import number
from condgen.studio.components import brush, defaults, option_form
from condgen.studio.session import (
    MAX_IMAGES,
    RANDOM,
    RANDOM_SEEDS,
    Request,
    check,
    one_of_each,
    presets_of,
    priors_of,
    sampling_options_of,
    sizes_of,
)
from condgen.studio.studio import QUICK, Studio, user_errors, without_folders
from condgen.studio.tabs.base import Page
from condgen.studio.tabs.generate.guides import guides_of
from condgen.studio.tabs.generate.masks import MaskDefaults, drawn_mask, fields_of, reopened
from condgen.studio.tabs.generate.refill import Filling


class Settings:
    """The controls, their events, and what they ask for.

    Args:
        studio: the server.
    """

    def __init__(self, studio: Studio):
        self.studio = studio

    # Components -------------------------------------------------------------------------------------------------------

    def build(self, page: Page) -> None:
        """Makes the components, and has the browser remember them."""
        self.count = gr.Slider(1, MAX_IMAGES, value=4, step=1, label="Images", elem_id="count")
        with gr.Row(elem_id="seed-row"):
            self.seed = gr.Textbox(  # text: numbers on a page are not exact above 2**53
                str(secrets.randbelow(RANDOM_SEEDS)), label="Seed", min_width=90, scale=2, elem_id="seed", max_lines=1
            )
            self.keep = gr.Checkbox(False, label="Keep", min_width=70, scale=1, elem_id="keep-seed", container=False)
            self.dice = gr.Button("New", size="sm", min_width=50, scale=1, elem_id="new-seed")
        self.preset = gr.Radio([], label="Speed", elem_id="preset", visible=False)
        with gr.Accordion("Advanced", open=False, elem_id="advanced") as self.advanced:
            info = "from text to image embedding; none: the text embedding itself"
            self.prior = gr.Dropdown([], label="Prior", info=info, visible=False, allow_custom_value=True)
            info = "images of every seed, of which the one nearest to the words is kept"
            self.candidates = gr.Slider(1, MAX_IMAGES, value=1, step=1, label="Candidates", info=info, visible=False)
            self.size = gr.Radio([], label="Size in pixels", visible=False, elem_id="size")
            self.options = option_form(elem_id="options")
            info = "words to steer away from; they act through guidance, which at 1 is off"
            self.negative = gr.Textbox("", label="Negative words", info=info, elem_id="negative", max_lines=3,
                                       visible=False)  # fmt: skip
            self._images(page)
        page.remembered |= {
            "count": self.count, "seed": self.seed, "keep": self.keep, "prior": self.prior, "preset": self.preset,
            "candidates": self.candidates, "size": self.size, "options": self.options, "guide_image": self.image,
            "guide_weight": self.weight, "guide_init": self.init, "guide_noise": self.noise, "guide_mask": self.mask,
            "negative": self.negative, "guide_brush": self.brush,
        }  # fmt: skip

    def _images(self, page: Page) -> None:
        with gr.Column(visible=False) as self.beside:
            self.image = page.slot("Image beside the words", elem_id="guide-image")
            info = "0: the words alone, 1: the image alone"
            self.weight = gr.Slider(0, 1, value=WEIGHT, step=0.05, label="Weight of the image", info=info)
        with gr.Column(visible=False) as self.before:
            self.init = page.slot("Start image", elem_id="guide-init")
            info = "low keeps the image, 1 makes a new one; with a mask, 1 and guidance 1.5 are advised"
            self.noise = gr.Slider(0.05, 1, value=NOISE, step=0.05, label="How much may change", info=info)
            self.brush = brush("Brush over what may change", elem_id="guide-brush")
            self.mask = page.slot("Or a mask: white may change, black stays", elem_id="guide-mask")

    @property
    def inputs(self) -> list[Any]:
        """The components whose values `request` takes."""
        return [
            self.count, self.seed, self.keep, self.prior, self.options, self.candidates, self.size, self.image,
            self.weight, self.init, self.noise, self.brush, self.mask, self.negative,
        ]  # fmt: skip

    @property
    def outputs(self) -> list[Any]:
        """The components that `of_model` and `filled` update."""
        return [
            self.count, self.seed, self.keep, self.preset, self.prior, self.candidates, self.size, self.options,
            self.beside, self.before, self.image, self.weight, self.init, self.noise, self.brush, self.mask,
            self.negative,
        ]  # fmt: skip

    def connect(self, page: Page) -> None:
        """Connects the events among the controls."""
        here: dict[str, Any] = {"api_visibility": "private"}
        new = f"() => String(Math.floor(Math.random() * {RANDOM_SEEDS}))"
        self.dice.click(None, None, self.seed, js=new, **here)
        self.seed.input(None, None, self.keep, js="() => true", **here)  # a seed that was typed is meant
        self.prior.change(self._offer, [page.model, self.prior], self.options, **QUICK)
        chosen = [page.model, self.prior, self.preset, self.options]
        self.preset.input(self._apply, chosen, [self.options, self.candidates], **QUICK)
        self.init.change(lambda value: gr.update(image=value), self.init, self.brush, **QUICK)
        masks = MaskDefaults(self.studio)
        shown = [page.model, self.prior, self.options, self.noise, self.init, self.brush, self.mask]
        for given, act in ((self.brush, masks.show), (self.mask, masks.show), (self.init, masks.begin)):
            given.input(act, shown, [self.options, self.noise], **QUICK)
        guides = [self.image, self.init, self.mask, self.brush]
        page.restored.append((reopened, guides, [self.advanced, self.brush]))

    def _offer(self, name: str, prior: str):
        """The options of another prior; the page keeps the values of those that stay."""
        with user_errors():
            return gr.update(options=fields_of(self.studio.open(name), prior))

    def _apply(self, name: str, prior: str, preset: str, options: dict) -> tuple:
        """Sets the options of a preset, and those of the other presets to their default."""
        with user_errors():
            model = self.studio.open(name)
            presets, known = presets_of(model), defaults(fields_of(model, prior))
            values = {option: known[option] for one in presets.values() for option in one if option in known}
            values |= {option: value for option, value in presets.get(preset, {}).items() if option in known}
            return gr.update(value=(options or {}) | values), presets.get(preset, {}).get("candidates", 1)

    # Updates ----------------------------------------------------------------------------------------------------------

    def of_model(self, model: Pipeline) -> list:
        """Updates of `outputs` for a model that was chosen: its options at their defaults."""
        presets, priors, sizes, guides = presets_of(model), priors_of(model), sizes_of(model), guides_of(model)
        fields = fields_of(model, "")
        choices = [(name.capitalize(), name) for name in presets]
        return [
            gr.skip(), gr.skip(), gr.skip(),
            gr.update(choices=choices, value="default", info=meaning(model), visible=len(presets) > 1),
            gr.update(choices=priors, value=priors[0] if priors else None, visible=len(priors) > 1),
            gr.update(value=1, visible=isinstance(model, TextToImage)),
            gr.update(choices=sizes, value=model.size, visible=len(sizes) > 1),
            gr.update(options=fields, value=defaults(fields)),
            gr.update(visible="image" in guides), gr.update(visible="init" in guides),
            gr.skip(), gr.skip(), gr.skip(), gr.skip(), gr.skip(), gr.skip(),
            gr.update(visible="negative" in guides),
        ]  # fmt: skip

    def filled(self, model: Pipeline, filling: Filling, request: gr.Request) -> list:
        """Updates of `outputs` with the settings of an image."""
        asked, guide = filling.request, filling.request.guide
        values = [one if isinstance(one, dict) else {} for one in self.of_model(model)]
        prior = asked.options.get("prior") or (guide.prior if guide else "") or None
        fields = fields_of(model, prior or "")
        known = {field["name"] for field in fields}
        options = defaults(fields) | {name: value for name, value in asked.options.items() if name in known}
        values[0:3] = [{"value": 1}, {"value": str(asked.seed)}, {"value": True}]
        values[3] |= {"value": next((p for p, v in presets_of(model).items() if _is(p, v, asked, fields)), None)}
        values[4] |= {"value": prior} if prior else {}
        values[5] |= {"value": asked.candidates}
        values[6] |= {"value": asked.size or model.size}
        values[7] = {"options": fields, "value": options}
        values[16] |= {"value": guide.negative if guide else ""}
        if guide is not None:
            slots = [
                {"value": None if one is None else self.studio.slot_of(one.name, base64.b64decode(one.png))}
                for one in (guide.image, guide.init, guide.mask)
            ]
            numbers = {"value": guide.image_weight}, {"value": guide.noise}
            values[10:16] = [slots[0], numbers[0], slots[1], numbers[1], {"value": None}, slots[2]]
        else:
            values[10], values[12], values[14], values[15] = [{"value": None} for _ in range(4)]
        return [gr.update(**one) if one else gr.skip() for one in (_plain(one) for one in values)]

    # Requests ---------------------------------------------------------------------------------------------------------

    def request(self, model: Pipeline, condition: Any, values: tuple, request: gr.Request, each: str = "") -> Request:
        """What the values of `inputs` ask for.

        Args:
            each: an attribute; one image of each of its values is asked for.

        Raises:
            CondgenError: a value is out of range, see `session.check`.
        """
        count, seed, keep, prior, options, candidates, size, *images = values
        seed = number(seed) if keep else RANDOM
        known = defaults(fields_of(model, prior))
        guide = self._guide(model, images, request)
        # with a mask the defaults are others than the page's; what the page shows is what is used
        given = {
            name: value
            for name, value in (options or {}).items()
            if name in known and ("mask" in guide or value != known[name])
        }
        given |= {"candidates": candidates} if isinstance(model, TextToImage) else {}
        given |= {"size": size} if len(sizes_of(model)) > 1 else {}
        given |= guide
        with without_folders(*(value for value in given.values() if hasattr(value, "name"))):
            if not each:
                return check(model, condition, count, seed, prior, "", given)
            conditions = one_of_each(model, condition, each)
            return replace(check(model, conditions[0], len(conditions), seed, prior, "", given), each=conditions)

    def _guide(self, model: Pipeline, values: list, request: gr.Request) -> dict[str, Any]:
        image, weight, init, noise, drawn, mask, negative = values
        kinds, given = guides_of(model), {}
        if negative and "negative" in kinds:
            given["negative"] = negative
        if image and "image" in kinds:
            given |= {"image": self.studio.image(image, request), "image_weight": weight}
        if init and "init" in kinds:
            given["init"] = self.studio.image(init, request, "start image")
            if mask:
                given["mask"] = self.studio.image(mask, request, "mask")
            elif drawn:
                given["mask"] = drawn_mask(drawn)
            given["noise"] = noise
        return given


def meaning(model: Pipeline) -> str:
    """What the presets do, in one line: 'Fast: 6 steps. Default: 12 steps. Quality: the best of 2 images.'"""
    presets, parts = presets_of(model), []
    if len(presets) == 1:
        return ""
    steps = {option.name: option.default for option in sampling_options_of(model)}.get("steps", 1)
    for name, values in presets.items():
        best = values.get("candidates", 1)
        text = f"the best of {best} images" if best > 1 else f"{values.get('steps', steps):g} steps"
        parts.append(f"{name.capitalize()}: {text}.")
    return " ".join(parts)


def _is(name: str, values: dict[str, Any], asked: Request, fields: list[dict[str, Any]]) -> bool:
    """Whether a request has the values of a preset."""
    known = defaults(fields)
    own = {option: asked.options.get(option, known[option]) for option in ("steps",) if option in known}
    own["candidates"] = asked.candidates
    expected = {"steps": known.get("steps"), "candidates": 1} | values
    return all(expected[option] == value for option, value in own.items())


def _plain(update: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in update.items() if name != "__type__"}
