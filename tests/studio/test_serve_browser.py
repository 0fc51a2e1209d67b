"""The page as the server delivers it: the place in the queue, and behind a proxy."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from gradio_client import Client
from PIL import Image

from tests.studio.support import BROWSER, PROMPT, colourful_model, opened, serving

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = BROWSER


def test_a_request_that_waits_says_how_many_are_before_it(browser, tmp_path):
    model, started, go_on = colourful_model(), threading.Event(), threading.Event()
    generate = model.generate_steps

    def held(*args, **options):
        started.set()
        assert go_on.wait(60)
        yield from generate(*args, **options)

    model.generate_steps = held
    with serving(tmp_path, model=model) as url, opened(browser, url) as page:
        body = {"model": "tiny", "prompt": PROMPT}
        for _ in range(3):
            assert httpx.post(f"{url}/gradio_api/call/v2/generate", json=body).status_code == 200
        assert started.wait(60)
        page.get_by_role("textbox", name="Prompt").fill(PROMPT)
        page.keyboard.press("Enter")
        line = page.locator("#progress [role=status]")
        playwright.expect(line).to_have_text("Waiting: 3 before you.")
        go_on.set()
        playwright.expect(line).to_contain_text("4 images, seeds")


@contextmanager
def proxy(target: str, prefix: str) -> Iterator[str]:
    """A reverse proxy that serves `target` below `prefix`; gives its address without the prefix."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.responses import Response, StreamingResponse
    from starlette.routing import Route

    client = httpx.AsyncClient(base_url=target, timeout=60)

    async def forward(request):
        path = request.url.path.removeprefix(prefix) or "/"
        headers = [(k, v) for k, v in request.headers.raw if k not in (b"host", b"accept-encoding")]
        headers += [(b"x-forwarded-host", request.headers["host"].encode()), (b"x-forwarded-proto", b"http")]
        asked = client.build_request(
            request.method, httpx.URL(path=path, query=request.url.query.encode()), headers=headers,
            content=await request.body(),
        )  # fmt: skip
        try:
            answer = await client.send(asked, stream=True)
        except httpx.HTTPError:  # the studio has ended
            return Response("", 502)
        drop = ("transfer-encoding", "content-encoding", "content-length", "connection")
        kept = {k: v for k, v in answer.headers.items() if k not in drop}
        return StreamingResponse(answer.aiter_bytes(), answer.status_code, kept)

    async def elsewhere(request):
        return Response("outside", 404)

    methods = ["GET", "POST", "HEAD"]
    routes = [Route(path, forward, methods=methods) for path in (prefix, prefix + "/{path:path}")]
    app = Starlette(routes=[*routes, Route("/{path:path}", elsewhere, methods=methods)])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(20)


@pytest.mark.parametrize("slash", ["", "/"])
def test_page_images_uploads_and_api_work_behind_a_proxy(browser, models, tmp_path, slash):
    with (
        serving(tmp_path, models, network={"root_path": "/studio"}) as target,
        proxy(target, "/studio") as url,
        opened(browser, f"{url}/studio{slash}") as page,
    ):
        page.get_by_role("textbox", name="Prompt").fill(PROMPT)
        page.keyboard.press("Enter")
        playwright.expect(page.locator("#progress")).to_contain_text(re.compile("4 images, seeds"))
        for _ in range(2):
            images = page.locator("#images img")
            playwright.expect(images).to_have_count(4)
            page.wait_for_function("[...document.querySelectorAll('#images img')].every((i) => i.naturalWidth === 32)")
            assert all(f"{url}/studio/gradio_api/file=" in image.evaluate("i => i.src") for image in images.all())
            page.reload()
        client = Client(f"{url}/studio", verbose=False, download_files=str(tmp_path / "down"))
        made = client.predict("words", PROMPT, seed=3, api_name="/generate")
        assert made["seeds"] == [3] and Image.open(made["images"][0]).size == (32, 32)
