"""The regression prior: the mean image embedding of a caption, in one pass."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen import distributed
from condgen.contracts import Batch, SamplingOption, check_options
from condgen.kinds import Kind
from condgen.losses import info_nce
from condgen.nn.specs import TextSpec
from condgen.priors.transformer import EmbeddingNormalizer, PriorConfig, PriorNetwork, PriorTraining

CONTRAST = 0.2
SCALE = 20.0


class RegressionPrior(nn.Module):
    """text -> z in one pass. It predicts the mean embedding of all images of a caption, without diversity.

    References:
        ECLIPSE: A Resource-Efficient Text-to-Image Prior for Image Generations (Patel et al., 2024)
    """

    sampling_options: tuple[SamplingOption, ...] = ()

    def __init__(self, config: PriorConfig, spec: TextSpec):
        super().__init__()
        self.config, self.spec = config, spec
        self.network = PriorNetwork(config, spec)

    @torch.inference_mode()
    def draw(
        self,
        text_embed: Tensor,
        tokens: Tensor,
        rng: list[torch.Generator],
        normalizer: EmbeddingNormalizer,
        **options: float,
    ) -> Tensor:
        """z for B captions, (B, D); deterministic, the generators are not used."""
        check_options(self.sampling_options, options)
        return self.network(text_embed, tokens)


class RegressionTraining(PriorTraining):
    """Squared error of z, plus 0.2 times a contrastive loss of predicted and true embeddings."""

    def loss(self, batch: Batch, turn: str = "prior") -> dict[str, Tensor]:
        z = self.prior.network(batch["text_embed"], batch["tokens"])
        mse = F.mse_loss(z, self.normalizer(batch["image_embed"]))
        text_id = distributed.all_gather_with_grad(batch["text_id"])
        scale = torch.tensor(SCALE, device=z.device)
        embeds = (self.normalizer.back(z), batch["image_embed"])
        predicted, true = (distributed.all_gather_with_grad(embed) for embed in embeds)
        contrast = info_nce(predicted, true, scale, text_id[:, None] == text_id[None])
        return {"loss": mse + CONTRAST * contrast, "mse": mse, "contrast": contrast}


KIND = Kind(RegressionPrior, PriorConfig, RegressionTraining)
