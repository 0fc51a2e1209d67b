"""Sliders for the latent dimensions that a model uses most, measured on images that the model generates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from condgen.contracts import CondgenError, short
from condgen.latent_space import traverse
from condgen.latent_space.inputs import SEED, ImageSource
from condgen.pipelines.base import Pipeline, to_pil
from condgen.pipelines.latent import LatentModel
from condgen.studio.session import SEEDS, check_integer, check_number

SLIDERS = 8
SLIDER_RANGE = 4.0
"""Range of a slider to each side, in standard deviations."""
DIRECTION = 2.0
"""How far a direction is moved to show what it does, in standard deviations."""
STEPS = (3, 15)
"""Minimum and maximum number of images of an interpolation."""
SAMPLES, TRAVERSED = 256, 2
"""Numbers of random latents: for the standard deviations, and for the traversals that rank the dimensions."""
EXPLAINED = {
    "kl": "The encoder says {value:.2g} nats about an image in this dimension (mean KL divergence from the prior).",
    "variance": "Latents of generated images have the variance {value:.2g} in this dimension.",
    "change of the image": "Moving this dimension changes pixels by {value:.2g} on average, in a range from -1 to 1.",
}
"""Why a dimension counts as informative, by the name of its measure."""


@dataclass(frozen=True)
class Start:
    """Where the sliders start.

    Args:
        z: the latent, (1, Z).
        given: the image as the model reads it; None for a seed.
        text: 'seed 7', or the name of the image.
    """

    z: Tensor
    given: Image.Image | None
    text: str


@dataclass(frozen=True)
class LatentControls:
    """A model, and the latent dimensions that have a slider.

    Args:
        dimensions: indices of latent dimensions, the most informative first, see `latent_space.traverse`.
        notes: one sentence about each.
        sd: standard deviation of every dimension over random latents of the model, (Z,).
    """

    model: LatentModel
    dimensions: list[int]
    notes: list[str]
    sd: Tensor

    @classmethod
    def of(cls, model: Pipeline) -> LatentControls:
        """Measures the dimensions on images that the model generates, so that no data is needed.

        Raises:
            CondgenError: the model has no latent space.
        """
        check_latent(model)
        z = model.draw(range(SAMPLES))
        real = model.decode(z) if model.encodes else None
        moved = traverse(model, z[:TRAVERSED], extent=DIRECTION, steps=2, real=real)
        notes = []
        for k in moved.dimensions[:SLIDERS]:
            name, value = next(iter(moved.numbers["latents"][f"latent {k}"].items()))
            notes.append(EXPLAINED[name].format(value=value))
        return cls(model, moved.dimensions[:SLIDERS], notes, z.std(0))

    def start(self, source: str, text: str = "") -> Start:
        """The latent of `seed:N` or of an image file.

        Raises:
            CondgenError: the model has no encoder, or the file is no image.
        """
        found = ImageSource(self.model).load([source])
        if found.dim() == 4:
            return Start(self.model.encode(found), to_pil(found)[0], text or Path(source).name)
        return Start(found, None, source.replace(SEED, "seed "))

    def moved(self, z: Tensor, shifts: Mapping[int, float]) -> Tensor:
        """A latent moved by standard deviations along dimensions, (1, Z)."""
        z = z.clone()
        for k, shift in shifts.items():
            z[:, k] += shift * self.sd[k]
        return z

    def image(self, z: Tensor) -> Image.Image:
        """The image of a latent (1, Z)."""
        return to_pil(self.model.decode(z))[0]

    def directions(self, z: Tensor) -> list[tuple[Image.Image, Image.Image]]:
        """For every dimension with a slider, the image of a latent moved down and up by DIRECTION."""
        moved = z.repeat(2 * len(self.dimensions), 1)
        for row, k in enumerate(self.dimensions):
            moved[2 * row, k] -= DIRECTION * self.sd[k]
            moved[2 * row + 1, k] += DIRECTION * self.sd[k]
        images = to_pil(self.model.decode(moved))
        return list(zip(images[::2], images[1::2]))

    def check_shifts(self, shifts: Any) -> dict[int, float]:
        """Checks values of sliders, {dimension: standard deviations}; dimensions may be text, as JSON has them.

        Raises:
            CondgenError: a dimension does not exist, or a value is beyond SLIDER_RANGE.
        """
        if not isinstance(shifts, Mapping):
            raise CondgenError(f"Expected numbers by latent dimension, such as {{3: 1.5}}, got {short(shifts)}.")
        checked = {}
        for name, value in shifts.items():
            known = (isinstance(name, str) and len(name) < 9 and name.isdecimal()) or type(name) is int
            if not known or not 0 <= int(name) < self.model.latent:
                last = self.model.latent - 1
                raise CondgenError(f"{self.model.name} has the latent dimensions 0 to {last}, got {short(name)}.")
            check_number(f"Dimension {name}", value)
            if abs(value) > SLIDER_RANGE:
                limits = f"from -{SLIDER_RANGE:g} to {SLIDER_RANGE:g}"
                raise CondgenError(f"Dimension {name} moves {limits} standard deviations, got {short(value)}.")
            checked[int(name)] = float(value)
        return checked


def check_latent(model: Pipeline) -> None:
    """Raises `CondgenError` where a model has no latent space."""
    if not isinstance(model, LatentModel):
        raise CondgenError(f"{model.name} {model.kind().summary}; choose an autoencoder, a VAE or a GAN.")


def check_seed(seed: Any) -> str:
    """The source of a seed, `seed:N`; `CondgenError` where it is no whole number from 0."""
    return f"{SEED}{check_integer('The seed', seed, 0, SEEDS - 1)}"
