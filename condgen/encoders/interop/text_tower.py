"""The image tower of any encoder with a text tower of transformers, e.g. BERT.

A linear map projects the text features into the space of the image tower, which may be frozen (see `freeze`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.contracts import CondgenError
from condgen.encoders.clip import CLIP, projection
from condgen.encoders.interop.base import (
    ForeignConfig,
    ForeignTokenizer,
    as_json,
    backend_tokenizer,
    library,
    restored,
)
from condgen.encoders.interop.freeze import only_image
from condgen.encoders.interop.hf import OfTransformers, architecture_of, empty_transformers, load_model, new_model
from condgen.encoders.interop.openclip import OpenClip, empty_open_clip
from condgen.files.weights import (
    CONFIG,
    WEIGHTS,
    check_weights,
    config_from,
    described,
    network_from,
    read_json,
    read_tensors,
)
from condgen.nn.conditioning import PAD

MOST_TOKENS = 77
"""Largest number of tokens of a text: captions are short."""
Pooling = Literal["mean", "first", "own"]


@dataclass(frozen=True)
class PairedConfig:
    """Inputs and outputs of a pair of towers.

    Args:
        size: edge of the images.
        embed_dim: width D of the shared space.
        vocab: number of token ids, padding included.
        context: tokens of a text, L.
        pad: the library's id of padding.
        pooling: pooling of the text tower: `mean` over the tokens, `first` token, or the library's `own`.
        bias: adds a learned bias to the logits, for the sigmoid loss.
        image, text: the architectures of the towers, as JSON.
    """

    size: int
    embed_dim: int
    vocab: int
    context: int
    pad: int
    pooling: Pooling
    bias: bool
    image: str
    text: str


class TextTower(nn.Module):
    """Token ids of condgen (B, L) -> (B, D), by a text model of transformers and a linear map."""

    def __init__(self, model: nn.Module, width: int, config: PairedConfig):
        super().__init__()
        self.model, self.pad, self.pooling = model, config.pad, config.pooling
        self.out = projection(width, config.embed_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(summed_up(self.model, restored(tokens, self.pad), tokens != PAD, self.pooling))


def summed_up(model: nn.Module, ids: Tensor, seen: Tensor, pooling: Pooling) -> Tensor:
    """Pools the output of a text model into features of texts, (B, F)."""
    if pooling == "own":
        return model(input_ids=ids).pooler_output
    h = model(input_ids=ids, attention_mask=seen.long()).last_hidden_state
    if pooling == "first":
        return h[:, 0]
    return (h * seen[..., None]).sum(1) / seen.sum(1, keepdim=True).clamp(min=1)


class Paired(nn.Module):
    """Two towers of different libraries. Keeps the `Encoder` contract.

    Args:
        config: inputs and outputs.
        image: an encoder, of which only the image tower is kept.
        text: a text model of transformers.
        width: number of features of the text model.
    """

    def __init__(self, config: PairedConfig, image: nn.Module, text: nn.Module, width: int):
        super().__init__()
        self.config = config
        self.size, self.embed_dim, self.vocab, self.context = (
            config.size,
            config.embed_dim,
            config.vocab,
            config.context,
        )
        self.log_scale = nn.Parameter(image.log_scale.detach().clone().reshape(()))
        self.bias = nn.Parameter(torch.tensor(0.0)) if config.bias else None
        self.image = only_image(image)
        self.text = TextTower(text, width, config)

    @property
    def resizes(self) -> bool:
        return getattr(self.image, "resizes", False)

    def embed_image(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) in [-1, 1] -> unit vectors (B, D)."""
        return self.image.embed_image(images)

    def embed_text(self, tokens: Tensor) -> Tensor:
        """int64 (B, L) -> unit vectors (B, D)."""
        return F.normalize(self.text(tokens), dim=-1)

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) in [-1, 1] -> (B, F), see the image's encoder."""
        return self.image.features(images)


def pair(net: nn.Module, folder: Path, context: int = 0, bias: bool = False) -> tuple[Paired, ForeignTokenizer]:
    """The image tower of an encoder beside the text model of a folder; their map into one space is new.

    Args:
        net: the encoder; its modules are reused, so it must not be used afterwards.
        folder: a model of transformers with its tokenizer.
        context: tokens of a text; 0 takes what the text model reads, at most 77.
        bias: adds a bias to the logits, where the encoder has none.

    Raises:
        CondgenError: the folder holds no such model, or the encoder is of a kind that cannot be saved.
    """
    if type(net) not in (CLIP, OpenClip, OfTransformers):
        raise CondgenError(f"The image tower of a {type(net).__name__} cannot be put beside another text tower.")
    architecture, what = architecture_of(folder), f"The text model in {folder}"
    text = text_part(load_model(folder, spare=("pooler.",), extra=True))
    with library(what):
        most = getattr(text.config, "max_position_embeddings", None) or MOST_TOKENS
        length = min(context or MOST_TOKENS, most)
        tokenizer = backend_tokenizer(folder, length, text.get_input_embeddings().num_embeddings)
    image = {"class": type(net).__name__} | described(net)
    config = PairedConfig(
        net.size, net.embed_dim, tokenizer.vocab, length, tokenizer.pad, _pooling(folder, text, what),
        bias or net.bias is not None, as_json(image), as_json(architecture),
    )  # fmt: skip
    return Paired(config, net, text, _width(text, config)).eval(), tokenizer


def load_paired(folder: Path, tokenizer: Path) -> tuple[Paired, ForeignTokenizer]:
    """Loads a pair and its tokenizer.

    Raises:
        CondgenError: something is missing or damaged, or a tensor is missing, extra or of another shape.
    """
    path = folder / CONFIG
    values = read_json(path)
    config = config_from(PairedConfig, {k: v for k, v in values.items() if k != "class"}, path)
    with library(f"The model that {path} describes"):
        text = text_part(new_model(json.loads(config.text)))
        net = Paired(config, _empty(json.loads(config.image), path), text, _width(text, config))
    tensors = read_tensors(folder / WEIGHTS)
    check_weights(net, tensors, folder / WEIGHTS)
    net.load_state_dict(tensors)
    return net.eval(), backend_tokenizer(tokenizer, config.context, config.vocab - 1)


def _empty(values: dict, path: Path) -> nn.Module:
    """Builds an encoder of a kind and a config, with new weights."""
    kind = values.pop("class", None)
    if kind == CLIP.__name__:
        return network_from(CLIP, values, path)
    makers = {OpenClip.__name__: empty_open_clip, OfTransformers.__name__: empty_transformers}
    if kind not in makers:
        raise CondgenError(f"{path} names an image tower {kind!r}, which condgen does not know.")
    return makers[kind](config_from(ForeignConfig, values, path))


def text_part(model: nn.Module) -> nn.Module:
    """The part of a transformers model that reads texts, without heads that a text tower does not need."""
    if hasattr(model, "text_model"):
        return model.text_model
    if getattr(model.config, "is_encoder_decoder", False):
        return model.get_encoder()
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model


def _pooling(folder: Path, text: nn.Module, what: str) -> Pooling:
    """The pooling of a text model: that of its folder, that of the library, or the mean."""
    file = folder / "1_Pooling" / CONFIG  # as sentence-transformers writes it
    if file.is_file():
        asked = read_json(file)
        return "first" if isinstance(asked, dict) and asked.get("pooling_mode_cls_token") else "mean"
    with library(what), torch.inference_mode():
        out = text.eval()(input_ids=torch.zeros(1, 2, dtype=torch.long))
    return "mean" if getattr(out, "pooler_output", None) is None else "own"


@torch.no_grad()
def _width(text: nn.Module, config: PairedConfig) -> int:
    """Number of features of a text model, found by running it."""
    seen = torch.ones(1, 2, dtype=torch.bool)
    return summed_up(text.eval(), torch.zeros(1, 2, dtype=torch.long), seen, config.pooling).shape[1]
