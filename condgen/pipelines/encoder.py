"""Encoders embed images and, if they have a text tower, texts, for search, probes and priors.

encoder = condgen.load("runs/clip/model")
encoder.embed_image(images) @ encoder.embed_text(["a photo of a dog", "a photo of a cat"]).T
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.contracts import CondgenError, Encoder
from condgen.encoders.backbones import Backbone
from condgen.encoders.clip import CLIP as Clip
from condgen.encoders.tokenizer import Tokenizer
from condgen.files.weights import described, fingerprint
from condgen.pipelines.base import CLIP, Pipeline
from condgen.text import check_prompts, read_texts


class ImageEncoder(Pipeline):
    """Embeds images.

    Args:
        net: a module, (B, 3, S, S) in [-1, 1] -> (B, F), with its `size` S.
        about, model_id: see `Pipeline`.
    """

    hub_task = "image-feature-extraction"
    tags = ("self-supervised", "image-feature-extraction")
    default_name = "encoder"
    part = "backbone"
    """Folder of its network."""

    def __init__(self, net: nn.Module, about: dict[str, Any] | None = None, model_id: str = ""):
        self.net = net
        super().__init__(net, {self.part: net}, about, model_id)

    @property
    def stack(self) -> str:  # type: ignore[override]
        return f"An image encoder ({self.net.config.kind})"

    @property
    def space(self) -> str:
        """The name of its embedding space."""
        return fingerprint(self.net)

    def features(self, images: Tensor) -> Tensor:
        """(N, 3, S, S) in [-1, 1], any N -> (N, F) on the CPU: the input of a probe."""
        return self._in_chunks(self.net, images)

    def embed_image(self, images: Tensor) -> Tensor:
        """(N, 3, S, S) in [-1, 1], any N -> unit vectors (N, D) on the CPU."""
        return F.normalize(self.features(images), dim=-1)

    @classmethod
    def part_types(cls, index: dict[str, Any], path: Path) -> dict[str, type[nn.Module] | None]:
        return {cls.part: Backbone}

    @classmethod
    def _arguments(cls, index, parts) -> dict[str, Any]:
        return {"net": parts[cls.part]}

    @classmethod
    def facts(cls, folder: Path, index: dict[str, Any], modules: dict[str, nn.Module]) -> dict[str, Any]:
        encoder = cls.load(folder)  # the weights name its space
        return {"size": encoder.size, "embeds": "images", "space": encoder.space}


class TextImageEncoder(ImageEncoder):
    """Embeds images and texts into one space (CLIP).

    Args:
        net: an `Encoder`.
        tokenizer: tokenizer of the encoder.
        about, model_id: see `Pipeline`.
    """

    hub_task = "zero-shot-image-classification"
    tags = ("clip", "zero-shot-image-classification")
    part = CLIP

    def __init__(self, net: Encoder, tokenizer: Tokenizer, about: dict[str, Any] | None = None, model_id: str = ""):
        self.tokenizer = tokenizer
        super().__init__(net, about, model_id)

    stack = "A contrastive encoder of images and texts (CLIP)"  # type: ignore[assignment]

    @property
    def embed_dim(self) -> int:
        """Width D of the embedding space."""
        return self.net.embed_dim

    def features(self, images: Tensor) -> Tensor:
        return self._in_chunks(self.net.features, images)

    def embed_image(self, images: Tensor) -> Tensor:
        return self._in_chunks(self.net.embed_image, images)

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Texts, any number -> unit vectors (N, D) on the CPU.

        Raises:
            CondgenError: a text is empty or not a text.
        """
        tokens = torch.from_numpy(self.tokenizer.encode(read_texts(self.tokenizer, check_prompts(list(texts)))))
        return self._in_chunks(self.net.embed_text, tokens)

    @classmethod
    def part_types(cls, index: dict[str, Any], path: Path) -> dict[str, type[nn.Module] | None]:
        return {cls.part: None}

    @classmethod
    def _arguments(cls, index, parts) -> dict[str, Any]:
        return dict(zip(("net", "tokenizer"), parts[cls.part]))

    @classmethod
    def facts(cls, folder: Path, index: dict[str, Any], modules: dict[str, nn.Module]) -> dict[str, Any]:
        encoder = cls.load(folder)
        facts = {"size": encoder.size, "embeds": "images and texts", "space": encoder.space}
        return facts | {"embed_dim": encoder.embed_dim, "context": encoder.tokenizer.context}


def init_image_tower(clip: Clip, folder: Path | str) -> None:
    """Copies the weights of a self-supervised backbone into CLIP's image tower, in place.

    Args:
        clip: a CLIP with the image tower `patch` or `resnet`.
        folder: a model directory of `condgen train selfsup`.

    Raises:
        CondgenError: the folder contains no backbone, or one of another kind or shape; the message names what differs.
    """
    trained = ImageEncoder.load(folder).net
    backbone = getattr(clip.image, "backbone", None)
    if backbone is None:
        raise CondgenError(
            f"{folder} holds a backbone of the kind {trained.config.kind}, and CLIP's image tower has none. "
            f"Choose it with --clip.image {trained.config.kind}."
        )
    here, there = (_shape(net) for net in (backbone, trained))
    if other := [f"{name} {there.get(name)}, not {here.get(name)}" for name in there if there[name] != here.get(name)]:
        raise CondgenError(
            f"The backbone of {folder} has another shape than CLIP's image tower: {'; '.join(other)}. Give the tower "
            "that shape with --clip.image, .image_width, .image_depth, .heads, .patch, .stages, .norm and "
            "--data.size."
        )
    backbone.load_state_dict(trained.state_dict())


def _shape(backbone: Backbone) -> dict[str, Any]:
    """The options and the size that the weights of a backbone depend on."""
    unused = ("stages", "norm") if backbone.config.kind == "patch" else ("heads",)
    return {name: value for name, value in described(backbone).items() if name not in unused}
