"""Registry of pipelines; loads a model as the class that its index names.

Importing this module imports nothing heavy, so that commands can describe models without loading them.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from condgen.files.registry import class_name, find, is_foreign

if TYPE_CHECKING:
    from condgen.pipelines.base import Pipeline


@dataclass(frozen=True)
class PipelineKind:
    """A pipeline class, described without importing it.

    Args:
        name: the class, as the index names it.
        module: where it is defined.
        task: `text-to-image`, `class-to-image`, `unconditional`, `image-to-image`, `text-image-encoding` or
            `image-encoding`.
        title: heading of such models in `condgen list`.
        summary: what the model does, for messages: "generates images from labels".
        command: a command that uses the model; {} stands for its name or folder.
    """

    name: str
    module: str
    task: str
    title: str
    summary: str
    command: str

    @property
    def pipeline_class(self) -> type[Pipeline]:
        return getattr(importlib.import_module(self.module), self.name)


KINDS: dict[str, PipelineKind] = {
    "TextToImage": PipelineKind(
        "TextToImage", "condgen.pipelines.text_to_image", "text-to-image",
        "Text-to-image models (unCLIP / DALL-E 2)",
        "generates images from prompts", "generate PROMPT --model {}",
    ),
    "ClassToImage": PipelineKind(
        "ClassToImage", "condgen.pipelines.class_to_image", "class-to-image",
        "Class- and attribute-conditional models (DDPM, CGAN, CVAE)",
        "generates images from labels", "sample --label LABEL --model {}",
    ),
    "LatentModel": PipelineKind(
        "LatentModel", "condgen.pipelines.latent", "unconditional",
        "Unconditional models (autoencoders, VAEs, GANs, diffusion)",
        "generates images without a condition", "sample --model {}",
    ),
    "EmbeddingToImage": PipelineKind(
        "EmbeddingToImage", "condgen.pipelines.unconditional", "unconditional",
        "Unconditional models (autoencoders, VAEs, GANs, diffusion)",
        "generates images from embeddings that it draws", "sample --model {}",
    ),
    "UnconditionalDecoder": PipelineKind(
        "UnconditionalDecoder", "condgen.pipelines.unconditional", "unconditional",
        "Unconditional models (autoencoders, VAEs, GANs, diffusion)",
        "generates images without a condition", "sample --model {}",
    ),
    "Translator": PipelineKind(
        "Translator", "condgen.pipelines.translator", "image-to-image",
        "Image-to-image models (pix2pix, CycleGAN)",
        "translates images to images", "translate {} IMAGE",
    ),
    "TextImageEncoder": PipelineKind(
        "TextImageEncoder", "condgen.pipelines.encoder", "text-image-encoding",
        "Text and image encoders (CLIP)", "embeds texts and images", "search {} --data PATH QUERY",
    ),
    "ImageEncoder": PipelineKind(
        "ImageEncoder", "condgen.pipelines.encoder", "image-encoding",
        "Image encoders (SimCLR, MoCo, supervised)", "embeds images", "search {} --data PATH IMAGE",
    ),
}  # fmt: skip
"""Class name in the index -> kind, in the order of `condgen list`; a new pipeline is one more entry."""


def kind_of(folder: Path) -> PipelineKind:
    """The kind of the model in a folder; TextToImage if the index is damaged, since its `load` reports the problem."""
    return KINDS.get(class_name(folder), KINDS["TextToImage"])


def task_of(folder: Path) -> str:
    """The task of the model in a folder, see `PipelineKind`; '' if the index is unreadable or names no kind."""
    kind = KINDS.get(class_name(folder))
    return kind.task if kind else ""


def load_folder(folder: Path) -> Pipeline:
    """Loads a model directory as the class that its index names; errors as in `Pipeline.load`."""
    return kind_of(folder).pipeline_class.load(folder)


def load_pipeline(path_or_name: str | Path | None) -> Pipeline:
    """Loads a model by path or name, see `files.registry.find`, or a foreign encoder, see `open_encoder`."""
    if not is_foreign(path_or_name):
        return load_folder(find(path_or_name))
    from condgen.encoders.interop.load import open_encoder
    from condgen.pipelines.encoder import TextImageEncoder

    return TextImageEncoder(*open_encoder(path_or_name), {"name": Path(str(path_or_name)).name})
