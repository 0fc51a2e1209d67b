"""Normalisation of captions and prompts, checks of prompts, and notes on what a model does not read of them."""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from condgen.contracts import CondgenError, CondgenWarning, short

MAX_PROMPTS = 64
"""Maximum number of prompts of a sample sheet."""
_SPECIAL = re.compile(
    "<(?:pad|unknown|end)>"
)  # removed from captions: the tokenizer would take them for special tokens


def clean(text: str) -> str:
    """NFKC, lone surrogates and control characters replaced by spaces, white space collapsed, lower case."""
    text = unicodedata.normalize("NFKC", text.encode("utf-8", "replace").decode())
    text = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in text).lower()
    return " ".join(_SPECIAL.sub(" ", text).split())


_UNSPACED = (
    "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u1950-\u19df\u1a20-\u1aaf\u2e80-\u2fdf"
    "\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c\u3040-\u30fa\u30fc-\u318f\u31a0-\u31bf\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\ua4cf\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff"
    "\U00016fe0-\U00018d8f\U0001aff0-\U0001b2ff\U00020000-\U0003ffff"
)
UNSPACED = f"[{_UNSPACED}]"
"""A regular expression of one character of writing without spaces between words: Chinese, Japanese, Thai, Lao, Khmer,
Burmese, Tibetan and others; and of Korean, whose particles are attached to the words."""
_UNSPACED_CHARACTER = re.compile(UNSPACED)
_ASCII_UNIT = re.compile(r"[a-z0-9]+(?:'[a-z0-9]+)*|\S", re.I)
_APOSTROPHES = "'\u2019"


def units_of(text: str) -> list[tuple[int, int]]:
    """Start and end of every word of a cleaned text, and of every other character that is not white space.

    A word is letters and digits with their combining marks, and apostrophes between them; in writing without spaces,
    see `UNSPACED`, it is one character with its marks.
    """
    if text.isascii():
        return [match.span() for match in _ASCII_UNIT.finditer(text)]
    kinds = ["w" if c.isalnum() else unicodedata.category(c)[0] for c in text]
    units, start, n = [], 0, len(text)
    while start < n:
        end = start + 1
        if text[start].isspace():
            start = end
            continue
        if kinds[start] in "wM" and not _UNSPACED_CHARACTER.match(text[start]):
            while end < n:
                joined = kinds[end] in "wM" and not _UNSPACED_CHARACTER.match(text[end])
                inside = text[end] in _APOSTROPHES and kinds[end + 1 : end + 2] == ["w"]
                if not joined and not (inside and not _UNSPACED_CHARACTER.match(text[end + 1])):
                    break
                end += 1
        else:
            while end < n and kinds[end] == "M":
                end += 1
        units.append((start, end))
        start = end
    return units


def is_word(unit: str) -> bool:
    """Whether a unit of `units_of` is a word and not a sign."""
    return any(c.isalnum() for c in unit)


def is_unspaced(unit: str) -> bool:
    """Whether a unit of `units_of` is a character of writing without spaces, see `UNSPACED`."""
    return _UNSPACED_CHARACTER.match(unit) is not None


@dataclass(frozen=True)
class Reading:
    """What a model reads of a text.

    Args:
        text: the text to encode.
        unread: words and signs that are in no training caption, in order; they are left out, except those in `spelled`.
        dropped: known words that are left out because there is no room, the least important ones.
        cut: the part of the text that fits, where its end is left out; otherwise None.
        nothing: no word of the text is known.
        spelled: the ones of `unread` that are read by their letters, by a model of the first edition.
    """

    text: str
    unread: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    cut: str | None = None
    nothing: bool = False
    spelled: tuple[str, ...] = ()


def words_of(text: str) -> list[str]:
    """The words of a text, cleaned; see `text.units_of`."""
    text = clean(text)
    return [text[start:end] for start, end in units_of(text) if is_word(text[start:end])]


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


# Notes ----------------------------------------------------------------------------------------------------------------


FEW = 8
"""Notes on at most so many texts are about each; those on more of them count."""
MAX_PROMPT = 2000
"""Characters of a prompt that are read."""


def read_prompts(text: str) -> list[str]:
    """The prompts of a text file, one per line, or those of the text itself, separated by semicolons.

    Raises:
        CondgenError: there is none, there are too many, or the file is not UTF-8 text.
    """
    try:
        lines = Path(text).read_text(encoding="utf-8-sig").splitlines() if os.path.isfile(text) else text.split(";")
    except (OSError, ValueError) as error:
        raise CondgenError(
            f"--prompts {text} cannot be read ({error}). Expected UTF-8 text, one prompt a line."
        ) from None
    prompts = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not 1 <= len(prompts) <= MAX_PROMPTS:
        raise CondgenError(f"--prompts {text} holds {len(prompts)} prompts; expected 1 to {MAX_PROMPTS}.")
    return prompts


def truncated(prompt: str) -> str:
    """Cuts a prompt to MAX_PROMPT characters; white space and characters that the tokenizer ignores do not count."""
    return prompt if len(prompt) <= MAX_PROMPT else clean(prompt)[:MAX_PROMPT]


def read_texts(tokenizer, texts: Sequence[str]) -> list[str]:
    """What a model reads of texts, to encode; see `Tokenizer.read`. Longer ones are cut to MAX_PROMPT characters."""
    return [tokenizer.read(truncated(text)).text for text in texts]


def warn_of_texts(tokenizer, texts: Sequence[str], name: str = "", stacklevel: int = 4) -> None:
    """Warns of words that a model does not read, of texts that are too long, and of texts of unknown words alone.

    Args:
        tokenizer: its `read` is asked.
        texts: prompts, or the captions of a data set, which are counted if they are more than FEW.
        name: name of the model, where several read the texts.
    """
    readings, few = [tokenizer.read(truncated(text)) for text in texts], len(texts) <= FEW
    pairs, among = list(zip(texts, readings)), f"of {len(texts):,} texts"
    notes = [note for text, reading in pairs for note in _notes_of_length(text, reading)]
    if notes and not few:
        long = sum(bool(_notes_of_length(text, reading)) for text, reading in pairs)
        notes = [f"{long:,} {among} are longer than {tokenizer.context} tokens and were shortened"]
    unread = dict.fromkeys(unit for text, reading in pairs for unit in _complete(text, reading))
    if words := [unit for unit in unread if not all(unicodedata.category(c)[0] == "P" for c in unit)]:
        spelled = {unit for _, reading in pairs for unit in reading.spelled}
        parts = []
        for how, some in (
            ("not read", [word for word in words if word not in spelled]),
            ("read letter by letter", [word for word in words if word in spelled]),
        ):
            listing = ", ".join(with_hint(tokenizer, word) for word in some[:10]) + ", ..." * (len(some) > 10)
            parts += [f"{how}: {listing}"] if some else []
        notes.append(f"No training caption has these words, so they mean nothing here; {'; '.join(parts)}")
    nothing = [short(text) for text, reading in pairs if reading.nothing]
    if nothing and not few:
        nothing = [f"{len(nothing):,} {among}, such as {nothing[0]}"]
    notes += [f"The model knows no word of {what}: the result does not depend on what it says" for what in nothing]
    for note in dict.fromkeys(notes):
        warnings.warn(f"{name}: {note}" if name else note, CondgenWarning, stacklevel=stacklevel)


def _notes_of_length(text: str, reading: Reading) -> list[str]:
    notes = []
    if _is_cut(text, reading):
        read = clean(truncated(text)) if reading.cut is None else reading.cut
        end = read if len(read) <= 80 else "..." + read[-77:]
        notes.append(f"The prompt of {len(text):,} characters was cut to the first {len(read):,}, after: {end!r}")
    if reading.dropped:
        notes.append(f"The prompt is too long, so these words are left out: {', '.join(reading.dropped)}")
    return notes


def _is_cut(text: str, reading: Reading) -> bool:
    return reading.cut is not None or (len(text) > MAX_PROMPT and len(clean(text)) > MAX_PROMPT)


def _complete(text: str, reading: Reading) -> tuple[str, ...]:
    """The unread words of a text, without one that was cut in two."""
    if len(text) <= MAX_PROMPT:
        return reading.unread
    whole = clean(text)
    return tuple(unit for unit in reading.unread if not whole[:MAX_PROMPT].endswith(unit) or unit in words_of(whole))


def with_hint(tokenizer, word: str) -> str:
    """An unknown word with the known one that is spelled nearly like it, if there is one."""
    close = difflib.get_close_matches(word, tokenizer.words, n=1, cutoff=0.8) if len(word) > 3 else []
    return f"{word} (known: {close[0]})" if close else word
