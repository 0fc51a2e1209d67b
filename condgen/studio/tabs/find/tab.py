"""The tab that finds images by words, by an image, or by both.

from gradio_client import Client
result = Client("http://127.0.0.1:7860").predict("clip", "a red circle", place="photos", api_name="/search")
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import gradio as gr

from condgen.contracts import CondgenError
from condgen.pipelines.encoder import ImageEncoder, TextImageEncoder
from condgen.studio import theme
from condgen.studio.images.outputs import SavedImage
from condgen.studio.library import ModelEntry
from condgen.studio.session import BUSY, noting, time_left
from condgen.studio.studio import COMPUTE, PIXELS, QUICK, url_of, user_errors, warn, without_folders
from condgen.studio.tabs.base import Page, Tab, shown_if
from condgen.studio.tabs.find.finding import (
    DATA,
    ENCODERS,
    FOLDER,
    MAX_FOUND,
    MAX_UPLOADS,
    MINE,
    UPLOADS,
    Found,
    Query,
    Searcher,
    check_query,
    embed_query,
    encoder_for,
    shown_bytes,
)
from condgen.studio.tabs.find.places import Places
from condgen.studio.tabs.running import Run

NEED = "This tab needs a model that embeds images: an encoder, or a model that generates images from text."
ACTIONS = ("find", "vary", "mix", "latent", "translate")
FILE = "file "
"""Prefix of the ids of found images that are files in the cache of Gradio."""
NOT_KEPT = "A found image; it is not kept. Download it."


def embeds(entry: ModelEntry) -> bool:
    """Whether a model has an encoder."""
    return entry.kind.name in ENCODERS


class FindTab(Tab):
    """Words and an image above, found images below; the place to search at the right."""

    id, title = "find", "Find"

    def build(self, page: Page) -> None:
        self.searcher, self.places = Searcher(), Places(self.studio)
        self.needed = self.build_needs()
        with gr.Column(elem_classes=["cg-off"]) as self.body:
            with gr.Row(elem_id="find-row"):
                self.words = gr.Textbox(
                    label="Words", placeholder="Describe what to find", show_label=False, container=False, scale=5,
                    elem_id="find-words", max_lines=3,
                )  # fmt: skip
                self.go = gr.Button("Search", variant="primary", scale=1, elem_id="search", elem_classes=["run"])
                self.stop = gr.Button("Stop", variant="stop", scale=1, visible=False)
            with gr.Row():
                with gr.Column(scale=4, min_width=320):
                    self.progress = gr.HTML(theme.progress_line(), elem_id="find-progress", elem_classes=["progress"])
                    empty = "Found images appear here."
                    self.found = page.foreign_grid(ACTIONS, self._image, "Found images", empty, fit=False)
                with gr.Column(scale=1, min_width=260):
                    self._settings(page)
        page.remembered |= {
            "find words": self.words, "find image": self.image, "find weight": self.weight, "find count": self.count,
            "find place": self.place, "find uploads": self.uploads, "find path": self.path, "found": self.found,
        }  # fmt: skip
        page.restoring[self.found] = self._restored
        self.model_outputs = [*self.needed, self.body, self.words, self.weight, self.place, self.path]

    def _settings(self, page: Page) -> None:
        places = self.places.offered(None)
        self.place = gr.Dropdown(places, value=places[0][1], label="Search in", elem_id="find-place")
        self.path = gr.Textbox(label="Folder of this machine", visible=False, elem_id="find-path")
        self.uploads = page.image_list("Images to search", MAX_UPLOADS, elem_id="find-uploads", elem_classes=["cg-off"])
        self.image = page.slot("Similar to", elem_id="find-image")
        self.asked = gr.Textbox(visible=False)  # changes when another tab asks for a search
        self.weight = gr.Slider(
            0, 1, value=0.5, step=0.05, label="Share of the image", info="where words and an image are given"
        )
        self.count = gr.Slider(1, MAX_FOUND, value=24, step=1, label="Images")

    # Events -----------------------------------------------------------------------------------------------------------

    def connect(self, page: Page) -> None:
        inputs = [
            page.model, self.words, self.image, self.weight, self.count, self.place, self.path, self.uploads,
        ]  # fmt: skip
        start = [self.words.submit, self.go.click, self.asked.change]
        Run(self.go, self.stop, self.progress, self.found).connect(start, self._search, inputs)
        page.receive("find", self.id, [self.image, self.words, self.asked], self._receive)
        self.place.change(self._places, self.place, [self.path, self.uploads], **QUICK)
        gr.api(self.search, api_name="search", **COMPUTE)

    def _search(self, name, words, image, weight, count, place, path, uploads, request: gr.Request):
        encoder = encoder_for(self.studio.open(name))
        words = words if isinstance(encoder, TextImageEncoder) else ""
        given = self.studio.image(image, request) if image else None
        query = check_query(encoder, words, given, weight, count)
        source = self.places.source(place, path, uploads, request)
        for step in self._steps(encoder, query, source):
            if isinstance(step, tuple):
                yield gr.skip(), theme.progress_line(*step)
            else:
                text = f"{len(step)} images, best score {step[0].score:.3f}"
                yield self._cards(encoder, source, step, request), theme.progress_line(text, 1.0)

    def _receive(self, image: SavedImage, model: str, request: gr.Request) -> list:
        return [self.studio.slot(image, request), "", secrets.token_hex(4)]

    @staticmethod
    def _places(place: str) -> list:
        return [gr.update(visible=place == FOLDER), shown_if(place == UPLOADS)]

    # Searching --------------------------------------------------------------------------------------------------------

    def _steps(
        self, encoder: ImageEncoder, query: Query, source: str | list
    ) -> Iterator[tuple[str, float] | list[Found]]:
        """Progress as (text, fraction), then the found images."""
        with BUSY, without_folders(source, query.image):
            for item, notes in noting(self._found(encoder, query, source)):
                warn([note.replace(str(source), Path(str(source)).name) for note in notes])
                yield item

    def _found(
        self, encoder: ImageEncoder, query: Query, source: str | list
    ) -> Iterator[tuple[str, float] | list[Found]]:
        began, searcher, vector = time.perf_counter(), self.searcher, embed_query(encoder, query)
        files = [] if isinstance(source, str) else [getattr(one, "path", one) for one in source]
        steps = searcher.embed_folder(encoder, source) if isinstance(source, str) else (
            searcher.embed_files(encoder, files))  # fmt: skip
        for done, total in steps:
            fraction = done / max(total, 1)
            left = time_left(fraction, time.perf_counter() - began)
            yield f"{done:,} of {total:,} images read{left}", fraction
        if isinstance(source, str):
            yield searcher.in_folder(encoder, source, vector, query.count)
        else:
            yield searcher.in_files(encoder, files, vector, query.count)

    def _cards(self, encoder: ImageEncoder, source: str | list, found: list[Found], request: gr.Request) -> list[dict]:
        cards = []
        images = self.searcher.images(encoder, source, [one.key for one in found]) if isinstance(source, str) else {}
        sizes = [max(image.size) for image in images.values()] or [encoder.size]
        for one in found:
            more = {"note": one.text, "alt": f"{one.text}, score {one.score:.3f}", "pixels": max(sizes) < PIXELS}
            if not isinstance(source, str):
                own = source[one.key]
                if isinstance(own, SavedImage):
                    cards.append(self.studio.card(own, f"{one.score:.3f}", request, **more))
                else:
                    cards.append({"id": f"{FILE}{own}", "url": url_of(own), "caption": f"{one.score:.3f}", **more})
            elif one.key in images:
                name, data = shown_bytes(images[one.key], one.file)
                path = Path(self.studio.file(name, data)["path"])
                card = {"id": f"{FILE}{path}", "url": url_of(path), "file": name, "caption": f"{one.score:.3f}"}
                cards.append(card | more)
        return cards

    def _image(self, image_id: Any, request: gr.Request) -> SavedImage:
        """A found image for another tab."""
        person = self.studio.person(request)
        if not isinstance(image_id, str) or not image_id.startswith(FILE):
            return self.studio.outputs.get(person, image_id)
        path = self.studio.image({"path": image_id.removeprefix(FILE)}, request)
        return self.studio.outputs.hold(person, path.name, path.read_bytes(), NOT_KEPT)

    def _restored(self, cards: Any, request: gr.Request) -> list[dict]:
        """Of remembered results, those whose files are still there."""
        there = []
        for card in cards if isinstance(cards, list) else []:
            try:
                image_id = card["id"]
                if image_id.startswith(FILE):
                    path = self.studio.image({"path": image_id.removeprefix(FILE)}, request)
                else:
                    person = self.studio.person(request)
                    path = self.studio.outputs.shown(person, self.studio.outputs.get(person, image_id))
                there.append(card | {"url": url_of(path)})
            except (CondgenError, AttributeError, KeyError, TypeError):
                continue
        return there

    # A chosen model ---------------------------------------------------------------------------------------------------

    def on_model(self, entry: ModelEntry, request: gr.Request) -> list:
        usable, places = embeds(entry), self.places.offered(request)
        reads = usable and entry.kind.name in ("TextImageEncoder", "TextToImage")
        return [
            *self.needs(entry, embeds, NEED), shown_if(usable), shown_if(reads), shown_if(reads),
            gr.update(choices=places), gr.skip(),
        ]  # fmt: skip

    # API --------------------------------------------------------------------------------------------------------------

    def search(
        self, model: str, words: str = "", image: dict | None = None, weight: float = 0.5, count: int = 12,
        place: str = "", path: str = "", images: list | None = None, request: gr.Request | None = None,
    ) -> dict:  # fmt: skip
        """Finds images by words, by an image, or by both, where `weight` is the share of the image.

        `place` is the name of a folder that the server offers (by default the first), `mine`, or `uploads` for the
        files `images`. The result are `images` as files, with `scores`, `texts` and names of `files`.
        """
        with user_errors():
            encoder = encoder_for(self.studio.open(model))
            given = self.studio.image(image, request) if image else None
            query = check_query(encoder, words, given, weight, count)
            place = place or (UPLOADS if images else DATA + next(iter(self.places.titles), ""))
            known = place in (MINE, UPLOADS, FOLDER) or not isinstance(place, str) or place.startswith(DATA)
            source = self.places.source(place if known else DATA + place, path, images, request)
            *_, found = self._steps(encoder, query, source)
            cards = self._cards(encoder, source, found, request)
            paths = [unquote(card["url"].partition("=")[2]) for card in cards]
            files = [gr.FileData(path=one, orig_name=Path(one).name).model_dump() for one in paths]
            listed = {"scores": [one.score for one in found], "texts": [one.text for one in found]}
            return {"images": files, **listed, "files": [one.file for one in found]}
