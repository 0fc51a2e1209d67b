"""The tab that translates images."""

from __future__ import annotations

import gradio as gr

from condgen.studio.tabs.base import Page, Tab


class TranslateTab(Tab):
    """Image-to-image models."""

    id, title = "translate", "Translate"

    def build(self, page: Page) -> None:
        gr.HTML("<p>Not there yet.</p>")
