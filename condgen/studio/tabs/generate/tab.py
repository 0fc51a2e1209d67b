"""The tab that generates images from a prompt, from labels, or from nothing.

from gradio_client import Client
result = Client("http://127.0.0.1:7860").predict("scenes32", "a red circle", api_name="/generate")
"""

from __future__ import annotations

import html
import secrets
import time
from contextlib import closing
from typing import Any

import gradio as gr

from condgen.contracts import CondgenError
from condgen.pipelines.base import Pipeline
from condgen.pipelines.class_to_image import ClassToImage
from condgen.pipelines.text_to_image import TextToImage
from condgen.studio import theme
from condgen.studio.components import attribute_fields, chips, label_form
from condgen.studio.header.model_card import sheet_of
from condgen.studio.library import ModelEntry
from condgen.studio.session import Request, Snapshot, caption_of, description_of, examples_of, note_of, serve
from condgen.studio.studio import COMPUTE, PIXELS, QUICK, Studio, message_of, user_errors
from condgen.studio.tabs.base import Page, Tab
from condgen.studio.tabs.generate.api import GenerationApi
from condgen.studio.tabs.generate.prompts import other_notes, prompt_notes
from condgen.studio.tabs.generate.recent import RecentRequests
from condgen.studio.tabs.generate.reuse import Reuse
from condgen.studio.tabs.generate.settings import Settings
from condgen.studio.tabs.running import REFUSED, STOPPED, WAITING, buttons_when, finished

ELSEWHERE = {
    "image-to-image": ("translate", "Translate an image"),
    "text-image-encoding": ("find", "Find images"),
    "image-encoding": ("find", "Find images"),
}
"""Task of models that generate nothing -> the tab that uses them, and the text of its button."""


class GenerateTab(Tab):
    """Prompt or labels at the top, images below, settings at the right."""

    id, title = "generate", "Generate"

    def __init__(self, studio: Studio):
        super().__init__(studio)
        self.settings, self.recent = Settings(studio), RecentRequests()

    def build(self, page: Page) -> None:
        with gr.Row(elem_id="prompt-row"):
            self.prompt = gr.Textbox(
                label="Prompt", placeholder="Describe an image", show_label=False, container=False, scale=5,
                autofocus=True, elem_id="prompt", max_lines=4,
            )  # fmt: skip
            self.go = gr.Button("Generate", variant="primary", scale=1, elem_id="generate", elem_classes=["run"])
            self.stop = gr.Button("Stop", variant="stop", scale=1, elem_id="stop", visible=False)
        self.notes = gr.HTML(other_notes([]), elem_id="prompt-notes")
        self.labels = label_form(visible=False, elem_id="labels", each=True)
        self.examples = chips(label="Try", elem_id="examples", visible=False)
        with gr.Column(visible=False, elem_id="elsewhere") as self.elsewhere:
            self.why = gr.HTML()
            self.there = gr.Button("Open", variant="primary")
        with gr.Row() as self.stage:
            with gr.Column(scale=3, min_width=320):
                self.progress = gr.HTML(theme.progress_line(), elem_id="progress")
                self.images = page.grid("Generated images", "Your images appear here.", elem_id="images")
            with gr.Column(scale=1, min_width=280):
                self.settings.build(page)
        self.number = gr.Textbox(visible=False)  # of the request, see `RecentRequests`
        self.each = gr.Textbox(visible=False)  # the attribute of which one image of each value is asked for
        self.target = gr.Textbox(visible=False)  # the tab that uses a model which generates nothing
        page.remembered |= {
            "prompt": self.prompt, "labels": self.labels, "images": self.images, "request": self.number,
        }  # fmt: skip
        self.model_outputs = [
            self.prompt, self.notes, self.labels, self.examples, self.go, self.stage, self.elsewhere, self.why,
            self.there, self.target, self.images, *self.settings.outputs,
        ]  # fmt: skip

    # Events -----------------------------------------------------------------------------------------------------------

    def connect(self, page: Page) -> None:
        self.settings.connect(page)
        here: dict[str, Any] = {"api_visibility": "private"}
        begun = [
            gr.on([self.prompt.submit, self.go.click], self._begin, self.number, self._begin_outputs, **QUICK),
            self.examples.pick(_picked, None, self.prompt, **QUICK).then(
                self._begin, self.number, self._begin_outputs, **QUICK
            ),
            self.labels.each(self._begin_each, self.number, [*self._begin_outputs[:-1], self.each], **QUICK),
        ]
        inputs = [page.model, self.number, self.each, self.prompt, self.labels, *self.settings.inputs]
        outputs = [self.images, self.progress, self.notes, self.settings.seed]
        running = [
            one.then(self._generate, inputs, outputs, show_progress="hidden", **here, **COMPUTE) for one in begun
        ]
        for one in begun:
            one.then(None, None, None, js="() => condgen.now()", **here)
        for one in running:
            for ended in (one.then, one.failure):  # one that failed, or was stopped, has no `then`
                ended(lambda: buttons_when(False), None, [self.go, self.stop], **QUICK)
            one.failure(None, self.progress, self.progress, js=REFUSED, **here)
        stopped = [self.go, self.stop, self.progress, self.images]
        halted = self.stop.click(self._stopped, [self.number, self.images], stopped, cancels=running, **QUICK)
        # once more, after what was on its way when the button was pressed
        halted.then(self._settled, [self.number, self.images], stopped, **QUICK)
        self.prompt.change(self._notes, [page.model, self.prompt], self.notes, trigger_mode="always_last", **QUICK)
        self.there.click(lambda tab: gr.update(selected=tab), self.target, page.tabs, **QUICK)
        page.restored.append((self._recover, [self.number, self.images], [self.images, self.progress]))
        Reuse(self).connect(page)
        api = GenerationApi(self.studio)
        gr.api(api.generate, api_name="generate", **COMPUTE)
        gr.api(api.models, api_name="models", queue=False)

    @property
    def _begin_outputs(self) -> list[Any]:
        return [self.go, self.stop, self.progress, self.number, self.each]

    def _begin(self, number: str, request: gr.Request):
        if self.recent.runs(self.studio.person(request), number):  # a second Enter
            return [gr.skip()] * 5
        return *buttons_when(True), theme.progress_line(WAITING), secrets.token_hex(8), ""

    def _begin_each(self, number: str, event: gr.EventData, request: gr.Request):
        *begun, _ = self._begin(number, request)
        return *begun, str(event.name)

    def _generate(self, request: gr.Request, name, number, each, prompt, labels, *values):
        kept = [gr.skip()] * 4
        with self.recent.running(self.studio.person(request), number) as recent:
            if recent is None:
                return
            try:
                model = self.studio.open(name)
                condition = labels if isinstance(model, ClassToImage) else prompt
                asked = self.settings.request(model, condition, values, request, each)
                kept[3], recent.count = str(asked.seed), asked.count
                notes, negative = prompt_notes(model, prompt), asked.guide is not None and asked.guide.negative
                with closing(serve(model, asked)) as snapshots:
                    for snapshot in snapshots:
                        if snapshot.notes and (not isinstance(model, TextToImage) or negative):
                            notes = other_notes(snapshot.notes)
                        for one in snapshot.done[len(recent.cards) :]:
                            recent.cards.append(self._card(one, request, each))
                        line = theme.progress_line(snapshot.text, snapshot.fraction)
                        yield self._shown(recent.cards, snapshot, asked, model), line, notes, kept[3]
            except Exception as error:
                shown = recent.cards if recent.cards else gr.skip()
                yield shown, theme.progress_line(message_of(error)), gr.skip(), kept[3]

    def _card(self, generated, request: gr.Request, each: str) -> dict[str, Any]:
        image = self.studio.keep(generated, request)
        more = {"alt": description_of(generated), "pixels": generated.image.width < PIXELS}
        more |= {"note": note_of(generated)} if note_of(generated) and not each else {}
        return self.studio.card(image, caption_of(generated, each), request, **more)

    @staticmethod
    def _shown(done: list[dict], snapshot: Snapshot, asked: Request, model: Pipeline) -> list[dict]:
        waiting = [{"pending": True} for _ in range(asked.count - len(done))]
        if snapshot.frame is not None and waiting:
            frame = {"frame": theme.data_url(snapshot.frame), "alt": "The image so far"}
            waiting[0] = frame | {"pixels": (asked.size or model.size) < PIXELS}
        return done + waiting

    def _stopped(self, number: str, cards: list, request: gr.Request):
        kept = self.recent.stopped(self.studio.person(request), number)
        return *buttons_when(False), theme.progress_line(STOPPED), finished(cards) if kept is None else kept

    def _settled(self, number: str, cards: list, request: gr.Request):
        self.recent.cards(self.studio.person(request), number, seconds=2)  # waits for its end
        time.sleep(0.7)
        return self._stopped(number, cards, request)

    def _recover(self, number: str, cards: list, request: gr.Request):
        """After a reload: images that were finished after the page was left, and how many of all there are."""
        person, known = self.studio.person(request), {card.get("id") for card in cards or []}
        there = self.recent.cards(person, number, seconds=3)
        line = self.recent.line(person, number)
        shown = theme.progress_line(line) if line else gr.skip()
        if not there or known.issuperset(card["id"] for card in there):
            return gr.skip(), shown
        return [card for card in there if self._is_there(card, request)], shown

    def _is_there(self, card: dict[str, Any], request: gr.Request) -> bool:
        try:
            self.studio.outputs.get(self.studio.person(request), card["id"])
        except CondgenError:
            return False
        return True

    def _notes(self, name: str, prompt: str) -> str:
        with user_errors():
            return prompt_notes(self.studio.open(name), prompt)

    # A chosen model ---------------------------------------------------------------------------------------------------

    def on_model(self, entry: ModelEntry, request: gr.Request) -> list:
        tab, text = ELSEWHERE.get(entry.kind.task, ("", ""))
        shown = [gr.update(visible=not tab), gr.update(visible=not tab), gr.update(visible=bool(tab))]
        why = f"<p>{html.escape(entry.name)} {html.escape(entry.kind.summary)}; it generates no images.</p>"
        elsewhere = [*shown, why, text or gr.skip(), tab]
        if tab:
            hidden = [gr.update(visible=False), other_notes([]), gr.update(visible=False), gr.update(visible=False)]
            return [*hidden, *elsewhere, gr.skip(), *[gr.skip() for _ in self.settings.outputs]]
        model = self.studio.open(entry.name)
        reads_text, by_label = isinstance(model, TextToImage), isinstance(model, ClassToImage)
        examples = examples_of(model)
        attributes = [attribute_fields(attribute) for attribute in model.attributes] if by_label else []
        return [
            gr.update(visible=reads_text, placeholder=examples[0] if examples else "Describe an image"),
            other_notes([]),
            gr.update(visible=by_label, attributes=attributes, value={}),
            gr.update(visible=bool(examples), value=examples),
            *elsewhere,
            gr.update(sheet=self._sheet(model)),
            *self.settings.of_model(model),
        ]

    def _sheet(self, model: Pipeline) -> dict[str, str] | None:
        """The sample sheet of a model, for those who have generated nothing yet."""
        sheet = sheet_of(model)
        return {"url": self.studio.url_of_copy(sheet), "caption": f"Samples of {model.name}"} if sheet else None


def _picked(event: gr.EventData) -> str:
    return str(event.text)
