"""Probing: what an image embedding says, from its first principal components to the words nearest to it.

References:
    Hierarchical Text-Conditional Image Generation with CLIP Latents (Ramesh et al., 2022), section 4
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from condgen.contracts import CondgenError, ProgressCallback, short
from condgen.files.images import GeneratedImage
from condgen.pipelines.base import BATCH_ROWS, generator
from condgen.pipelines.editing.base import Editor, InputImage, Operation
from condgen.pipelines.editing.decoding import Decoding
from condgen.priors.autoregressive import principal_components

PROMPTS = 512
"""Prompts whose embeddings are drawn where no embeddings are given."""
NEAREST = 5
"""Captions and words that are listed, of each."""
DRAWN = 2
"""Captions that the priors draw."""
MOST_TEXTS = 20_000
"""Captions that are compared with the image, at most."""


@dataclass(frozen=True)
class Reconstruction(Operation):
    """An image generated from the first principal components of its embedding, without words.

    Args:
        image: the image.
        dims: number of components.
        z: (D,), the embedding made of them, after the normalizer.
    """

    image: InputImage
    dims: int
    z: tuple[float, ...]

    name = "probe"

    def decoding(self, editor: Editor, rng: torch.Generator, options: dict[str, float]) -> Decoding:
        return Decoding(torch.tensor(self.z, device=editor.model.device))

    @property
    def title(self) -> str:
        return f"{self.image.stem}, {self.dims} of {len(self.z)} dimensions"

    def check(self, model) -> None:
        dim = model.normalizer.spec.dim
        numbers = isinstance(self.z, tuple) and all(isinstance(x, float) and math.isfinite(x) for x in self.z)
        if not numbers or len(self.z) != dim or not isinstance(self.image, InputImage):
            raise CondgenError(f"The recipe is damaged: expected {dim} numbers and an image.")
        if isinstance(self.dims, bool) or not isinstance(self.dims, int) or not 1 <= self.dims <= dim:
            raise CondgenError(f"The recipe is damaged: {short(self.dims)} of {dim} dimensions.")


@dataclass(frozen=True)
class Components:
    """Principal components of embeddings.

    Args:
        mean: (D,).
        axes: (D, D), one component a row, by falling variance.
        share: (D,), the share of the variance of each.
    """

    mean: Tensor
    axes: Tensor
    share: Tensor

    @classmethod
    def fit(cls, embeds: Tensor) -> Components:
        """The components of embeddings (N, D); `CondgenError` for fewer than two.

        References:
            Analysis of a complex of statistical variables into principal components (Hotelling, 1933)
        """
        if len(embeds) < 2:
            raise CondgenError(f"Principal components need two embeddings or more, got {len(embeds)}.")
        rows = embeds.cpu().double()
        variance, axes = principal_components(rows)
        return cls(rows.mean(0), axes, variance / variance.sum().clamp(min=1e-12))

    def project(self, embed: Tensor, dims: int) -> Tensor:
        """What the first `dims` components keep of an embedding (D,)."""
        axes = self.axes[:dims]
        offset = embed.cpu().double() - self.mean
        return (self.mean + axes.T @ (axes @ offset)).to(embed)


@dataclass(frozen=True)
class Probe:
    """What is known of an image embedding.

    Args:
        reconstructions: images from 1, 2, 4, ... D components.
        explained: the share of the variance of embeddings in those components.
        cosines: similarity of the reconstructed to the own embedding.
        captions, words: the nearest texts with their cosine similarity, nearest first.
        drawn: images of the nearest captions by every prior.
        similarities: cosine similarity of each of these to the image.
        embeddings: number of embeddings that the components are of.
    """

    reconstructions: list[GeneratedImage]
    explained: list[float]
    cosines: list[float]
    captions: list[tuple[str, float]]
    words: list[tuple[str, float]]
    drawn: list[GeneratedImage]
    similarities: list[float]
    embeddings: int


def doubling(most: int) -> list[int]:
    """1, 2, 4, ... and `most`."""
    return [*(2**k for k in range(most.bit_length()) if 2**k < most), most]


@torch.inference_mode()
def probe(
    model, image, embeds: Tensor | None, texts: Sequence[str] | None, seed: int = 0,
    progress: ProgressCallback = lambda share, message: None, **options: float,
) -> Probe:  # fmt: skip
    """Probes an image file, or a PIL image.

    Args:
        embeds: (N, D), unit vectors of images, whose principal components are taken; None draws embeddings of the
            prompts of `known_prompts` with the default prior, or of nothing for a model that reads no text.
        texts: captions that are compared with the image; None takes those prompts.
        seed: seed of all images.
        options: sampling options of the decoder.

    Raises:
        CondgenError: the image cannot be read, or embeddings have another width or are too few.
    """
    image, editor, dim = InputImage.read(model, image), Editor(model), model.normalizer.spec.dim
    if embeds is not None and (embeds.ndim != 2 or embeds.shape[1] != dim):
        raise CondgenError(f"Expected embeddings of {dim} numbers, got the shape {short(tuple(embeds.shape))}.")
    prompts = known_prompts(model) if model.reads_text and (embeds is None or texts is None) else []
    progress(0.0, "embeddings")
    own = editor.embed(image)
    components = Components.fit(drawn_embeds(model, prompts) if embeds is None else embeds)
    dims = doubling(dim)
    parts = [own if k == dim else components.project(own, k) for k in dims]
    progress(0.3, "reconstructions")
    reconstructions = list(editor.apply(reconstructions_of(editor, image, components), [seed], **options))
    progress(0.6, "captions and words")
    captions, words = ([], [])
    drawn: list[GeneratedImage] = []
    if model.reads_text:
        texts = list(dict.fromkeys(texts or prompts))[:MOST_TEXTS]
        captions, words = (nearest(model, own, some) for some in (texts, sorted(model.tokenizer.words)))
        for name in [*model.priors, "none"]:
            drawn += model.generate([text for text, _ in captions[:DRAWN]], seed=seed, prior=name, **options)
    images = [InputImage.read(model, one.image).pixels(model)[None] for one in drawn]
    similarities = [(model.embed_image(pixels)[0] @ own).item() for pixels in images]
    cosines = [torch.cosine_similarity(part, own, 0).item() for part in parts]
    explained = [components.share[:k].sum().item() for k in dims]
    count = PROMPTS if embeds is None else len(embeds)
    return Probe(reconstructions, explained, cosines, captions, words, drawn, similarities, count)


def reconstructions_of(editor: Editor, image: InputImage, components: Components) -> list[Reconstruction]:
    """The reconstructions of an image from 1, 2, 4, ... and all components."""
    own, dim, made = editor.embed(image), editor.model.normalizer.spec.dim, []
    for dims in doubling(dim):
        if dims == dim:
            z = editor.z_of(image, generator(0), {})
        else:
            z = editor.model.normalizer(components.project(own, dims)[None])[0]
        made.append(Reconstruction(image, dims, tuple(z.tolist())))
    return made


def known_prompts(model, n: int = PROMPTS) -> list[str]:
    """The example prompts of a model, and prompts made of them by exchanging words between them, n at most.

    Every prompt has one of the examples as its pattern; each of its words is replaced with probability one half by the
    word in the same place of another example with as many words. The result is always the same for a model.
    """
    examples = [text for text in model.about.get("examples", []) if isinstance(text, str) and text.strip()]
    examples = examples or sorted(model.tokenizer.words)[:n]
    rows, rng = [text.split() for text in examples], random.Random(0)
    found = dict.fromkeys(examples)
    for _ in range(20 * n):
        if len(found) >= n:
            break
        row = rng.choice(rows)
        alike = [other for other in rows if len(other) == len(row)]
        words = [rng.choice(alike)[k] if rng.random() < 0.5 else word for k, word in enumerate(row)]
        found[" ".join(words)] = None
    return list(found)[:n]


def drawn_embeds(model, prompts: Sequence[str]) -> Tensor:
    """PROMPTS embeddings that the default prior draws for prompts in turn, (PROMPTS, D), unit vectors.

    Args:
        prompts: empty for a model that reads no text.
    """
    found = []
    for start in range(0, PROMPTS, BATCH_ROWS):
        rng = [generator(k) for k in range(start, min(start + BATCH_ROWS, PROMPTS))]
        turns = [prompts[(start + k) % len(prompts)] for k in range(len(rng))] if prompts else []
        z = model.draw_embed(model.embed_text(turns), rng) if turns else model.draw_embed(rng)
        found.append(model.normalizer.back(z))
    return torch.cat(found)


def nearest(model, embed: Tensor, texts: Sequence[str], n: int = NEAREST) -> list[tuple[str, float]]:
    """The n texts nearest to an image embedding (D,), with their cosine similarity, nearest first."""
    parts = [model.embed_text(list(texts[k : k + BATCH_ROWS])).embed for k in range(0, len(texts), BATCH_ROWS)]
    if not parts:
        return []
    scores = torch.cat(parts) @ embed
    best = scores.argsort(descending=True, stable=True)[:n].tolist()
    return [(texts[k], scores[k].item()) for k in best]


OPERATION = Reconstruction
