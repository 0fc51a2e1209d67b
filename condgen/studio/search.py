"""The search page of an encoder: finds images by text or by image.

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
from condgen.retrieval.search import Finder, Query, SearchResult, TextQuery
from condgen.studio.session import check_integer
from condgen.text import MAX_PROMPT

MAX_IMAGES = 48
EDGE = 512
"""Longest edge of a displayed image in pixels."""


def check(finder: Finder, query: Any, image: Any, count: Any) -> tuple[Query, int]:
    """Validates a request of the page or the API; returns the query and the number of images.

    Args:
        query: text of at most MAX_PROMPT characters, never a path.
        image: path of an uploaded file; takes precedence over the text.
        count: images, 1 to MAX_IMAGES.

    Raises:
        CondgenError: a value has the wrong type or is out of range, or the encoder cannot read it.
    """
    count = check_integer("The number of images", count, 1, MAX_IMAGES)
    if image:
        if not isinstance(image, str):
            raise CondgenError(f"The image must be an uploaded file, got {short(image)}.")
        return Path(image), count
    if not isinstance(query, str) or len(query) > MAX_PROMPT:
        given = short(query) if not isinstance(query, str) else f"{len(query):,} characters"
        raise CondgenError(f"The query must be text of at most {MAX_PROMPT:,} characters, got {given}.")
    text = TextQuery(query.encode("utf-8", "replace").decode("utf-8").strip())
    finder.check([text], count)
    return text, count


class SearchPage:
    """Components and their callbacks; `page` is the Gradio page.

    Args:
        finder: an encoder and the embeddings of the images.
        user_errors: see `app.user_errors`.
    """

    def __init__(self, finder: Finder, user_errors: Callable):
        self.finder, self.user_errors = finder, user_errors
        encoder, count = finder.encoder, len(finder.vectors)
        with gr.Blocks(title="condgen search", analytics_enabled=False, delete_cache=(3600, 86400)) as self.page:
            about = f"{html.escape(encoder.name)} · {count:,} images of {html.escape(finder.gallery.name)}"
            gr.HTML(f"<h1>condgen search</h1><p>{about}</p>", elem_id="title")
            with gr.Row(elem_id="prompt-row"):
                self.query = gr.Textbox(
                    label="Query", placeholder="Describe what to find", show_label=False, container=False, scale=5,
                    elem_id="prompt", visible=isinstance(encoder, TextImageEncoder),
                )  # fmt: skip
                self.go = gr.Button("Search", variant="primary", scale=1, elem_id="generate")
            with gr.Row():
                self.image = gr.File(label="or an image", file_types=["image"], height=120)
                self.count = gr.Slider(1, MAX_IMAGES, value=12, step=1, label="Images")
            self.message = gr.Textbox(show_label=False, container=False, interactive=False, elem_id="message")
            self.found = gr.Gallery(
                label="Found", show_label=False, columns=4, object_fit="contain",
                format="png", height="auto", interactive=False,
                elem_id="found", elem_classes=["pixels"] if encoder.size < 128 else [],
            )  # fmt: skip
            gr.on(
                [self.query.submit, self.go.click, self.image.upload],
                self._search,
                [self.query, self.image, self.count],
                [self.found, self.message],
                api_name="search",
                api_description="Finds images by text or by image: the images and a line of text.",
                concurrency_limit=1,
            )
        self.page.queue(max_size=32, api_open=False)

    def _search(self, query="", image=None, count=12):
        with self.user_errors():
            checked, n = check(self.finder, query, image, count)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", CondgenWarning)
                try:
                    (found,) = self.finder.find([checked], n)
                except CondgenError as error:  # must not reveal the folder of an upload
                    raise CondgenError(str(error).replace(str(checked), Path(checked).name)) from None
            for note in caught:
                gr.Warning(html.escape(str(note.message), quote=False), title="Note")
            return self._shown(found), f"{len(found.hits)} images, best score {found.hits[0].score:.3f}"

    def _shown(self, found: SearchResult) -> list[tuple[Image.Image, str]]:
        images = self.finder.gallery.images({hit.number for hit in found.hits})
        for image in images.values():
            image.thumbnail((EDGE, EDGE))
        hits = [hit for hit in found.hits if hit.number in images]
        return [(images[hit.number], f"{hit.score:.3f} · {hit.text or hit.file}") for hit in hits]
