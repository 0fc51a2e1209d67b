"""Text diffs: an embedding is turned towards what differs between two sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from condgen.contracts import CondgenError, SamplingOption
from condgen.pipelines.base import generator
from condgen.pipelines.editing.base import Editor, InputImage, Operation, check_inverts
from condgen.pipelines.editing.decoding import Decoding
from condgen.pipelines.editing.inversion import Invert
from condgen.pipelines.editing.sphere import slerp
from condgen.text import check_prompt

RANGES = {
    "theta": SamplingOption("theta", 1.0, 0, 1, "float", "how far to go"),
    "noise": SamplingOption("noise", 1.0, 0.001, 1, "float", "noise level at which generation begins"),
    "draw": SamplingOption("draw", 0, 0, 63, "int", "which noise of the seed"),
}


@dataclass(frozen=True)
class TextDiff(Operation):
    """The text diff of unCLIP: z is turned towards the normalised difference of two text embeddings.

    Generated from the inverted noise of the image, without words and without guidance, so that theta 0 is the
    reconstruction of the image.

    Args:
        image: what is edited.
        source: what it shows, in words; '' takes the mean embedding in place of these words.
        target: what it should show.
        theta: from 0, the image, to 1, the difference alone.

    References:
        Hierarchical Text-Conditional Image Generation with CLIP Latents (Ramesh et al., 2022), section 3.3
    """

    image: InputImage
    source: str
    target: str
    theta: float = 0.35

    name = "text-diff"
    defaults: ClassVar[dict[str, float]] = Invert.defaults

    def decoding(self, editor: Editor, rng, options) -> Decoding:
        noise = editor.inverted(self.image, int(options["steps"]))
        z = turned(editor, self.image, self._difference(editor), self.theta)
        return Decoding(z, noise=noise)

    def begins_at(self, editor: Editor) -> tuple[InputImage, ...]:
        return (self.image,)

    def _difference(self, editor: Editor) -> Tensor:
        before = editor.model.embed_text([self.source]).embed[0] if self.source else mean_embedding(editor)
        return F.normalize(editor.model.embed_text([self.target]).embed[0] - before, dim=0)

    @property
    def title(self) -> str:
        way = "" if self.theta == type(self).theta else f", theta {self.theta:g}"
        return f"{self.image.stem} to {self.target}{way}"

    @property
    def words(self) -> str:
        return self.target

    def check(self, model) -> None:
        for name, option in RANGES.items():
            if hasattr(self, name):
                option.check(getattr(self, name))
        if not isinstance(self.image, InputImage):
            raise CondgenError(f"The recipe is damaged: the image of {self.name} is no image.")
        check_prompt(self.target)
        if not model.reads_text:
            model.embed_text([self.target])  # says why not
        check_inverts(model)


def mean_embedding(editor: Editor) -> Tensor:
    """The mean of the training images' embeddings as a unit vector (D,): words that say nothing."""
    return F.normalize(editor.model.normalizer.mean, dim=0)


def turned(editor: Editor, image: InputImage, towards: Tensor, theta: float) -> Tensor:
    """z (D,) between an image, at theta 0, and a unit vector (D,), at theta 1, along the sphere."""
    if theta == 0:
        return editor.z_of(image, generator(0), {})
    return editor.model.normalizer(slerp(editor.embed(image)[None], towards[None], theta))[0]


OPERATION = TextDiff
