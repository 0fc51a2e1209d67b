"""Edits in words: what differs between two sentences is changed in an image.

list(model.edit("circle.png", "a red circle", "a green circle"))
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from condgen.contracts import CondgenError, short
from condgen.files.images import GeneratedImage
from condgen.pipelines.base import generator
from condgen.pipelines.editing.base import Editor, InputImage, operation_from
from condgen.pipelines.editing.decoding import Decoding
from condgen.pipelines.editing.inversion import Invert
from condgen.pipelines.editing.text_diff import TextDiff, mean_embedding, turned
from condgen.pipelines.reranking import score_of

LEVELS = (1.0, 0.97, 0.94, 0.91, 0.85)
"""Noise levels of the candidates: from 1, where the embedding alone keeps the image, to where its layout stays."""
DRAWS = 2
"""Noises that are tried at every level."""
CHANGED, PENALTY = 40, 0.5
"""A pixel is changed if a channel differs by more than CHANGED of 255; PENALTY is taken off the score for the share of
changed pixels, so that of several images that fit the words the one nearest to the original is kept."""


@dataclass(frozen=True)
class Edit(TextDiff):
    """An edit by the difference of what a prior predicts for two sentences.

    The prediction for the target, less that for the source, is added to the embedding of the image; the decoder also
    reads the target. It begins at noise, or at the image with noise (SDEdit), which keeps more of the layout.

    Args:
        image, source, target: see `TextDiff`.
        theta: from 0, the embedding of the image, to 1, with the whole difference.
        noise: noise level at which generation begins, above 0, at most 1.
        draw: which noise of the seed, from 0.
        prior: the prior, '' for the default one.
    """

    theta: float = 1.0
    noise: float = 1.0
    draw: int = 0
    prior: str = ""

    name = "edit"
    defaults: ClassVar[dict[str, float]] = {}
    uses_prior = True

    def decoding(self, editor: Editor, rng, options) -> Decoding:
        before = self._predicted(editor, self.source, options) if self.source else mean_embedding(editor)
        moved = editor.embed(self.image) + self._predicted(editor, self.target, options) - before
        image = self.image.pixels(editor.model)
        for _ in range(self.draw):
            torch.randn(image.shape, generator=rng)
        z = turned(editor, self.image, F.normalize(moved, dim=0), self.theta)
        return Decoding(z, self.target, image=image, t=self.noise)

    def begins_at(self, editor: Editor) -> tuple[InputImage, ...]:
        return ()

    def _predicted(self, editor: Editor, words: str, options) -> Tensor:
        """What the prior predicts for words, a unit vector (D,); random priors draw from the same numbers for all."""
        z = editor.z_of(words, generator(0), options, self.prior)
        return editor.model.normalizer.back(z[None])[0]


METHODS: dict[str, type[TextDiff]] = {"prior-diff": Edit, "text-diff": TextDiff}
"""Name of a method -> its operation; the first is the default."""


def edits(
    model: Any, image: Any, source: str = "", target: str = "", theta: float | None = None,
    method: str = "prior-diff", noise: float | None = None, prior: str | None = None,
) -> TextDiff:  # fmt: skip
    """The operation of an edit, with an image as file or PIL image.

    Args:
        theta: None for the default of the method.
        noise: None chooses a level, see `best`.
        prior: None takes the regression prior, whose prediction is a mean, where there is one.

    Raises:
        CondgenError: an option is unknown, out of range or of another method; the image cannot be read.
    """
    if method not in METHODS:
        raise CondgenError(f"There is no method {short(method)} of editing; choose {' or '.join(METHODS)}.")
    values: dict[str, Any] = {} if theta is None else {"theta": theta}
    if method == "text-diff":
        if noise is not None or prior is not None:
            raise CondgenError("A text diff begins at the inverted noise and has no prior: leave noise and prior out.")
    else:
        regression = "regression" if "regression" in model.priors else ""
        values |= {"prior": regression if prior is None else prior, "noise": 1.0 if noise is None else noise}
    operation = METHODS[method](InputImage.read(model, image), source, target, **values)
    operation.check(model)
    return operation


def best(
    editor: Editor, operations: Sequence[Edit], seeds: Sequence[int], size: int | None = None, **options: float
) -> Iterator[GeneratedImage]:
    """Tries LEVELS and DRAWS for every edit and seed, and keeps the image with the best score.

    Images are compared at the size of the decoder; with `size`, the one that was kept is generated again and enlarged.

    The score is the similarity of the image and the target by the model's own encoder, less PENALTY times the share of
    changed pixels. The recipe names level and noise of the image that was kept, so that it is replayed without the
    others.
    """
    tried = [list(editor.apply(column, seeds, **options)) for column in zip(*map(tries, operations))]
    for k, group in enumerate(zip(*tried)):
        chosen = kept(editor, operations[k // len(seeds)].image, group)
        if size is not None:
            (larger,) = editor.apply([operation_from(chosen.recipe)], [chosen.seed], size=size, **options)
            chosen = replace(larger, ms=chosen.ms)
        yield chosen


def tries(operation: Edit) -> list[Edit]:
    """The edits of LEVELS and DRAWS among which `kept` chooses."""
    return [replace(operation, noise=level, draw=draw) for level in LEVELS for draw in range(DRAWS)]


def kept(editor: Editor, image: InputImage, group: Sequence[GeneratedImage]) -> GeneratedImage:
    """The one with the best score of several edits of an image, see `best`, with the time of all."""
    original = np.asarray(image.image(), np.int16)
    scores = [score_of(editor, one, one.recipe["target"]) - PENALTY * _changed(one, original) for one in group]
    return replace(group[scores.index(max(scores))], ms=sum(one.ms for one in group))


def _changed(generated: GeneratedImage, original: np.ndarray) -> float:
    """Share of the pixels that differ from the original, uint8 (S, S, 3)."""
    difference = np.abs(np.asarray(generated.image.convert("RGB"), np.int16) - original)
    return float((difference.max(-1) > CHANGED).mean())


def edit(
    editor: Editor, operation: TextDiff, seeds: Sequence[int], choose: bool, **options: float
) -> Iterator[GeneratedImage]:
    """The images of one edit. At theta 0, every method gives the reconstruction of the image.

    Args:
        choose: choose noise level and noise of an `Edit`, see `best`.
    """
    if operation.theta == 0:
        larger = {name: value for name, value in options.items() if name == "size"}
        yield from editor.apply([Invert(operation.image)], seeds, **larger)
    elif choose and isinstance(operation, Edit):
        yield from best(editor, [operation], seeds, **options)
    else:
        yield from editor.apply([operation], seeds, **options)


OPERATION = Edit
