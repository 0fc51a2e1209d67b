"""Mixtures of prompts and images: interpolation between two of them, and means of more with weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from condgen.contracts import CondgenError, short
from condgen.files.images import GeneratedImage
from condgen.pipelines.base import generator
from condgen.pipelines.editing.base import Editor, End, InputImage, Operation
from condgen.pipelines.editing.decoding import Decoding
from condgen.pipelines.editing.sphere import spherical_mean

NOISES = ("slerp", "fixed")
MOST_ENDS = 16
MOST_IMAGES = 1000
IMAGES = 8
"""Default number of images of an interpolation."""


@dataclass(frozen=True)
class Mix(Operation):
    """A mixture of prompts and images.

    The embedding z is the spherical mean of those of the ends. The decoder reads the prompt that has more than half of
    the weight, and otherwise no words, which would outweigh the mixed z.

    Args:
        ends: prompts and images, at least two.
        weights: one for each end, not negative; their sum is 1.
        noise: `slerp` takes as x_T the spherical mean of the inverted noises of the images, where a prompt stands for
            fresh noise, so that an end that is an image is that image, see `noise_weights`; `fixed` is fresh noise for
            all weights. A decoder that does not invert has fixed noise.
        prior: the prior of the prompts, '' for the default one.
    """

    ends: tuple[End, ...]
    weights: tuple[float, ...]
    noise: str = "slerp"
    prior: str = ""

    name = "mix"
    uses_prior = True

    def decoding(self, editor: Editor, rng: torch.Generator, options: dict[str, float]) -> Decoding:
        normalizer, state, z = editor.model.normalizer, rng.get_state(), []
        for end in self.ends:
            if not isinstance(end, InputImage):
                rng.set_state(state)  # each prompt draws what it draws alone, and leaves the noise of its own image
            z.append(editor.z_of(end, rng, options, self.prior))
        if 1 in self.weights:
            mixed = z[self.weights.index(1)]
        else:
            embeds = normalizer.unscaled(torch.stack(z))
            mixed = normalizer(spherical_mean(embeds, self.weights)[None])[0]
        return Decoding(mixed, self.words, self._noise(editor, rng, options))

    def _noise(self, editor: Editor, rng: torch.Generator, options: dict[str, float]) -> Tensor | None:
        if not self.begins_at(editor):
            return None
        model = editor.model
        shape = (model.image_channels, model.size, model.size)
        fresh = torch.randn(shape, generator=rng).to(model.device)
        steps = int(options["steps"])
        noises = [editor.inverted(end, steps) if isinstance(end, InputImage) else fresh for end in self.ends]
        return spherical_mean(torch.stack(noises).flatten(1), noise_weights(self.weights)).view(shape)

    def begins_at(self, editor: Editor) -> tuple[InputImage, ...]:
        slerps = self.noise != "fixed" and editor.inverts
        return tuple(end for end in self.ends if isinstance(end, InputImage)) if slerps else ()

    @property
    def title(self) -> str:
        parts = zip(self.ends, self.weights)
        return ", ".join(f"{weight:.0%} {end.stem if isinstance(end, InputImage) else end}" for end, weight in parts)

    @property
    def words(self) -> str:
        most = [end for end, weight in zip(self.ends, self.weights) if weight > 0.5]
        return most[0] if most and isinstance(most[0], str) else ""

    def check(self, model) -> None:
        if not isinstance(self.ends, tuple) or not 2 <= len(self.ends) <= MOST_ENDS:
            raise CondgenError(f"A mixture has 2 to {MOST_ENDS} ends, prompts or images; got {short(self.ends)}.")
        if self.noise not in NOISES:
            raise CondgenError(f"The noise of a mixture is one of {', '.join(NOISES)}, got {short(self.noise)}.")
        check_weights(self.weights, len(self.ends))
        if not math.isclose(sum(self.weights), 1, abs_tol=1e-6):
            raise CondgenError(f"The weights of a mixture have the sum 1, got {short(self.weights)}.")
        if words := [end for end in self.ends if not isinstance(end, InputImage)]:
            model.embed_text(words)  # refuses what is no prompt, and models that read no text


def noise_weights(weights: Sequence[float]) -> list[float]:
    """Weights of the noises: the squares of those of the embeddings, with the sum 1.

    Between two images, each noise stays longer with its image and changes in the middle, where z does: fewer images on
    the way hold things of both. Measured on scenes, see docs/results.md.
    """
    squares = [weight**2 for weight in weights]
    return [square / sum(squares) for square in squares]


def check_weights(weights: Any, ends: int) -> None:
    """Raises `CondgenError` unless there is one number that is not negative for each end, and some is positive."""
    if not isinstance(weights, tuple | list):
        weights = (weights,)
    numbers = [w for w in weights if isinstance(w, int | float) and not isinstance(w, bool) and 0 <= w < math.inf]
    if len(numbers) != len(weights) or len(weights) != ends or not sum(numbers):
        raise CondgenError(
            f"Expected {ends} weights, one for each end, not negative and not all 0; got {short(tuple(weights))}."
        )


def guidance_of(ends: Sequence[End], noise: str, inverts: bool, guidance: float) -> float:
    """Default guidance: off where inverted noises are mixed, as inversion has none; otherwise the model's own."""
    of_images = noise == "slerp" and inverts and all(isinstance(end, InputImage) for end in ends)
    return 1.0 if of_images else guidance


def mixture(model, ends: Sequence, weights: Sequence[float] | None, noise: str, prior: str | None) -> Mix:
    """The mixture of prompts, and images as paths or PIL; None for equal weights, otherwise any with a positive sum.

    Raises:
        CondgenError: an end is neither, weights or noise are unknown, or the model reads no text.
    """
    known = tuple(end if isinstance(end, str) else InputImage.read(model, end) for end in ends)
    weights = [1.0] * len(known) if weights is None else list(weights) if isinstance(weights, Iterable) else weights
    check_weights(weights, len(known))
    made = Mix(known, tuple(float(weight) / sum(weights) for weight in weights), noise, prior or "")
    made.check(model)
    return made


def path_between(made: Mix, n: int) -> list[Mix]:
    """n mixtures from the first end to the second one, in equal steps; `CondgenError` if that is impossible."""
    if len(made.ends) != 2:
        raise CondgenError(f"An interpolation has two ends, got {len(made.ends)}: give weights to mix more.")
    if isinstance(n, bool) or not isinstance(n, int) or not 2 <= n <= MOST_IMAGES:
        raise CondgenError(f"The number of images of an interpolation must be from 2 to {MOST_IMAGES}, got {short(n)}.")
    return [replace(made, weights=(1 - k / (n - 1), k / (n - 1))) for k in range(n)]


def mixed(model, made: Sequence[Mix], seeds: Sequence[int], **options: float) -> Iterator[GeneratedImage]:
    """Yields the images of mixtures of the same ends, one for each and each seed."""
    editor, first = Editor(model), made[0]
    options = editor.with_guidance(lambda own: guidance_of(first.ends, first.noise, editor.inverts, own), options)
    for seed in seeds:
        generator(seed)
    yield from editor.apply(made, seeds, **options)


OPERATION = Mix
