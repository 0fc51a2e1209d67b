"""Larger images: the upsamplers of a model, run after its decoder.

This module is imported only where an image larger than those of the decoder is asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from condgen.contracts import CondgenError, check_options, short
from condgen.decoders.upsampler import OPTIONS, Upsampler
from condgen.files.weights import fingerprint, load_part
from condgen.nn.layers import one_thread
from condgen.pipelines.base import UPSAMPLER, Progress

if TYPE_CHECKING:
    from condgen.pipelines.generation import GenerationPipeline


@dataclass(frozen=True)
class Enlargement:
    """What it takes to make images of one size.

    Args:
        model: the pipeline.
        size: edge of the images.
        options: values of OPTIONS.
    """

    model: GenerationPipeline
    size: int
    options: dict[str, float]

    @classmethod
    def of(cls, model: GenerationPipeline, size: int | None, options: dict[str, float]) -> Self:
        """Checks a size, and options among which those of OPTIONS are.

        Raises:
            CondgenError: the model does not generate this size, or an option is out of range.
        """
        given = {option.name: options[option.name] for option in OPTIONS if option.name in options}
        if given and size in (None, model.size):
            raise CondgenError(f"The option {min(given)} is one of larger images. Give their size, or leave it out.")
        check_size(model, size)
        return cls(model, size, check_options(OPTIONS, given))

    @property
    def arguments(self) -> dict[str, Any]:
        """The size and its options as arguments of `generate_batch`; they are recorded in recipes."""
        return {"size": self.size} | self.options

    @property
    def stages(self) -> list[Upsampler]:
        """The upsamplers that lead to the size."""
        return [upsampler for size, upsampler in sorted(self.model.upsamplers.items()) if size <= self.size]

    def __call__(self, frames: Iterator[Progress], z: Tensor | None, rng: list[torch.Generator]) -> Iterator[Progress]:
        """Goes on with the images of a decoder.

        On a CPU images are enlarged one at a time with one thread, so that their bytes do not depend on the batch.

        Args:
            frames: the progress of the decoder.
            z: (B, D), the normalised embeddings of the images, None for a model without embeddings.
            rng: B generators, which draw the noise.
        """
        stages, each = self.stages, int(self.options["upsample_steps"])
        for progress in frames:
            done, images = progress.steps, progress.images
            yield Progress(progress.step, done + each * len(stages), images)
        total = done + each * len(stages)
        for upsampler in stages:
            for step, large in self._enlarged(upsampler, images, z, rng):
                yield Progress(done + step, total, large)
            images, done = large, done + each

    def _enlarged(
        self, upsampler: Upsampler, images: Tensor, z: Tensor | None, rng: list[torch.Generator]
    ) -> Iterator[tuple[int, Tensor]]:
        """Number of the step and images: every step of a few images, the last step of many."""
        from condgen.pipelines.generation import rows_at_once

        on_cpu = images.device.type == "cpu"
        rows, finished = 1 if on_cpu else rows_at_once(upsampler.spec.size), []
        for start in range(0, len(images), rows):
            part = slice(start, start + rows)
            frames = upsampler.upsample(images[part], rng[part], None if z is None else z[part], **self.options)
            step = 0
            while True:
                with one_thread() if on_cpu and self.model.exact else nullcontext():
                    frame = next(frames, None)
                if frame is None:
                    break
                step, last = step + 1, frame
                if len(images) <= rows:
                    yield step, frame
            finished.append(last)
        if len(images) > rows:
            yield step, torch.cat(finished)

    def recorded(self) -> dict[str, Any]:
        """Fields of the recipe of an image of this size."""
        return self.arguments | {"upsampler_id": upsampler_id(self.model, self.size)}


def check_size(model: GenerationPipeline, size: Any) -> None:
    """Raises `CondgenError` unless the model generates images of a size; the message lists those that it does."""
    if type(size) is not int or size not in model.sizes:
        *others, last = map(str, model.sizes)
        sizes = f"{', '.join(others)} or {last}" if others else last
        raise CondgenError(
            f"{model.name} generates images of {sizes} pixels, not of {short(size)}. Choose one of these"
            + ("." if len(model.sizes) > 1 else ", or train upsamplers: condgen train captions --upsample SIZES.")
        )


def check_recipe(model: GenerationPipeline, recipe: dict[str, Any]) -> None:
    """Raises `CondgenError` unless the model has the upsamplers that made the image of a recipe."""
    check_size(model, recipe["size"])
    found, expected = upsampler_id(model, recipe["size"]), recipe.get("upsampler_id")
    if found != expected:
        raise CondgenError(
            f"The image was enlarged by upsamplers with the weights {short(expected)}, but those of {model.name} are "
            f"{found!r}. Give the right model with --model."
        )


def upsampler_id(model: GenerationPipeline, size: int) -> str:
    """Sixteen hex digits that identify the weights and configs of the upsamplers up to a size."""
    prints = [fingerprint(upsampler) for edge, upsampler in sorted(model.upsamplers.items()) if edge <= size]
    return hashlib.sha256(" ".join(prints).encode()).hexdigest()[:16]


def load_upsamplers(model: GenerationPipeline) -> dict[int, Upsampler]:
    """Reads the upsamplers of a model from its folder, strictly; none for a model that is in no folder."""
    if model.path is None:
        return {}
    read = {size: load_part(Upsampler, model.path / f"{UPSAMPLER}{size}") for size in model.sizes[1:]}
    check_upsamplers(model, read, str(model.path))
    return {size: upsampler.to(model.device) for size, upsampler in read.items()}


def check_upsamplers(model: GenerationPipeline, upsamplers: dict[int, Upsampler], where: str) -> None:
    """Raises `CondgenError` unless upsamplers enlarge the images of a model one after another, and its embeddings."""
    space = getattr(model.main.spec, "space", "")
    for low, (size, upsampler) in zip([model.size, *sorted(upsamplers)], sorted(upsamplers.items())):
        spec = upsampler.spec
        if (spec.low, spec.size) != (low, size):
            raise CondgenError(
                f"The upsampler for {size} pixels of {where} enlarges {spec.low} pixels to {spec.size}, but the images "
                f"before it have {low}. Train it again, with --upsample {','.join(map(str, sorted(upsamplers)))}."
            )
        if spec.space != space or spec.image_channels != model.image_channels:
            raise CondgenError(
                f"The upsampler for {size} pixels of {where} was trained on embeddings of space {spec.space!r} and "
                f"{spec.image_channels} channels, the decoder on {space!r} and {model.image_channels}. Train it again."
            )


def add_upsamplers(model: GenerationPipeline, upsamplers: dict[int, Upsampler]) -> None:
    """Adds upsamplers to a model in memory, in place of those that it has.

    Args:
        upsamplers: size -> upsampler; each enlarges the images of the one before, the first those of the decoder.

    Raises:
        CondgenError: they do not fit the model.
    """
    check_upsamplers(model, upsamplers, model.name)
    model.modules = {name: part for name, part in model.modules.items() if not name.startswith(UPSAMPLER)}
    model.modules |= {f"{UPSAMPLER}{size}": upsampler.eval() for size, upsampler in sorted(upsamplers.items())}
    model.about = model.about | {"upsamplers": sorted(upsamplers)}
    model.upsamplers = dict(sorted(upsamplers.items()))
