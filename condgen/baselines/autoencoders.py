"""Autoencoders: linear, MLP or convolutional; plain, denoising or variational."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen import distributed
from condgen.contracts import Batch, limited
from condgen.kinds import Kind
from condgen.losses import bernoulli_nll, gaussian_nll, kl_normal
from condgen.nn.conditioning import MAX_DEPTH, bottom_edge
from condgen.nn.layers import ResBlock
from condgen.nn.specs import ImageSpec


@dataclass(frozen=True)
class AutoencoderConfig:
    """Options of an autoencoder, and the distribution of its pixels.

    Args:
        body: `linear`, `mlp` or `conv`.
        latent: length Z of the latent.
        hidden: widths of the hidden layers of `mlp`.
        channels: channels of every level of `conv`. The first level works on pixels folded two by two; each further
            one halves the resolution.
        blocks: residual blocks per level of `conv`.
        variational: the encoder gives a posterior N(mean, exp log_var); the prior is N(0, 1).
        likelihood: distribution of a pixel: `gaussian` around the decoded image; `bernoulli`, the decoded image is the
            probability of white.
        sigma: standard deviation of the gaussian: `optimal`, the root of the mean squared error, tracked in training;
            `learned`, one weight; `fixed`.
        fixed: the standard deviation where it is fixed, and its initial value.
        binary: images are black and white: every pixel is sampled with its brightness as the probability of white.

    References:
        Auto-Encoding Variational Bayes (Kingma, Welling, 2014)
        Simple and Effective VAE Training with Calibrated Decoders (Rybkin et al., 2021), for sigma
    """

    body: Literal["linear", "mlp", "conv"] = "conv"
    latent: int = limited(32, low=1)
    hidden: tuple[int, ...] = limited((512, 256), low=1, longest=64)
    channels: tuple[int, ...] = limited((32, 64), low=1, longest=64)
    blocks: int = limited(1, low=0, high=MAX_DEPTH)
    variational: bool = False
    likelihood: Literal["gaussian", "bernoulli"] = "gaussian"
    sigma: Literal["optimal", "learned", "fixed"] = "optimal"
    fixed: float = limited(0.1, low=1e-6)
    binary: bool = False


class Autoencoder(nn.Module):
    """Image (B, C, S, S) in [-1, 1] -> latent (B, Z) -> image."""

    encodes = True

    def __init__(self, config: AutoencoderConfig, spec: ImageSpec):
        super().__init__()
        self.config, self.spec = config, spec
        out = config.latent * (2 if config.variational else 1)
        encoder, decoder = {
            "linear": (LinearEncoder, LinearDecoder),
            "mlp": (MLPEncoder, MLPDecoder),
            "conv": (ConvEncoder, ConvDecoder),
        }[config.body]
        self.encoder, self.decoder = encoder(config, spec, out), decoder(config, spec)
        log_sigma = torch.tensor(math.log(config.fixed))
        if config.sigma == "learned":
            self.log_sigma = nn.Parameter(log_sigma)
        else:
            self.register_buffer("log_sigma", log_sigma)

    @property
    def variational(self) -> bool:
        """True if the encoder gives a distribution of latents."""
        return self.config.variational

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean of the latent, (B, Z), and its log variance; None for the latter unless variational."""
        out = self.encoder(images)
        if not self.variational:
            return out, None
        mean, log_var = out.chunk(2, 1)
        return mean, log_var.clamp(-12, 4)

    def encode(self, images: Tensor) -> Tensor:
        """The latent of an image, or the mean of its posterior, (B, Z)."""
        return self.posterior(images)[0]

    def decode(self, z: Tensor) -> Tensor:
        """The mean image of a latent, (B, C, S, S); with a gaussian likelihood it may leave [-1, 1] a little."""
        out = self.decoder(z)
        return 2 * torch.sigmoid(out) - 1 if self.config.likelihood == "bernoulli" else out

    def log_likelihood(self, images: Tensor, z: Tensor) -> Tensor:
        """log p(image | latent) in nats, summed over the pixels, (B,); a density over [-1, 1] for a gaussian."""
        out = self.decoder(z)
        if self.config.likelihood == "bernoulli":
            return -bernoulli_nll(out, (images + 1) / 2)
        return -gaussian_nll(out, images, self.log_sigma, each=True)

    def draw(self, rng: list[torch.Generator]) -> Tensor:
        """Samples of the prior N(0, 1), one for each generator, (B, Z) on the CPU."""
        return torch.stack([torch.randn(self.config.latent, generator=generator) for generator in rng])

    def binarized(self, images: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """Images as the encoder reads them: sampled black and white pixels if `binary`, else unchanged."""
        if not self.config.binary:
            return images
        p = (images + 1) / 2
        u = torch.rand(p.shape, generator=rng, device="cpu" if rng else p.device).to(p.device)
        return torch.where(u < p, 1.0, -1.0)


class LinearEncoder(nn.Module):
    """Linear map of images minus their mean to the latent."""

    def __init__(self, config: AutoencoderConfig, spec: ImageSpec, out: int):
        super().__init__()
        pixels = spec.image_channels * spec.size**2
        self.register_buffer("mean", torch.zeros(pixels))
        self.map = nn.Linear(pixels, out, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.map(images.flatten(1) - self.mean)


class LinearDecoder(nn.Module):
    """Linear map of the latent to images."""

    def __init__(self, config: AutoencoderConfig, spec: ImageSpec):
        super().__init__()
        self.shape = (spec.image_channels, spec.size, spec.size)
        self.map = nn.Linear(config.latent, spec.image_channels * spec.size**2)

    def forward(self, z: Tensor) -> Tensor:
        return self.map(z).unflatten(1, self.shape)


def _layers(widths: tuple[int, ...]) -> list[nn.Module]:
    """Linear layers with activations between them."""
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), nn.SiLU()]
    return layers[:-1]


class MLPEncoder(nn.Module):
    """Image -> (B, out), by fully connected layers."""

    def __init__(self, config: AutoencoderConfig, spec: ImageSpec, out: int):
        super().__init__()
        self.layers = nn.Sequential(*_layers((spec.image_channels * spec.size**2, *config.hidden, out)))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images.flatten(1))


class MLPDecoder(nn.Module):
    """Latent -> image, by fully connected layers."""

    def __init__(self, config: AutoencoderConfig, spec: ImageSpec):
        super().__init__()
        self.shape = (spec.image_channels, spec.size, spec.size)
        self.layers = nn.Sequential(
            *_layers((config.latent, *reversed(config.hidden), spec.image_channels * spec.size**2))
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z).unflatten(1, self.shape)


class ConvEncoder(nn.Module):
    """Image -> (B, out), by convolutions that halve the resolution at every level."""

    def __init__(self, config: AutoencoderConfig, spec: ImageSpec, out: int):
        super().__init__()
        c, edge = config.channels, bottom_edge(spec.size, len(config.channels))
        self.stem = nn.Conv2d(4 * spec.image_channels, c[0], 3, padding=1)
        self.blocks = nn.ModuleList(nn.ModuleList(ResBlock(k, k) for _ in range(config.blocks)) for k in c)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(c))
        self.norm = nn.GroupNorm(math.gcd(8, c[-1]), c[-1])
        self.out = nn.Linear(c[-1] * edge**2, out)

    def forward(self, images: Tensor) -> Tensor:
        h = self.stem(F.pixel_unshuffle(images, 2).contiguous(memory_format=torch.channels_last))
        for level, blocks in enumerate(self.blocks):
            h = self.shrink[level - 1](h) if level else h
            for block in blocks:
                h = block(h)
        return self.out(F.silu(self.norm(h)).flatten(1))


class ConvDecoder(nn.Module):
    """Latent -> image. Upsampling repeats pixels before a convolution, which leaves no checkerboard."""

    def __init__(self, config: AutoencoderConfig, spec: ImageSpec):
        super().__init__()
        c, self.edge = config.channels, bottom_edge(spec.size, len(config.channels))
        self.start = nn.Linear(config.latent, c[-1] * self.edge**2)
        self.blocks = nn.ModuleList(nn.ModuleList(ResBlock(k, k) for _ in range(config.blocks)) for k in reversed(c))
        self.up = nn.ModuleList(nn.Conv2d(b, a, 3, padding=1) for a, b in reversed(list(pairwise(c))))
        self.norm = nn.GroupNorm(math.gcd(8, c[0]), c[0])
        self.out = nn.Conv2d(c[0], 4 * spec.image_channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.start(z).unflatten(1, (-1, self.edge, self.edge)).contiguous(memory_format=torch.channels_last)
        for level, blocks in enumerate(self.blocks):
            h = self.up[level - 1](F.interpolate(h, scale_factor=2.0)) if level else h
            for block in blocks:
                h = block(h)
        return F.pixel_shuffle(self.out(F.silu(self.norm(h))), 2)


@dataclass(frozen=True)
class AutoencoderObjective:
    """Training options of an autoencoder.

    Args:
        noise: corruption of the image that is encoded, while the clean image is decoded: `none`; `gaussian`, added
            noise; `masking`, black pixels.
        strength: standard deviation of the noise for images in [-1, 1], or the share of masked pixels.
        beta: weight of the KL divergence of a variational autoencoder.
        warmup: images over which beta rises from 0; 0 is off.
        free_bits: nats per dimension that are not penalised.
        capacity: target of the KL divergence in nats, which rises from 0; 0 is off, and beta holds.
        capacity_over: images over which the capacity rises.
        gamma: weight of the distance from the capacity.

    References:
        Extracting and Composing Robust Features with Denoising Autoencoders (Vincent et al., 2008)
        beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework (Higgins et al., 2017)
        Understanding disentangling in beta-VAE (Burgess et al., 2018), for the capacity
        Improved Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016), for free bits
    """

    noise: Literal["none", "gaussian", "masking"] = "none"
    strength: float = limited(0.3, low=0)
    beta: float = limited(1.0, low=0)
    warmup: int = limited(0, low=0)
    free_bits: float = limited(0.0, low=0)
    capacity: float = limited(0.0, low=0)
    capacity_over: int = limited(200_000, low=0)
    gamma: float = limited(100.0, low=0)


def calibrate(net: Autoencoder, images: Tensor) -> None:
    """Sets the mean image of a linear autoencoder to that of images (N, C, S, S), in place; does nothing for others."""
    if isinstance(net.encoder, LinearEncoder):
        mean = images.flatten(1).mean(0)
        net.encoder.mean.copy_(mean)
        net.decoder.map.bias.data.copy_(mean)


class AutoencoderTraining(nn.Module):
    """A Trainable around an autoencoder.

    A plain autoencoder minimises the mean squared error or the Bernoulli likelihood, a variational one the negative
    evidence lower bound. The loss is per pixel, so that one learning rate serves all sizes. A batch holds `image`
    (B, C, S, S).
    """

    turns = ("autoencoder",)

    def __init__(self, net: Autoencoder, objective: AutoencoderObjective):
        super().__init__()
        self.net, self.objective = net, objective
        self.register_buffer("images_seen", torch.zeros(()))  # for warm-up and capacity

    def parameters_of(self, turn: str) -> Iterable[nn.Parameter]:
        return self.parameters()

    def loss(self, batch: Batch, turn: str = "autoencoder") -> dict[str, Tensor]:
        net, objective = self.net, self.objective
        image = net.binarized(batch["image"])
        mean, log_var = net.posterior(corrupt(image, objective))
        z = mean if log_var is None else mean + (log_var / 2).exp() * torch.randn_like(mean)
        out = net.decoder(z)
        # sigma and the capacity refer to the joint batch of all processes
        out, image, mean = (distributed.all_gather_with_grad(part) for part in (out, image, mean))
        if self.training:
            self.images_seen += len(image)
        if net.config.likelihood == "bernoulli":
            nll, metrics = bernoulli_nll(out, (image + 1) / 2).mean(), {}
        else:
            error = F.mse_loss(out, image)
            nll = self._gaussian(out, image, error) if net.variational else error * image[0].numel() / 2
            metrics = {"mse": error, "sigma": net.log_sigma.exp()}
        if log_var is None:
            return {"loss": nll / image[0].numel()} | {name: value.detach() for name, value in metrics.items()}
        kl = kl_normal(mean, distributed.all_gather_with_grad(log_var)).mean(0)  # (Z,)
        metrics |= {"nll": nll, "kl": kl.sum(), "active": (mean.var(0) > 0.01).sum().float()}
        cost = self._kl_cost(kl.clamp(min=objective.free_bits).sum())
        return {"loss": (nll + cost) / image[0].numel()} | {name: value.detach() for name, value in metrics.items()}

    def _gaussian(self, out: Tensor, image: Tensor, error: Tensor) -> Tensor:
        """Negative log likelihood. The optimal sigma is that of the batch; the network keeps a running mean."""
        if self.net.config.sigma != "optimal":
            return gaussian_nll(out, image, self.net.log_sigma)
        log_sigma = error.clamp(min=1e-5).log() / 2
        if self.training:
            self.net.log_sigma.lerp_(log_sigma.detach(), 0.01)
        return gaussian_nll(out, image, log_sigma)

    def _kl_cost(self, kl: Tensor) -> Tensor:
        """The weighted KL divergence at this point of the run."""
        c = self.objective
        if c.capacity:
            return c.gamma * (kl - c.capacity * self._ramp(c.capacity_over)).abs()
        return c.beta * self._ramp(c.warmup) * kl

    def _ramp(self, over: int) -> Tensor | float:
        """Rises linearly from 0 to 1 over the given number of images."""
        return (self.images_seen / over).clamp(max=1) if over else 1.0


def corrupt(images: Tensor, objective: AutoencoderObjective) -> Tensor:
    """Adds the noise that a denoising autoencoder learns to remove."""
    if objective.noise == "gaussian":
        return images + objective.strength * torch.randn_like(images)
    if objective.noise == "masking":
        kept = torch.rand_like(images[:, :1]) >= objective.strength
        return torch.where(kept, images, -torch.ones_like(images))
    return images


KIND = Kind(Autoencoder, AutoencoderConfig, AutoencoderTraining, AutoencoderObjective, calibrate)
