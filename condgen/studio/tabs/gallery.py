"""The tab with all images that are kept."""

from __future__ import annotations

import gradio as gr

from condgen.studio.tabs.base import Page, Tab


class GalleryTab(Tab):
    """Filter, star, delete, use again."""

    id, title = "gallery", "Gallery"

    def build(self, page: Page) -> None:
        gr.HTML("<p>Not there yet.</p>")
