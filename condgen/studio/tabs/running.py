"""One computation at a time in a tab: its buttons, its line of progress, and Stop."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any

import gradio as gr

from condgen.studio import theme
from condgen.studio.session import BUSY
from condgen.studio.studio import COMPUTE, QUICK, message_of

WAITING = "Waiting."
STOPPED = "Stopped. Finished images are kept."
FAILED = "The request was refused: too many people are waiting, or the studio was closed. Try again."
REFUSED = f"(line) => line.includes({json.dumps(WAITING)}) ? {json.dumps(theme.progress_line(FAILED))} : line"
"""Page code for a request that failed: only a line that still waits is replaced, as a stopped request fails, too."""


def buttons_when(busy: bool) -> tuple:
    """The updates of the buttons that start and stop."""
    return gr.update(visible=not busy), gr.update(visible=busy)


def finished(cards: list | None) -> list:
    """The images of a grid that are finished."""
    return [card for card in cards or [] if card.get("id")]


def settle() -> None:
    """Waits until what was on its way to the page when Stop was pressed has arrived."""
    if BUSY.acquire(timeout=2):
        BUSY.release()
    time.sleep(0.7)


@dataclass(frozen=True)
class Run:
    """The parts of a tab that one computation changes.

    Args:
        go, stop: buttons, of which one is shown.
        progress: the line, see `theme.progress_line`.
        images: the grid.
    """

    go: gr.Button
    stop: gr.Button
    progress: gr.HTML
    images: gr.HTML

    def connect(self, triggers: list, function: Callable[..., Iterator[tuple]], inputs: list[Any]) -> None:
        """Connects a generator that yields images and line; its errors are said in the line."""
        buttons, shown = [self.go, self.stop], [self.go, self.stop, self.progress, self.images]
        # in sequence: in parallel, the buttons of a quick failure could be set before those of the start
        begun = gr.on(triggers, _begin, None, [*buttons, self.progress], **QUICK)
        running = begun.then(
            _with_errors(function), inputs, [self.images, self.progress], api_visibility="private",
            show_progress="hidden", **COMPUTE,
        )  # fmt: skip
        for ended in (running.then, running.failure):  # one that failed, or was stopped, has no `then`
            ended(lambda: buttons_when(False), None, buttons, **QUICK)
        running.failure(None, self.progress, self.progress, js=REFUSED, api_visibility="private")
        halted = self.stop.click(_stopped, self.images, shown, cancels=[running], **QUICK)
        halted.then(_settled, self.images, shown, **QUICK)


def _begin() -> tuple:
    return *buttons_when(True), theme.progress_line(WAITING)


def _stopped(cards: list) -> tuple:
    return *buttons_when(False), theme.progress_line(STOPPED), finished(cards)


def _settled(cards: list) -> tuple:
    settle()
    return _stopped(cards)


def _with_errors(function: Callable[..., Iterator[tuple]]) -> Callable[..., Iterator[tuple]]:
    """The generator, which ends with a line where it would raise."""

    @wraps(function)  # Gradio reads the signature
    def served(*args: Any, **kwargs: Any) -> Iterator[tuple]:
        try:
            yield from function(*args, **kwargs)
        except Exception as error:
            yield gr.skip(), theme.progress_line(message_of(error))

    return served
