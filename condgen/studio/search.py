"""The page of an encoder: images are found by words, or by an image.

launch(build("runs/clip/model", data="photos"))

from gradio_client import Client, handle_file
images, message = Client("http://127.0.0.1:7860").predict(query="a red circle", api_name="/search")
"""

from __future__ import annotations

import html
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from condgen.contracts import CondgenError, CondgenWarning, short
from condgen.pipelines.encoder import TextImageEncoder
from condgen.pipelines.text_to_image import MAX_PROMPT
from condgen.retrieval.search import Finder, Found, Query, Words

MOST = 48
EDGE = 512
"""Longest edge of an image that is sent."""


def check(finder: Finder, query: Any, picture: Any, count: Any) -> tuple[Query, int]:
    """The one gate: what is asked by page or by API, as a query and the number of images.

    Args:
        query: text of at most MAX_PROMPT characters; it is never a path.
        picture: path of an uploaded file; goes before the text.
        count: images, 1 to MOST.

    Raises:
        CondgenError: something is of the wrong kind or out of range, or the encoder cannot read it.
    """
    whole = isinstance(count, int | float) and not isinstance(count, bool) and count == count and abs(count) < 1e9
    if not whole or count != int(count) or not 1 <= count <= MOST:
        raise CondgenError(f"The number of images must be a whole number from 1 to {MOST}, got {short(count)}.")
    if picture:
        if not isinstance(picture, str):
            raise CondgenError(f"The image must be an uploaded file, got {short(picture)}.")
        return Path(picture), int(count)
    if not isinstance(query, str) or len(query) > MAX_PROMPT:
        told = short(query) if not isinstance(query, str) else f"{len(query):,} characters"
        raise CondgenError(f"The query must be text of at most {MAX_PROMPT:,} characters, got {told}.")
    words = Words(query.encode("utf-8", "replace").decode("utf-8").strip())
    finder.check([words], int(count))
    return words, int(count)


class Finding:
    """Components and what they do; `page` is the whole.

    Args:
        finder: with its images embedded.
        plainly: turns errors into messages for people, see `app.plainly`.
    """

    def __init__(self, finder: Finder, plainly: Callable):
        self.finder, self.plainly = finder, plainly
        encoder, count = finder.encoder, len(finder.vectors)
        with gr.Blocks(title="condgen search", analytics_enabled=False, delete_cache=(3600, 86400)) as self.page:
            about = f"{html.escape(encoder.name)} · {count:,} images of {html.escape(finder.gallery.name)}"
            gr.HTML(f"<h1>condgen search</h1><p>{about}</p>", elem_id="title")
            with gr.Row(elem_id="prompt-row"):
                words = isinstance(encoder, TextImageEncoder)
                self.query = gr.Textbox(
                    label="Query", placeholder="Say what to look for", show_label=False, container=False, scale=5,
                    elem_id="prompt", visible=words,
                )  # fmt: skip
                self.go = gr.Button("Search", variant="primary", scale=1, elem_id="paint")
            with gr.Row():
                self.picture = gr.File(label="or an image", file_types=["image"], height=120)
                self.count = gr.Slider(1, MOST, value=12, step=1, label="Images")
            self.message = gr.Textbox(show_label=False, container=False, interactive=False, elem_id="message")
            self.found = gr.Gallery(
                label="Found", show_label=False, columns=4, object_fit="contain",
                format="png", height="auto", interactive=False,
                elem_id="found", elem_classes=["pixels"] if encoder.size < 128 else [],
            )  # fmt: skip
            gr.on(
                [self.query.submit, self.go.click, self.picture.upload],
                self._search,
                [self.query, self.picture, self.count],
                [self.found, self.message],
                api_name="search",
                api_description="Finds images by words, or by an image. Gives them and a line of text.",
                concurrency_limit=1,
            )
        self.page.queue(max_size=32, api_open=False)

    def _search(self, query="", picture=None, count=12):
        with self.plainly():
            asked, n = check(self.finder, query, picture, count)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", CondgenWarning)
                try:
                    (found,) = self.finder.find([asked], n)
                except CondgenError as error:  # must not tell where an upload lies
                    raise CondgenError(str(error).replace(str(asked), Path(asked).name)) from None
            for note in caught:
                gr.Warning(html.escape(str(note.message), quote=False), title="Note")
            return self._shown(found), f"{len(found.hits)} images, {found.hits[0].score:.3f} the nearest"

    def _shown(self, found: Found) -> list[tuple[Image.Image, str]]:
        pictures = self.finder.gallery.images({hit.number for hit in found.hits})
        for picture in pictures.values():
            picture.thumbnail((EDGE, EDGE))
        hits = [hit for hit in found.hits if hit.number in pictures]
        return [(pictures[hit.number], f"{hit.score:.3f} · {hit.text or hit.file}") for hit in hits]
