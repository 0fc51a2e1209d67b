"""Unconditional GANs: MLP, DCGAN, and InfoGAN, which learns interpretable codes without labels."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen import distributed
from condgen.contracts import Batch, limited
from condgen.diffusion.samplers import noise
from condgen.kinds import Kind
from condgen.losses import gaussian_nll
from condgen.nn.adversarial import AdversarialObjective, AdversarialTraining, CriticCond, Metrics
from condgen.nn.specs import ImageSpec

MIN_EDGE, MAX_WIDER = 4, 8
"""Smallest edge of the lowest level, and the largest factor on the channels of the highest."""
HIDDEN = 128
"""Width of the hidden layer between the features of the discriminator and its estimate of the codes."""
MIN_LOG_SIGMA = -3.0
"""Smallest log sigma of the estimate of a continuous code."""


@dataclass(frozen=True)
class GanConfig:
    """Options of generator and discriminator.

    Args:
        body: `mlp`, three hidden layers; `dcgan`, convolutions with strides. These halve the image until its edge is
            4 to 7, so the size must be such a number times a power of two.
        code: length of the noise.
        width: channels of the highest level of `dcgan`, which double at every further level, up to eight times; or
            units of the narrowest hidden layer of `mlp`, where the next ones have two and four times as many.
        hidden: units of a fully connected layer next to the lowest level of both networks of `dcgan`, as in InfoGAN;
            0 for none.
        norm: normalisation in the discriminator: `none`, or `batch`, as in DCGAN. The generator always has batch norm.
        categories: number of values of the categorical code; 0 for none.
        continuous: number of codes from -1 to 1.
    """

    body: Literal["mlp", "dcgan"] = "dcgan"
    code: int = limited(100, low=1)
    width: int = limited(32, low=1)
    hidden: int = limited(0, low=0)
    norm: Literal["none", "batch"] = "none"
    categories: int = limited(0, low=0)
    continuous: int = limited(0, low=0)

    @property
    def latent(self) -> int:
        """Length Z of the latent, see `Codes`."""
        return self.code + self.categories + self.continuous

    def channels(self, size: int) -> list[int]:
        """Channels of every level of `dcgan`, the highest resolution first."""
        return [self.width * min(2**k, MAX_WIDER) for k in range(halvings_of(size))]


def halvings_of(size: int) -> int:
    """Number of times that `dcgan` halves images of this edge.

    Raises:
        ValueError: the edge it ends at is no whole number.
    """
    n = max(0, math.floor(math.log2(max(size, 1) / MIN_EDGE)))
    if n < 1 or size % 2**n:
        raise ValueError(
            f"images of {size} pixels cannot be halved down to {MIN_EDGE} to {2 * MIN_EDGE - 1}; take a power of two "
            "from 8, or 28, with --data.size"
        )
    return n


class Codes(NamedTuple):
    """The parts of a latent z (B, Z), in their order.

    Args:
        noise: (B, code), standard normal.
        category: (B, categories), one-hot.
        continuous: (B, continuous), uniform from -1 to 1.
    """

    noise: Tensor
    category: Tensor
    continuous: Tensor

    @classmethod
    def of(cls, z: Tensor, config: GanConfig) -> Codes:
        """Splits a latent z into its parts."""
        return cls(*z.split([config.code, config.categories, config.continuous], 1))

    @classmethod
    def from_uniform(cls, noise: Tensor, uniform: Tensor, config: GanConfig) -> Codes:
        """Builds codes from normal numbers (B, code) and uniform numbers in [0, 1), (B, 1 + continuous)."""
        index = (uniform[:, 0] * config.categories).long()
        category = F.one_hot(index, config.categories) if config.categories else noise.new_zeros(len(noise), 0)
        return cls(noise, category.to(noise), 2 * uniform[:, 1:] - 1)

    def joined(self) -> Tensor:
        """(B, Z)"""
        return torch.cat(self, 1)


class BatchNorm(nn.Module):
    """Batch normalisation over the joint batch of all processes, so that their number does not change the result.

    References:
        Batch Normalization (Ioffe, Szegedy, 2015)
    """

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5):
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight, self.bias = nn.Parameter(torch.empty(channels)), nn.Parameter(torch.zeros(channels))
        nn.init.normal_(self.weight, 1.0, 0.02)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, ...) -> the same shape."""
        if not self.training or distributed.world() == 1:
            return F.batch_norm(x, self.mean, self.var, self.weight, self.bias, self.training, self.momentum, self.eps)
        axes = [0, *range(2, x.ndim)]
        mean, square = distributed.mean_with_grad(torch.stack([x.float().mean(axes), x.float().square().mean(axes)]))
        var, n = square - mean.square(), distributed.world() * x.numel() // x.shape[1]
        with torch.no_grad():
            self.mean.lerp_(mean, self.momentum)
            self.var.lerp_(var * (n / (n - 1)), self.momentum)
        scale = self.weight * (var + self.eps).rsqrt()
        shape = (1, -1, *[1] * (x.ndim - 2))
        return (x - mean.view(shape)) * scale.view(shape) + self.bias.view(shape)


def _init_dcgan(module: nn.Module) -> None:
    """Initial weights of DCGAN; without normalisation layers they are too small for deep networks."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(part.weight, 0.0, 0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


class Gan(nn.Module):
    """The generator: maps a latent z, see `Codes`, to images.

    References:
        Generative Adversarial Nets (Goodfellow et al., 2014), for `mlp`
        Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks (Radford et al.,
        2016), for `dcgan`
    """

    encodes = variational = False

    def __init__(self, config: GanConfig, spec: ImageSpec):
        super().__init__()
        self.config, self.spec = config, spec
        size, image_channels, w = spec.size, spec.image_channels, config.width
        if config.body == "mlp":
            layers, before = [], config.latent
            for k in (w, 2 * w, 4 * w):
                layers += [nn.Linear(before, k, bias=False), BatchNorm(k), nn.ReLU()]
                before = k
            layers += [nn.Linear(before, image_channels * size**2), nn.Unflatten(1, (image_channels, size, size))]
        else:
            channels, edge = config.channels(size), size // 2 ** halvings_of(size)
            low, layers, before = channels[-1], [], config.latent
            if config.hidden:
                layers, before = [nn.Linear(before, config.hidden), BatchNorm(config.hidden), nn.ReLU()], config.hidden
            layers += [nn.Linear(before, low * edge**2, bias=False), nn.Unflatten(1, (low, edge, edge))]
            layers += [BatchNorm(low), nn.ReLU()]
            for a, b in zip(channels[:0:-1], channels[-2::-1]):
                layers += [nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False), BatchNorm(b), nn.ReLU()]
            layers += [nn.ConvTranspose2d(channels[0], image_channels, 4, 2, 1)]
        self.body = nn.Sequential(*layers, nn.Tanh())
        _init_dcgan(self)

    def forward(self, z: Tensor) -> Tensor:
        return self.body(z)

    def decode(self, z: Tensor) -> Tensor:
        """(B, Z) -> (B, C, S, S) in [-1, 1]; in training mode the images of a batch depend on each other."""
        return self(z)

    def draw(self, rng: list[torch.Generator]) -> Tensor:
        """z (len(rng), Z), each row from its own generator alone."""
        normal = noise((self.config.code,), rng)
        uniform = torch.stack([torch.rand(1 + self.config.continuous, generator=generator) for generator in rng])
        return Codes.from_uniform(normal, uniform, self.config).joined()


class GanCritic(nn.Module):
    """Images -> (B, 1 + K): the logit of being real, and an estimate of the codes that the image was generated from.

    The estimate holds the logits of the category, and means and log sigmas of the continuous codes.

    References:
        InfoGAN: Interpretable Representation Learning by Information Maximizing Generative Adversarial Nets (Chen et
        al., 2016), for the estimate
    """

    def __init__(self, config: GanConfig, spec: ImageSpec):
        super().__init__()
        self.config, self.spec = config, spec
        pixels, w = spec.image_channels * spec.size**2, config.width
        if config.body == "mlp":
            layers, before = [nn.Flatten()], pixels
            for k in (4 * w, 2 * w, w):
                layers += self._level(nn.Linear(before, k), k, layers)
                before = k
            self.width = w
        else:
            layers, before = [], spec.image_channels
            for k in config.channels(spec.size):
                layers += self._level(nn.Conv2d(before, k, 4, 2, 1), k, layers)
                before = k
            self.width, layers = before * (spec.size // 2 ** halvings_of(spec.size)) ** 2, [*layers, nn.Flatten()]
            if k := config.hidden:
                layers += self._level(nn.Linear(self.width, k), k, layers)
                self.width = k
        self.trunk = nn.Sequential(*layers)
        self.real = nn.Linear(self.width, 1)
        read = config.categories + 2 * config.continuous
        self.codes = None
        if read:
            self.codes = nn.Sequential(nn.Linear(self.width, HIDDEN), nn.LeakyReLU(0.2), nn.Linear(HIDDEN, read))
        if config.norm == "batch":
            _init_dcgan(self)

    def _level(self, layer: nn.Module, channels: int, before: list[nn.Module]) -> list[nn.Module]:
        """A layer, its norm and its activation; no norm for the first layer. A bias before a norm stays at zero."""
        if self.config.norm == "none" or not any(isinstance(part, nn.LeakyReLU) for part in before):
            return [layer, nn.LeakyReLU(0.2)]
        layer.bias.requires_grad_(False)
        return [layer, BatchNorm(channels), nn.LeakyReLU(0.2)]

    def phi(self, images: Tensor) -> Tensor:
        """Features of images, (B, F), from which all outputs are computed."""
        return self.trunk(images)

    def forward(self, images: Tensor) -> Tensor:
        phi = self.phi(images)
        return self.real(phi) if self.codes is None else torch.cat([self.real(phi), self.codes(phi)], 1)

    def category(self, images: Tensor) -> Tensor:
        """Logits of the category that images were generated from, (B, categories)."""
        return self(images)[:, 1 : 1 + self.config.categories]


@dataclass(frozen=True)
class GanObjective(AdversarialObjective):
    """Training options of an unconditional GAN.

    Args:
        loss, gamma, penalised, augment, augment_over: see `nn.adversarial.AdversarialObjective`.
        category: weight of the mutual information of images and categorical code.
        continuous: weight of the mutual information of images and continuous codes.
    """

    category: float = limited(1.0, low=0)
    continuous: float = limited(0.1, low=0)


class GanTraining(AdversarialTraining):
    """A Trainable around a GAN, in two turns, on batches with `image` (B, C, S, S).

    Both networks maximise the mutual information of images and codes (InfoGAN). Its lower bounds are logged as
    `nats_category` and `nats_continuous`, in nats.
    """

    objective: GanObjective

    def __init__(self, gan: Gan, objective: GanObjective):
        super().__init__(objective)
        self.gan, self.critic = gan, GanCritic(gan.config, gan.spec)

    def parameters_of(self, turn: str) -> Iterable[nn.Parameter]:
        return (self.gan if turn == "generator" else self.critic).parameters()

    def loss(self, batch: Batch, turn: str) -> dict[str, Tensor]:
        real, shape = batch["image"], self.gan.config
        normal = torch.randn(len(real), shape.code, device=real.device)
        codes = Codes.from_uniform(normal, torch.rand(len(real), 1 + shape.continuous, device=real.device), shape)
        with self.opponent_frozen(turn):
            fake = self.gan(codes.joined())
            if turn == "generator":
                metrics, outputs = self.generator_loss(real, fake)
            else:
                metrics, _, outputs = self.discriminator_loss(real, fake)
                metrics = self.with_penalties(metrics, real, fake)
            return self._with_information(metrics, outputs[:, 1:], codes)

    def discriminate(self, images: Tensor, cond: CriticCond = ()) -> Tensor:
        return self.critic(self.augmented(images))

    def discriminate_both(self, real: Tensor, fake: Tensor, cond: CriticCond) -> tuple[Tensor, Tensor]:
        """In two passes with batch norm: in the generator's turn the discriminator sees generated images alone."""
        if self.critic.config.norm == "batch":
            return self.discriminate(real), self.discriminate(fake)
        return super().discriminate_both(real, fake, cond)

    def _with_information(self, metrics: Metrics, outputs: Tensor, codes: Codes) -> Metrics:
        """Metrics with the mutual information of images and codes added to the loss."""
        objective, metrics = self.objective, dict(metrics)
        if codes.category.shape[1]:
            nats = category_nats(outputs[:, : codes.category.shape[1]], codes.category)
            metrics |= {"loss": metrics["loss"] - objective.category * nats, "nats_category": nats.detach()}
        if codes.continuous.shape[1]:
            nats = continuous_nats(outputs[:, codes.category.shape[1] :], codes.continuous)
            metrics |= {"loss": metrics["loss"] - objective.continuous * nats, "nats_continuous": nats.detach()}
        return metrics


def category_nats(logits: Tensor, category: Tensor) -> Tensor:
    """Lower bound of the mutual information of images and category: log K less the cross-entropy, in nats.

    Args:
        logits: (B, K), the estimate for the images.
        category: (B, K), one-hot, drawn uniformly.
    """
    return math.log(category.shape[1]) - F.cross_entropy(logits, category)


def continuous_nats(estimate: Tensor, continuous: Tensor) -> Tensor:
    """Lower bound of the mutual information of images and codes from -1 to 1: entropy less the negative log likelihood
    of the codes under the estimated normals, in nats.

    Args:
        estimate: (B, 2 C), means, then log sigmas.
        continuous: (B, C).
    """
    mean, log_sigma = estimate.chunk(2, 1)
    nll = gaussian_nll(mean, continuous, log_sigma.clamp(min=MIN_LOG_SIGMA))
    return continuous.shape[1] * math.log(2) - nll


KIND = Kind(Gan, GanConfig, GanTraining, GanObjective)
