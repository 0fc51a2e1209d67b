"""A byte-pair tokenizer that is trained on the captions and saved with the model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from condgen.contracts import CondgenError
from condgen.files.weights import read_json, whole, write_json
from condgen.nn.conditioning import PAD
from condgen.text import UNSPACED, Reading, clean, is_unspaced, is_word, units_of, words_of

UNKNOWN, END = 1, 2
SPECIAL_TOKENS = ["<pad>", "<unknown>", "<end>"]
"""The first tokens, in the order of their ids."""
CONTEXT = 77
"""Tokens of a caption of a new model, at least; as many as the original CLIP has."""
MAX_GUESSED_CONTEXT = 256
"""Tokens of a caption, at most, where the number is guessed from the captions."""
FUNCTION_WORDS = frozenset(
    [
        "a", "an", "the", "of", "in", "on", "at", "to", "with", "and", "is", "are", "by", "its", "it", "this",
        "that", "there", "some", "very", "der", "die", "das", "ein", "eine", "und", "mit", "auf", "im", "von",
        "dem", "den", "le", "la", "les", "un", "une", "des", "de", "du", "et", "avec", "sur", "el", "los", "las",
        "una", "y", "con", "en", "il", "lo", "gli", "di", "e", "su", "o", "os", "as", "um", "uma", "het", "een",
        "van", "met", "op", "и", "в", "на", "с", "из",
    ]
)  # fmt: skip
"""Articles, prepositions and the like, which are left out first where a text is too long."""
Span = tuple[int, int]
"""Start and end of a unit of `text.units_of`."""
_FIRST_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*", re.UNICODE)
"""A word in the vocabulary of models of the first edition, which split words at combining marks."""


class Tokenizer:
    """Captions to token ids of a fixed length.

    Args:
        backend: a `tokenizers.Tokenizer`.
        context: maximum number of tokens of a caption, L; longer captions are truncated.
        words: all words of the training captions.

    `splits_characters` is False in models of the first edition, which took a sentence without spaces for one word.
    """

    def __init__(self, backend, context: int, words: Iterable[str]):
        self.backend, self.context, self.words = backend, context, frozenset(words)
        self.splits_characters = _configuration(backend) == _configuration(_untrained())

    @classmethod
    def train(cls, captions: Iterable[str], context: int = 0, vocab: int = 4096) -> Tokenizer:
        """Learns byte pairs from captions.

        Args:
            captions: the texts; frequent words become single tokens.
            context: maximum number of tokens of a caption. 0 takes what 95 % of the captions need with their end token,
                but at least CONTEXT, so that prompts may be longer than captions, and at most MAX_GUESSED_CONTEXT.
            vocab: maximum number of tokens.
        """
        from tokenizers import trainers

        texts, backend = [clean(text) for text in captions], _untrained()
        backend.train_from_iterator(
            texts, trainers.BpeTrainer(vocab_size=vocab, special_tokens=SPECIAL_TOKENS, show_progress=False)
        )
        if context == 0:
            lengths = np.array([len(e.ids) for e in backend.encode_batch(texts)] or [1])
            enough = int(np.quantile(lengths, 0.95, method="higher")) + 1
            context = min(max(enough, CONTEXT), MAX_GUESSED_CONTEXT)
        return cls(backend, context, {word for text in texts for word in words_of(text)})

    @property
    def vocab(self) -> int:
        """Number of token ids."""
        return self.backend.get_vocab_size()

    def encode(self, texts: list[str]) -> np.ndarray:
        """int64 (B, L): tokens, the end token, padding; long texts keep the first tokens and the end token."""
        out = np.full((len(texts), self.context), PAD, np.int64)
        for row, encoding in enumerate(self.backend.encode_batch([clean(text) for text in texts])):
            ids = [*encoding.ids[: self.context - 1], END]
            out[row, : len(ids)] = ids
        return out

    def count_cut(self, texts: Iterable[str]) -> int:
        """Number of texts that are longer than the context, whose end `encode` leaves out."""
        return sum(len(encoding.ids) >= self.context for encoding in self.backend.encode_batch([*map(clean, texts)]))

    def cut(self, text: str) -> str | None:
        """The part of a text that `encode` keeps, or None where that is all of it."""
        text = clean(text)
        end = self._end_of(text)
        return None if end == len(text) else text[:end]

    def unseen(self, text: str) -> list[str]:
        """Words and signs that are in no training caption, in order; neighbours in writing without spaces as one."""
        return list(self.read(text).unread)

    def read(self, text: str) -> Reading:
        """Leaves out what is in no training caption; then, where the rest is too long, signs, articles and
        prepositions, and last its end. A text of known words that fits is encoded as it is.

        Models of the first edition read unknown words by their letters. They go on to do so where no other word is
        lost by it, so that a text gives what it gave.
        """
        text = clean(text)
        spans = units_of(text)
        kept = [span for span in spans if self._knows(text[slice(*span)])]
        unread, nothing = _joined(text, [span for span in spans if span not in set(kept)]), not kept
        if any(is_word(text[slice(*span)]) for span in spans):
            nothing = not any(is_word(text[slice(*span)]) for span in kept)
        read = text if not unread else _without(text, spans, kept)
        if (
            not self.splits_characters
            and unread
            and self._end_of(text) >= max((end for start, end in kept if _matters(text[start:end])), default=0)
        ):
            end = self._end_of(text)
            spelled = tuple(unit for unit in unread if any(self.backend.token_to_id(c) is not None for c in unit))
            return Reading(text, unread, (), text[:end] if end < len(text) else None, nothing, spelled)
        if self._end_of(read) == len(read):
            return Reading(read, unread, nothing=nothing)
        kept, dropped, is_cut = self._shortened(text, kept)
        end = kept[-1][1] if kept else 0
        return Reading(_without(text, spans, kept), unread, dropped, text[:end] if is_cut else None, nothing)

    def _end_of(self, cleaned: str) -> int:
        """Number of characters of a cleaned text that fit."""
        encoding, room = self.backend.encode(cleaned), self.context - 1
        return len(cleaned) if len(encoding.ids) <= room else encoding.offsets[room - 1][1] if room else 0

    def _shortened(self, text: str, kept: list[Span]) -> tuple[list[Span], tuple[str, ...], bool]:
        """The units of a text that fit, the words among them that were dropped, and whether its end was cut."""
        units = [text[slice(*span)] for span in kept]
        lengths = [len(encoding.ids) for encoding in self.backend.encode_batch(units)]
        room, left = self.context - 1, dict.fromkeys(range(len(kept)))
        excess = sum(lengths) - room
        minor = [i for i, unit in enumerate(units) if unit in FUNCTION_WORDS]
        for i in [*(i for i, unit in enumerate(units) if not is_word(unit)), *minor]:
            if excess > 0:
                excess -= lengths[i]
                del left[i]
        fitting = int((np.cumsum([lengths[i] for i in left]) <= room).sum())
        result = [kept[i] for i in left][:fitting]
        end = len(text) if fitting == len(left) else result[-1][1] if result else 0
        words = dict.fromkeys(units[i] for i in minor if i not in left and kept[i][1] <= end)
        return result, tuple(words), fitting < len(left)

    def _knows(self, unit: str) -> bool:
        """Whether a unit of `text.units_of` is in the training captions."""
        if not is_word(unit):
            return all(self.backend.token_to_id(c) is not None for c in unit)
        if unit in self.words:
            return True
        if self.splits_characters:
            return False
        if is_unspaced(unit):
            return all(self.backend.token_to_id(c) is not None for c in unit)
        return all(piece in self.words for piece in _FIRST_WORD.findall(unit))

    def save(self, folder: Path) -> None:
        """Writes `tokenizer.json` and `words.json`."""
        with whole(folder / "tokenizer.json") as file:
            file.write_text(self.backend.to_str(pretty=True), encoding="utf-8")
        write_json(folder / "words.json", {"context": self.context, "words": sorted(self.words)})

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Reads what `save` wrote.

        Raises:
            CondgenError: a file is missing or damaged, or the tokenizer is not one that `train` makes.
        """
        from tokenizers import Tokenizer as Backend

        stored = read_json(folder / "words.json")
        path = folder / "tokenizer.json"
        try:
            backend = Backend.from_file(str(path))
            ids = sorted(backend.get_vocab().values())
        except Exception as error:  # the library raises bare Exception
            raise CondgenError(f"{path} is missing or damaged ({error}). Copy or export the model again.") from None
        first = [backend.id_to_token(number) for number in range(len(SPECIAL_TOKENS))]
        if (
            first != SPECIAL_TOKENS
            or ids != list(range(len(ids)))
            or _configuration(backend) not in (_configuration(_untrained()), _configuration(_untrained(True)))
        ):
            raise CondgenError(
                f"{path} is no tokenizer of condgen: byte pairs of words, numbered from 0, {', '.join(SPECIAL_TOKENS)} "
                "first. Copy or export the model again."
            )
        try:
            words, context = frozenset(map(str, stored["words"])), stored["context"]
        except (TypeError, LookupError):
            words, context = frozenset(), None
        if isinstance(context, bool) or not isinstance(context, int) or context < 1:
            raise CondgenError(f"{folder / 'words.json'} must hold `context` and `words`. Export it again.")
        return cls(backend, context, words)


def _untrained(first_edition: bool = False):
    """An untrained backend; the first edition did not split writing without spaces into characters."""
    from tokenizers import Regex, models, pre_tokenizers
    from tokenizers import Tokenizer as Backend

    backend = Backend(models.BPE(unk_token=SPECIAL_TOKENS[UNKNOWN]))
    steps = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()]
    if not first_edition:
        steps.append(pre_tokenizers.Split(Regex(UNSPACED + r"\p{M}*"), "isolated"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(steps)
    return backend


def _configuration(backend) -> dict:
    """The configuration of a backend without vocabulary; a foreign file could hold expressions that never terminate."""
    config = json.loads(backend.to_str())
    model = {name: value for name, value in config.pop("model").items() if name not in ("vocab", "merges")}
    return {name: value for name, value in config.items() if name != "added_tokens"} | {"model": model}


def _without(text: str, spans: Sequence[Span], kept: Sequence[Span]) -> str:
    """A text whose units that are not kept are left out; the rest stands as it stood."""
    stays, parts, end = set(kept), [], 0
    for span in spans:
        gap = text[end : span[0]]
        parts.append(gap + text[slice(*span)] if span in stays else f"{gap} " if parts else "")
        end = span[1]
    return " ".join("".join(parts).split())


def _matters(unit: str) -> bool:
    return is_word(unit) and unit not in FUNCTION_WORDS


def _joined(text: str, spans: Sequence[Span]) -> tuple[str, ...]:
    """Distinct texts of spans, where neighbours in writing without spaces are one."""
    joined: list[Span] = []
    for start, end in spans:
        if joined and joined[-1][1] == start and is_unspaced(text[start]) and is_unspaced(text[joined[-1][0]]):
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return tuple(dict.fromkeys(text[start:end] for start, end in joined))
