"""A byte-pair tokenizer that is trained on the captions and saved with the model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from condgen.contracts import CondgenError
from condgen.files.weights import read_json, whole, write_json
from condgen.nn.conditioning import PAD
from condgen.text import clean

UNKNOWN, END = 1, 2
SPECIAL_TOKENS = ["<pad>", "<unknown>", "<end>"]
"""The first tokens, in the order of their ids."""
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*", re.UNICODE)


def words_of(text: str) -> list[str]:
    """The words of a text, cleaned."""
    return _WORD.findall(clean(text))


class Tokenizer:
    """Captions to token ids of a fixed length.

    Args:
        backend: a `tokenizers.Tokenizer`.
        context: maximum number of tokens of a caption, L; longer captions are truncated.
        words: all words of the training captions.
    """

    def __init__(self, backend, context: int, words: Iterable[str]):
        self.backend, self.context, self.words = backend, context, frozenset(words)

    @classmethod
    def train(cls, captions: Iterable[str], context: int = 0, vocab: int = 4096) -> Tokenizer:
        """Learns byte pairs from captions.

        Args:
            captions: the texts; frequent words become single tokens.
            context: maximum number of tokens of a caption; 0 takes the 99.5 % quantile of the captions plus the end
                token.
            vocab: maximum number of tokens.
        """
        from tokenizers import trainers

        texts, backend = [clean(text) for text in captions], _untrained()
        backend.train_from_iterator(
            texts, trainers.BpeTrainer(vocab_size=vocab, special_tokens=SPECIAL_TOKENS, show_progress=False)
        )
        if context == 0:
            lengths = np.array([len(e.ids) for e in backend.encode_batch(texts)] or [1])
            context = int(np.quantile(lengths, 0.995, method="higher")) + 1
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

    def cut(self, text: str) -> str | None:
        """The part of a text that fits, or None where all of it does."""
        encoding = self.backend.encode(clean(text))
        if len(encoding.ids) < self.context:
            return None
        return clean(text)[: encoding.offsets[self.context - 2][1]]

    def unseen(self, text: str) -> list[str]:
        """Words that are in no training caption, in order."""
        return [word for word in dict.fromkeys(words_of(text)) if word not in self.words]

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
            or _configuration(backend) != _configuration(_untrained())
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


def _untrained():
    """An untrained backend."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import models, pre_tokenizers

    backend = Backend(models.BPE(unk_token=SPECIAL_TOKENS[UNKNOWN]))
    backend.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    return backend


def _configuration(backend) -> dict:
    """The configuration of a backend without vocabulary; a foreign file could hold expressions that never terminate."""
    config = json.loads(backend.to_str())
    model = {name: value for name, value in config.pop("model").items() if name not in ("vocab", "merges")}
    return {name: value for name, value in config.items() if name != "added_tokens"} | {"model": model}
