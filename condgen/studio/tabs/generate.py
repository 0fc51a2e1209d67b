"""The tab that generates images from a prompt, from labels, or from nothing.

from gradio_client import Client
result = Client("http://127.0.0.1:7860").predict("scenes32", "a red circle", api_name="/generate")
"""

from __future__ import annotations

import secrets
from typing import Any

import gradio as gr

from condgen.contracts import CondgenError, SamplingOption
from condgen.pipelines.base import Pipeline
from condgen.pipelines.class_to_image import ClassToImage
from condgen.pipelines.presets import PRESETS
from condgen.pipelines.text_to_image import TextToImage
from condgen.studio import theme
from condgen.studio.components import attribute_fields, defaults, label_form, option_fields, option_form
from condgen.studio.library import ModelEntry
from condgen.studio.outputs import SavedImage
from condgen.studio.session import (
    MAX_IMAGES,
    RANDOM_SEEDS,
    Request,
    Snapshot,
    caption_of,
    check,
    description_of,
    examples_of,
    priors_of,
    sampling_options_of,
    serve,
)
from condgen.studio.studio import COMPUTE, PIXELS, QUICK, user_errors, warn
from condgen.studio.tabs.base import Page, Tab

STOPPED = "Stopped. Finished images are kept."


class GenerateTab(Tab):
    """Prompt or labels at the top, images below, settings at the right."""

    id, title = "generate", "Generate"

    def build(self, page: Page) -> None:
        with gr.Row(elem_id="prompt-row"):
            self.prompt = gr.Textbox(
                label="Prompt", placeholder="Describe an image", show_label=False, container=False, scale=5,
                autofocus=True, elem_id="prompt", max_lines=4,
            )  # fmt: skip
            self.go = gr.Button("Generate", variant="primary", scale=1, elem_id="generate", elem_classes=["run"])
            self.stop = gr.Button("Stop", variant="stop", scale=1, elem_id="stop", visible=False)
        self.notes = gr.HTML("", elem_id="prompt-notes")
        self.labels = label_form(visible=False, elem_id="labels")
        self.examples = gr.Dataset(
            components=[gr.Textbox(visible=False)], samples=[], label="Try", elem_id="examples", visible=False
        )
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                self.progress = gr.HTML(theme.progress_line(), elem_id="progress")
                self.images = page.grid("Generated images", "Your images appear here.", elem_id="images")
            with gr.Column(scale=1, min_width=280):
                self._settings()
        page.remembered |= {
            "prompt": self.prompt, "labels": self.labels, "count": self.count, "seed": self.seed, "keep": self.keep,
            "preset": self.preset, "prior": self.prior, "options": self.options, "images": self.images,
        }  # fmt: skip
        self.model_outputs = [
            self.prompt, self.labels, self.examples, self.prior, self.options, self.preset, self.one_of_each,
        ]  # fmt: skip

    def _settings(self) -> None:
        self.count = gr.Slider(1, MAX_IMAGES, value=4, step=1, label="Images")
        with gr.Row():
            self.seed = gr.Textbox(  # text: numbers on a page are not exact above 2**53
                str(secrets.randbelow(RANDOM_SEEDS)), label="Seed", info="of the first image", min_width=120,
                elem_id="seed",
            )  # fmt: skip
            self.dice = gr.Button("New seed", size="sm", min_width=80)
        self.keep = gr.Checkbox(False, label="Keep this seed", elem_id="keep-seed")
        self.preset = gr.Radio([*PRESETS], value="default", label="Speed", elem_id="preset")
        self.one_of_each = gr.Button("One of each label", size="sm", visible=False)
        with gr.Accordion("Advanced", open=False):
            self.prior = gr.Dropdown(
                [], label="Prior", info="from text to image embedding; none: the text embedding itself"
            )
            self.options = option_form(elem_id="options")

    # Events -----------------------------------------------------------------------------------------------------------

    def connect(self, page: Page) -> None:
        buttons = [self.go, self.stop]
        inputs = [
            page.model, self.prompt, self.labels, self.count, self.seed, self.prior, self.preset, self.options,
        ]  # fmt: skip
        start = [self.prompt.submit, self.go.click]
        # in sequence: in parallel, the buttons of a quick failure could be set before those of the start
        begun = gr.on(start, self._begin, [self.seed, self.keep], [*buttons, self.progress, self.seed], **QUICK)
        running = begun.then(
            self._generate, inputs, [self.images, self.progress], api_visibility="private", show_progress="hidden",
            **COMPUTE,
        )  # fmt: skip
        running.then(lambda: _buttons(False), None, buttons, **QUICK)
        # no .failure: a request that was stopped also ends as a failed one, and would overwrite the line of the stop
        self.stop.click(
            lambda: (*_buttons(False), theme.progress_line(STOPPED)), None, [*buttons, self.progress],
            cancels=[running], **QUICK,
        )  # fmt: skip
        self.dice.click(lambda: str(secrets.randbelow(RANDOM_SEEDS)), None, self.seed, **QUICK)
        self.prompt.input(self._notes, [page.model, self.prompt], self.notes, trigger_mode="always_last", **QUICK)
        self.prior.input(self._offer, [page.model, self.prior], self.options, **QUICK)
        self.examples.click(lambda sample: sample[0], self.examples, self.prompt, **QUICK)
        page.receive("use_seed", self.id, [self.seed, self.keep], self._use_seed)
        gr.api(self.generate, api_name="generate", **COMPUTE)

    @staticmethod
    def _begin(seed: str, keep: bool):
        seed = seed if keep else str(secrets.randbelow(RANDOM_SEEDS))
        return *_buttons(True), theme.progress_line("Waiting."), seed

    def _generate(self, name, prompt, labels, count, seed, prior, preset, options, request: gr.Request):
        with user_errors():
            try:
                model = self.studio.open(name)
                condition = labels if isinstance(model, ClassToImage) else prompt
                asked = check(model, condition, count, number(seed), prior, preset, options)
            except CondgenError as error:
                yield gr.skip(), theme.progress_line(str(error))
                raise
            done: list[dict] = []
            for snapshot in serve(model, asked):
                warn(snapshot.notes)
                done += [self._card(one, model, request) for one in snapshot.done[len(done) :]]
                yield self._shown(done, snapshot, asked, model), theme.progress_line(snapshot.text, snapshot.fraction)

    def _card(self, generated, model: Pipeline, request: gr.Request) -> dict[str, Any]:
        image = self.studio.keep(generated, request)
        more = {"alt": description_of(generated), "pixels": model.size < PIXELS}
        return self.studio.card(image, caption_of(generated), request, **more)

    @staticmethod
    def _shown(done: list[dict], snapshot: Snapshot, asked: Request, model: Pipeline) -> list[dict]:
        waiting = [{"pending": True} for _ in range(asked.count - len(done))]
        if snapshot.frame is not None and waiting:
            frame = {"frame": theme.data_url(snapshot.frame), "alt": "The image so far", "pixels": model.size < PIXELS}
            waiting[0] = frame
        return done + waiting

    def _notes(self, name: str, prompt: str) -> str:
        with user_errors():
            model = self.studio.open(name)
            if not isinstance(model, TextToImage) or not prompt.strip():
                return ""
            return theme.unread_words(model.tokenizer.unseen(prompt))

    def _offer(self, name: str, prior: str):
        with user_errors():
            return _form(sampling_options_of(self.studio.open(name), prior))

    def _use_seed(self, image: SavedImage, model: str, request: gr.Request) -> list:
        from condgen.files.images import read_recipe

        return [str(read_recipe(image.path)["seed"]), True]

    # A chosen model ---------------------------------------------------------------------------------------------------

    def on_model(self, entry: ModelEntry, request: gr.Request) -> list:
        model = self.studio.open(entry.name)
        reads_text, by_label = isinstance(model, TextToImage), isinstance(model, ClassToImage)
        examples, priors = examples_of(model), priors_of(model)
        hint = examples[0] if examples else "Describe an image"
        attributes = [attribute_fields(attribute) for attribute in model.attributes] if by_label else []
        return [
            gr.update(visible=reads_text, placeholder=hint),
            gr.update(visible=by_label, attributes=attributes, value={}),
            gr.update(visible=bool(examples), samples=[[text] for text in examples]),
            gr.update(choices=priors, value=priors[0] if priors else None, visible=bool(priors)),
            _form(sampling_options_of(model)),
            gr.update(visible=reads_text),
            gr.update(visible=by_label),
        ]

    # API --------------------------------------------------------------------------------------------------------------

    def generate(
        self, model: str, prompt: str = "", labels: dict | None = None, count: int = 1, seed: int = -1, prior: str = "",
        preset: str = "default", options: dict | None = None, request: gr.Request | None = None,
    ) -> dict:  # fmt: skip
        """Generates images; they are files under `images`, each with its seed and recipe."""
        with user_errors():
            opened = self.studio.open(model)
            condition = (labels or {}) if isinstance(opened, ClassToImage) else prompt
            asked = check(opened, condition, count, seed, prior, preset, options)
            *_, last = serve(opened, asked)
            kept = [self.studio.keep(one, request) for one in last.done]
            shown = [self.studio.outputs.shown(self.studio.person(request), image) for image in kept]
            files = [gr.FileData(path=str(path), orig_name=path.name).model_dump() for path in shown]
            return {"images": files, "seeds": list(asked.seeds), "recipes": [one.recipe for one in last.done]}


def number(text: Any) -> Any:
    """A seed that was typed as text; anything else as it is, for the checks."""
    digits = text.strip() if isinstance(text, str) else ""
    return int(digits) if digits.removeprefix("-").isdecimal() and len(digits) < 25 else text


def _form(options: tuple[SamplingOption, ...]) -> dict[str, Any]:
    """The update of the form for the options of a model."""
    fields = [option_fields(option) for option in options if not option.advanced]
    return gr.update(options=fields, value=defaults(fields))


def _buttons(busy: bool) -> tuple:
    return gr.update(visible=not busy), gr.update(visible=busy)
