"""The tab that varies, mixes and changes images."""

from __future__ import annotations

import gradio as gr

from condgen.studio.tabs.base import Page, Tab


class MixTab(Tab):
    """Variations, images between two ends, changes by words, inversion."""

    id, title = "mix", "Mix"

    def build(self, page: Page) -> None:
        gr.HTML("<p>Not there yet.</p>")
