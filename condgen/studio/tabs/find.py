"""The tab that finds images by words or by an image."""

from __future__ import annotations

import gradio as gr

from condgen.studio.tabs.base import Page, Tab


class FindTab(Tab):
    """Search in a folder of images."""

    id, title = "find", "Find"

    def build(self, page: Page) -> None:
        gr.HTML("<p>Not there yet.</p>")
