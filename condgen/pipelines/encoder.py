"""Encoders in use: images, and where they know them words, to vectors that search, probes and priors work on.

encoder = condgen.load("runs/clip/model")
encoder.embed_image(images) @ encoder.embed_text(["a photo of a dog", "a photo of a cat"]).T
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.contracts import CondgenError, Encoder
from condgen.encoders.backbones import Backbone
from condgen.encoders.clip import CLIP
from condgen.encoders.interop.load import load_pair, save_pair
from condgen.encoders.tokenizer import Tokenizer
from condgen.files.registry import PAIRS, PICTURES
from condgen.files.weights import described, fingerprint, load_part, save_part
from condgen.pipelines.base import index_of, model_id_of, write_index
from condgen.text import check_prompts

ROWS = 256
"""Images or texts that go through a network at a time."""


class ImageEncoder:
    """Images to features.

    Args:
        net: a module, (B, 3, S, S) in [-1, 1] -> (B, F), whose `config` tells `size` S.
        about: what `model_index.json` says beyond the parts.
        model_id: sixteen hex digits that name the weights.
    """

    TASK = "image-feature-extraction"
    TAGS = ("self-supervised", "image-feature-extraction")
    KIND = PICTURES
    PART = "backbone"

    path: Path | None = None
    """The folder that it was read from."""

    def __init__(self, net: nn.Module, about: dict[str, Any] | None = None, model_id: str = ""):
        self.net, self.about, self.model_id = net.eval(), about or {}, model_id

    @property
    def name(self) -> str:
        return self.about.get("name", "encoder")

    @property
    def stack(self) -> str:
        """What it is made of, for its card."""
        return f"An image encoder ({self.net.config.kind})"

    @property
    def size(self) -> int:
        """Edge S of the images that it reads."""
        return self.net.size

    @property
    def space(self) -> str:
        """The name of its embedding space."""
        return fingerprint(self.net)

    @property
    def device(self) -> torch.device:
        return next(self.net.parameters()).device

    def to(self, device: torch.device | str) -> ImageEncoder:
        """Moves it."""
        self.net.to(device)
        return self

    def features(self, images: Tensor) -> Tensor:
        """(N, 3, S, S) in [-1, 1], any number -> (N, F) on the CPU: what a probe looks at."""
        return self._in_chunks(self.net, images)

    def embed_image(self, images: Tensor) -> Tensor:
        """(N, 3, S, S) in [-1, 1], any number -> unit vectors (N, D) on the CPU."""
        return F.normalize(self.features(images), dim=-1)

    @torch.inference_mode()
    def _in_chunks(self, compute: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        return torch.cat([compute(part.to(self.device)).float().cpu() for part in rows.split(ROWS)])

    def save(self, folder: Path | str, card: str = "") -> None:
        """Writes the model directory; weights keep their 32 bits, for their fingerprint names the space."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._save_parts(folder)
        write_index(folder, self.KIND, {}, self.about, card)

    def _save_parts(self, folder: Path) -> None:
        save_part(self.net, folder / self.PART)

    @classmethod
    def load(cls, folder: Path | str) -> ImageEncoder:
        """Reads a model directory, without network and without pickle.

        Raises:
            CondgenError: something is missing, damaged or of another kind; the message names the file.
        """
        folder = Path(folder)
        index = index_of(folder, cls.KIND)
        about = {name: value for name, value in index.items() if name not in ("_class_name", "format")}
        encoder = cls(*cls._load_parts(folder), about=about, model_id=model_id_of(folder))
        encoder.path = folder
        return encoder

    @classmethod
    def _load_parts(cls, folder: Path) -> tuple:
        return (load_part(Backbone, folder / cls.PART),)


class TextImageEncoder(ImageEncoder):
    """Images and words to one space.

    Args:
        net: an `Encoder`.
        tokenizer: turns texts into its tokens.
        about, model_id: as for `ImageEncoder`.
    """

    TASK = "zero-shot-image-classification"
    TAGS = ("clip", "zero-shot-image-classification")
    KIND = PAIRS
    PART = "clip"

    def __init__(self, net: Encoder, tokenizer: Tokenizer, about: dict[str, Any] | None = None, model_id: str = ""):
        super().__init__(net, about, model_id)
        self.tokenizer = tokenizer

    @property
    def stack(self) -> str:
        """What it is made of, for its card."""
        return "A contrastive encoder of images and words (CLIP)"

    @property
    def embed_dim(self) -> int:
        """Width D of the space."""
        return self.net.embed_dim

    def features(self, images: Tensor) -> Tensor:
        return self._in_chunks(self.net.features, images)

    def embed_image(self, images: Tensor) -> Tensor:
        return self._in_chunks(self.net.embed_image, images)

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """Texts, any number -> unit vectors (N, D) on the CPU.

        Raises:
            CondgenError: a text is empty or none.
        """
        tokens = torch.from_numpy(self.tokenizer.encode(check_prompts(list(texts))))
        return self._in_chunks(self.net.embed_text, tokens)

    def _save_parts(self, folder: Path) -> None:
        save_pair(self.net, self.tokenizer, folder)

    @classmethod
    def _load_parts(cls, folder: Path) -> tuple:
        return load_pair(folder)


def start_tower(clip: CLIP, folder: Path | str) -> None:
    """Gives CLIP's image tower the weights of a backbone that learned from images alone, in place.

    Args:
        clip: with the image tower `patch` or `resnet`.
        folder: a model directory of `condgen train selfsup`.

    Raises:
        CondgenError: it holds no backbone by itself, or one of another kind or shape; the message names what differs.
    """
    trained = ImageEncoder.load(folder).net
    own = getattr(clip.image, "backbone", None)
    if own is None:
        raise CondgenError(
            f"{folder} holds a backbone of the kind {trained.config.kind}, and CLIP's image tower is no such thing. "
            f"Choose it with --clip.image {trained.config.kind}."
        )
    here, there = (_shape(backbone) for backbone in (own, trained))
    if other := [f"{name} {there.get(name)}, not {here.get(name)}" for name in there if there[name] != here.get(name)]:
        raise CondgenError(
            f"The backbone of {folder} has another shape than CLIP's image tower: {'; '.join(other)}. Give the tower "
            "that shape with --clip.image, .image_width, .image_depth, .heads, .patch, .stages, .norm and "
            "--pictures.size."
        )
    own.load_state_dict(trained.state_dict())


def _shape(backbone: Backbone) -> dict[str, Any]:
    """The options and the size that the weights of a backbone depend on."""
    unused = ("stages", "norm") if backbone.config.kind == "patch" else ("heads",)
    return {name: value for name, value in described(backbone).items() if name not in unused}
