"""The tab with all images that are kept, and with the recipe in an image of any program.

from gradio_client import Client
found = Client("http://127.0.0.1:7860").predict(words="circle", api_name="/images")
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import gradio as gr

from condgen.contracts import CondgenError
from condgen.studio.components import image_grid
from condgen.studio.images.catalogue import Catalogue, Query, ids_of, page_of, size_text, title_of
from condgen.studio.images.outputs import SavedImage
from condgen.studio.session import check_integer
from condgen.studio.studio import PIXELS, QUICK, Studio, url_of, user_errors
from condgen.studio.tabs.base import ACTIONS, Page, Tab
from condgen.studio.tabs.gallery.reader import Reader

EMPTY = "No images here yet. What you generate is kept and appears here."
OWN = [replace(action, first=action.name in ("use_all", "star")) for action in ACTIONS]
MATCHLESS = "No image matches. Change the filters."
SAVE = """(url) => {
  if (url) {
    const link = document.createElement("a");
    link.href = `${window.gradio_config?.root || ""}/${url}`;
    link.download = "condgen-images.zip";
    document.body.append(link);
    link.click();
    link.remove();
  }
  return [];
}"""
"""Downloads the archive of this address."""
MAX_LISTED = 500
"""Images in one answer of the API."""


class GalleryTab(Tab):
    """Filter, star, delete, use again."""

    id, title = "gallery", "Gallery"

    def __init__(self, studio: Studio):
        super().__init__(studio)
        self.catalogue = Catalogue(studio.outputs)
        self.reader = Reader(studio)

    def select(self, page: Page) -> Any:
        self.tab = super().select(page)
        return self.tab

    def build(self, page: Page) -> None:
        with gr.Row(elem_id="gallery-filters"):
            self.words = gr.Textbox(label="Search", placeholder="Words of prompt or labels", min_width=180, scale=2)
            self.model = gr.Dropdown([("All models", "")], value="", label="Made by", min_width=140)
            self.day = gr.Dropdown([("All days", "")], value="", label="Day", min_width=140)
            self.starred = gr.Checkbox(False, label="Only with a star", min_width=140)
        self.reader.build()
        self.numbers = gr.HTML("", elem_id="gallery-numbers")
        self.grid = image_grid(OWN, "Kept images", "Reading the folder.", fit=False, selectable=True, elem_id="gallery")
        page.grids.append(self.grid)
        with gr.Row(elem_id="gallery-pages", visible=False) as self.pages:
            self.previous = gr.Button("Previous page", size="sm", min_width=120, scale=0)
            self.page = gr.Number(1, label="Page", minimum=1, precision=0, min_width=130, scale=0)
            self.next = gr.Button("Next page", size="sm", min_width=120, scale=0)
        self.link = gr.Textbox(visible=False)

    # Events -----------------------------------------------------------------------------------------------------------

    def connect(self, page: Page) -> None:
        filters = [self.words, self.model, self.day, self.starred]
        shown = [self.grid, self.numbers, self.pages, self.page, self.previous, self.next]
        opened = self.tab.select(self._show, [*filters, self.page], shown, **QUICK)
        opened.then(self._choices, filters, [self.model, self.day], **QUICK)
        first = [self.words.change, self.model.input, self.day.input, self.starred.input]
        gr.on(first, self._first, filters, shown, trigger_mode="always_last", **QUICK)
        self.page.submit(self._show, [*filters, self.page], shown, **QUICK)
        self.page.blur(self._show, [*filters, self.page], shown, **QUICK)
        for button, by in ((self.previous, -1), (self.next, 1)):
            turn = self._turn(by)
            button.click(turn, [*filters, self.page], shown, **QUICK)
        many = self.grid.many(self._many, [*filters, self.page], [*shown, self.link], **QUICK)
        many.then(None, self.link, None, js=SAVE, api_visibility="private")
        self.grid.change(self._count, filters, self.numbers, **QUICK)
        self.reader.connect(page)
        for function in (self.images, self.image, self.star, self.delete, self.archive):
            gr.api(function, api_name=function.__name__, queue=False)

    def _show(self, words, model, day, starred, page, request: gr.Request):
        with user_errors():
            person = self.studio.person(request)
            query = Query.of(words, model, day, starred)
            found = self.catalogue.find(person, query)
            images, number, pages = page_of(found, page or 1)
            stars = self.studio.outputs.stars(person)
            cards = []
            for image in images:
                with contextlib.suppress(CondgenError):  # deleted meanwhile
                    cards.append(self._card(image, stars, request))
            return (
                gr.update(value=cards, empty=EMPTY if query == Query() else MATCHLESS),
                self._numbers(person, len(found), query),
                gr.update(visible=pages > 1),
                gr.update(value=number, maximum=pages, label=f"Page of {pages:,}"),
                gr.update(interactive=number > 1),
                gr.update(interactive=number < pages),
            )

    def _first(self, words, model, day, starred, request: gr.Request):
        return self._show(words, model, day, starred, 1, request)

    def _turn(self, by: int):
        def turn(words, model, day, starred, page, request: gr.Request):
            return self._show(words, model, day, starred, max(1, (page or 1) + by), request)

        return turn

    def _card(self, image: SavedImage, stars: set[str], request: gr.Request) -> dict[str, Any]:
        facts = self.catalogue.facts(image)
        seed = "" if facts.seed is None else f"seed {facts.seed}"
        kinds = {"sheet": "sheet", "animation": "animation", "damaged": "cannot be read", "foreign": "other program"}
        note = ", ".join(filter(None, [seed, facts.model or kinds.get(facts.kind, "")]))
        more = {"alt": f"{facts.title[:300]}, {note}".rstrip(", "), "star": image.id in stars, "note": note}
        more |= {"pixels": 0 < facts.edge < PIXELS, "only": facts.actions, "heading": title_of(image.day)}
        if image.problem:  # not kept, so it can have no star
            more["only"] = [name for name in facts.actions or [one.name for one in OWN] if name != "star"]
        return self.studio.card(image, facts.title[:300], request, **more)

    def _numbers(self, person: str, found: int, query: Query) -> str:
        images = self.studio.outputs.list(person)
        count = "1 image" if len(images) == 1 else f"{len(images):,} images"
        shown = "" if query == Query() else f"{found:,} of "
        size = size_text(sum(image.size for image in images))
        limit = size_text(self.studio.outputs.limit)
        return f'<p role="status">{shown}{count}, {size}; at most {limit} are kept</p>'

    def _count(self, words, model, day, starred, request: gr.Request):
        with user_errors():
            person, query = self.studio.person(request), Query.of(words, model, day, starred)
            return self._numbers(person, len(self.catalogue.find(person, query)), query)

    def _choices(self, words, model, day, starred, request: gr.Request):
        with user_errors():
            person = self.studio.person(request)
            models, days = self.catalogue.models(person), self.catalogue.days(person)
            return (
                gr.update(choices=[("All models", ""), *models], value=model if model in models else ""),
                gr.update(choices=[("All days", ""), *days], value=day if day in days else ""),
            )

    def _many(self, words, model, day, starred, page, event: gr.EventData, request: gr.Request):
        with user_errors():
            link = gr.skip()
            if event.action == "download":
                link = url_of(self._archive(event.ids, request))
            else:
                act = {"star": self._star, "unstar": self._star, "delete": self._delete}[event.action]
                act(event.ids, request, event.action == "star")
            return *self._show(words, model, day, starred, page, request), link

    # Several images ---------------------------------------------------------------------------------------------------

    def _star(self, ids: Any, request: gr.Request | None, on: bool = True) -> list[str]:
        return self._each(ids, request, lambda person, one: self.studio.outputs.star(person, one, on))

    def _delete(self, ids: Any, request: gr.Request | None, on: bool = False) -> list[str]:
        return self._each(ids, request, self.studio.outputs.delete)

    def _each(self, ids: Any, request: gr.Request | None, act: Any) -> list[str]:
        """Does something with each image; the ids of those that are there. Fails only where none is."""
        person, done, problem = self.studio.person(request), [], None
        for one in ids_of(ids):
            try:
                act(person, one)
                done.append(one)
            except CondgenError as error:
                problem = error
        if problem and not done:
            raise problem
        return done

    def _archive(self, ids: Any, request: gr.Request | None) -> Any:
        person = self.studio.person(request)
        wanted = set(ids_of(ids))
        images = [image for image in self.studio.outputs.list(person) if image.id in wanted]
        return self.catalogue.archive(person, images)

    # API --------------------------------------------------------------------------------------------------------------

    def images(
        self, words: str = "", model: str = "", day: str = "", starred: bool = False, page: int = 1, count: int = 50,
        request: gr.Request | None = None,
    ) -> dict:  # fmt: skip
        """Lists kept images, the newest first: `images` with id, day, title, model, seed, star, bytes and recipe."""
        with user_errors():
            person = self.studio.person(request)
            found = self.catalogue.find(person, Query.of(words, model, day, starred))
            count = check_integer("The count", count, 1, MAX_LISTED)
            images, number, pages = page_of(found, page, count)
            stars = self.studio.outputs.stars(person)
            entries = [self.catalogue.entry(person, image, stars) for image in images]
            return {"images": entries, "total": len(found), "page": number, "pages": pages}

    def image(self, image: str, request: gr.Request | None = None) -> dict:
        """One kept image by its id: a file under `image`, and its recipe."""
        with user_errors():
            person = self.studio.person(request)
            saved = self.studio.outputs.get(person, image)
            entry = self.catalogue.entry(person, saved, self.studio.outputs.stars(person))
            return {"image": _file(self.studio.outputs.shown(person, saved))} | entry

    def star(self, images: list[str], on: bool = True, request: gr.Request | None = None) -> dict:
        """Gives kept images a star, or takes it; their ids."""
        with user_errors():
            return {"images": self._star(images, request, on)}

    def delete(self, images: list[str], request: gr.Request | None = None) -> dict:
        """Deletes kept images for good; their ids."""
        with user_errors():
            return {"images": self._delete(images, request)}

    def archive(self, images: list[str], request: gr.Request | None = None) -> dict:
        """Kept images and their recipes as one ZIP file."""
        with user_errors():
            return {"archive": _file(self._archive(images, request))}


def _file(path: Any) -> dict[str, Any]:
    return gr.FileData(path=str(path), orig_name=path.name).model_dump()
