"""Inversion: the image embedding and the noise from which a model generates a given image.

model.invert("cat.png").save("out")
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from safetensors.torch import save
from torch import Tensor

from condgen.contracts import CondgenWarning
from condgen.files.images import GeneratedImage, write_bytes
from condgen.metrics.image_quality import MAX_PSNR, psnr
from condgen.pipelines.base import generator
from condgen.pipelines.editing.base import Editor, InputImage, Operation, check_inverts
from condgen.pipelines.editing.decoding import Decoding

UNKNOWN = 25.0
"""PSNR in dB below which an image is said to be unlike the training images."""
STEPS = 25
"""Default number of noise levels; see docs/results.md for the error at others."""


@dataclass(frozen=True)
class Invert(Operation):
    """The reconstruction of an image from its embedding and its inverted noise.

    Without guidance, which inversion does not use, and by default with the number of steps of the inversion.
    """

    image: InputImage

    name = "invert"
    defaults: ClassVar[dict[str, float]] = {"guidance": 1.0, "steps": STEPS}

    def decoding(self, editor: Editor, rng, options) -> Decoding:
        noise = editor.inverted(self.image, int(options["steps"]))
        return Decoding(editor.z_of(self.image, rng, options), noise=noise)

    def begins_at(self, editor: Editor) -> tuple[InputImage, ...]:
        return (self.image,)

    @property
    def title(self) -> str:
        return f"{self.image.stem} inverted"

    def check(self, model) -> None:
        check_inverts(model)


@dataclass(frozen=True)
class Inversion:
    """An inverted image.

    Args:
        z: (D,), its image embedding after the normalizer.
        x_T: (C, S, S), the noise from which it is generated; its variance is about 1.
        reconstruction: the image that is generated from both.
        psnr: of the reconstruction against the image as the model reads it, in dB; MAX_PSNR where they are equal.
    """

    z: Tensor
    x_T: Tensor
    reconstruction: GeneratedImage
    psnr: float

    def save(self, folder: Path | str) -> Path:
        """Writes the reconstruction, and z and x_T beside it as `.safetensors`; returns the path of the former."""
        path = self.reconstruction.save(folder)
        tensors = {name: getattr(self, name).float().cpu().contiguous() for name in ("z", "x_T")}
        write_bytes(path.with_suffix(".safetensors"), save(tensors))
        return path


def invert(editor: Editor, image: InputImage, steps: int = STEPS) -> Inversion:
    """Inverts an image in so many steps.

    Raises:
        CondgenError: the decoder of the model cannot be inverted, or the number of steps is out of range.
    """
    operation = Invert(image)
    (generated,) = editor.apply([operation], [0], steps=steps)
    error = psnr_of(editor, image, generated)
    if error < UNKNOWN:
        warnings.warn(unlike(editor, image, error), CondgenWarning, stacklevel=3)
    return Inversion(editor.z_of(image, generator(0), {}), editor.inverted(image, steps), generated, error)


def psnr_of(editor: Editor, image: InputImage, reconstruction: GeneratedImage) -> float:
    """PSNR in dB of a reconstruction against the image as the model reads it; MAX_PSNR where they are equal."""
    after = InputImage.read(editor.model, reconstruction.image)
    before, after = (one.pixels(editor.model)[None] for one in (image, after))
    return min(MAX_PSNR, psnr(after, before))


def unlike(editor: Editor, image: InputImage, error: float) -> str:
    """What a PSNR below UNKNOWN means."""
    return (
        f"{editor.name} reconstructs {image.name} with {error:.1f} dB only: it is unlike the training images, and "
        "what is made of it will hardly resemble it."
    )


OPERATION = Invert
