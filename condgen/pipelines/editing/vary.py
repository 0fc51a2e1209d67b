"""Variations of an image: other images of about the same subject."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from condgen.contracts import CondgenError, short
from condgen.files.images import GeneratedImage
from condgen.pipelines.editing.base import Editor, InputImage, Operation
from condgen.pipelines.editing.decoding import Decoding
from condgen.pipelines.editing.sphere import slerp, slerp_z

STRENGTH, WITH_WORDS = 0.5, 1.0
"""Default strength without and with words, which keep the subject where z does not."""
FREE = 0.2
"""Share of the way from z to a random direction at strength 1; further away, too many images show something else."""


def shares(strength: float) -> tuple[float, float]:
    """The shares of the way of z to a random direction, and of the inverted noise to fresh noise.

    The inverted noise holds nearly the whole image, and still does half way to fresh noise. So it moves fast, and z
    only when the noise is almost fresh. Measured on scenes, see docs/results.md.
    """
    return FREE * max(0.0, 2 * strength - 1), 1 - (1 - strength) ** 2.6


def guidance_at(strength: float, guidance: float) -> float:
    """The guidance of a variation: off at strength 0, as inversion has none; the model's own from one half on."""
    return 1 + (guidance - 1) * min(1.0, 2 * strength)


@dataclass(frozen=True)
class Vary(Operation):
    """A variation of an image.

    The embedding z of the image moves along the sphere toward a random direction, and the noise x_T from which the
    decoder begins moves from the inverted noise of the image toward fresh noise; see `shares`. A decoder that does not
    invert begins at fresh noise.

    Args:
        image: what is varied.
        strength: 0 gives the image itself, as far as the decoder inverts, or the image's own z; at 1 about its subject
            is kept.
        prompt: words for the decoder, which every variation should show; '' for none.
    """

    image: InputImage
    strength: float = STRENGTH
    prompt: str = ""

    name = "vary"

    def decoding(self, editor: Editor, rng: torch.Generator, options: dict[str, float]) -> Decoding:
        of_z, of_noise = shares(self.strength)
        z = editor.z_of(self.image, rng, options)
        direction = torch.randn(z.shape, generator=rng).to(z.device)
        z = slerp_z(editor.model.normalizer, z[None], direction[None], of_z)[0]
        if not self.begins_at(editor):
            return Decoding(z, self.prompt)
        inverted = editor.inverted(self.image, int(options["steps"]))
        fresh = torch.randn(inverted.shape, generator=rng).to(inverted.device)
        noise = slerp(inverted.flatten()[None], fresh.flatten()[None], of_noise)
        return Decoding(z, self.prompt, noise.view_as(inverted))

    def begins_at(self, editor: Editor) -> tuple[InputImage, ...]:
        return () if shares(self.strength)[1] == 1 or not editor.inverts else (self.image,)

    @property
    def title(self) -> str:
        return f"{self.image.stem} varied by {self.strength:g}"

    @property
    def words(self) -> str:
        return self.prompt

    def check(self, model) -> None:
        value = self.strength
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise CondgenError(f"The strength of a variation must be from 0 to 1, got {short(value)}.")
        if not isinstance(self.image, InputImage) or not isinstance(self.prompt, str):
            raise CondgenError(f"Expected an image and words, got {short(self.image)} and {short(self.prompt)}.")
        if self.prompt:
            model.embed_text([self.prompt])  # refuses models that read no text


def variations(
    model, images: Sequence, seeds: Sequence[int], strength: float | None, prompt: str, **options: float
) -> Iterator[GeneratedImage]:
    """Yields the variations of images, files or PIL, one for each image and seed.

    The default guidance depends on the strength, see `guidance_at`.
    """
    if strength is None:
        strength = WITH_WORDS if prompt else STRENGTH
    operations = [Vary(InputImage.read(model, image), strength, prompt) for image in images]
    for operation in operations:
        operation.check(model)
    editor = Editor(model)
    options = editor.with_guidance(lambda own: guidance_at(strength, own), options)
    yield from editor.apply(operations, seeds, **options)


OPERATION = Vary
