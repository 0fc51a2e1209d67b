"""Appearance of the studio: theme, style sheet, and the canvas that shows an image while it is generated."""

from __future__ import annotations

import base64

import gradio as gr
from PIL import Image

from condgen.files.images import png_bytes
from condgen.studio.session import Snapshot

PREVIEW = 256
"""Longest edge of a preview that is sent; smaller images are enlarged by the browser, without smoothing."""

CSS = """
.gradio-container { max-width: 1120px !important; margin: 0 auto !important; }
#title h1 { margin: 0; font-size: 1.5rem; letter-spacing: -0.02em; }
#title p { margin: 0; color: var(--body-text-color-subdued); }
#prompt-row { align-items: stretch; }
#prompt textarea { border: none; font-size: 1.15rem; padding: 0.7rem 0.9rem; height: auto !important;
  field-sizing: content; }
#generate, #stop { min-width: 110px; max-width: 160px; }
.toast-wrap { top: auto !important; bottom: 1rem !important; }

.canvas { display: flex; flex-direction: column; align-items: center; gap: 0.6rem; }
.canvas .sheet, .canvas .bar { width: min(100%, 75vh); overflow: hidden; }
.canvas .sheet { aspect-ratio: 1; border-radius: var(--radius-lg); display: grid; place-items: center;
  background: var(--block-background-fill); border: 1px solid var(--border-color-primary); }
.canvas .sheet img { width: 100%; height: 100%; object-fit: contain; }
.canvas .bar { height: 6px; border-radius: 3px; background: var(--border-color-primary); }
.canvas .bar i { display: block; height: 100%; background: var(--color-accent); transition: width 0.15s linear; }
.canvas p, .canvas span { margin: 0; color: var(--body-text-color-subdued); font-variant-numeric: tabular-nums; }

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
  #generate, #stop { max-width: none; }
  #examples > .gallery { flex-wrap: nowrap; overflow-x: auto; contain: inline-size; }
  #examples > .gallery > .gallery-item { flex: none; }
}
"""


def theme() -> gr.themes.Base:
    """Soft colours and system fonts; nothing is fetched from other servers."""
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


def empty_canvas() -> str:
    """The canvas before the first image."""
    return '<div class="canvas"><div class="sheet"><span>Your image appears here</span></div></div>'


def line(text: str) -> str:
    """The canvas while nothing is generated: one line of text, which is not escaped."""
    return f'<div class="canvas"><p role="status">{text}</p></div>'


def canvas(snapshot: Snapshot) -> str:
    """The canvas while generating: image, bar and line; only the line when all is done."""
    if snapshot.frame is None:
        return line(snapshot.text)
    return (
        '<div class="canvas live"><div class="sheet">'
        f'<img alt="The image so far" src="{data_url(snapshot.frame)}"></div>'
        f'<div class="bar"><i style="width: {snapshot.fraction:.1%}"></i></div>'
        f'<p role="status">{snapshot.text}</p></div>'
    )


def data_url(image: Image.Image) -> str:
    """An image as a data URL; large ones are scaled down."""
    if max(image.size) > PREVIEW:
        image = image.copy()
        image.thumbnail((PREVIEW, PREVIEW))
    return "data:image/png;base64," + base64.b64encode(png_bytes(image)).decode()
