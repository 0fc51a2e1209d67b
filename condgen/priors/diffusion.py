"""The diffusion prior: samples an image embedding for a caption."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from condgen.contracts import Batch, SamplingOption, check_options
from condgen.diffusion.objectives import XPrediction, denoising_loss
from condgen.diffusion.samplers import Guided, sample
from condgen.kinds import Kind
from condgen.nn.layers import timestep_embedding
from condgen.nn.specs import TextSpec
from condgen.priors.transformer import (
    BEST_OF,
    GUIDANCE,
    EmbeddingNormalizer,
    PriorConfig,
    PriorNetwork,
    PriorTraining,
    most_similar,
)


class DiffusionPrior(nn.Module):
    """text -> z by denoising; the network predicts the clean z.

    References:
        Hierarchical Text-Conditional Image Generation with CLIP Latents (Ramesh et al., 2022), section 2.2
    """

    sampling_options = (
        SamplingOption("prior_steps", 10, 1, 200, "int", "denoising steps of the prior"),
        GUIDANCE,
        BEST_OF,
    )

    def __init__(self, config: PriorConfig, spec: TextSpec):
        super().__init__()
        self.config, self.spec = config, spec
        self.objective = XPrediction(mean=0.0, sd=1.2)
        self.network = PriorNetwork(config, spec, extra=2)

    def predict(self, z_t: Tensor, t: Tensor, cond: Batch) -> Tensor:
        time = timestep_embedding(t, self.spec.embed_dim)
        return self.network(cond["text_embed"], cond["tokens"], cond["has_text"], z_t, time)

    @torch.inference_mode()
    def draw(
        self,
        text_embed: Tensor,
        tokens: Tensor,
        rng: list[torch.Generator],
        normalizer: EmbeddingNormalizer,
        **options: float,
    ) -> Tensor:
        """z for B captions, (B, D); caption i draws from generator i alone."""
        options = check_options(self.sampling_options, options)
        n = int(options["best_of"])
        has_text = torch.ones(len(text_embed), dtype=torch.bool, device=text_embed.device)
        cond = {"text_embed": text_embed, "tokens": tokens, "has_text": has_text}
        guided = Guided(self._denoise, _drop_text, options["prior_guidance"])
        shape = (self.spec.embed_dim,)
        draws = []
        for _ in range(n):
            *_, z = sample(guided, shape, cond, rng, int(options["prior_steps"]), device=text_embed.device)
            draws.append(z)
        return most_similar(torch.stack(draws, 1), text_embed, normalizer)

    def _denoise(self, z_t: Tensor, t: Tensor, cond: Batch) -> Tensor:
        return self.objective.denoise(self.predict, z_t, t, cond)


def _drop_text(cond: Batch) -> Batch:
    return cond | {"has_text": torch.zeros_like(cond["has_text"])}


class DiffusionPriorTraining(PriorTraining):
    """Denoising of z, with the caption dropped for a tenth of the samples."""

    def loss(self, batch: Batch, turn: str = "prior") -> dict[str, Tensor]:
        z = self.normalizer(batch["image_embed"])
        return {"loss": denoising_loss(self.prior.objective, self.prior.predict, z, self.condition(batch))}


KIND = Kind(DiffusionPrior, PriorConfig, DiffusionPriorTraining)
