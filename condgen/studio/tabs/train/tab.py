"""The tab that trains models: recipes, data, options; trainings that run, and runs that are finished."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import torch

from condgen.contracts import CondgenError
from condgen.recipes import RECIPES
from condgen.recipes.choice import typical_minutes
from condgen.studio import theme
from condgen.studio.components import chips, film, recipe_cards, run_list
from condgen.studio.images.outputs import SavedImage
from condgen.studio.library import ModelEntry
from condgen.studio.studio import QUICK, Studio, url_of, user_errors
from condgen.studio.tabs.base import Page, Tab
from condgen.studio.tabs.train import view as train_view
from condgen.studio.tabs.train.api import REFUSED, TrainApi
from condgen.studio.tabs.train.data_check import DataCheck, check_data
from condgen.studio.tabs.train.trainings import Trainings, check_order, free_name

SECONDS = 4
"""Between updates while a training runs and the tab is open."""
TABS = {"Translator": "translate", "TextImageEncoder": "find", "ImageEncoder": "find"}
"""Kind of a model -> the tab that uses it; others generate."""


class TrainTab(Tab):
    """Two parts: a new training, and the list of trainings with the details of one."""

    id, title = "train", "Train"

    def __init__(self, studio: Studio):
        super().__init__(studio)
        self.trainings = Trainings()
        self.api = TrainApi(studio, self.trainings)

    # Components -------------------------------------------------------------------------------------------------------

    def select(self, page: Page) -> gr.Tab:
        self.container = super().select(page)
        return self.container

    def build(self, page: Page) -> None:
        self.refusal = gr.HTML(train_view.note(REFUSED), elem_id="train-refusal")
        with gr.Column(visible=False, elem_id="train-body") as self.body, gr.Tabs(elem_id="train-parts") as self.parts:
            with gr.Tab("New training", id="new"):
                self._new()
            with gr.Tab("Trainings", id="runs"):
                self._list()
        self.selected, self.timer = gr.State(""), gr.Timer(SECONDS, active=False)
        self.model_outputs = [self.refusal, self.body]
        page.remembered |= {
            "recipe": self.recipe, "train_data": self.folder, "run": self.name, "minutes": self.minutes,
            "train_options": self.options,
        }  # fmt: skip

    def _new(self) -> None:
        self.recipe = recipe_cards(train_view.recipe_groups(), elem_id="recipes")
        with gr.Row(elem_id="train-folder"):
            info = "A folder or a table on the machine of the studio; recipes that draw their data need none."
            self.folder = gr.Textbox(
                label="Data", placeholder="my/images", info=info, scale=5, min_width=240, elem_id="train-data"
            )
            self.check = gr.Button("Check the data", scale=1, min_width=140)
            self.cancel = gr.Button("Stop the check", variant="stop", scale=1, min_width=140, visible=False)
        self.report = gr.HTML("", elem_id="train-report")
        self.suited = chips([], label="These data suit the recipes", visible=False, elem_id="train-suited")
        with gr.Column(visible=False) as self.settings:
            with gr.Row():
                self.name = gr.Textbox(label="Name of the run", info="a word", min_width=160, elem_id="run-name")
                self.minutes = gr.Number(label="Minutes", info="0: all images", minimum=0, min_width=120)
                self.image_size = gr.Number(label="Image size", info="pixels", minimum=0, precision=0, min_width=120)
                self.model_size = gr.Dropdown([""], value="", label="Model size", info="empty: usual", min_width=120)
                devices = ["auto", "cpu", *(f"cuda:{k}" for k in range(torch.cuda.device_count()))]
                self.device = gr.Dropdown(devices, value="auto", label="Device", info="auto: a GPU", min_width=120)
            info = "As words --option value; `condgen train RECIPE --help` lists them."
            self.options = gr.Textbox(label="Further options", placeholder="--seed 1", info=info)
            self.command = gr.Textbox(label="Command", interactive=False, buttons=["copy"], elem_id="train-command")
            self.start = gr.Button("Start training", variant="primary", elem_id="train-start", elem_classes=["run"])
        self.note = gr.HTML("", elem_id="train-note")

    def _list(self) -> None:
        self.status = gr.HTML("", elem_id="train-status")
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                self.runs = run_list(elem_id="runs")
            with gr.Column(scale=3, min_width=320):
                self.details = gr.HTML("", elem_id="run-details")
                self.film = film(elem_id="run-film")
                with gr.Accordion("What it has printed", open=False, visible=False) as self.printed:
                    self.log = gr.HTML("", elem_id="run-log")

    # Events -----------------------------------------------------------------------------------------------------------

    def connect(self, page: Page) -> None:
        fields = [
            self.recipe, self.name, self.folder, self.minutes, self.image_size, self.model_size, self.device,
            self.options,
        ]  # fmt: skip
        shown = [self.runs, self.details, self.film, self.printed, self.log, self.timer]
        private = {"api_visibility": "private", "show_progress": "hidden"}
        picked = [self.recipe, self.name, self.minutes, self.image_size, self.model_size]
        self.recipe.pick(self._pick, None, picked, **QUICK)
        self.suited.pick(self._pick, None, picked, **QUICK)
        self.recipe.change(self._offer, self.recipe, [self.settings, self.model_size], **QUICK)
        changes = [component.change for component in fields]
        gr.on(changes, self._preview, fields, [self.command, self.note], trigger_mode="always_last", **QUICK)
        buttons, found = [self.check, self.cancel], [self.report, self.suited]
        checking = gr.on([self.check.click, self.folder.submit], lambda: _swapped(True), None, buttons, **QUICK)
        check = checking.then(self._check, self.folder, found, concurrency_limit=2, **private)
        check.then(lambda: _swapped(False), None, buttons, **QUICK)
        stopped = theme.progress_line("The check was stopped.")
        self.cancel.click(lambda: (*_swapped(False), stopped), None, [*buttons, self.report], cancels=[check], **QUICK)
        begun = self.start.click(
            self._start, fields, [self.note, self.status, self.parts, self.selected], concurrency_limit=4, **private
        )
        begun.success(self._refresh, self.selected, shown, **QUICK)
        gr.on([self.container.select, self.parts.select], self._refresh, self.selected, shown, **QUICK)
        page.tabs.select(self._left, None, self.timer, **QUICK)
        self.timer.tick(self._refresh, self.selected, shown, **QUICK)
        self.runs.show(self._show, None, self.selected, **QUICK).then(self._refresh, self.selected, shown, **QUICK)
        for event, act in ((self.runs.stop, self._stop), (self.runs.resume, self._resume)):
            event(act, None, [self.status, self.selected], **private).success(
                self._refresh, self.selected, shown, **QUICK
            )
        page.choosing.append(self.runs.use(self._use, None, [page.model, page.tabs, self.status], **QUICK))
        self.api.connect()

    def on_model(self, entry: ModelEntry, request: gr.Request) -> list:
        allowed = self.api.allows(request)
        return [gr.update(visible=not allowed), gr.update(visible=allowed)]

    def _pick(self, event: gr.EventData, request: gr.Request):
        with user_errors():
            self.api.check(request)
            name = getattr(event, "name", None) or getattr(event, "text", "")
            if name not in RECIPES:
                return "", gr.skip(), gr.skip(), gr.skip(), gr.skip()
            size = getattr(RECIPES[name].base.data, "size", 0)
            info = f"pixels; usually {size}" if size else "pixels; usually as in the data"
            return name, free_name(name), typical_minutes(name), gr.update(value=None, info=info), gr.skip()

    @staticmethod
    def _offer(recipe: str):
        sizes = [*RECIPES[recipe].sizes] if recipe in RECIPES else []
        return gr.update(visible=recipe in RECIPES), gr.update(choices=["", *sizes], value="", visible=bool(sizes))

    def _preview(self, recipe: str, name: str, *fields: Any):
        if recipe not in RECIPES or not name:  # the name comes a moment after the recipe
            return "", ""
        try:
            return check_order(recipe, name, *_used(recipe, fields)).command, _unused(recipe, fields)
        except CondgenError as error:
            return "", train_view.note(str(error))

    def _check(self, folder: str, request: gr.Request):
        with user_errors():
            self.api.check(request)
            try:
                for found in check_data(folder, self.studio.outputs.served):
                    if isinstance(found, DataCheck):
                        url = url_of(found.sheet) if found.sheet else ""
                        yield train_view.report(found, url), gr.update(value=list(found.recipes), visible=found.ready)
                    else:
                        yield theme.progress_line(f"Reading the data, {found:.0f} s"), gr.update(visible=False)
            except CondgenError as error:
                yield train_view.note(str(error)), gr.update(visible=False)

    def _start(self, request: gr.Request, recipe: str, name: str, *fields: Any):
        with user_errors():
            self.api.check(request)
            try:
                order = check_order(recipe, name, *_used(recipe, fields))
                self.trainings.start(order)
                yield train_view.note(f"{order.name} reads its data."), "", gr.skip(), gr.skip()
                self.trainings.await_start(order.name)
            except CondgenError as error:
                yield train_view.note(str(error)), "", gr.skip(), gr.skip()
                raise
            status = f"{order.name} is running. It goes on when the studio is closed."
            yield "", train_view.note(status), gr.update(selected="runs"), order.name

    def _show(self, event: gr.EventData) -> str:
        return event.name

    def _stop(self, event: gr.EventData, request: gr.Request):
        with user_errors():
            self.api.check(request)
            run = self.trainings.stop(event.name)
            return train_view.note(f"{run.name} ends its step, saves a checkpoint and stops."), run.name

    def _resume(self, event: gr.EventData, request: gr.Request):
        with user_errors():
            self.api.check(request)
            self.trainings.resume(event.name)
            run = self.trainings.await_start(event.name)
            return train_view.note(f"{run.name} goes on from its last checkpoint."), run.name

    def _use(self, event: gr.EventData, request: gr.Request):
        from condgen.studio.app import groups_of

        with user_errors():
            self.api.check(request)
            entry = self.api.model_of(event.name)
            status = train_view.note(f"{entry.name} is the model of all tabs now.")
            tab = TABS.get(entry.kind.name, "generate")
            return gr.update(value=entry.name, groups=groups_of(self.studio)), gr.update(selected=tab), status

    def _left(self, event: gr.SelectData):
        return gr.skip() if event.value == self.title else gr.Timer(active=False)

    def _refresh(self, selected: str, request: gr.Request):
        """The list of trainings, the details of one, and whether to look again."""
        with user_errors():
            if not self.api.allows(request):
                return [gr.skip()] * 5 + [gr.Timer(active=False)]
            owner = not self.studio.person(request)
            shown = train_view.shown(self.trainings, selected, owner, lambda file: self._url(file, request))
            printed = gr.update(visible=bool(shown.log))
            return shown.rows, shown.details, [*shown.frames], printed, shown.log, gr.Timer(active=shown.active)

    def _url(self, file: Path, request: gr.Request) -> str:
        image = SavedImage(f"{file}@{file.stat().st_mtime_ns}", file)
        return url_of(self.studio.outputs.shown(self.studio.person(request), image))


def _swapped(busy: bool) -> tuple:
    return gr.update(visible=not busy), gr.update(visible=busy)


def _used(recipe: str, fields: tuple) -> tuple:
    """The fields of the page, without the folder of data that a recipe does not need: it was given for another."""
    needed = recipe in RECIPES and RECIPES[recipe].needs_data
    return fields if needed else ("", *fields[1:])


def _unused(recipe: str, fields: tuple) -> str:
    """The note about a folder that is not used, see `_used`."""
    if RECIPES[recipe].needs_data or not fields[0]:
        return ""
    text = "draws its own data, so that the folder above is not used. To use it, write --data FOLDER"
    return train_view.note(f"{recipe} {text} under Further options.")
