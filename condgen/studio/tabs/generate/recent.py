"""The latest requests of all pages, so that a stop, a failure or a reload loses no finished image."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

KEPT = 256
"""Requests that are remembered, at most."""


@dataclass
class Recent:
    """A request: the cards of its finished images, whether it goes on, and how many it asks for, 0 if not known."""

    cards: list[dict[str, Any]] = field(default_factory=list)
    runs: bool = True
    count: int = 0


class RecentRequests:
    """Remembers requests by person and an id that the page makes; safe to use from several threads."""

    def __init__(self) -> None:
        self._requests: OrderedDict[tuple[str, str], Recent] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def running(self, person: str, request_id: str) -> Iterator[Recent | None]:
        """The request while it is served; None where one of this id was begun before."""
        with self._lock:
            known = (person, request_id) in self._requests
            recent = Recent()
            if not known:
                self._requests[person, request_id] = recent
                while len(self._requests) > KEPT:
                    self._requests.popitem(last=False)
        try:
            yield None if known else recent
        finally:
            recent.runs = False

    def runs(self, person: str, request_id: str) -> bool:
        """Whether a request is being served."""
        recent = self._requests.get((person, request_id))
        return recent is not None and recent.runs

    def cards(self, person: str, request_id: object, seconds: float = 0.0) -> list[dict[str, Any]] | None:
        """The finished images of a request, waiting at most `seconds` for it to end; None for an unknown one."""
        recent = self._requests.get((person, request_id)) if isinstance(request_id, str) else None
        until = time.monotonic() + seconds
        while recent is not None and recent.runs and time.monotonic() < until:
            time.sleep(0.05)
        return None if recent is None else list(recent.cards)

    def stopped(self, person: str, request_id: object) -> list[dict[str, Any]] | None:
        """The finished images of a request that was stopped, which asks for no more; None for an unknown one."""
        cards = self.cards(person, request_id)
        if cards is not None:
            self._requests[person, str(request_id)].count = 0
        return cards

    def line(self, person: str, request_id: object) -> str:
        """What a page says after a reload that ended a request; '' where all was finished, or nothing is known."""
        recent = self._requests.get((person, request_id)) if isinstance(request_id, str) else None
        if recent is None or len(recent.cards) >= recent.count:
            return ""
        done, all_ = len(recent.cards), recent.count
        if all_ == 1:
            return "The page was reloaded before the image was finished."
        return f"The page was reloaded: {done} of {all_} images {'was' if done == 1 else 'were'} finished."
