"""The tab that works on images by their embeddings: variations, images between two ends, changes with words, inversion,
and what the encoder sees.

from gradio_client import Client, handle_file
client = Client("http://127.0.0.1:7860")
client.predict("scenes32", handle_file("cat.png"), 0.5, api_name="/vary")
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import gradio as gr

from condgen.pipelines.generation import EmbeddingPipeline
from condgen.studio import theme
from condgen.studio.images.outputs import SavedImage
from condgen.studio.library import ModelEntry
from condgen.studio.studio import COMPUTE, QUICK, message_of, warn
from condgen.studio.tabs.base import Page, Tab
from condgen.studio.tabs.mix.controls import MODES, MixControls, known_mode
from condgen.studio.tabs.mix.editing import RANDOM_SEEDS, TRIED, Editor, Plan, editor_of
from condgen.studio.tabs.mix.requests import MixRequests, bars, cards_of
from condgen.studio.tabs.mix.running import carry_out, lines_of, look
from condgen.studio.tabs.running import REFUSED, STOPPED, WAITING, finished, settle

NEEDS = "Mixing needs a model of image embeddings: one that generates images from text, or from embeddings."


def suits(entry: ModelEntry) -> bool:
    """Whether a model decodes image embeddings."""
    return issubclass(entry.kind.pipeline_class, EmbeddingPipeline)


class MixTab(Tab):
    """The image and the controls of a mode at the left, images at the right."""

    id, title = "mix", "Mix"

    def select(self, page: Page) -> gr.Tab:
        self.tab = super().select(page)
        return self.tab

    def build(self, page: Page) -> None:
        self.requests = MixRequests(self.studio)
        self.needed = self.build_needs()
        with gr.Column() as self.body:
            choices = [(title, mode) for mode, (title, _) in MODES.items()]
            mode = gr.Radio(choices, value="vary", label="What to do", show_label=False, elem_id="mix-mode")
            with gr.Row():
                left = gr.Column(scale=2, min_width=320)
                with gr.Column(scale=3, min_width=320):
                    with gr.Row(elem_id="mix-run"):
                        self.go = gr.Button("Vary", variant="primary", elem_classes=["run"], min_width=110)
                        self.each = gr.Button("Try 5 strengths", min_width=110)
                        self.stop = gr.Button("Stop", variant="stop", visible=False, min_width=110)
                    self.progress = gr.HTML(theme.progress_line(), elem_id="mix-progress", elem_classes=["progress"])
                    self.seen = gr.HTML("", elem_id="mix-seen")
                    empty = "What you make of the image appears here."
                    self.images = page.grid("Mixed images", empty, elem_id="mix-images")
                with left:
                    self.controls = MixControls(page, mode, (self.go, self.each))
        page.remembered |= {f"mix-{name}": one for name, one in self.controls.given.items()}
        page.remembered |= {"mix-keep": self.controls.keep, "mix-images": self.images}
        self.model_outputs = [*self.needed, self.body, *self.controls.of_model]

    # Events -----------------------------------------------------------------------------------------------------------

    def connect(self, page: Page) -> None:
        controls, buttons, running = self.controls, [self.go, self.each, self.stop], []
        outputs, given = [self.images, self.seen, self.progress], [page.model, *controls.given.values()]
        typed = [one.submit for one in (controls.words, controls.target, *controls.ends)]
        for start, serve in (([self.go.click, *typed], self._run), ([self.each.click], self._run_each)):
            # in sequence: in parallel, the buttons of a quick failure could be set before those of the start
            begun = gr.on(
                start, self._begin, [controls.mode, controls.seed, controls.keep],
                [*buttons, self.progress, controls.seed], **QUICK,
            )  # fmt: skip
            run = begun.then(serve, given, outputs, api_visibility="private", show_progress="hidden", **COMPUTE)
            for ended in (run.then, run.failure):  # one that failed, or was stopped, has no `then`
                ended(self._ended, controls.mode, buttons, **QUICK)
            run.failure(None, self.progress, self.progress, js=REFUSED, api_visibility="private")
            running.append(run)
        asked, shown = [controls.mode, self.images], [*buttons, self.progress, self.images]
        halted = self.stop.click(self._stopped, asked, shown, cancels=running, **QUICK)
        halted.then(self._settled, asked, shown, **QUICK)
        controls.connect(self.tab.select, **QUICK)
        for action, mode in (("vary", "vary"), ("edit", "change")):
            page.receive(action, self.id, [controls.image, controls.mode], self._receiver(mode))
        page.receive("mix", self.id, [*controls.slots[:2], controls.mode], self._received_end, controls.slots[:2])
        self.requests.connect()

    @staticmethod
    def _begin(mode: str, seed: str, keep: bool) -> tuple:
        if not keep and mode in ("vary", "change", "between"):
            seed = str(secrets.randbelow(RANDOM_SEEDS))
        hidden = gr.update(visible=False)
        return hidden, hidden, gr.update(visible=True), theme.progress_line(WAITING), seed

    @staticmethod
    def _ended(mode: str) -> list:
        return [gr.update(visible=True), gr.update(visible=mode in ("vary", "change")), gr.update(visible=False)]

    def _stopped(self, mode: str, cards: list) -> list:
        return [*self._ended(mode), theme.progress_line(STOPPED), finished(cards)]

    def _settled(self, mode: str, cards: list) -> list:
        """Once more, after what was on its way when Stop was pressed."""
        settle()
        return self._stopped(mode, cards)

    def _run(self, request: gr.Request, name: str, *values: Any) -> Iterator[tuple]:
        yield from self._served(request, name, values, None)

    def _run_each(self, request: gr.Request, name: str, *values: Any) -> Iterator[tuple]:
        yield from self._served(request, name, values, TRIED)

    def _served(self, request: gr.Request, name: str, values: tuple, each: tuple | None) -> Iterator[tuple]:
        done: list[dict] = []
        try:
            given = SimpleNamespace(**dict(zip(self.controls.given, values, strict=True)))
            editor = editor_of(self.studio.open(name))
            if known_mode(given.mode) == "see":
                yield from self._looked(editor, given, request, done)
            else:
                yield from self._carried_out(self.requests.planned(editor, given, request, each), request, done)
        except Exception as error:
            yield done or gr.skip(), gr.skip(), theme.progress_line(message_of(error))

    def _carried_out(self, plan: Plan, request: gr.Request, done: list[dict], seen: str = "") -> Iterator[tuple]:
        with closing(carry_out(plan)) as moments:
            for moment in moments:
                warn(moment.notes)
                done += self.requests.cards(plan, moment.done, len(done), request)
                yield cards_of(plan, done, moment), seen, theme.progress_line(moment.text, moment.fraction)
        if plan.moves:
            yield [*done, self.requests.animated(plan, moment.done, request)], seen, gr.skip()

    def _looked(self, editor: Editor, given: SimpleNamespace, request: gr.Request, done: list[dict]) -> Iterator[tuple]:
        image, seen = self.requests.read(editor, given.image, request), ""
        if editor.model.reads_text:
            with closing(look(editor, image, lines_of(given.texts))) as parts:
                for fraction, found, notes in parts:
                    warn(notes)
                    seen = bars(found) if found else seen
                    text = "Nearest first; the numbers are cosine similarities." if found else "comparing texts"
                    yield [], seen, theme.progress_line(text, fraction)
        if given.parts or not editor.model.reads_text:
            yield [], seen, theme.progress_line("drawing embeddings for their components")
            yield from self._carried_out(self.requests.components(editor, image), request, done, seen)

    # Received images --------------------------------------------------------------------------------------------------

    def _receiver(self, mode: str) -> Any:
        def received(image: SavedImage, model: str, request: gr.Request) -> list:
            return [self.studio.slot(image, request), mode]

        return received

    def _received_end(self, image: SavedImage, model: str, request: gr.Request, *slots: Any) -> list:
        free = next((k for k, slot in enumerate(slots) if not slot), len(slots) - 1)
        updates = [gr.skip() for _ in slots]
        updates[free] = self.studio.slot(image, request)
        return [*updates, "between"]

    # A chosen model ---------------------------------------------------------------------------------------------------

    def on_model(self, entry: ModelEntry, request: gr.Request) -> list:
        editor = editor_of(self.studio.open(entry.name)) if suits(entry) else None
        offered = self.controls.offered(editor)
        return [*self.needs(entry, suits, NEEDS), gr.update(visible=editor is not None), *offered]
