"""What of a text a model reads: the one notion of clean text that captions and prompts share."""

from __future__ import annotations

import re
import unicodedata

_SPECIAL = re.compile("<(?:pad|unknown|end)>")  # in a caption they are no words: the backend would take them for marks


def clean(text: str) -> str:
    """NFKC, lone surrogates and control characters replaced by spaces, white space folded, lower case."""
    text = unicodedata.normalize("NFKC", text.encode("utf-8", "replace").decode())
    text = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in text).lower()
    return " ".join(_SPECIAL.sub(" ", text).split())
