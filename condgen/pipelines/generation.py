"""Generation: one image with every step, many in batches of bounded memory, one again from its recipe; and the base of
the pipelines that decode image embeddings.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from condgen.contracts import Batch, CondgenError, Decoder, ProgressCallback, SamplingOption, check_options, short
from condgen.files.images import GeneratedImage
from condgen.nn.conditioning import condition
from condgen.nn.layers import PerImage, one_thread
from condgen.pipelines.base import UPSAMPLER, Pipeline, Progress, seeds_from, to_pil
from condgen.priors.transformer import EmbeddingNormalizer

if TYPE_CHECKING:
    from condgen.pipelines.editing.inversion import Inversion
    from condgen.pipelines.editing.probe import Probe
    from condgen.pipelines.upsampling import Enlargement

BATCH, SMALL = 16, 64
"""Images that are generated at a time, at most, and the edge up to which they are so many; see `rows_at_once`."""


def rows_at_once(size: int) -> int:
    """How many images of `size` x `size` pixels are generated at a time, so that memory is bounded."""
    return max(1, min(BATCH, BATCH * SMALL**2 // size**2))


class GenerationPipeline(Pipeline):
    """A pipeline with `generate_batch(conditions, seeds, **options)`, which yields the progress of a batch."""

    exact: bool = True
    """Whether small images on a CPU do not depend on the number of threads; set to False to replay older images."""

    @property
    def is_exact(self) -> bool:
        """Whether the images depend neither on the number of threads nor on the batch: small ones on a CPU."""
        return self.exact and self.device.type == "cpu" and self.size <= SMALL

    @property
    def sizes(self) -> list[int]:
        """Edges in pixels of the images that it generates: of the decoder, then those of its upsamplers."""
        return [self.size, *self.about.get("upsamplers", ())]

    @cached_property
    def upsamplers(self) -> dict[int, nn.Module]:
        """Size -> upsampler, from small to large; they are read when they are first used."""
        if len(self.sizes) == 1:
            return {}
        from condgen.pipelines.upsampling import load_upsamplers

        upsamplers = load_upsamplers(self)
        self.modules |= {f"{UPSAMPLER}{size}": upsampler for size, upsampler in upsamplers.items()}
        return upsamplers

    def save(self, folder: Path | str, card: str = "", half: bool = True) -> None:
        _ = self.upsamplers  # those that were not used yet
        super().save(folder, card, half)

    def enlargement(self, size: int | None, options: dict[str, float]) -> tuple[Enlargement | None, dict[str, float]]:
        """What it takes to make larger images than those of the decoder, None for these; and the other options.

        Raises:
            CondgenError: the model does not generate this size, or an option of larger images is out of range.
        """
        if size in (None, self.size) and "upsample_steps" not in options and "upsample_augmentation" not in options:
            return None, options
        from condgen.pipelines.upsampling import Enlargement

        larger = Enlargement.of(self, size, options)
        return larger, {name: value for name, value in options.items() if name not in larger.options}

    def options_of_size(self, size: Any) -> tuple[SamplingOption, ...]:
        """The sampling options that images of a size have beside those of the decoder."""
        if size == self.size:
            return ()
        from condgen.decoders.upsampler import OPTIONS

        return OPTIONS

    def check_size_of(self, recipe: dict[str, Any]) -> None:
        """Raises `CondgenError` unless the model makes images of the size of a recipe with the same upsamplers."""
        if recipe.get("size", self.size) != self.size:
            from condgen.pipelines.upsampling import check_recipe

            check_recipe(self, recipe)

    def replay(self, recipe: dict[str, Any]) -> GeneratedImage:
        self.check_size_of(recipe)
        return super().replay(recipe)

    def generate_steps(
        self, condition: Any, seed: int, **options: Any
    ) -> Iterator[tuple[Progress, GeneratedImage | None]]:
        """Generates one image and yields every step; the last one again with the finished image."""
        began = time.perf_counter()
        for progress in self._exactly(self.generate_batch([condition], [seed], **options), 1):
            yield progress, None
        ms = (time.perf_counter() - began) * 1000
        yield progress, next(self._images([condition], [seed], progress.images, ms, **options))

    def _exactly(self, frames: Iterator[Progress], images: int) -> Iterator[Progress]:
        """The steps of a sampler, each computed so that the size of the batch and threads do not change small images.

        More threads do not make a single small image faster.
        """
        while True:
            with (one_thread() if images == 1 else PerImage(images)) if self.is_exact else nullcontext():
                progress = next(frames, None)
            if progress is None:
                return
            yield progress

    def _images(
        self, conditions: Sequence[Any], seeds: Sequence[int], images: Tensor, ms: float, **options: Any
    ) -> Iterator[GeneratedImage]:
        """Images (B, C, S, S) in [-1, 1] with their recipes."""
        larger, options = self.enlargement(options.pop("size", None), options)
        about = {"size": self.size, "model": self.name, "model_id": self.model_id}
        about |= larger.recorded() if larger else {}
        facts = self._facts(conditions, seeds, images, **options)
        for image, (recipe, clip_score) in zip(to_pil(images), facts, strict=True):
            yield GeneratedImage(image, recipe | about, clip_score, ms)

    def _facts(
        self, conditions: Sequence[Any], seeds: Sequence[int], images: Tensor, **options: Any
    ) -> list[tuple[dict[str, Any], float | None]]:
        """Condition, seed and options of every image as fields of its recipe, and its CLIP score."""
        raise NotImplementedError

    def _in_batches(self, conditions: Iterable[Any], seeds: Iterable[int], **options: Any) -> Iterator[GeneratedImage]:
        """One image for each condition and seed: the first alone, the others in batches of bounded memory.

        Every batch contains the first image once more. Where its bits are others than alone, as kernels of some
        devices depend on the size of the batch, the recipes name `batch` and `row`, so that they can be replayed.
        """
        seeds = list(seeds)
        first, *rest = [(condition, seed) for condition in conditions for seed in seeds]
        *_, (alone, generated) = self.generate_steps(*first, **options)
        yield generated
        rows = rows_at_once(self.size)
        step = rows - 1 if rows > 2 and len(rest) > 2 else 1
        for start in range(0, len(rest), step):
            part = rest[start : start + step]
            if len(part) == 1:
                *_, (_, generated) = self.generate_steps(*part[0], **options)
                yield generated
                continue
            last, ms = self._batch([first, *part], **options)
            same = torch.equal(last[0], alone.images[0])
            columns = [list(column) for column in zip(*part)]
            for row, generated in enumerate(self._images(*columns, last[1:], ms, **options), 1):
                yield generated if same else _in_row(generated, len(part) + 1, row)

    def _batch(self, wanted: Sequence[tuple[Any, int]], **options: Any) -> tuple[Tensor, float]:
        """The images of pairs of condition and seed, (B, C, S, S), and the milliseconds of each."""
        began = time.perf_counter()
        conditions, seeds = ([*column] for column in zip(*wanted))
        *_, last = self._exactly(self.generate_batch(conditions, seeds, **options), len(wanted))
        return last.images, (time.perf_counter() - began) * 1000 / len(wanted)

    def _again(self, condition: Any, recipe: dict[str, Any], **options: Any) -> Iterator[GeneratedImage]:
        """One image as it was generated: alone, or in a row of a batch."""
        seed, (size, row) = recipe["seed"], place_of(recipe)
        if recipe.get("size", self.size) != self.size:
            options |= {"size": recipe["size"]}
        if size == 1:
            *_, (_, generated) = self.generate_steps(condition, seed, **options)
            yield generated
            return
        images, ms = self._batch([(condition, seed)] * size, **options)
        yield _in_row(next(self._images([condition], [seed], images[row : row + 1], ms, **options)), size, row)


class EmbeddingPipeline(GenerationPipeline):
    """An encoder of images, a normalizer of their embeddings, and a decoder that generates images from these.

    A subclass sets `priors`, `normalizer` and `decoder`, and defines `embed_image`; one that reads texts also
    `embed_text`, `draw_embed`, `condition` and `score`.
    """

    priors: dict[str, nn.Module]
    """Priors by name; the first is the default."""
    normalizer: EmbeddingNormalizer
    decoder: Decoder
    reads_text = False
    """Whether it embeds texts, and its decoder reads them."""

    @property
    def default_prior(self) -> str:
        return next(iter(self.priors), "none")

    def sampling_options(self, prior: str | None = None) -> tuple[SamplingOption, ...]:
        """Options of the decoder and of the chosen prior."""
        return (*self.decoder.sampling_options, *self._prior_options(prior))

    def _prior_options(self, prior: str | None) -> tuple[SamplingOption, ...]:
        name, none = prior or self.default_prior, ["none"] if self.reads_text else []
        if name in none:
            return ()
        if not isinstance(name, str) or name not in self.priors:
            raise CondgenError(f"This model has no prior {short(name)}; it has {', '.join([*self.priors, *none])}.")
        return self.priors[name].sampling_options

    def _resolved_options(self, prior: str | None, options: dict[str, float]) -> dict[str, float]:
        """All options with their given or default values.

        Raises:
            CondgenError: a value is out of range, or an option is unknown or belongs to another prior.
        """
        available = self.sampling_options(prior)
        for name in sorted(set(options) - {option.name for option in available}):
            if others := [p for p in self.priors if name in {option.name for option in self._prior_options(p)}]:
                raise CondgenError(
                    f"The option {name} belongs to --prior {others[0]}, but the prior is {prior or self.default_prior}."
                    " Choose that prior, or leave the option out."
                )
        return check_options(available, options)

    def embed_image(self, images: Tensor) -> Tensor:
        """(B, C, S, S) in [-1, 1] -> unit vectors (B, D)."""
        raise NotImplementedError

    def condition(self, z: Tensor, prompts: Sequence[str]) -> Batch:
        """The condition of the decoder: z (B, D), and a prompt for each row, '' for none."""
        return condition(z)

    def score(self, images: Tensor, prompt: str) -> float | None:
        """Cosine similarity of images (1, C, S, S) and a prompt; None where there is no prompt."""
        return None

    def embed_text(self, prompts: list[str]) -> Any:
        raise CondgenError(f"{self.name} was trained without captions and reads no text. Give images instead.")

    def invert(self, image: Any, steps: int | None = None) -> Inversion:
        """The z and the noise of an image file, or a PIL image, and what is generated from them."""
        from condgen.pipelines.editing.base import Editor, InputImage
        from condgen.pipelines.editing.inversion import STEPS, invert

        return invert(Editor(self), InputImage.read(self, image), STEPS if steps is None else steps)

    def probe(
        self, image: Any, embeds: Tensor | None = None, texts: Sequence[str] | None = None, seed: int = 0,
        progress: ProgressCallback = lambda share, message: None, **options: float,
    ) -> Probe:  # fmt: skip
        """What the embedding of an image says, see `editing.probe`."""
        from condgen.pipelines.editing.probe import probe

        return probe(self, image, embeds, texts, seed, progress, **options)

    def vary(
        self, images: Any, n: int = 1, strength: float | None = None, seed: int = 0, prompt: str = "", **options: float
    ) -> Iterator[GeneratedImage]:
        """Generates n variations of every image, a file or a PIL image, or several; see `editing.vary`."""
        from condgen.pipelines.editing.vary import variations

        images = images if isinstance(images, list | tuple) else [images]
        yield from variations(self, images, seeds_from(seed, n), strength, prompt, **options)

    def interpolate(
        self, a: Any, b: Any, n: int = 8, seed: int = 0, noise: str = "slerp", prior: str | None = None,
        **options: float,
    ) -> Iterator[GeneratedImage]:  # fmt: skip
        """Generates n images from a to b, each a prompt, or an image as a `Path` or PIL image; see `editing.mix`."""
        from condgen.pipelines.editing.mix import mixed, mixture, path_between

        yield from mixed(self, path_between(mixture(self, [a, b], None, noise, prior), n), [seed], **options)

    def mix(
        self, ends: Sequence[Any], weights: Sequence[float] | None = None, n: int = 1, seed: int = 0,
        noise: str = "slerp", prior: str | None = None, **options: float,
    ) -> Iterator[GeneratedImage]:  # fmt: skip
        """Generates n images of a mixture of prompts and images with weights, by default equal ones."""
        from condgen.pipelines.editing.mix import mixed, mixture

        yield from mixed(self, [mixture(self, ends, weights, noise, prior)], seeds_from(seed, n), **options)

    def guide(
        self, prompts: list[str] | str = "", n: int = 1, seed: int = 0, prior: str | None = None, image: Any = None,
        image_weight: float | None = None, init: Any = None, noise: float | None = None, mask: Any = None,
        negative: str = "", **options: float,
    ) -> Iterator[GeneratedImage]:  # fmt: skip
        """Generates n images of every prompt from words and images, files or PIL images, see `editing.guide`.

        `negative`: words to steer away from. `options` are sampling options, `size` and `candidates`.
        """
        from condgen.pipelines.editing.base import Editor
        from condgen.pipelines.editing.guide import guides

        operations = guides(self, prompts, prior, image, image_weight, init, noise, mask, negative)
        yield from Editor(self).apply(operations, seeds_from(seed, n), **options)

    def edit(
        self, image: Any, source: str = "", target: str = "", theta: float | None = None, n: int = 1, seed: int = 0,
        method: str = "prior-diff", noise: float | None = None, prior: str | None = None, **options: float,
    ) -> Iterator[GeneratedImage]:  # fmt: skip
        """Changes in an image, a file or PIL, what differs between source and target, see `editing.edit`; n images."""
        from condgen.pipelines.editing.base import Editor
        from condgen.pipelines.editing.edit import edit, edits

        operation = edits(self, image, source, target, theta, method, noise, prior)
        yield from edit(Editor(self), operation, seeds_from(seed, n), noise is None, **options)

    def replay(self, recipe: dict[str, Any]) -> GeneratedImage:
        if "candidates" in recipe:
            from condgen.pipelines.reranking import replay

            return replay(self, recipe)
        if "operation" not in recipe:
            return super().replay(recipe)
        from condgen.pipelines.editing.base import Editor

        return Editor(self).replay(recipe)


def place_of(recipe: dict[str, Any]) -> tuple[int, int]:
    """Size of the batch and row in which an image was generated; `CondgenError` where the recipe is damaged."""
    size, row = recipe.get("batch", 1), recipe.get("row", 0)
    if type(size) is int and type(row) is int and 1 <= size <= BATCH and 0 <= row < size:
        return size, row
    raise CondgenError(
        f"The recipe is damaged: row {short(row)} of a batch of {short(size)}, expected at most {BATCH}."
    )


def _in_row(generated: GeneratedImage, size: int, row: int) -> GeneratedImage:
    return replace(generated, recipe=generated.recipe | {"batch": size, "row": row})
