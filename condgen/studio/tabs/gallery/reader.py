"""A part of the Gallery tab: the recipe in an image of any program, and its use in the Generate tab.

from gradio_client import Client, handle_file
Client("http://127.0.0.1:7860").predict(handle_file("castle.png"), api_name="/read_image")
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from condgen.contracts import CondgenError
from condgen.files.foreign_recipes import FoundRecipe, read_any
from condgen.studio.images.parameters import can_fill, table_of, usable
from condgen.studio.studio import QUICK, Studio, escaped, uploaded, user_errors, without_folders
from condgen.studio.tabs.base import Page, Receiver

PROGRAMS = "condgen, AUTOMATIC1111, Fooocus, InvokeAI or ComfyUI"


class Reader:
    """A place for an image, the table of its recipe, and a button that takes it over.

    Args:
        studio: the server.
    """

    def __init__(self, studio: Studio):
        self.studio = studio

    def build(self) -> None:
        """Makes the components."""
        with gr.Accordion("Read an image: what it was made with", open=False):
            self.file = gr.File(
                label=f"An image of {PROGRAMS}", type="filepath", file_types=[".png", ".jpg", ".jpeg", ".webp"],
                elem_id="read-image", height=140,
            )  # fmt: skip
            self.recipe = gr.HTML("", elem_id="recipe")
            self.use = gr.Button("Use in Generate", size="sm", visible=False, elem_id="use-recipe")
            self.found = gr.State(None)

    def connect(self, page: Page) -> None:
        """Connects the events."""
        outputs = [self.recipe, self.use, self.found]
        changed = [self.file.upload, self.file.clear, page.model.input]
        gr.on(changed, self._read, [self.file, page.model], outputs, **QUICK)
        if page.fill:
            outputs = [page.tabs, *page.fill.outputs]
            self.use.click(self._fill(page.fill), [self.found, page.model], outputs, **QUICK)
        gr.api(self.read_image, api_name="read_image", queue=False)

    def _read(self, file: Any, name: str):
        with user_errors():
            if not file:
                return "", gr.update(visible=False), None
            try:
                found = _found(file)
            except CondgenError as error:
                return f'<p role="alert">{escaped(str(error))}</p>', gr.update(visible=False), None
            recipe, notes = usable(found, self.studio.open(name), self.studio.library.entries())
            return table_of(found, notes), gr.update(visible=can_fill(recipe)), recipe

    def _fill(self, into: Receiver):
        def fill(recipe: dict[str, Any] | None, model: str, request: gr.Request):
            with user_errors():
                return [gr.update(selected=into.tab), *into.receive(recipe or {}, model, request)]

        return fill

    def read_image(self, image: gr.FileData) -> dict:
        """The recipe in an uploaded image of condgen, AUTOMATIC1111, Fooocus, InvokeAI or ComfyUI."""
        with user_errors():
            found = _found(image)
            return {"program": found.program, "recipe": found.recipe, "rest": found.rest}


def _found(file: Any) -> FoundRecipe:
    """The recipe in an upload."""
    path = uploaded(file.model_dump() if isinstance(file, gr.FileData) else file)
    with without_folders(path):
        return read_any(path)
