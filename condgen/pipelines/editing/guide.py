"""Generation guided by words and images: an image prompt, an image to begin from, a mask of what stays."""

from __future__ import annotations

from dataclasses import dataclass

from condgen.contracts import CondgenError, short
from condgen.pipelines.editing.base import Decoding, Editor, InputImage, Operation
from condgen.pipelines.editing.sphere import slerp_z


@dataclass(frozen=True)
class Guide(Operation):
    """A prompt and an image together.

    Args:
        prompt: the words.
        image: an image whose embedding is mixed with that of the prompt.
        image_weight: 0 takes the embedding of the prompt, 1 that of the image; between them along the sphere.
        prior: the prior, '' for the default one.
    """

    prompt: str
    image: InputImage | None = None
    image_weight: float = 0.5
    prior: str = ""

    name = "guide"
    uses_prior = True

    def decoding(self, editor: Editor, rng, options) -> Decoding:
        z = editor.z_of(self.prompt, rng, options, self.prior)
        if self.image is not None:
            z = slerp_z(
                editor.model.normalizer, z[None], editor.z_of(self.image, rng, options)[None], self.image_weight
            )[0]
        return Decoding(z, self.prompt)

    @property
    def title(self) -> str:
        return self.prompt

    @property
    def words(self) -> str:
        return self.prompt

    def check(self, model) -> None:
        if not 0 <= self.image_weight <= 1:
            raise CondgenError(f"The weight of the image must be from 0 to 1, got {short(self.image_weight)}.")


OPERATION = Guide
