"""What every model in use has in common: decoders, seeds, progress, images, and its folder on disk."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from condgen.contracts import CondgenError, Decoder, short
from condgen.data.batches.captions import to_uint8
from condgen.decoders.cgan import CganDecoder
from condgen.decoders.cvae import CvaeDecoder
from condgen.decoders.diffusion import DiffusionDecoder
from condgen.files import renamed
from condgen.files.registry import INDEX, LABELS, LATENTS, PAIRS, PICTURES, TRANSLATORS, WORDS
from condgen.files.weights import read_json, whole, write_json

FORMAT = 1
MOST_PICTURES = 10_000
DECODERS: dict[str, type[nn.Module]] = {"diffusion": DiffusionDecoder, "cgan": CganDecoder, "cvae": CvaeDecoder}
"""Kind of a decoder -> class."""
ELSEWHERE = {
    WORDS: ("paints from words", "generate PROMPT --model"),
    LABELS: ("paints from labels", "sample --label NAME --model"),
    PAIRS: ("embeds images and words, and paints nothing", "evaluate --data PATH"),
    PICTURES: ("embeds images, and paints nothing", "evaluate --data PATH"),
    LATENTS: ("paints from codes, and is told nothing", "sample --model"),
    TRANSLATORS: ("turns images into images", "translate"),
}
"""What a model does, and a command for it."""


def kind_of(decoder: Decoder) -> str:
    """The name of a decoder's kind in DECODERS."""
    return next(kind for kind, cls in DECODERS.items() if type(decoder) is cls)


@dataclass(frozen=True)
class Progress:
    """Where painting stands: `step` of `steps`, and the images so far, (B, C, S, S) in [-1, 1]."""

    step: int
    steps: int
    images: Tensor


def generator(seed: int) -> torch.Generator:
    """The generator that a seed names; `CondgenError` when it is no integer from 0 to 2**63 - 1."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise CondgenError(f"A seed must be an integer from 0 to 2**63 - 1, got {short(seed)}.")
    return torch.Generator().manual_seed(seed)


def seeds_from(seed: int, n: int) -> range:
    """The seeds of n images, `seed` and the next; `CondgenError` when n or one of them is out of range."""
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MOST_PICTURES:
        raise CondgenError(f"The number of images must be an integer from 1 to {MOST_PICTURES}, got {short(n)}.")
    generator(seed)
    generator(seed + n - 1)
    return range(seed, seed + n)


def to_pil(images: Tensor) -> list[Image.Image]:
    """(B, C, H, W) in [-1, 1] -> PIL images: RGB, or L where C is 1."""
    pictures = to_uint8(images).transpose(0, 2, 3, 1).copy()
    return [Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture) for picture in pictures]


def index_of(folder: Path, kind: str) -> dict[str, Any]:
    """`model_index.json` of a model of a kind.

    Raises:
        CondgenError: it is missing, damaged or of another kind; where condgen has a command for that, it is named.
    """
    path = folder / INDEX
    index = read_json(path)
    index = renamed.index(index) if isinstance(index, dict) else index
    if not isinstance(index, dict) or index.get("_class_name") != kind or index.get("format") != FORMAT:
        named = (index.get("_class_name"), index.get("format")) if isinstance(index, dict) else ("list", "unknown")
        told = f"a {named[0]} of format {named[1]}, expected a {kind} of format {FORMAT}"
        other = ELSEWHERE.get(named[0]) if isinstance(named[0], str) and named[0] != kind else None
        hint = f" It {other[0]}: condgen {other[1]} {folder}." if other else ""
        raise CondgenError(f"{path} describes {told}.{hint}")
    if (decoder := index.get("decoder", "diffusion")) not in [*DECODERS]:
        raise CondgenError(f"{path} names the decoder {short(decoder)}, expected one of {', '.join(DECODERS)}.")
    if not isinstance(index.get("name", ""), str):
        raise CondgenError(f"{path} names the model {short(index['name'])}, expected a text.")
    return index


def write_index(folder: Path, kind: str, head: dict[str, Any], about: dict[str, Any], card: str) -> None:
    """Writes the card, where there is one, and last the index, which makes a folder a model."""
    if card:
        with whole(folder / "README.md") as file:
            file.write_text(card, encoding="utf-8")
    write_json(folder / INDEX, {"_class_name": kind, "format": FORMAT} | head | about)


def model_id_of(folder: Path) -> str:
    """Sixteen hex digits that name all weights, configs and the tokenizer of a model folder."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*/*")):
        if file.suffix in (".safetensors", ".json") and file.is_file():
            digest.update(file.relative_to(folder).as_posix().encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
