"""The conditional variational autoencoder: generates in one pass from a condition and a latent."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen import distributed
from condgen.contracts import Batch, SamplingOption, check_options, limited
from condgen.decoders import DecoderKind
from condgen.diffusion.samplers import noise
from condgen.losses import gaussian_nll
from condgen.nn.conditioning import MAX_DEPTH, CondEncoderConfig, DecoderObjective, bottom_edge, build_cond_encoder
from condgen.nn.flow import Flow
from condgen.nn.generator import Generator
from condgen.nn.layers import ResBlock
from condgen.nn.specs import CondSpec


@dataclass(frozen=True)
class CvaeConfig(CondEncoderConfig):
    """Options of a conditional VAE, including those of its condition encoder.

    Args:
        width, heads, word_depth: see `CondEncoderConfig`.
        channels: channels of every level. The first level works on pixels folded two by two; each further one halves
            the resolution.
        blocks: residual blocks per level.
        latent: length of the latent, even.
        temperature: default sd of the latent when sampling.
    """

    channels: tuple[int, ...] = limited((32, 64), low=1, longest=64)
    blocks: int = limited(1, low=0, high=MAX_DEPTH)
    latent: int = limited(32, low=1)
    temperature: float = 0.6


class CvaeDecoder(nn.Module):
    """Decodes images from a condition and a latent; for training it has an encoder (image, cond) -> latent.

    The condition scales and shifts every block of both (FiLM), and its layout map places the objects. Latents are
    sampled from a conditional prior, a flow: with one normal prior for all, latents encoded the class and the condition
    was ignored; with a normal prior for each condition, many sampled latents decoded to no sensible image.

    References:
        Learning Structured Output Representation using Deep Conditional Generative Models (Sohn et al., 2015)
        FiLM: Visual Reasoning with a General Conditioning Layer (Perez et al., 2018)
    """

    def __init__(self, config: CvaeConfig, spec: CondSpec):
        super().__init__()
        self.config, self.spec, self.latent = config, spec, config.latent
        self.cond_encoder = build_cond_encoder(config, spec)
        self.encoder = Posterior(config, spec)
        self.prior = Flow(config.latent, config.width)
        self.generator = Generator(spec, config.width, config.channels, config.blocks, config.latent)

    @property
    def sampling_options(self) -> tuple[SamplingOption, ...]:
        """Options of `sample`."""
        text = "sd of the noise that latents are sampled from; smaller is safer and less varied"
        return (SamplingOption("temperature", self.config.temperature, 0, 2, "float", text),)

    def decode(self, z: Tensor, cond: Batch) -> Tensor:
        """Latents (B, latent) and an encoded condition -> the mean image, (B, C, S, S)."""
        return self.generator(z, cond)

    def decode_normal(self, z: Tensor, cond: Batch) -> Tensor:
        """Normal numbers (B, latent) and an encoded condition -> the mean image of the latent that the prior gives."""
        return self.decode(self.prior.from_normal(z, cond["vector"]), cond)

    def encode_normal(self, images: Tensor, cond: Batch) -> Tensor:
        """Inverse of `decode_normal`: the mean latent of images (B, C, S, S) as normal numbers (B, latent)."""
        mean, _ = self.encoder(images, cond)
        return self.prior.to_normal(mean, cond["vector"])[0]

    def features(self, images: Tensor, cond: Batch) -> Tensor:
        """The mean latent of images under a condition, (B, latent)."""
        return self.encoder(images, self.cond_encoder(cond))[0]

    @torch.inference_mode()
    def sample(self, cond: Batch, rng: list[torch.Generator], **options: float) -> Iterator[Tensor]:
        """Yields the images, (B, C, S, S) in [-1, 1], once."""
        options = check_options(self.sampling_options, options)
        encoded = self.cond_encoder(cond)
        z = options["temperature"] * noise((self.config.latent,), rng).to(encoded["vector"].device)
        yield self.decode_normal(z, encoded).clamp(-1, 1)


class Posterior(nn.Module):
    """(image (B, C, S, S), encoded condition) -> mean and log variance of the latent, each (B, latent)."""

    def __init__(self, config: CvaeConfig, spec: CondSpec):
        super().__init__()
        c, edge = config.channels, bottom_edge(spec.size, len(config.channels))
        self.stem = nn.Conv2d(4 * spec.image_channels, c[0], 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.ModuleList(ResBlock(k, k, config.width) for _ in range(config.blocks)) for k in c
        )
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(c))
        self.norm = nn.GroupNorm(math.gcd(8, c[-1]), c[-1])
        self.out = nn.Linear(c[-1] * edge**2, 2 * config.latent)
        nn.init.zeros_(self.out.bias)

    def forward(self, image: Tensor, cond: Batch) -> tuple[Tensor, Tensor]:
        h = self.stem(F.pixel_unshuffle(image, 2).contiguous(memory_format=torch.channels_last))
        for level, blocks in enumerate(self.blocks):
            h = self.shrink[level - 1](h) if level else h
            for block in blocks:
                h = block(h, cond["vector"])
        mean, log_var = self.out(F.silu(self.norm(h)).flatten(1)).chunk(2, 1)
        return mean, log_var.clamp(-12, 4)


@dataclass(frozen=True)
class CvaeObjective:
    """Training options of a CVAE.

    Args:
        sigma: sd of the pixels around the mean image: `optimal`, the root of the batch's mean squared error, or
            `fixed` at 0.1.
        beta: weight of the KL divergence.
        warmup: steps over which beta rises from 0; 0 is off.
        free_bits: nats per dimension of the latent that are not penalised, over all dimensions together.

    References:
        Simple and Effective VAE Training with Calibrated Decoders (Rybkin et al., 2021), for the optimal sigma
        Improved Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016), for free bits
    """

    sigma: Literal["optimal", "fixed"] = "optimal"
    beta: float = 1.0
    warmup: int = limited(0, low=0)
    free_bits: float = limited(0.0, low=0)


class CvaeTraining(nn.Module):
    """A Trainable around a CVAE: the negative evidence lower bound, divided by the number of pixels. The divergence of
    the posterior from the prior is estimated from one latent of each image.

    A batch holds `image` (B, C, S, S) and the condition, as for the diffusion decoder.
    """

    turns = ("decoder",)

    def __init__(self, decoder: CvaeDecoder, objective: CvaeObjective, conditioning: DecoderObjective):
        super().__init__()
        self.decoder, self.objective, self.conditioning = decoder, objective, conditioning
        self.register_buffer("seen", torch.zeros(()))  # steps, for the warm-up

    def parameters_of(self, turn: str) -> Iterable[nn.Parameter]:
        return self.parameters()

    def loss(self, batch: Batch, turn: str = "decoder") -> dict[str, Tensor]:
        image, decoder, objective = batch["image"], self.decoder, self.objective
        cond = decoder.cond_encoder(self.conditioning(batch))
        mean, log_var = decoder.encoder(image, cond)
        eps = torch.randn_like(mean)
        z = mean + (log_var / 2).exp() * eps
        both = (decoder.decode(z, cond), image)  # sigma is one for the batch of all processes
        generated, image = (distributed.all_gather_with_grad(part) for part in both)
        error = F.mse_loss(generated, image)
        log_sigma = error.clamp(min=1e-4).log() / 2 if objective.sigma == "optimal" else error.new_tensor(math.log(0.1))
        nll = gaussian_nll(generated, image, log_sigma)
        density = -(eps.pow(2) + log_var + math.log(2 * math.pi)).sum(1) / 2
        kl = distributed.all_gather_with_grad(density - decoder.prior.log_prob(z, cond["vector"])).mean()
        beta = objective.beta
        if objective.warmup and self.training:
            self.seen += 1
            beta = objective.beta * (self.seen / objective.warmup).clamp(max=1)
        cost = kl.clamp(min=objective.free_bits * mean.shape[1])
        active = (mean.var(0) > 0.01).sum().float()
        loss = (nll + beta * cost) / image[0].numel()
        metrics = {"nll": nll, "kl": kl, "sigma": log_sigma.exp(), "active": active}
        return {"loss": loss} | {name: value.detach() for name, value in metrics.items()}


KIND = DecoderKind(
    CvaeDecoder, CvaeConfig, CvaeTraining, CvaeObjective, has_latent=True, encodes=True, features="decoder"
)
