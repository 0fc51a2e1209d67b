"""Browsers have a cookie of their own where everybody is let in, so that none sees the images of another."""

from __future__ import annotations

import re
import secrets
from http.cookies import CookieError, SimpleCookie
from typing import Any

VISITOR = "condgen_visitor"
"""Name of the cookie; its value is 128 random bits."""
YEAR = 365 * 86400


def new_visitor() -> str:
    """A value that cannot be guessed."""
    return secrets.token_urlsafe(16)


def is_visitor(value: object) -> bool:
    """Whether a value has the form of those that `new_visitor` makes."""
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_-]{22}", value) is not None


class VisitorCookie:
    """ASGI middleware that gives every browser its cookie, with the first page that it opens.

    Args:
        app: the application that is wrapped.
    """

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or is_visitor(_cookie(scope)):
            await self.app(scope, receive, send)
            return
        forwarded = dict(scope["headers"]).get(b"x-forwarded-proto", b"").split(b",")[0].strip()
        secure = "; Secure" if (forwarded or scope.get("scheme", "").encode()) == b"https" else ""
        cookie = f"{VISITOR}={new_visitor()}; HttpOnly; SameSite=Lax; Path=/; Max-Age={YEAR}{secure}"

        async def with_cookie(message: dict) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", []))
                if dict(headers).get(b"content-type", b"").startswith(b"text/html"):
                    message = message | {"headers": [*headers, (b"set-cookie", cookie.encode())]}
            await send(message)

        await self.app(scope, receive, with_cookie)


def _cookie(scope: dict) -> str | None:
    """The value of the cookie in a request."""
    text = dict(scope["headers"]).get(b"cookie", b"").decode("latin-1")
    try:
        cookie = SimpleCookie(text).get(VISITOR)
    except CookieError:
        return None
    return cookie.value if cookie else None
