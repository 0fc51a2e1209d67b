"""Appearance of the studio: theme, and small pieces of HTML. The style sheet is `static/studio.css`."""

from __future__ import annotations

import base64
import html

import gradio as gr
from PIL import Image

from condgen.files.images import png_bytes

PREVIEW = 256
"""Longest edge of a preview that is sent; smaller images are enlarged by the browser, without smoothing."""


def theme() -> gr.themes.Base:
    """Soft colours and system fonts; nothing is fetched from other servers."""
    fonts = ["ui-sans-serif", "system-ui", "sans-serif"]
    mono = ["ui-monospace", "monospace"]
    soft = gr.themes.Soft(primary_hue="indigo", neutral_hue="slate", radius_size="lg", font=fonts, font_mono=mono)
    return soft.set(
        body_background_fill="*neutral_50",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        color_accent="*primary_600",
        slider_color="*primary_600",
        checkbox_border_color="*neutral_400",
        checkbox_border_color_dark="*neutral_500",
        checkbox_background_color_selected="*primary_600",
        checkbox_background_color_selected_dark="*primary_600",
        checkbox_label_background_fill_selected="*primary_600",
        checkbox_label_background_fill_selected_dark="*primary_600",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
        body_background_fill_dark="*neutral_950",
        block_title_background_fill="none",
        block_title_background_fill_dark="none",
        block_label_text_color="*body_text_color",
        block_label_text_color_dark="*body_text_color",
        block_title_padding="0",
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        block_border_width="1px",
        block_shadow="none",
        input_border_width="1px",
        input_border_color="*border_color_primary",
        input_shadow="none",
        button_cancel_background_fill="*neutral_700",
        button_cancel_background_fill_hover="*neutral_800",
        button_cancel_text_color="white",
        button_secondary_shadow="none",
    )


def progress_line(text: str = "", fraction: float = 0.0) -> str:
    """A bar and one line of text, always of the same height; the text is escaped."""
    bar = f'<div class="bar"><i style="width: {fraction:.1%}"></i></div>'
    return f'{bar}<p role="status">{html.escape(text)}</p>'


def status_line(text: str) -> str:
    """One line of text that is read out when it changes; it is escaped."""
    return f'<p role="status">{html.escape(text)}</p>'


def note(text: str) -> str:
    """One sentence that explains a part of the page; the text is escaped, '' for none."""
    return f'<p class="cg-note">{html.escape(text)}</p>' if text else ""


def data_url(image: Image.Image, edge: int | None = PREVIEW) -> str:
    """An image as a data URL; those with a longer edge are scaled down."""
    if edge and max(image.size) > edge:
        image = image.copy()
        image.thumbnail((edge, edge))
    return "data:image/png;base64," + base64.b64encode(png_bytes(image)).decode()
