"""The form of the Compare tab: what is compared, and the plan that it describes."""

from __future__ import annotations

from typing import Any

import gradio as gr

from condgen.contracts import CondgenError
from condgen.files.images import read_recipe
from condgen.pipelines.class_to_image import ClassToImage
from condgen.pipelines.presets import PRESETS
from condgen.pipelines.text_to_image import TextToImage
from condgen.studio.components import attribute_fields, defaults, label_form, option_fields, option_form
from condgen.studio.images.outputs import SavedImage
from condgen.studio.session import MAX_IMAGES, presets_of, priors_of, sampling_options_of
from condgen.studio.studio import QUICK, Studio, uploaded, user_errors
from condgen.studio.tabs.base import Page
from condgen.studio.tabs.compare.axes import MAX_CELLS, MAX_MODELS, Axis, axes_of, check_cells, seeds_of
from condgen.studio.tabs.compare.grids import (
    Plan,
    Settings,
    base_settings,
    models_plan,
    options_plan,
    priors_plan,
    prompts_plan,
)
from condgen.studio.tabs.compare.prompt_files import read_prompts
from condgen.studio.theme import status_line

MODES = [("Models", "models"), ("Options (X/Y)", "options"), ("Prompts from a file", "prompts")]
FIRST_X = ("guidance", "steps", "labels.label")
"""The option that is suggested first, if the model has it."""


class CompareForm:
    """The components; made inside the tab.

    Args:
        page: the page; the form adds to what it remembers.
    """

    def __init__(self, studio: Studio, page: Page):
        self.studio, self.model = studio, page.model
        self.mode = gr.Radio(MODES, value="models", label="Compare", elem_id="compare-mode")
        with gr.Row(elem_id="compare-start"):
            self.prompt = gr.Textbox(
                label="Prompt", placeholder="Describe an image", max_lines=4, show_label=False, container=False,
                scale=5, elem_id="compare-prompt",
            )  # fmt: skip
            self.go = gr.Button("Compare", variant="primary", scale=1, elem_classes=["run"], elem_id="compare-go")
            self.stop = gr.Button("Stop", variant="stop", scale=1, visible=False, elem_id="compare-stop")
        self.labels = label_form(visible=False, elem_id="compare-labels")
        self._modes()
        with gr.Accordion("Shared settings: seed, prior, sampling", open=False):
            self.seed = gr.Textbox("1", label="Seed", info="of the first image, where seeds are not compared")
            self.prior = gr.Dropdown([], label="Prior", allow_custom_value=True)
            self.preset = gr.Radio([*PRESETS], value="default", label="Speed")
            self.options = option_form(elem_id="compare-options")
        kept = {
            "mode": self.mode, "prompt": self.prompt, "labels": self.labels, "over": self.over, "models": self.models,
            "seeds": self.seeds, "seed": self.seed, "each": self.each, "x": self.x, "xs": self.xs, "y": self.y,
            "ys": self.ys, "prior": self.prior, "preset": self.preset, "options": self.options,
        }  # fmt: skip
        self.parts = {self.model, self.file, *kept.values()}
        """Inputs of `plan`."""
        page.remembered |= {f"compare_{name}": part for name, part in kept.items()}
        self.model_outputs = [
            self.prompt, self.labels, self.over, self.models, self.x, self.xs, self.y, self.ys, self.prior,
            self.preset, self.options,
        ]  # fmt: skip

    def _modes(self) -> None:
        """What is particular to every mode; the groups are in the order of MODES."""
        with gr.Row() as models:
            self.over = gr.Radio(["Models", "Priors"], value="Models", label="Side by side")
            self.models = gr.Dropdown(
                [], label="Models", multiselect=True, max_choices=MAX_MODELS, allow_custom_value=True, scale=2
            )
            self.seeds = gr.Textbox("1, 2", label="Seeds", info="such as 1, 2 or 1..4; each is a row")
        with gr.Row(visible=False) as options:
            (self.x, self.xs), (self.y, self.ys) = (self._axis(name) for name in "XY")
        with gr.Row(visible=False) as prompts:
            self.file = gr.File(
                label="Prompts (.txt, .csv or .json)",
                file_types=[".txt", ".csv", ".json"],
                height=140,
                elem_id="compare-file",
            )
            self.each = gr.Slider(1, MAX_IMAGES, value=1, step=1, label="Images of every prompt")
        self.groups = [models, options, prompts]

    @staticmethod
    def _axis(name: str) -> tuple[gr.Dropdown, gr.Textbox]:
        info = "such as 1, 2, 4 or 1..5 or 0..1 by 0.25" if name == "X" else "not used for a single row"
        option = gr.Dropdown(
            [],
            label=f"{name} option",
            info="columns" if name == "X" else "rows",
            allow_custom_value=True,
            min_width=140,
        )
        return option, gr.Textbox(label=f"{name} values", info=info, scale=2, min_width=200)

    def connect(self, page: Page, count: gr.HTML) -> None:
        """Connects what happens within the form; `count` shows the number of images."""
        changes = [part.change for part in self.parts - {self.model}]
        gr.on(changes, self._count, self.parts, count, trigger_mode="always_last", **QUICK)
        self.mode.change(self._visible, [self.mode, self.model], [*self.groups, self.prompt], **QUICK)
        for option, values in ((self.x, self.xs), (self.y, self.ys)):
            option.input(self._suggest, [self.model, option], values, **QUICK)
        self.prior.input(self._offer, [self.model, self.prior], self.options, **QUICK)
        received = [self.mode, self.prompt, self.labels, self.models, self.seeds, self.seed, self.prior, self.options]
        page.receive("compare", "compare", received, self._receive)

    def plan(self, given: dict) -> Plan:
        """What the form describes; errors as in `grids`."""
        model, options = self.studio.open(given[self.model]), given[self.options] or {}
        usual = {one.name: one.default for one in sampling_options_of(model, given[self.prior])}
        changed = {name: value for name, value in options.items() if value != usual.get(name)}
        base = {"prior": given[self.prior] or "", "preset": given[self.preset], "options": changed}
        if given[self.mode] != "models":
            base["seed"] = seeds_of(given[self.seed])[0]
        settings = self.settings(given[self.model], given[self.prompt], given[self.labels], base)
        if given[self.mode] == "models" and given[self.over] == "Priors":
            return priors_plan(self.studio.open, settings, given[self.seeds])
        if given[self.mode] == "models":
            return models_plan(self.studio.open, settings, given[self.models], given[self.seeds])
        if given[self.mode] == "prompts":
            prompts = read_prompts(uploaded(given[self.file], "file of prompts"))
            return prompts_plan(self.studio.open, settings, prompts, given[self.each])
        y = (given[self.y], given[self.ys]) if given[self.y] else None
        return options_plan(self.studio.open, settings, (given[self.x], given[self.xs]), y, self.alike(settings.model))

    def settings(self, name: str, prompt: Any, labels: Any, base: Any) -> Settings:
        """The shared settings; only the condition that the model reads."""
        model = self.studio.open(name)
        prompt = prompt if isinstance(model, TextToImage) else ""
        return base_settings(name, prompt, labels if isinstance(model, ClassToImage) else {}, base)

    def alike(self, name: str) -> list[str]:
        """The models that do the same as one, the one first."""
        task, entries = self.studio.library.entry(name).kind.task, self.studio.library.entries()
        return [name, *(one.name for one in entries.values() if one.kind.task == task and one.name != name)]

    def axes(self, name: str) -> dict[str, Axis]:
        """The options of a model that can be varied, see `axes_of`."""
        return axes_of(self.studio.open(name), self.alike(name))

    def _count(self, given: dict) -> str:
        """How many images the form describes, or what is wrong; opens no model but the chosen one."""
        with user_errors():
            try:
                rows, columns, notes = self._size(given)
                check_cells(rows * columns)
            except CondgenError as error:
                return status_line(str(error))
            size = f"{rows} x {columns} = {rows * columns} images" if rows > 1 else f"{columns} images"
            return status_line(" ".join([f"{size} (at most {MAX_CELLS}).", *notes]))

    def _size(self, given: dict) -> tuple[int, int, tuple[str, ...]]:
        if given[self.mode] == "models" and given[self.over] == "Models":
            return len(seeds_of(given[self.seeds])), len(given[self.models] or ()), ()
        plan = self.plan(given)
        return len(plan.rows), len(plan.columns), plan.notes

    def _visible(self, mode: str, name: str) -> list:
        with user_errors():
            reads_text = isinstance(self.studio.open(name), TextToImage)
            shown = [gr.update(visible=mode == one) for _, one in MODES]
            return [*shown, gr.update(visible=reads_text and mode != "prompts")]

    def _suggest(self, model: str, name: str):
        with user_errors():
            axis = self.axes(model).get(name)
            return gr.update(value=axis.usual if axis else "")

    def _offer(self, name: str, prior: str):
        with user_errors():
            return _form(self.studio.open(name), prior)

    def _receive(self, image: SavedImage, name: str, request: gr.Request) -> list:
        """An image as the base: its model beside the chosen one, its condition, seed and options."""
        recipe, model = read_recipe(image.path), self.studio.open(name)
        reads_text, by_label = isinstance(model, TextToImage), isinstance(model, ClassToImage)
        fits = bool(recipe.get("prompt")) if reads_text else "labels" in recipe if by_label else True
        if not fits:
            missing = "no prompt" if reads_text else "no labels"
            raise CondgenError(f"This image has {missing}, and {name} reads some. Choose the model of the image first.")
        alike, prior = self.alike(name), recipe.get("prior")
        models = [one for one in dict.fromkeys([name, recipe["model"]]) if one in alike]
        priors = priors_of(model)
        prior = prior if prior in priors else next(iter(priors), None)
        known = {one.name for one in sampling_options_of(model, prior)}
        options = {key: value for key, value in recipe.items() if key in known}
        seed = str(recipe["seed"])
        return [
            gr.skip(), recipe["prompt"] if reads_text else gr.skip(), recipe["labels"] if by_label else gr.skip(),
            models, seed, seed, prior, _form(model, prior, options),
        ]  # fmt: skip

    def on_model(self, name: str) -> list:
        """The updates of `model_outputs` for a chosen model."""
        model = self.studio.open(name)
        reads_text, by_label, priors = isinstance(model, TextToImage), isinstance(model, ClassToImage), priors_of(model)
        attributes = [attribute_fields(attribute) for attribute in model.attributes] if by_label else []
        axes, alike = self.axes(name), self.alike(name)
        x = next((one for one in FIRST_X if one in axes), next(iter(axes)))
        y = "seed" if x != "seed" else ""
        choices = [(axis.label, axis.name) for axis in axes.values()]
        return [
            gr.update(visible=reads_text),
            gr.update(visible=by_label, attributes=attributes, value={}),
            gr.update(visible=len(priors) > 1, value="Models"),
            gr.update(choices=alike, value=alike[:MAX_MODELS] if len(alike) <= MAX_MODELS else alike[:2]),
            gr.update(choices=choices, value=x),
            gr.update(value=axes[x].usual),
            gr.update(choices=[("One row", ""), *choices], value=y),
            gr.update(value="1, 2" if y else ""),
            gr.update(choices=priors, value=priors[0] if priors else None, visible=bool(priors)),
            gr.update(choices=[*presets_of(model)], value="default", visible=len(presets_of(model)) > 1),
            _form(model, priors[0] if priors else None),
        ]


def _form(model: Any, prior: str | None, values: dict | None = None) -> dict[str, Any]:
    """The update of the form of options."""
    fields = [option_fields(option) for option in sampling_options_of(model, prior) if not option.advanced]
    return gr.update(options=fields, value=defaults(fields) | (values or {}))
