"""The settings of an image, taken into the controls of the Generate tab."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from condgen.files.images import read_recipe
from condgen.pipelines.class_to_image import ClassToImage
from condgen.pipelines.text_to_image import TextToImage
from condgen.studio import theme
from condgen.studio.images.outputs import SavedImage
from condgen.studio.studio import without_folders
from condgen.studio.tabs.base import Page, Receiver
from condgen.studio.tabs.generate.prompts import prompt_notes
from condgen.studio.tabs.generate.refill import filling_of

if TYPE_CHECKING:
    from condgen.studio.tabs.generate.tab import GenerateTab


class Reuse:
    """The actions "use seed" and "use all settings", and `page.fill` for recipes from elsewhere.

    Args:
        tab: the tab whose controls are filled.
    """

    def __init__(self, tab: GenerateTab):
        self.tab, self.studio, self.settings = tab, tab.studio, tab.settings

    def connect(self, page: Page) -> None:
        """Registers the actions, after all tabs were built."""
        self.others = [tab for tab in page.built if tab is not self.tab]
        outputs = [page.model, *(one for tab in self.others for one in tab.model_outputs)]
        outputs += [*self.tab.model_outputs, self.tab.progress]
        page.receive("use_seed", self.tab.id, [self.settings.seed, self.settings.keep], self._use_seed)
        page.receive("use_all", self.tab.id, outputs, self._use_all)
        page.fill = Receiver(self.tab.id, outputs, self.fill)

    def _use_seed(self, image: SavedImage, model: str, request: gr.Request) -> list:
        with without_folders(image.path):
            return [str(read_recipe(image.path)["seed"]), True]

    def _use_all(self, image: SavedImage, model: str, request: gr.Request) -> list:
        with without_folders(image.path):
            return self.fill(read_recipe(image.path), model, request)

    def fill(self, recipe: Mapping[str, Any], model: str, request: gr.Request) -> list:
        """Updates of `page.fill.outputs`: the model that made an image, and its settings.

        Args:
            recipe: see `files.images.read_recipe`; fields may be missing.
            model: the chosen model.

        Raises:
            CondgenError: see `refill.filling_of`.
        """
        filling = filling_of(self.studio.library, recipe, model)
        entry, opened = self.studio.library.entry(filling.name), self.studio.open(filling.name)
        own: list[Any] = [gr.skip() for _ in range(len(self.tab.model_outputs) - len(self.settings.outputs))]
        others: list[Any] = [gr.skip() for tab in self.others for _ in tab.model_outputs]
        chosen = gr.skip()
        if filling.name != model:
            chosen = gr.update(value=filling.name)
            own = self.tab.on_model(entry, request)[: len(own)]
            others = [update for tab in self.others for update in tab.on_model(entry, request)]
        condition = filling.request.condition
        if isinstance(opened, TextToImage):
            own[0], own[1] = own[0] | {"value": condition}, prompt_notes(opened, condition)
        elif isinstance(opened, ClassToImage):
            own[2] = own[2] | {"value": condition}
        line = " ".join(["The settings of the image are filled in.", *filling.notes])
        return [chosen, *others, *own, *self.settings.filled(opened, filling, request), theme.progress_line(line)]
