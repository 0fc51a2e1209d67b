"""GANs without a condition: the plain one, DCGAN, and InfoGAN, whose codes mean something that nobody has named."""

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
"""Least edge of the lowest level, and how many times the channels of the highest a level has at most."""
HIDDEN = 128
"""Width of the layer between the features of a critic and what it reads of the codes."""
SHARPEST = -3.0
"""Least log sigma with which a critic reads a continuous code."""


@dataclass(frozen=True)
class GanConfig:
    """Options of generator and discriminator.

    Args:
        body: `mlp`, three hidden layers; `dcgan`, convolutions with strides. These halve the image until its edge is
            4 to 7, so the size must be such a number times a power of two.
        code: length of the noise.
        width: channels of the highest level of `dcgan`, each further one doubles them, up to eight times; hidden units
            of the narrowest layer of `mlp`, the next ones have two and four times as many.
        hidden: of `dcgan`: units of a full layer between codes and lowest level, in both players, as InfoGAN has one; 0
            for none.
        norm: of the critic: `none`, or `batch`, the classic. The generator always norms over the batch.
        categories: values of a code that picks one of them; 0 for none.
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
        """Length Z of the vector that an image is painted from, see `Codes`."""
        return self.code + self.categories + self.continuous

    def channels(self, size: int) -> list[int]:
        """Channels of every level of `dcgan`, the highest resolution first."""
        return [self.width * min(2**k, MAX_WIDER) for k in range(halvings_of(size))]


def halvings_of(size: int) -> int:
    """How often `dcgan` halves images of this edge.

    Raises:
        ValueError: the edge it ends at is no whole number.
    """
    n = max(0, math.floor(math.log2(max(size, 1) / MIN_EDGE)))
    if n < 1 or size % 2**n:
        raise ValueError(
            f"images of {size} pixels cannot be halved down to {MIN_EDGE} to {2 * MIN_EDGE - 1}; take a power of two "
            "from 8, or 28, with --pictures.size"
        )
    return n


class Codes(NamedTuple):
    """The parts of z (B, Z), in the order in which they lie side by side in it.

    Args:
        noise: (B, code), standard normal.
        category: (B, categories), all zero but for a one.
        continuous: (B, continuous), evenly from -1 to 1.
    """

    noise: Tensor
    category: Tensor
    continuous: Tensor

    @classmethod
    def of(cls, z: Tensor, config: GanConfig) -> Codes:
        """Takes z apart."""
        return cls(*z.split([config.code, config.categories, config.continuous], 1))

    @classmethod
    def from_even(cls, noise: Tensor, even: Tensor, config: GanConfig) -> Codes:
        """From normal numbers (B, code), and numbers spread evenly over [0, 1), (B, 1 + continuous)."""
        picked = (even[:, 0] * config.categories).long()
        category = F.one_hot(picked, config.categories) if config.categories else noise.new_zeros(len(noise), 0)
        return cls(noise, category.to(noise), 2 * even[:, 1:] - 1)

    def joined(self) -> Tensor:
        """(B, Z)"""
        return torch.cat(self, 1)


class BatchNorm(nn.Module):
    """Batch normalisation over the batch of all processes together: what is learned does not hang on their number.

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
        """(B, channels, ...) -> the same."""
        if not self.training or distributed.world() == 1:
            return F.batch_norm(x, self.mean, self.var, self.weight, self.bias, self.training, self.momentum, self.eps)
        axes = [0, *range(2, x.ndim)]
        mean, square = distributed.joint_mean(torch.stack([x.float().mean(axes), x.float().square().mean(axes)]))
        var, n = square - mean.square(), distributed.world() * x.numel() // x.shape[1]
        with torch.no_grad():
            self.mean.lerp_(mean, self.momentum)
            self.var.lerp_(var * (n / (n - 1)), self.momentum)
        scale = self.weight * (var + self.eps).rsqrt()
        shape = (1, -1, *[1] * (x.ndim - 2))
        return (x - mean.view(shape)) * scale.view(shape) + self.bias.view(shape)


def _scaled_down(module: nn.Module) -> None:
    """First weights as in the paper on DCGAN; without norms they would let signals die away, layer by layer."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(part.weight, 0.0, 0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


class Gan(nn.Module):
    """A generator: z -> images. What z holds is said in `Codes`.

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
        _scaled_down(self)

    def forward(self, z: Tensor) -> Tensor:
        return self.body(z)

    def decode(self, z: Tensor) -> Tensor:
        """(B, Z) -> (B, C, S, S) in [-1, 1]; in training mode the images of a batch hang on each other."""
        return self(z)

    def draw(self, rng: list[torch.Generator]) -> Tensor:
        """z (len(rng), Z), each row from its own generator alone."""
        normal = noise((self.config.code,), rng)
        even = torch.stack([torch.rand(1 + self.config.continuous, generator=own) for own in rng])
        return Codes.from_even(normal, even, self.config).joined()


class GanCritic(nn.Module):
    """Images -> (B, 1 + K): the logit, is it real?, and what it reads of the codes that it was painted from.

    These are the logits of the category, and for every continuous code mean and log sigma of a normal.

    References:
        InfoGAN: Interpretable Representation Learning by Information Maximizing Generative Adversarial Nets (Chen et
        al., 2016), for what is read
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
            _scaled_down(self)

    def _level(self, layer: nn.Module, channels: int, before: list[nn.Module]) -> list[nn.Module]:
        """A layer, its norm and its bend; no norm where pixels come in. A bias that a norm takes away stays at zero."""
        if self.config.norm == "none" or not any(isinstance(part, nn.LeakyReLU) for part in before):
            return [layer, nn.LeakyReLU(0.2)]
        layer.bias.requires_grad_(False)
        return [layer, BatchNorm(channels), nn.LeakyReLU(0.2)]

    def phi(self, images: Tensor) -> Tensor:
        """Its features of images, (B, F), which all its answers come from."""
        return self.trunk(images)

    def forward(self, images: Tensor) -> Tensor:
        phi = self.phi(images)
        return self.real(phi) if self.codes is None else torch.cat([self.real(phi), self.codes(phi)], 1)

    def category(self, images: Tensor) -> Tensor:
        """Logits of the category that images seem to be painted from, (B, categories)."""
        return self(images)[:, 1 : 1 + self.config.categories]


@dataclass(frozen=True)
class GanObjective(AdversarialObjective):
    """How a GAN is trained: the modern way by default, `CLASSIC` as it was taught; see `nn.game.AdversarialObjective`.

    Args:
        loss: of the game: `rp`, `ns` or `hinge`, see `losses.adversarial`.
        gamma: weight of the penalties on the critic's slope at real (R1) and at painted images (R2); 0 is off.
        penalised: share of the batch that the penalties are computed on; they cost as much as three passes.
        augment: largest share of the images that the critic sees changed (shifted, a patch cut out, brightness).
        augment_over: steps over which the share rises to it.
        category: weight of what images tell of the category they were painted from (mutual information).
        continuous: the same of continuous codes.
    """

    category: float = limited(1.0, low=0)
    continuous: float = limited(0.1, low=0)


CLASSIC = GanObjective(loss="ns", gamma=0.0, augment=0.0)
"""As taught: the non-saturating game, without penalties and augmentation."""


class GanTraining(AdversarialTraining):
    """A Trainable around a GAN, in two turns, on batches with `image` (B, C, S, S).

    Both players are rewarded for what images tell of their codes: the generator paints so that they can be read, the
    critic learns to read them, for what it reads with is its own. What is logged of it are lower bounds of the mutual
    information of images and codes, in nats.

    References: see `GanCritic`, section 5.
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
        codes = Codes.from_even(normal, torch.rand(len(real), 1 + shape.continuous, device=real.device), shape)
        with self.opponent_frozen(turn):
            fake = self.gan(codes.joined())
            if turn == "generator":
                metrics, answers = self.generator_loss(real, fake)
            else:
                metrics, _, answers = self.discriminator_loss(real, fake)
                metrics = self.with_penalties(metrics, real, fake)
            return self._informed(metrics, answers[:, 1:], codes)

    def discriminate(self, images: Tensor, cond: CriticCond = ()) -> Tensor:
        return self.critic(self.augmented(images))

    def discriminate_both(self, real: Tensor, fake: Tensor, cond: CriticCond) -> tuple[Tensor, Tensor]:
        """In two passes with batch norm: in the generator's turn the discriminator sees generated images alone."""
        if self.critic.config.norm == "batch":
            return self.discriminate(real), self.discriminate(fake)
        return super().discriminate_both(real, fake, cond)

    def _informed(self, metrics: Metrics, answers: Tensor, codes: Codes) -> Metrics:
        """The same with what the answers tell of the codes."""
        objective, metrics = self.objective, dict(metrics)
        if codes.category.shape[1]:
            nats = category_nats(answers[:, : codes.category.shape[1]], codes.category)
            metrics |= {"loss": metrics["loss"] - objective.category * nats, "nats_category": nats.detach()}
        if codes.continuous.shape[1]:
            nats = continuous_nats(answers[:, codes.category.shape[1] :], codes.continuous)
            metrics |= {"loss": metrics["loss"] - objective.continuous * nats, "nats_continuous": nats.detach()}
        return metrics


def category_nats(logits: Tensor, category: Tensor) -> Tensor:
    """Lower bound of the mutual information of images and category: log K less the cross-entropy, in nats.

    Args:
        logits: (B, K), read off the images.
        category: (B, K), all zero but for a one; every value is drawn as often.
    """
    return math.log(category.shape[1]) - F.cross_entropy(logits, category)


def continuous_nats(answers: Tensor, continuous: Tensor) -> Tensor:
    """The same of codes from -1 to 1: their entropy less what normals around the means that were read leave, in nats.

    Args:
        answers: (B, 2 C), means, then log sigmas.
        continuous: (B, C).
    """
    mean, log_sigma = answers.chunk(2, 1)
    left = gaussian_nll(mean, continuous, log_sigma.clamp(min=SHARPEST))
    return continuous.shape[1] * math.log(2) - left


KIND = Kind(Gan, GanConfig, GanTraining, GanObjective)
