"""Normalisation of captions and prompts, and checks of prompts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from condgen.contracts import CondgenError

_SPECIAL = re.compile(
    "<(?:pad|unknown|end)>"
)  # removed from captions: the tokenizer would take them for special tokens


def clean(text: str) -> str:
    """NFKC, lone surrogates and control characters replaced by spaces, white space collapsed, lower case."""
    text = unicodedata.normalize("NFKC", text.encode("utf-8", "replace").decode())
    text = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in text).lower()
    return " ".join(_SPECIAL.sub(" ", text).split())


def printable(text: str) -> str:
    """Replaces characters that are not printable by ?, since names come from foreign data."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def check_prompts(prompts: Iterable[str] | str) -> list[str]:
    """Returns one or several prompts as a list; `CondgenError` where there is none, or one is not text or is empty."""
    if isinstance(prompts, str):
        prompts = [prompts]
    if isinstance(prompts, bytes) or not isinstance(prompts, Iterable):
        raise CondgenError(f"A prompt must be text, got {type(prompts).__name__}.")
    prompts = list(prompts)
    if not prompts:
        raise CondgenError("There is no prompt. Give one, for example: a red circle above a blue square.")
    for prompt in prompts:
        check_prompt(prompt)
    return prompts


def check_prompt(prompt: str) -> None:
    """`CondgenError` where a prompt is not text, or is empty after normalisation."""
    if not isinstance(prompt, str):
        raise CondgenError(f"A prompt must be text, got {type(prompt).__name__}.")
    if not clean(prompt):
        raise CondgenError("The prompt is empty. Give one, for example: a red circle above a blue square.")
