"""What a decoder is told in training, whichever decoder it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from condgen.contracts import Batch
from condgen.nn.conditioning import ConditioningDropout, cond_from_batch


@dataclass(frozen=True)
class DecoderObjective:
    """What a decoder is told in training.

    Args:
        both, z, words, each, noise: what is dropped, see `nn.conditioning.ConditioningDropout`.
        conditioning: `image`, the embedding of the image itself, or `text`, the embedding of its caption (the paper's
            ablation of the prior).
        guessed: share of the samples that are told the prior's guess of the embedding and not the image's own.
        layout: weight of the layout loss of the diffusion decoder, see its DecoderTraining; 0 is off.
    """

    both: float = 0.1
    z: float = 0.1
    words: float = 0.2
    each: float = 0.1
    noise: float = 0.15
    conditioning: Literal["image", "text"] = "image"
    guessed: float = 0.4
    layout: float = 1.0

    def __call__(self, batch: Batch) -> Batch:
        """The condition that a training batch is painted from.

        Where a caption leaves open what goes where, a prior's guess lies between the embeddings of all images it
        allows, and so where no image's own embedding lies. A decoder must have seen such guesses to paint well from
        them.
        """
        cond = cond_from_batch(batch)
        if self.guessed and "guess" in batch:
            z = batch["z"]
            guessed = torch.rand(len(z), 1, device=z.device) < self.guessed
            cond["z"] = torch.where(guessed, batch["guess"], z)
        return ConditioningDropout(self.both, self.z, self.words, self.each, self.noise)(cond)
