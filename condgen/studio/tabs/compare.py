"""The tab that compares models and options."""

from __future__ import annotations

import gradio as gr

from condgen.studio.tabs.base import Page, Tab


class CompareTab(Tab):
    """One prompt over several models or options."""

    id, title = "compare", "Compare"

    def build(self, page: Page) -> None:
        gr.HTML("<p>Not there yet.</p>")
