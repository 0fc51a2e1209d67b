"""Text-to-image: prompt -> text embedding -> image embedding -> image; each stage can be called alone.

model = load()                                   # the model that comes with the package
for generated in model.generate(["a red circle above a blue square"], n=2, seed=7):
    generated.save("out")
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.contracts import (
    Batch,
    CondgenError,
    CondgenWarning,
    Decoder,
    Encoder,
    SamplingOption,
    check_options,
    recorded_options,
    short,
)
from condgen.decoders import DECODERS
from condgen.encoders.interop.load import can_be_saved, reads_size, space_of
from condgen.encoders.tokenizer import Tokenizer
from condgen.files.images import GeneratedImage
from condgen.nn.conditioning import condition
from condgen.pipelines.base import (
    CLIP,
    GIVEN,
    UPSAMPLER,
    Candidate,
    Progress,
    generator,
    network_of,
    numbered,
    seeds_from,
)
from condgen.pipelines.generation import EmbeddingPipeline
from condgen.priors import PRIORS
from condgen.priors.transformer import EmbeddingNormalizer
from condgen.text import check_prompts, clean, read_texts, truncated, warn_of_texts


@dataclass(frozen=True)
class EncodedText:
    """Encoded prompts: `tokens` int64 (B, L), `embed` unit vectors (B, D)."""

    tokens: Tensor
    embed: Tensor


class TextToImage(EmbeddingPipeline):
    """Encoder, priors and decoder of one embedding space (unCLIP, DALL-E 2).

    Args:
        clip, tokenizer: an encoder of any kind.
        normalizer, decoder: trained on embeddings of `clip`.
        priors: priors by name; the first is the default. The prior `none`, the text embedding itself, always exists.
        about, model_id: see `Pipeline`.

    Raises:
        CondgenError: a part was trained on embeddings of another encoder.
    """

    hub_task = "text-to-image"
    tags = ("unclip", "text-to-image")
    described = ("priors", "decoder", "encoder")
    half_parts = ("prior_", "decoder", UPSAMPLER)
    reads_text = True
    _replayed: str | None = None
    """The text to encode for every prompt, while an image is replayed."""

    def __init__(
        self,
        clip: Encoder,
        tokenizer: Tokenizer,
        normalizer: EmbeddingNormalizer,
        priors: dict[str, nn.Module],
        decoder: Decoder,
        about: dict | None = None,
        model_id: str = "",
    ):
        self.clip, self.tokenizer, self.normalizer, self.decoder = clip, tokenizer, normalizer, decoder
        self.priors = priors
        drawn = {f"prior_{name}": prior for name, prior in priors.items()}
        parts = {"normaliser": normalizer, **drawn, "decoder": decoder}
        check_parts(clip, tokenizer, parts)
        super().__init__(decoder, {CLIP: clip} | parts, about, model_id)

    @property
    def stack(self) -> str:  # type: ignore[override]
        priors = f"priors {', '.join(self.priors)}, " if self.priors else ""
        return f"A text-to-image stack (CLIP, {priors}{DECODERS.name_of(self.decoder)} decoder)"

    @torch.inference_mode()
    def embed_text(self, prompts: list[str]) -> EncodedText:
        """Encodes prompts; warns of unknown words, which are skipped, and of prompts that are too long.

        Prompts are cut to the first MAX_PROMPT characters of their cleaned text, see `encoders.tokenizer`.

        Raises:
            CondgenError: a prompt is empty or not a text.
        """
        prompts = check_prompts(prompts)
        if self._replayed is None:
            warn_of_texts(self.tokenizer, prompts)
        tokens = torch.from_numpy(self.tokenizer.encode(self._read(prompts))).to(self.device)
        return EncodedText(tokens, self.clip.embed_text(tokens))

    @torch.inference_mode()
    def embed_image(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) in [-1, 1] -> unit vectors (B, D)."""
        return self.clip.embed_image(images)

    def _read(self, prompts: list[str]) -> list[str]:
        return read_texts(self.tokenizer, prompts) if self._replayed is None else [self._replayed] * len(prompts)

    @torch.inference_mode()
    def draw_embed(
        self, text: EncodedText, rng: list[torch.Generator], prior: str | None = None, **options: float
    ) -> Tensor:
        """Text -> z, the normalised image embedding, (B, D)."""
        self._prior_options(prior)
        if (prior or self.default_prior) == "none":
            check_options((), options)
            return self.normalizer(text.embed)
        return self.priors[prior or self.default_prior].draw(text.embed, text.tokens, rng, self.normalizer, **options)

    def draw_image(
        self, z: Tensor, text: EncodedText, rng: list[torch.Generator], use_z=True, use_words=True, **options: float
    ) -> Iterator[Tensor]:
        """Image embedding and tokens -> images: yields the images so far, (B, 3, S, S) in [-1, 1]."""
        return self.decoder.sample(condition(z, text.tokens, use_z, use_words), rng, **options)

    def condition(self, z: Tensor, prompts: Sequence[str]) -> Batch:
        words = torch.tensor([bool(prompt) for prompt in prompts])
        tokens = torch.zeros(len(z), self.clip.context, dtype=torch.long)
        if read := [prompt for prompt in prompts if prompt]:
            tokens[words] = torch.from_numpy(self.tokenizer.encode(self._read(read)))
        return condition(z, tokens.to(z.device)) | {"has_text": words.to(z.device)}

    def score(self, images: Tensor, prompt: str) -> float | None:
        return self.clip_score(images, self.embed_text([prompt])).item() if prompt else None

    def generate_batch(
        self,
        prompts: list[str],
        seeds: Sequence[int | Candidate],
        prior: str | None = None,
        use_z=True,
        use_words=True,
        size: int | None = None,
        **options: float,
    ) -> Iterator[Progress]:
        """Generates prompt i with seed i, all in one batch; yields after every step. `size`: see `generate`."""
        larger, options = self.enlargement(size, options)
        options = self._resolved_options(prior, options)
        of_prior = {option.name for option in self._prior_options(prior)}
        text = self.embed_text(prompts)
        rng = [generator(seed) for seed in seeds]
        z = self.draw_embed(text, rng, prior, **{k: v for k, v in options.items() if k in of_prior})
        decoder_options = {k: v for k, v in options.items() if k not in of_prior}
        frames = numbered(self.draw_image(z, text, rng, use_z, use_words, **decoder_options), options)
        yield from larger(frames, z, rng) if larger else frames

    def generate(
        self,
        prompts: list[str] | str,
        n: int = 1,
        seed: int = 0,
        prior: str | None = None,
        size: int | None = None,
        candidates: int = 1,
        **options: float,
    ) -> Iterator[GeneratedImage]:
        """Generates n images of every prompt; image i has seed `seed + i`.

        They are generated in batches; on a CPU, the bytes of a small image depend on prompt, seed, options and weights
        alone. `size` is their edge in pixels, one of `sizes`, by default that of the decoder. With `candidates` above
        1, so many are generated for every seed and the one is kept whose embedding is nearest to the prompt's, see
        `reranking`.
        """
        prompts = check_prompts(prompts)
        seeds = seeds_from(seed, n)
        larger, options = self.enlargement(size, options)
        options = {"prior": prior} | self._resolved_options(prior, options) | (larger.arguments if larger else {})
        if candidates == 1:
            yield from self._in_batches(prompts, seeds, **options)
            return
        from condgen.pipelines.reranking import rerank

        yield from rerank(self, prompts, prompts, seeds, candidates, **options)

    def _facts(self, conditions, seeds, images: Tensor, prior: str | None = None, **options: float):
        recorded = recorded_options(self.sampling_options(prior), self._resolved_options(prior, options))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CondgenWarning)
            scores = self.clip_score(images, self.embed_text(list(conditions))).tolist()
        shared = {"prior": prior or self.default_prior} | recorded
        about = []
        for prompt, read, seed, score in zip(conditions, self._read(list(conditions)), seeds, scores, strict=True):
            cut = {} if clean(read) == clean(truncated(prompt)) else {"read": read}
            about.append(({"prompt": prompt, "seed": seed} | cut | shared, score))
        return about

    def _options_of(self, recipe: dict[str, Any]) -> tuple[SamplingOption, ...]:
        return (*self.sampling_options(recipe["prior"]), *self.options_of_size(recipe.get("size", self.size)))

    def _generate_from(self, recipe: dict[str, Any], options: dict[str, float]) -> Iterator[GeneratedImage]:
        (prompt,) = check_prompts(recipe["prompt"])
        twin = copy.copy(self)  # reads what was read when the image was made
        twin._replayed = recipe.get("read", truncated(prompt))
        return twin._again(prompt, recipe, prior=recipe["prior"], **options)

    @torch.inference_mode()
    def clip_score(self, images: Tensor, text: EncodedText) -> Tensor:
        """Cosine similarity of image i and prompt i, (B,); images larger than those of the decoder are reduced."""
        if images.shape[-1] != self.size:
            images = F.interpolate(images, size=(self.size, self.size), mode="area")
        return (self.clip.embed_image(images.clamp(-1, 1)) * text.embed).sum(1)

    def part_fields(self) -> dict[str, Any]:
        fields = {"priors": list(self.priors), "decoder": DECODERS.name_of(self.decoder)}
        return fields if can_be_saved(self.clip) else fields | {"encoder": GIVEN}

    @classmethod
    def part_types(cls, index: dict[str, Any], path: Path) -> dict[str, type[nn.Module] | None]:
        names = index.get("priors")
        if not isinstance(names, list) or not all(name in PRIORS for name in names):
            raise CondgenError(f"{path} names priors {short(names)}, expected some of {', '.join(PRIORS)}.")
        priors = {f"prior_{name}": PRIORS[name].network for name in names}
        decoder = network_of(DECODERS, index, "decoder", path, "diffusion")
        return {CLIP: None, "normaliser": EmbeddingNormalizer, **priors, "decoder": decoder}

    @classmethod
    def _arguments(cls, index, parts) -> dict[str, Any]:
        clip, tokenizer = parts[CLIP]
        priors = {name: parts[f"prior_{name}"] for name in index["priors"]}
        arguments = {"clip": clip, "tokenizer": tokenizer, "priors": priors}
        return arguments | {"normalizer": parts["normaliser"], "decoder": parts["decoder"]}

    @classmethod
    def facts(cls, folder: Path, index: dict[str, Any], modules: dict[str, nn.Module]) -> dict[str, Any]:
        space, size = modules["normaliser"].spec.space, modules["decoder"].spec.size
        sizes = [size, *index.get("upsamplers", [])]
        return {"size": size, "sizes": sizes, "priors": [*index["priors"], "none"], "space": space}


def check_parts(clip: Encoder, tokenizer: Tokenizer, parts: dict[str, Any]) -> None:
    """Raises `CondgenError` unless the tokenizer and the parts, by name, were made for the encoder."""
    spaces = {name: part.spec.space for name, part in parts.items()}
    if len(set(spaces.values())) > 1:
        listing = ", ".join(f"{name}: {space}" for name, space in spaces.items())
        raise CondgenError(f"The parts live in different embedding spaces ({listing}). Train them on one encoder.")
    if (space := parts["normaliser"].spec.space) != space_of(clip):
        raise CondgenError(
            f"The encoder makes embeddings of space {space_of(clip)}, the other parts were trained on {space}. "
            "Give the encoder with the weights that they were trained on, or export the model again."
        )
    mixed = "The folder mixes two models; export it again."
    if tokenizer.vocab > clip.vocab or tokenizer.context != clip.context:
        raise CondgenError(
            f"The tokenizer gives {tokenizer.context} of {tokenizer.vocab} tokens, the encoder reads "
            f"{clip.context} of {clip.vocab}. {mixed}"
        )
    size = parts["decoder"].spec.size
    if not reads_size(clip, size):
        raise CondgenError(f"The decoder generates {size} pixels, the encoder reads {clip.size}. {mixed}")
