"""What a model does not read of a prompt, as a note below the box."""

from __future__ import annotations

import html

from condgen.pipelines.base import Pipeline
from condgen.pipelines.text_to_image import TextToImage
from condgen.text import MAX_PROMPT, clean, with_hint

TAIL = 40
"""Characters around the place where a prompt is cut that are shown."""


def prompt_notes(model: Pipeline, prompt: object) -> str:
    """The note as HTML, one paragraph; empty where the model reads all of the prompt, or reads no prompts.

    Unknown words, words without room and the part that is cut off stand in `<mark>`; every text is escaped.
    """
    if not isinstance(model, TextToImage) or not isinstance(prompt, str) or not clean(prompt):
        return _paragraph([])
    if len(prompt) > MAX_PROMPT:
        return _paragraph([f"The prompt has {len(prompt):,} characters; at most {MAX_PROMPT:,} are allowed."])
    tokenizer, cleaned = model.tokenizer, clean(prompt)
    reading, notes = tokenizer.read(prompt), []
    if reading.nothing:
        notes.append("The model knows no word of this, so the image does not depend on what it says.")
    spelled = set(reading.spelled)
    notes += _marked("Not read, in no training caption:", [u for u in reading.unread if u not in spelled], tokenizer)
    notes += _marked("In no training caption, read letter by letter:", list(reading.spelled), tokenizer)
    notes += _marked("No room for:", list(reading.dropped))
    if reading.cut is not None:
        kept, rest = reading.cut, cleaned[len(reading.cut) :].strip()
        end = kept if len(kept) <= TAIL else "..." + kept[-TAIL:]
        notes.append(f"The model reads up to \u201c{html.escape(end)}\u201d; cut off: {_mark(_short(rest))}.")
    return _paragraph(notes)


def other_notes(notes: list[str] | tuple[str, ...]) -> str:
    """Notes that are plain text, as the same paragraph."""
    return _paragraph([html.escape(note) for note in notes])


def _marked(title: str, words: list[str], tokenizer: object = None) -> list[str]:
    if not words:
        return []
    shown = [_mark(word) + html.escape(with_hint(tokenizer, word)[len(word) :] if tokenizer else "") for word in words]
    return [f"{title} {', '.join(shown[:10])}{', ...' * (len(shown) > 10)}."]


def _mark(text: str) -> str:
    return f"<mark>{html.escape(text)}</mark>"


def _short(text: str) -> str:
    return text if len(text) <= TAIL else text[:TAIL] + "..."


def _paragraph(notes: list[str]) -> str:
    return f'<p role="status">{" ".join(notes)}</p>'
