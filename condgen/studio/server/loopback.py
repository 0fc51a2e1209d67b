"""The proxies of the environment, which the studio must not use to reach itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from condgen.contracts import CondgenError

PROXIES = ("http_proxy", "https_proxy", "all_proxy")
"""Variables that name a proxy, in small or capital letters."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")


def proxies() -> dict[str, str]:
    """The variables that name a proxy, with their values."""
    return {name: value for name, value in os.environ.items() if name.lower() in PROXIES and value}


@contextmanager
def direct(share: bool = False, host: str = "") -> Iterator[None]:
    """Within the block, requests of this machine to itself use no proxy; afterwards the variables are as before.

    Gradio reads them when it is imported, and asks its own server whether it has started.

    Args:
        share: requests to other machines, for a public link, use the proxies; otherwise no request does.
        host: a further address of this machine.

    Raises:
        CondgenError: a public link needs a SOCKS proxy, and the package for it is not installed.
    """
    before = {name: os.environ.pop(name) for name in ("NO_PROXY", "no_proxy") if name in os.environ}
    excepted = [value for value in before.values() if value] + [*LOOPBACK, *([host] if host else [])]
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join(dict.fromkeys(excepted)) if share else "*"
    try:
        yield
    except ImportError as error:
        if "socks" not in str(error).lower():
            raise
        listed = ", ".join(f"{name}={value}" for name, value in proxies().items())
        raise CondgenError(
            f"A public link must pass the SOCKS proxy of this machine ({listed}), which needs a package: "
            "pip install socksio. Or leave --share out."
        ) from None
    finally:
        for name in ("NO_PROXY", "no_proxy"):
            os.environ.pop(name, None)
        os.environ.update(before)
