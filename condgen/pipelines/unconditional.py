"""Unconditional decoders: images without captions and labels, from embeddings that a prior draws, or from noise alone.

model = condgen.load("runs/photos")
for generated in model.generate(n=16, seed=7):
    generated.save("out")
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.contracts import (
    Batch,
    CondgenError,
    Decoder,
    Encoder,
    SamplingOption,
    check_options,
    recorded_options,
    short,
)
from condgen.decoders import DECODERS
from condgen.encoders.backbones import Backbone
from condgen.encoders.interop.load import reads_size, space_of
from condgen.encoders.tokenizer import Tokenizer
from condgen.files.images import GeneratedImage
from condgen.nn.conditioning import condition
from condgen.pipelines.base import CLIP, Progress, generator, network_of, numbered, seeds_from
from condgen.pipelines.encoder import ImageEncoder, TextImageEncoder
from condgen.pipelines.generation import EmbeddingPipeline, GenerationPipeline, rows_at_once
from condgen.priors.transformer import EmbeddingNormalizer
from condgen.priors.unconditional import UnconditionalPrior

SAMPLED = 4
"""Batches of `rows_at_once` that `sample` generates at a time, where the bits of single images do not matter."""


class UnconditionalDecoder(GenerationPipeline):
    """A decoder that was trained without any condition.

    Args:
        decoder: a decoder of image embeddings, which always sees the null condition.
        about, model_id: see `Pipeline`.
    """

    hub_task = "unconditional-image-generation"
    tags = ("unconditional-image-generation",)
    described = ("decoder", "size", "image_channels")
    half_parts = ("decoder",)

    def __init__(self, decoder: Decoder, about: dict[str, Any] | None = None, model_id: str = ""):
        self.decoder = decoder
        super().__init__(decoder, self.parts(), about, model_id)

    def parts(self) -> dict[str, nn.Module]:
        """Folder -> module of every part."""
        return {"decoder": self.decoder}

    @property
    def stack(self) -> str:  # type: ignore[override]
        return f"An unconditional {DECODERS.name_of(self.decoder)} decoder"

    def sampling_options(self, prior: str | None = None) -> tuple[SamplingOption, ...]:
        """Options of the decoder; without a condition there is no guidance, and no prior."""
        return tuple(one for one in self.decoder.sampling_options if not one.name.startswith("guidance"))

    def draw_condition(self, rng: list[torch.Generator], **options: float) -> Batch:
        """The condition of B images, one of each of B generators: here the null condition."""
        z = torch.zeros(len(rng), self.decoder.spec.embed_dim, device=self.device)
        return condition(z, use_z=False)

    def generate_batch(self, conditions: Sequence[None], seeds: Sequence[int], **options: float) -> Iterator[Progress]:
        """Generates an image of every seed, all in one batch; yields after every step.

        Image i draws from seed i alone. Its last bits may depend on the size of the batch, because sums are rounded
        differently.

        Args:
            conditions: None for every seed.
        """
        if any(one is not None for one in conditions):
            raise CondgenError(f"{self.name} is unconditional: it takes no prompt and no labels.")
        options, rng = check_options(self.sampling_options(), options), [generator(seed) for seed in seeds]
        names = [one.name for one in self.decoder.sampling_options]
        own = {"guidance": 1.0} if "guidance" in names else {}  # where there is no option, there is no condition
        own |= {name: options[name] for name in names if name in options}
        yield from numbered(self.decoder.sample(self.draw_condition(rng, **options), rng, **own), options)

    def generate(self, n: int = 1, seed: int = 0, **options: float) -> Iterator[GeneratedImage]:
        """Generates n images with their recipes; image i has seed `seed + i`.

        They are generated in batches; on a CPU, the bytes of a small image depend on seed, options and weights alone.

        Raises:
            CondgenError: an option is unknown or out of range.
        """
        yield from self._in_batches([None], seeds_from(seed, n), **check_options(self.sampling_options(), options))

    def sample(self, seeds: Sequence[int], **options: float) -> Tensor:
        """Images of any number of seeds, (N, C, S, S) in [-1, 1] on the CPU, for statistics over many of them."""
        seeds, rows, out = list(seeds), SAMPLED * rows_at_once(self.size), []
        for start in range(0, len(seeds), rows):
            part = seeds[start : start + rows]
            *_, last = self.generate_batch([None] * len(part), part, **options)
            out.append(last.images.cpu())
        return torch.cat(out)

    def _facts(self, conditions, seeds, images, **options: float):
        recorded = recorded_options(self.sampling_options(), check_options(self.sampling_options(), options))
        return [({"labels": {}, "seed": seed} | recorded, None) for seed in seeds]

    def _options_of(self, recipe: dict[str, Any]) -> tuple[SamplingOption, ...]:
        return self.sampling_options()

    def _generate_from(self, recipe: dict[str, Any], options: dict[str, float]) -> Iterator[GeneratedImage]:
        return self._again(None, recipe, **options)

    def part_fields(self) -> dict[str, Any]:
        shape = {"size": self.size, "image_channels": self.image_channels}
        return {"decoder": DECODERS.name_of(self.decoder)} | shape

    @classmethod
    def part_types(cls, index: dict[str, Any], path: Path) -> dict[str, type[nn.Module] | None]:
        return {"decoder": network_of(DECODERS, index, "decoder", path)}

    @classmethod
    def _arguments(cls, index, parts) -> dict[str, Any]:
        return {"decoder": parts["decoder"]}

    @classmethod
    def facts(cls, folder: Path, index: dict[str, Any], modules: dict[str, nn.Module]) -> dict[str, Any]:
        spec = modules["decoder"].spec
        return {"size": spec.size, "image_channels": spec.image_channels}


class EmbeddingToImage(EmbeddingPipeline, UnconditionalDecoder):
    """Draws an image embedding, and decodes it (RCG).

    Args:
        encoder: the network of an `ImageEncoder`, or with a tokenizer that of a `TextImageEncoder`.
        normalizer, prior, decoder: trained on embeddings of the encoder.
        tokenizer: of an encoder of images and texts.
        about, model_id: see `Pipeline`.

    Raises:
        CondgenError: a part was trained on embeddings of another encoder.

    References:
        Return of Unconditional Generation: A Self-supervised Representation Generation Method (Li, Katabi, He, 2024)
    """

    tags = ("rcg", "unconditional-image-generation")
    described = ("decoder", "size", "image_channels", "encoder")
    half_parts = ("prior", "decoder")

    def __init__(
        self, encoder: Encoder | nn.Module, normalizer: EmbeddingNormalizer, prior: UnconditionalPrior,
        decoder: Decoder, tokenizer: Tokenizer | None = None, about: dict[str, Any] | None = None, model_id: str = "",
    ):  # fmt: skip
        self.encoder, self.normalizer, self.prior, self.tokenizer = encoder, normalizer, prior, tokenizer
        self.priors = {"unconditional": prior}
        spaces = {"encoder": space_of(encoder), "normalizer": normalizer.spec.space}
        spaces |= {"prior": prior.spec.space, "decoder": decoder.spec.space}
        if len(set(spaces.values())) > 1 or not reads_size(encoder, decoder.spec.size):
            listing = ", ".join(f"{name}: {space}" for name, space in spaces.items())
            raise CondgenError(
                f"The parts live in different embedding spaces ({listing}) or image sizes ({encoder.size} and "
                f"{decoder.spec.size} pixels). The folder mixes two models; export it again."
            )
        super().__init__(decoder, about, model_id)

    def parts(self) -> dict[str, nn.Module]:
        own = {"normaliser": self.normalizer, "prior": self.prior}
        return {self.encoder_part: self.encoder} | own | super().parts()

    @property
    def encoder_part(self) -> str:
        """Folder of the encoder."""
        return ImageEncoder.part if self.tokenizer is None else CLIP

    @property
    def image_encoder(self) -> ImageEncoder:
        """The encoder as a pipeline of its own."""
        if self.tokenizer is not None:
            return TextImageEncoder(self.encoder, self.tokenizer, {"name": self.name}, self.model_id)
        return ImageEncoder(self.encoder, {"name": self.name}, self.model_id)

    @property
    def stack(self) -> str:  # type: ignore[override]
        kind = DECODERS.name_of(self.decoder)
        return f"A generator without captions (image encoder, prior of embeddings, {kind} decoder)"

    @torch.inference_mode()
    def embed_image(self, images: Tensor) -> Tensor:
        """(B, C, S, S) in [-1, 1] -> unit vectors (B, D)."""
        images = images.expand(-1, 3, -1, -1)
        return F.normalize(self.encoder(images), dim=-1) if self.tokenizer is None else self.encoder.embed_image(images)

    @torch.inference_mode()
    def draw_embed(self, rng: list[torch.Generator], **options: float) -> Tensor:
        """z of B new images, (B, D), one of each of B generators; its embedding has unit length, as those of images."""
        return self.normalizer(self.normalizer.back(self.prior.draw(rng, **options)))

    def draw_condition(self, rng: list[torch.Generator], **options: float) -> Batch:
        own = {one.name: options[one.name] for one in self.prior.sampling_options if one.name in options}
        return self.condition(self.draw_embed(rng, **own), [""] * len(rng))

    def part_fields(self) -> dict[str, Any]:
        return super().part_fields() | {"encoder": self.encoder_part}

    @classmethod
    def part_types(cls, index: dict[str, Any], path: Path) -> dict[str, type[nn.Module] | None]:
        encoders = {ImageEncoder.part: Backbone, CLIP: None}
        name = index.get("encoder")
        if not isinstance(name, str) or name not in encoders:
            raise CondgenError(f"{path} names the encoder {short(name)}, expected one of {', '.join(encoders)}.")
        own = {"normaliser": EmbeddingNormalizer, "prior": UnconditionalPrior}
        return {name: encoders[name]} | own | super().part_types(index, path)

    @classmethod
    def _arguments(cls, index, parts) -> dict[str, Any]:
        encoder = parts[index["encoder"]]
        net, tokenizer = encoder if index["encoder"] == CLIP else (encoder, None)
        own = {"normalizer": parts["normaliser"], "prior": parts["prior"], "decoder": parts["decoder"]}
        return {"encoder": net, "tokenizer": tokenizer} | own

    @classmethod
    def facts(cls, folder: Path, index: dict[str, Any], modules: dict[str, nn.Module]) -> dict[str, Any]:
        return super().facts(folder, index, modules) | {"space": modules["normaliser"].spec.space}
