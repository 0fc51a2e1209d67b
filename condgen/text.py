"""What of a text a model reads: the one notion of clean and of empty text that captions and prompts share."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from condgen.contracts import CondgenError

_SPECIAL = re.compile("<(?:pad|unknown|end)>")  # in a caption they are no words: the backend would take them for marks


def clean(text: str) -> str:
    """NFKC, lone surrogates and control characters replaced by spaces, white space folded, lower case."""
    text = unicodedata.normalize("NFKC", text.encode("utf-8", "replace").decode())
    text = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in text).lower()
    return " ".join(_SPECIAL.sub(" ", text).split())


def printable(text: str) -> str:
    """A line without anything that could steer a terminal or fail to print: names come from the data."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def check_prompts(prompts: Iterable[str] | str) -> list[str]:
    """One prompt or several as a list; `CondgenError` when there is none, or one is no text or empty."""
    if isinstance(prompts, str):
        prompts = [prompts]
    if isinstance(prompts, bytes) or not isinstance(prompts, Iterable):
        raise CondgenError(f"A prompt must be text, got {type(prompts).__name__}.")
    prompts = list(prompts)
    if not prompts:
        raise CondgenError("There is no prompt. Say what to paint, for example: a red circle above a blue square.")
    for prompt in prompts:
        check_prompt(prompt)
    return prompts


def check_prompt(prompt: str) -> None:
    """`CondgenError` when a prompt is no text, or holds nothing that a model reads."""
    if not isinstance(prompt, str):
        raise CondgenError(f"A prompt must be text, got {type(prompt).__name__}.")
    if not clean(prompt):
        raise CondgenError("The prompt is empty. Say what to paint, for example: a red circle above a blue square.")
