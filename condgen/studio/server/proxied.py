"""The page behind a proxy that serves it below a path."""

from __future__ import annotations

import html
from typing import Any

BASE = b'<base href="./" />'
"""What Gradio's page has; so its scripts are looked for beside `/studio` where that was opened without a `/`."""


class BaseAddress:
    """ASGI middleware that names the address of the page in the page, so that it opens with and without a `/`.

    Args:
        app: the application that is wrapped.
        root: path or address of the page, such as `/studio`.
    """

    def __init__(self, app: Any, root: str):
        self.app = app
        self.base = f'<base href="{html.escape(root.rstrip("/"))}/" /><link rel="icon" href="favicon.ico" />'.encode()

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, body = None, b""

        async def changed(message: dict) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                kind = dict(message.get("headers", [])).get(b"content-type", b"")
                if kind.startswith(b"text/html"):
                    start = message
                    return
            elif start is not None:
                body += message.get("body", b"")
                if message.get("more_body"):
                    return
                body = body.replace(BASE, self.base, 1)
                others = [header for header in start["headers"] if header[0] != b"content-length"]
                length = (b"content-length", str(len(body)).encode())
                if scope["method"] != "HEAD":
                    others.append(length)
                await send(start | {"headers": others})
                message = {"type": "http.response.body", "body": body}
            await send(message)

        await self.app(scope, receive, changed)
