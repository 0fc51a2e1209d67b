"""How the studio looks: theme, style sheet, and the canvas on which an image appears."""

from __future__ import annotations

import base64
import io

import gradio as gr
from PIL import Image

from condgen.studio.session import View

PREVIEW = 256
"""Longest edge of a preview that is sent; smaller images are enlarged by the browser, without smoothing."""

CSS = """
.gradio-container { max-width: 1120px !important; margin: 0 auto !important; }
#title h1 { margin: 0; font-size: 1.5rem; letter-spacing: -0.02em; }
#title p { margin: 0; color: var(--body-text-color-subdued); }
#prompt-row { align-items: stretch; }
#prompt textarea { border: none; font-size: 1.15rem; padding: 0.7rem 0.9rem; height: auto !important;
  field-sizing: content; }
#paint, #stop { min-width: 110px; max-width: 160px; }
.toast-wrap { top: auto !important; bottom: 1rem !important; }

.easel { display: flex; flex-direction: column; align-items: center; gap: 0.6rem; }
.easel .sheet, .easel .bar { width: min(100%, 75vh); overflow: hidden; }
.easel .sheet { aspect-ratio: 1; border-radius: var(--radius-lg); display: grid; place-items: center;
  background: var(--block-background-fill); border: 1px solid var(--border-color-primary); }
.easel .sheet img { width: 100%; height: 100%; object-fit: contain; }
.easel .bar { height: 6px; border-radius: 3px; background: var(--border-color-primary); }
.easel .bar i { display: block; height: 100%; background: var(--color-accent); transition: width 0.15s linear; }
.easel p, .easel span { margin: 0; color: var(--body-text-color-subdued); font-variant-numeric: tabular-nums; }

.pixels img { image-rendering: pixelated; }
#images:not(:has(img)), #images:not(:has(img)) ~ #archive { display: none; }
#images .grid-wrap { max-height: none; }
#images .grid-container:not(:has(.gallery-item ~ .gallery-item)) { grid-template-columns: 1fr; }
#images .grid-container:has(.gallery-item:nth-child(5)) { grid-template-columns: repeat(3, 1fr); }
#images .grid-container:has(.gallery-item:nth-child(10)) { grid-template-columns: repeat(4, 1fr); }
#images .caption-label, #found .caption-label { font-size: var(--text-xs); max-width: calc(100% - 0.5rem);
  left: auto; right: 0.25rem; }

@media (max-width: 600px) {
  #prompt-row { flex-direction: column; }
  #paint, #stop { max-width: none; }
  #examples > .gallery { flex-wrap: nowrap; overflow-x: auto; contain: inline-size; }
  #examples > .gallery > .gallery-item { flex: none; }
}
"""


def theme() -> gr.themes.Base:
    """Calm, with the system's own fonts: nothing is fetched from elsewhere."""
    fonts = ["ui-sans-serif", "system-ui", "sans-serif"]
    mono = ["ui-monospace", "monospace"]
    soft = gr.themes.Soft(primary_hue="indigo", neutral_hue="slate", radius_size="lg", font=fonts, font_mono=mono)
    return soft.set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        block_title_background_fill="none",
        block_title_background_fill_dark="none",
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


def resting() -> str:
    """The canvas before anything was painted."""
    return '<div class="easel"><div class="sheet"><span>Your image appears here</span></div></div>'


def line(text: str) -> str:
    """The canvas when nothing is being painted: one line of text of ours."""
    return f'<div class="easel"><p role="status">{text}</p></div>'


def canvas(view: View) -> str:
    """The canvas while painting: image, bar and line; only the line when all is done."""
    if view.frame is None:
        return line(view.text)
    return (
        f'<div class="easel live"><div class="sheet"><img alt="The image so far" src="{data_url(view.frame)}"></div>'
        f'<div class="bar"><i style="width: {view.fraction:.1%}"></i></div><p role="status">{view.text}</p></div>'
    )


def data_url(picture: Image.Image) -> str:
    """An image as text for a page; large ones are made smaller."""
    if max(picture.size) > PREVIEW:
        picture = picture.copy()
        picture.thumbnail((PREVIEW, PREVIEW))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
