"""The tab for the latent spaces of unconditional models."""

from __future__ import annotations

import gradio as gr

from condgen.studio.tabs.base import Page, Tab


class LatentTab(Tab):
    """Sliders for latent dimensions, and interpolation."""

    id, title = "latent", "Latent space"

    def build(self, page: Page) -> None:
        gr.HTML("<p>Not there yet.</p>")
