"""The unconditional prior: draws image embeddings without captions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen.contracts import Batch, SamplingOption, check_options, limited
from condgen.diffusion.objectives import EDM, denoising_loss
from condgen.diffusion.samplers import sample
from condgen.nn.conditioning import MAX_DEPTH
from condgen.nn.layers import timestep_embedding
from condgen.priors.transformer import EmbeddingSpec, PriorTraining

TIME = 64
"""Width of the embedding of noise levels."""


@dataclass(frozen=True)
class UnconditionalPriorConfig:
    """Options of an unconditional prior.

    Args:
        width: width of its layers.
        depth: residual blocks.
    """

    width: int = limited(256, low=1)
    depth: int = limited(3, low=0, high=MAX_DEPTH)


class UnconditionalPrior(nn.Module):
    """Noise -> z by denoising, with residual blocks of fully connected layers that the noise level scales and shifts.

    References:
        Return of Unconditional Generation: A Self-supervised Representation Generation Method (Li, Katabi, He, 2024),
            section 3.2
    """

    sampling_options = (SamplingOption("prior_steps", 24, 1, 200, "int", "denoising steps of the prior"),)

    def __init__(self, config: UnconditionalPriorConfig, spec: EmbeddingSpec):
        super().__init__()
        self.config, self.spec = config, spec
        self.objective = EDM(mean=0.0, sd=1.4)
        self.time = nn.Sequential(nn.Linear(TIME, config.width), nn.SiLU())
        self.start = nn.Linear(spec.dim, config.width)
        self.blocks = nn.ModuleList(_Block(config.width) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.out = nn.Linear(config.width, spec.dim)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def predict(self, z_t: Tensor, t: Tensor, cond: Batch) -> Tensor:
        """(B, D), (B,) -> what the objective makes of the network's output, (B, D); there is no condition."""
        level, h = self.time(timestep_embedding(t, TIME)), self.start(z_t)
        for block in self.blocks:
            h = block(h, level)
        return self.out(self.norm(h))

    @torch.inference_mode()
    def draw(self, rng: list[torch.Generator], **options: float) -> Tensor:
        """z, (B, D), one of each of B generators on the CPU."""
        steps = int(check_options(self.sampling_options, options)["prior_steps"])
        *_, z = sample(self._denoise, (self.spec.dim,), {}, rng, steps, device=self.out.weight.device)
        return z

    def _denoise(self, z_t: Tensor, t: Tensor, cond: Batch) -> Tensor:
        return self.objective.denoise(self.predict, z_t, t, cond)


class _Block(nn.Module):
    """Two layers and a skip connection; the noise level scales and shifts the norm before them."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulate = nn.Linear(width, 2 * width)
        self.layers = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        nn.init.zeros_(self.layers[2].weight)
        nn.init.zeros_(self.layers[2].bias)

    def forward(self, h: Tensor, level: Tensor) -> Tensor:
        scale, shift = self.modulate(level).chunk(2, 1)
        return h + self.layers(F.silu(self.norm(h) * (1 + scale) + shift))


class UnconditionalPriorTraining(PriorTraining):
    """Denoising of z. A batch holds `image_embed` (B, D)."""

    def loss(self, batch: Batch, turn: str = "prior") -> dict[str, Tensor]:
        z = self.normalizer(batch["image_embed"])
        return {"loss": denoising_loss(self.prior.objective, self.prior.predict, z, {})}
