"""The tab that trains models."""

from __future__ import annotations

import gradio as gr

from condgen.studio.tabs.base import Page, Tab


class TrainTab(Tab):
    """Recipes, data, running trainings."""

    id, title = "train", "Train"

    def build(self, page: Page) -> None:
        gr.HTML("<p>Not there yet.</p>")
