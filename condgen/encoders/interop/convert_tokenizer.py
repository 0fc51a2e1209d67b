"""Conversion of tokenizers to and from open_clip and transformers."""

from __future__ import annotations

import json
from pathlib import Path

from condgen.contracts import CondgenError
from condgen.encoders.tokenizer import END, PAD, SPECIAL_TOKENS, UNKNOWN, Tokenizer
from condgen.files.weights import read_json, write_json


def write_tokenizer(tokenizer: Tokenizer, folder: Path, longest: int = 0) -> None:
    """Writes a tokenizer as both libraries read it, with text cleaning, and the end token as the last id.

    Args:
        longest: tokens to which the libraries pad and cut texts by default; 0 is the context of the tokenizer.
    """
    from tokenizers import Regex, normalizers, processors
    from tokenizers import Tokenizer as Backend

    described = json.loads(tokenizer.backend.to_str())
    _swap_end(described)
    backend = Backend.from_str(json.dumps(described))
    backend.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Replace(Regex(r"\p{C}"), " "),
            normalizers.Lowercase(),
            normalizers.Replace(Regex("<(?:pad|unknown|end)>"), " "),
        ]
    )
    end = SPECIAL_TOKENS[END]
    backend.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, backend.token_to_id(end))]
    )
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": longest or tokenizer.context,
        "pad_token": SPECIAL_TOKENS[PAD],
        "unk_token": SPECIAL_TOKENS[UNKNOWN],
        "eos_token": end,
        "padding_side": "right",
        "truncation_side": "right",
        "split_special_tokens": True,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
    }
    write_json(folder / "tokenizer_config.json", config)
    write_json(folder / "words.json", {"context": tokenizer.context, "words": sorted(tokenizer.words)})


def read_tokenizer(folder: Path) -> Tokenizer | None:
    """Reads what `write_tokenizer` wrote; None where the folder holds another tokenizer."""
    import tempfile

    try:
        described = read_json(folder / "tokenizer.json")
        described |= {"normalizer": None, "post_processor": None, "padding": None, "truncation": None}
        _swap_end(described)
        with tempfile.TemporaryDirectory() as aside:
            write_json(Path(aside) / "tokenizer.json", described)
            write_json(Path(aside) / "words.json", read_json(folder / "words.json"))
            return Tokenizer.load(Path(aside))
    except (CondgenError, LookupError, TypeError, ValueError):
        return None


def _swap_end(described: dict) -> None:
    """Exchanges the ids of the end token and the last token in the description of a backend."""
    vocab = described["model"]["vocab"]
    ids = {number: token for token, number in vocab.items()}
    places = sorted((vocab[SPECIAL_TOKENS[END]], END, len(vocab) - 1))
    low, high = places[0], places[-1]
    vocab[ids[low]], vocab[ids[high]] = high, low
    described["model"]["vocab"] = dict(sorted(vocab.items(), key=lambda item: item[1]))
    for token in described["added_tokens"]:
        token["id"] = vocab[token["content"]]
    described["added_tokens"].sort(key=lambda token: token["id"])
