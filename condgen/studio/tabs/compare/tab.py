"""The tab that compares models, priors and options side by side.

from gradio_client import Client
client = Client("http://127.0.0.1:7860")
client.predict(["scenes32", "digits"], "a red circle", None, [1, 2], api_name="/compare")
client.predict("scenes32", {"name": "steps", "values": "2, 4, 8"}, None, "a red circle", api_name="/grid")
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from condgen.contracts import CondgenError
from condgen.studio import theme
from condgen.studio.components import image_table
from condgen.studio.library import ModelEntry
from condgen.studio.studio import COMPUTE, QUICK, user_errors
from condgen.studio.tabs.base import ACTIONS, Page, Tab
from condgen.studio.tabs.compare.comparisons import Comparison, Comparisons
from condgen.studio.tabs.compare.form import CompareForm
from condgen.studio.tabs.compare.grids import Plan, base_settings, checked, models_plan, options_plan
from condgen.studio.tabs.running import FAILED, WAITING

STOPPED = "Stopped. Finished images are kept; Continue generates the others."


class CompareTab(Tab):
    """What is compared at the top, a table of images below."""

    id, title = "compare", "Compare"

    def build(self, page: Page) -> None:
        self.kept = Comparisons(self.studio)
        self.form = CompareForm(self.studio, page)
        self.go, self.stop = self.form.go, self.form.stop
        self.count = gr.HTML(theme.status_line(""), elem_id="compare-count")
        self.progress = gr.HTML(theme.progress_line(), elem_id="compare-progress")
        self.notes = gr.HTML(theme.status_line(""), elem_id="compare-notes")
        self.table = image_table(ACTIONS, "Comparison", "The table of images appears here.", elem_id="compare-table")
        page.grids.append(self.table)
        self.resume = gr.Button("Continue", visible=False, variant="primary", elem_id="compare-continue")
        with gr.Row():
            self.sheet = gr.DownloadButton(
                "Download the sheet (PNG)", size="sm", visible=False, elem_id="compare-sheet"
            )
            self.report = gr.DownloadButton(
                "Download settings, times and matches (JSON)", size="sm", visible=False, elem_id="compare-report"
            )
        with gr.Accordion("Earlier comparisons", open=False, elem_id="compare-earlier"), gr.Row():
            self.earlier = gr.Dropdown([], label="Earlier comparison", allow_custom_value=True, scale=4)
            self.open = gr.Button("Open", size="sm", min_width=80)
            self.delete = gr.Button("Delete", size="sm", min_width=80)
        self.current = gr.Textbox(visible="hidden", label="Shown comparison")
        self.stopped = gr.State(False)
        page.remembered["compare"] = self.current
        self.model_outputs = [*self.form.model_outputs, self.earlier]

    def on_model(self, entry: ModelEntry, request: gr.Request) -> list:
        return [*self.form.on_model(entry.name), gr.update(choices=self.kept.list(request))]

    def connect(self, page: Page) -> None:
        buttons, shown = [self.go, self.stop, self.resume], [self.table, self.progress, self.current, self.notes]
        rest = [*buttons, self.sheet, self.report, self.earlier]
        self.form.connect(page, self.count)

        begin = lambda: (*_buttons(True), theme.progress_line(WAITING), False)  # noqa: E731
        compute = {"api_visibility": "private", "show_progress": "hidden", **COMPUTE}
        runs = [
            gr.on(triggers, begin, None, [*buttons, self.progress, self.stopped], **QUICK).then(
                run, inputs, shown, **compute
            )
            for triggers, run, inputs in (
                ([self.go.click, self.form.prompt.submit], self._run, self.form.parts),
                ([self.resume.click], self._continue, self.current),
            )
        ]
        end = [self.progress, self.table, self.current, self.notes, *rest]
        for running in runs:
            for ended in (running.then, running.failure):  # one that failed, or was stopped, has no `then`
                ended(self._ended, [self.current, self.stopped, self.progress], end, **QUICK)
        self.stop.click(
            lambda: (*_buttons(False), theme.progress_line(STOPPED), True), None,
            [*buttons, self.progress, self.stopped], cancels=runs, **QUICK,
        )  # fmt: skip
        reopened = [self.table, self.current, self.notes, *rest]
        self.open.click(self._open, self.earlier, reopened, **QUICK)
        self.delete.click(self._delete, self.earlier, self.earlier, **QUICK)
        # after a reload the table is empty
        self.current.change(
            self._restore, [self.current, self.table], [self.table, self.current, self.notes, *rest], **QUICK
        )
        gr.api(self.compare, api_name="compare", **COMPUTE)
        gr.api(self.grid, api_name="grid", **COMPUTE)

    # Events -----------------------------------------------------------------------------------------------------------

    def _run(self, given: dict, request: gr.Request):
        with user_errors():
            try:
                plan = checked(self.studio.open, self.form.plan(given))
                comparison = self.kept.start(plan, request)
            except CondgenError as error:
                yield gr.skip(), theme.progress_line(str(error)), gr.skip(), gr.skip()
                return
            yield from self._serve(comparison, request)

    def _continue(self, number: str, request: gr.Request):
        with user_errors():
            yield from self._serve(self.kept.get(number, request), request)

    def _serve(self, comparison: Comparison, request: gr.Request) -> Iterator[tuple]:
        cards = self.kept.cards(comparison, request)
        yield cards, theme.progress_line("Starting."), comparison.id, _lines(comparison.notes)
        try:
            for moment in self.kept.run(comparison.id, request):
                if moment.card is not None:
                    cards[moment.cell] = moment.card
                shown = [*cards]
                if moment.card is None and moment.frame is not None:
                    shown[moment.cell] = cards[moment.cell] | {"frame": theme.data_url(moment.frame)}
                yield shown, theme.progress_line(moment.text, moment.fraction), gr.skip(), _lines(moment.notes)
        except CondgenError as error:
            yield cards, theme.progress_line(str(error)), gr.skip(), gr.skip()

    def _ended(self, number: str, stopped: bool, line: str, request: gr.Request) -> list:
        """After the last message of a comparison, which may come after that of the stop."""
        text = STOPPED if stopped else FAILED if line == theme.progress_line(WAITING) else ""
        line = theme.progress_line(text) if text else gr.skip()
        if not number:
            return [line, *[gr.skip()] * 3, *self._rest(number, request)]
        return [line, *self._open(number, request)]

    def _rest(self, number: str, request: gr.Request) -> list:
        """Buttons, downloads and the list of comparisons, when nothing runs."""
        with user_errors():
            listing = gr.update(choices=self.kept.list(request))
            if not number:
                return [*_buttons(False), gr.skip(), gr.skip(), listing]
            comparison = self.kept.get(number, request)
            missing = any(not cell.image for cell in comparison.cells)
            files = self.kept.sheet(comparison, request) or (None, None)
            downloads = [gr.update(value=file and str(file), visible=file is not None) for file in files]
            return [*_buttons(False, missing), *downloads, listing]

    def _open(self, number: str, request: gr.Request) -> list:
        with user_errors():
            if not number:
                return [gr.skip()] * 9
            comparison = self.kept.get(number, request)
            cards = self.kept.cards(comparison, request)
            return [cards, number, _lines(comparison.notes), *self._rest(number, request)]

    def _restore(self, number: str, cards: list, request: gr.Request) -> list:
        """The comparison that the browser remembers, unless it was deleted."""
        known = {one for _, one in self.kept.list(request)}
        return [gr.skip()] * 9 if cards or number not in known else self._open(number, request)

    def _delete(self, number: str, request: gr.Request):
        with user_errors():
            self.kept.delete(number, request)
            return gr.update(choices=self.kept.list(request), value=None)

    # API --------------------------------------------------------------------------------------------------------------

    def compare(
        self, models: list, prompt: str = "", labels: dict | None = None, seeds: list | None = None,
        base: dict | None = None, request: gr.Request | None = None,
    ) -> dict:  # fmt: skip
        """Generates one image of every model and seed; `base` holds shared settings, see `grids.BASE`."""
        with user_errors():
            settings = base_settings("", prompt, labels, base)
            seeds = [settings.seed] if seeds is None else seeds
            return self._answer(models_plan(self.studio.open, settings, models, seeds), request)

    def grid(
        self, model: str, x: dict, y: dict | None = None, prompt: str = "", labels: dict | None = None,
        base: dict | None = None, request: gr.Request | None = None,
    ) -> dict:  # fmt: skip
        """Generates one image for all values of one or two options, each {"name": ..., "values": [...] or text}."""
        with user_errors():
            settings = self.form.settings(model, prompt, labels, base)
            axes = [(one.get("name"), one.get("values")) if isinstance(one, dict) else one for one in (x, y)]
            return self._answer(options_plan(self.studio.open, settings, *axes, self.form.alike(model)), request)

    def _answer(self, plan: Plan, request: gr.Request | None) -> dict:
        comparison = self.kept.start(checked(self.studio.open, plan), request)
        for _ in self.kept.run(comparison.id, request):
            pass
        return _as_files(self.kept.answer(comparison.id, request))


def _buttons(busy: bool, missing: bool = False) -> tuple:
    return gr.update(visible=not busy), gr.update(visible=busy), gr.update(visible=missing)


def _lines(notes: Sequence[str]) -> str:
    return theme.status_line(" ".join(notes))


def _as_files(value: Any) -> Any:
    """An answer with its paths as files of Gradio."""
    if isinstance(value, Path):
        return gr.FileData(path=str(value), orig_name=value.name).model_dump()
    if isinstance(value, dict):
        return {name: _as_files(one) for name, one in value.items()}
    return [_as_files(one) for one in value] if isinstance(value, list) else value
