"""The studio: a web page for all models, and its API.

    launch(build())

    from gradio_client import Client
    Client("http://127.0.0.1:7860").predict("scenes32", "a red circle", api_name="/generate")

Gradio is imported by the modules of this package alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from condgen.contracts import CondgenError
from condgen.pipelines.base import Pipeline
from condgen.studio.server.cache import INTERVAL, cache_folder, is_private, trim
from condgen.studio.server.loopback import direct
from condgen.studio.server.proxied import BaseAddress
from condgen.studio.server.visitors import VisitorCookie

with direct():
    import gradio as gr
    from starlette.middleware import Middleware

    from condgen.studio import theme
    from condgen.studio.components import STATIC, static
    from condgen.studio.header.header import Header, groups_of
    from condgen.studio.images.outputs import Outputs
    from condgen.studio.library import ModelLibrary
    from condgen.studio.studio import QUICK, Studio, url_of, user_errors
    from condgen.studio.tabs.base import Page, Tab
    from condgen.studio.tabs.compare.tab import CompareTab
    from condgen.studio.tabs.find.tab import FindTab
    from condgen.studio.tabs.gallery.tab import GalleryTab
    from condgen.studio.tabs.generate.tab import GenerateTab
    from condgen.studio.tabs.latent.tab import LatentTab
    from condgen.studio.tabs.mix.tab import MixTab
    from condgen.studio.tabs.train.tab import TrainTab
    from condgen.studio.tabs.translate.tab import TranslateTab

TABS: tuple[type[Tab], ...] = (
    GenerateTab, MixTab, CompareTab, LatentTab, FindTab, TranslateTab, TrainTab, GalleryTab,
)  # fmt: skip
"""The tabs from left to right; a new one is one more entry."""
QUEUE = 256
"""Requests that wait, at most; further ones are refused with the reason."""
NO_STATISTICS = {"GRADIO_ANALYTICS_MAX_EVENTS": "1", "GRADIO_ANALYTICS_CACHE_FREQUENCY": str(10**9)}
"""Variables by which Gradio's queue keeps no table of all requests, which it would evaluate at every one."""
SESSIONS = 500
"""Open pages whose changed components the server remembers; the longest unused ones are dropped."""


def build(
    model: Pipeline | Path | str | None = None,
    device: str = "cpu",
    outputs: Path | str | None = None,
    **options: Any,
) -> gr.Blocks:
    """Builds the page.

    Args:
        model: the model that is chosen at the start: a loaded one, a path or name (see `condgen list`), or None for
            the one of the package.
        device: where models compute.
        outputs: the folder of generated images; None keeps them only while the studio is open.
        options: further fields of `Studio`, and `limit` of `Outputs`.

    Raises:
        CondgenError: there is no such model.
    """
    served = cache_folder()
    limit = {"limit": options.pop("limit")} if "limit" in options else {}
    kept = Outputs(Path(outputs) if outputs else served / secrets.token_urlsafe(16), served, **limit)
    return page_of(Studio(ModelLibrary(model, device), kept, **options))


def page_of(studio: Studio) -> gr.Blocks:
    """The page of a server."""
    tabs = [tab(studio) for tab in TABS]
    with gr.Blocks(title="condgen studio", analytics_enabled=False, delete_cache=None) as blocks:
        memory = gr.Textbox(visible=False)  # what the browser remembers, as JSON; see studio.js
        header = Header(studio)
        with gr.Tabs(selected=tabs[0].id, elem_id="tabs") as container:
            page = Page(studio, blocks, header.model, container)
            opened = [(tab.id, tab.select(page)) for tab in tabs]
            for tab, (_, one) in zip(tabs, opened, strict=True):
                with one:
                    tab.build(page)
        page.remembered |= {"model": header.model, "tab": _selected_tab(page, opened)}
        header.connect()
        page.built = tabs
        for tab in tabs:
            tab.connect(page)
        page.connect_actions()
        _remember(page, memory, tabs)
    blocks.studio = studio
    for name, value in NO_STATISTICS.items():
        os.environ.setdefault(name, value)
    return blocks.queue(max_size=QUEUE, api_open=False)


def _selected_tab(page: Page, tabs: list[tuple[str, gr.Tab]]) -> gr.Textbox:
    """The id of the tab that is open, as a component; setting it opens the tab."""
    selected = gr.Textbox(tabs[0][0], visible="hidden")
    here: dict[str, Any] = {"api_visibility": "private"}
    for tab_id, tab in tabs:
        tab.select(None, None, selected, js=f"() => {json.dumps(tab_id)}", **here)
    ids = [tab_id for tab_id, _ in tabs]
    page.restored.append((lambda one: gr.update(selected=one) if one in ids else gr.skip(), [selected], [page.tabs]))
    return selected


def _remember(page: Page, memory: gr.Textbox, tabs: list[Tab]) -> None:
    """Restores what the browser remembers when the page is opened, and keeps it up to date."""
    names, components = list(page.remembered), list(page.remembered.values())
    own = [output for tab in tabs for output in tab.model_outputs]

    def choose(name: str, request: gr.Request) -> list:
        with user_errors():
            entry = page.studio.library.entry(name)
            return [update for tab in tabs for update in tab.on_model(entry, request)]

    def start(text: str, request: gr.Request) -> list:
        with user_errors():
            known, given = page.studio.library.entries(), _parsed(text).get("model")
            name = given if isinstance(given, str) and given in known else page.studio.library.default
            return [gr.update(value=name, groups=groups_of(page.studio)), *choose(name, request)]

    def refill(text: str, request: gr.Request) -> list:
        values = _parsed(text)
        return [_restored(page, name, values.get(name), request) for name in names]

    page.model.input(choose, page.model, own, **QUICK)
    for event in page.choosing:
        event.success(choose, page.model, own, **QUICK)
    started = page.blocks.load(start, memory, [page.model, *own], js="() => condgen.memory()", **QUICK)
    # the controls of the model come first, then what was in them
    filled = started.then(refill, memory, components, js="() => condgen.memory()", **QUICK)
    for function, inputs, outputs in page.restored:
        filled = filled.then(function, inputs, outputs, **QUICK)
    filled.then(None, None, None, js="() => { condgen.remembers = true; }", api_visibility="private")
    keep = f"(...values) => condgen.remember({json.dumps(names)}, values)"
    changes = [component.change for component in components]
    # all values are read at most once a second, since images so far come several times a second
    saver = gr.Button("Remember", visible="hidden", elem_id="remember")
    saver.click(None, components, None, js=keep, api_visibility="private")
    gr.on(changes, None, None, None, js="() => condgen.changed()", api_visibility="private")


def _parsed(text: object) -> dict[str, Any]:
    """What the browser remembers; {} where it is damaged."""
    try:
        values = json.loads(text) if isinstance(text, str) else {}
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def _restored(page: Page, name: str, value: Any, request: gr.Request) -> Any:
    """The value of a remembered component; the images that are still there, for a grid.

    Not an update: of a component whose tab was not opened yet, Gradio would drop the properties set before.
    """
    if value is None or name == "model" or (isinstance(value, dict) and "__type__" in value):
        return gr.skip()
    component = page.remembered[name]
    if restore := page.restoring.get(component):
        return restore(value, request)
    if component in page.slots:
        return _slot(page, value, request)
    if component in page.lists:
        slots = [_slot(page, one, request) for one in value] if isinstance(value, list) else []
        return [slot for slot in slots if slot]
    return page.restored_cards(value, request) if component in page.kept_images else value


def _slot(page: Page, value: Any, request: gr.Request) -> dict[str, Any] | None:
    """The value of a slot whose image is still there, else None."""
    try:
        path = page.studio.image(value, request)
        if "id" in value:
            return page.studio.slot(page.studio.outputs.get(page.studio.person(request), value["id"]), request)
        return {"path": str(path), "url": url_of(path), "name": str(value.get("name", ""))}
    except (CondgenError, AttributeError, TypeError):
        return None


def launch(page: gr.Blocks, **options: Any) -> None:
    """Starts the server with the settings of every studio: theme, small uploads, no tracebacks for visitors.

    Args:
        options: of Gradio's `launch`.
    """
    studio: Studio = page.studio
    layers = [Middleware(VisitorCookie)] if studio.several and not options.get("auth") else []
    if options.get("root_path"):
        layers.append(Middleware(BaseAddress, root=options["root_path"]))
    with direct(bool(options.get("share")), options.get("server_name") or ""):
        page.launch(
            theme=theme.theme(),
            css="\n".join(path.read_text(encoding="utf-8") for path in sorted(STATIC.glob("*.css"))),
            js=static("studio.js"),
            max_file_size="5mb",
            show_error=False,
            enable_monitoring=False,
            ssr_mode=False,
            run_history=False,
            footer_links=["api", "settings"],
            state_session_capacity=SESSIONS,
            app_kwargs={"middleware": layers, "lifespan": _tidied(page)},
            **options,
        )


def _tidied(page: gr.Blocks) -> Any:
    """The lifespan of a server that removes old files from its cache every INTERVAL seconds, and its own at the end."""
    outputs = page.studio.outputs

    def tidy() -> None:
        outputs.tidy()
        if is_private(outputs.served):
            trim(outputs.served)
        for block in page.blocks.values():  # files that Gradio has handed out, by component
            block.temp_files = {file for file in block.temp_files if Path(file).exists()}

    async def regularly() -> None:
        while True:
            await asyncio.sleep(INTERVAL)
            await asyncio.to_thread(tidy)

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        # or every session would keep half a megabyte of the page, for links to its state that this page does not offer
        app.state_holder.blocks = SimpleNamespace(default_config=page.default_config, blocks={})
        task = asyncio.create_task(regularly())
        try:
            yield
        finally:
            task.cancel()
            outputs.tidy(0)

    return lifespan
