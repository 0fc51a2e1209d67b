"""The tab that translates images: line art to colour, squares to circles.

from gradio_client import Client, handle_file
files = [handle_file("shoe.png")]
result = Client("http://127.0.0.1:7860").predict("edges2shoes", files, api_name="/translate")
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from condgen.pipelines.translator import Translation, Translator
from condgen.studio import theme
from condgen.studio.components import sketch
from condgen.studio.images.outputs import SavedImage
from condgen.studio.library import ModelEntry
from condgen.studio.session import time_left
from condgen.studio.studio import COMPUTE, PIXELS, QUICK, user_errors
from condgen.studio.tabs.base import Page, Tab, shown_if
from condgen.studio.tabs.running import Run
from condgen.studio.tabs.translate.translating import MAX_FILES, Job, check_translation, drawn, translate

NEED = "This tab needs a model that translates images, such as edges to photographs."
NO_RECIPE = ("use_seed", "use_all", "compare")
"""Actions that need the recipe of a generated image."""
DRAWN, UPLOADED = "Draw", "Upload"


def translates(entry: ModelEntry) -> bool:
    """Whether a model translates images."""
    return entry.kind.name == Translator.__name__


class TranslateTab(Tab):
    """Images or a drawing at the left, every input beside its translation at the right."""

    id, title = "translate", "Translate"

    def build(self, page: Page) -> None:
        self.needed = self.build_needs()
        with gr.Row(elem_classes=["cg-off"]) as self.body:
            with gr.Column(scale=1, min_width=280):
                self.way = gr.Radio([UPLOADED, DRAWN], value=UPLOADED, label="Images", elem_id="translate-way")
                self.files = page.image_list("Images to translate", MAX_FILES, elem_id="translate-files")
                self.drawing = sketch(elem_id="translate-drawing", elem_classes=["cg-off"])
                self.to = gr.Radio([], label="Translate to", elem_id="translate-to")
                info = "for photographs, where the model reads line drawings"
                self.edges = gr.Checkbox(False, label="Use the edges of the images", info=info)
                with gr.Row():
                    self.go = gr.Button("Translate", variant="primary", elem_id="translate", elem_classes=["run"])
                    self.stop = gr.Button("Stop", variant="stop", visible=False)
            with gr.Column(scale=2, min_width=320):
                self.progress = gr.HTML(theme.progress_line(), elem_id="translate-progress", elem_classes=["progress"])
                empty = "Every image appears here beside its translation."
                self.images = page.grid("Translated images", empty, NO_RECIPE, elem_id="translated", fit=True)
        page.remembered |= {
            "translate way": self.way, "translate files": self.files, "translate drawing": self.drawing,
            "translate to": self.to, "translate edges": self.edges, "translated": self.images,
        }  # fmt: skip
        self.model_outputs = [*self.needed, self.body, self.to]

    # Events -----------------------------------------------------------------------------------------------------------

    def connect(self, page: Page) -> None:
        inputs = [page.model, self.way, self.files, self.drawing, self.to, self.edges]
        Run(self.go, self.stop, self.progress, self.images).connect([self.go.click], self._translate, inputs)
        self.way.change(
            lambda way: (shown_if(way != DRAWN), shown_if(way == DRAWN)), self.way, [self.files, self.drawing], **QUICK
        )  # fmt: skip
        page.receive("translate", self.id, [self.files, self.way], self._receive)
        gr.api(self.translate, api_name="translate", **COMPUTE)

    def _translate(self, name, way, files, drawing, to, edges, request: gr.Request):
        given = self._drawing(drawing, request) if way == DRAWN else self._uploads(files, request)
        yield from self._served(check_translation(self.studio.open(name), given, to, edges), request)

    def _served(self, job: Job, request: gr.Request) -> Iterator[tuple[list[dict[str, Any]], str]]:
        began, done, count = time.perf_counter(), [], len(job.files)
        for one in translate(job):
            done.append(self._card(one, job, request))
            fraction, seconds = len(done) / count, time.perf_counter() - began
            text = f"image {len(done)} of {count} to {job.to}{time_left(fraction, seconds)}"
            if len(done) == count:
                text = f"{count} image{'s' * (count > 1)} to {job.to}, {seconds:.1f} s"
            yield [*done, *[{"pending": True}] * (count - len(done))], theme.progress_line(text, fraction)

    def _card(self, one: Translation, job: Job, request: gr.Request) -> dict[str, Any]:
        image = self.studio.outputs.save(self.studio.person(request), one.file_name, one.png())
        more = {"before": theme.data_url(one.given, 128), "note": one.source.name, "pixels": job.model.size < PIXELS}
        return self.studio.card(image, f"to {one.to}", request, alt=f"{one.source.name} to {one.to}", **more)

    def _uploads(self, files: Any, request: gr.Request | None) -> list[tuple[Path, str]]:
        given = []
        for file in files if isinstance(files, list) else []:
            path = self.studio.image(file, request)
            name = file.get("name") or file.get("orig_name") if isinstance(file, dict) else ""
            given.append((path, str(name or path.name)[:100]))
        return given

    def _drawing(self, drawing: Any, request: gr.Request) -> list[tuple[Path, str]]:
        data = drawn(drawing)
        return [] if data is None else [(Path(self.studio.file("drawing.png", data)["path"]), "drawing.png")]

    def _receive(self, image: SavedImage, model: str, request: gr.Request) -> list:
        return [[self.studio.slot(image, request)], UPLOADED]

    def on_model(self, entry: ModelEntry, request: gr.Request) -> list:
        usable = translates(entry)
        targets = list(self.studio.open(entry.name).targets) if usable else []
        to = gr.update(choices=targets, value=targets[0], visible=len(targets) > 1) if usable else gr.skip()
        return [*self.needs(entry, translates, NEED), shown_if(usable), to]

    # API --------------------------------------------------------------------------------------------------------------

    def translate(
        self, model: str, images: list, to: str = "", edges: bool = False, request: gr.Request | None = None
    ) -> dict:
        """Translates image files to one of the model's sides, by default the first; the result are `images` as files,
        and the `recipes`.
        """
        with user_errors():
            job = check_translation(self.studio.open(model), self._uploads(images, request), to, edges)
            person, files, recipes = self.studio.person(request), [], []
            for one in translate(job):
                kept = self.studio.outputs.save(person, one.file_name, one.png())
                path = self.studio.outputs.shown(person, kept)
                files.append(gr.FileData(path=str(path), orig_name=path.name).model_dump())
                recipes.append(one.recipe)
            return {"images": files, "recipes": recipes}
