"""The condition that a decoder sees in training: which embedding, and which parts are dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from condgen.contracts import Batch, limited
from condgen.nn.conditioning import cond_from_batch


@dataclass(frozen=True)
class DecoderObjective:
    """The condition that a decoder sees in training.

    Args:
        drop_all: probability that the whole condition of a sample is dropped.
        drop_embed: probability that only the image embedding is dropped.
        drop_text: probability that only the tokens are dropped.
        drop_attr: of several attributes, probability that each is dropped.
        noise: standard deviation of the noise on z, which has unit variance: priors err.
        conditioning: embedding of the condition: `image_embed`, that of the image itself, or `text_embed`, that of its
            caption (the paper's ablation of the prior).
        prior_sample_prob: probability that z is the prior's prediction and not the image's embedding.
    """

    drop_all: float = limited(0.1, low=0, high=1)
    drop_embed: float = limited(0.1, low=0, high=1)
    drop_text: float = limited(0.2, low=0, high=1)
    drop_attr: float = limited(0.1, low=0, high=1)
    noise: float = limited(0.15, low=0)
    conditioning: Literal["image_embed", "text_embed"] = "image_embed"
    prior_sample_prob: float = limited(0.4, low=0, high=1)

    def __call__(self, batch: Batch) -> Batch:
        """The condition of a training batch.

        Where a caption leaves the layout open, a prior's prediction lies between the embeddings of all images that the
        caption allows, where no image's own embedding lies. A decoder must have seen such predictions in training.
        """
        cond = cond_from_batch(batch)
        if self.prior_sample_prob and "guess" in batch:
            z = batch["z"]
            predicted = torch.rand(len(z), 1, device=z.device) < self.prior_sample_prob
            cond["z"] = torch.where(predicted, batch["guess"], z)
        return self.drop(cond)

    def drop(self, cond: Batch) -> Batch:
        """Draws which parts are dropped, for each sample; returns a new batch."""
        if "has_targets" in cond:
            known = cond["has_targets"]
            n, attributes = known.shape
            known = known & (torch.rand(n, 1, device=known.device) >= self.drop_all)
            if attributes > 1:
                known = known & (torch.rand(n, attributes, device=known.device) >= self.drop_attr)
            return cond | {"has_targets": known}
        z = cond["z"]
        u = torch.rand(len(z), device=z.device)
        drop_all, drop_embed = u < self.drop_all, (self.drop_all <= u) & (u < self.drop_all + self.drop_embed)
        two = self.drop_all + self.drop_embed
        drop_text = (two <= u) & (u < two + self.drop_text)
        return cond | {
            "z": z + self.noise * torch.randn_like(z),
            "has_z": cond["has_z"] & ~(drop_all | drop_embed),
            "has_text": cond["has_text"] & ~(drop_all | drop_text),
        }
