"""The conditional GAN: paints in one pass what is said; in training a critic says whether it looks real and right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from condgen.contracts import Batch, Knob, check_knobs
from condgen.decoders.telling import DecoderObjective
from condgen.diffusion.sampling import noise
from condgen.losses import adversarial, gradient_penalty
from condgen.nn.conditioning import Reads, reader
from condgen.nn.towers import Critic, Grow


@dataclass(frozen=True)
class CganConfig(Reads):
    """Shape of a decoder; what it paints and reads is `nn.conditioning.Reads`.

    Args:
        channels: of every level, the first at full resolution over two by two folded pixels; each further one halves.
        blocks: residual blocks a level.
        code: length of the noise.
        truncation: default bound of the noise when sampling.
    """

    channels: tuple[int, ...] = (32, 64)
    blocks: int = 1
    code: int = 64
    truncation: float = 1.5


class CganDecoder(nn.Module):
    """cond, noise -> picture.

    References:
        Conditional Generative Adversarial Nets (Mirza, Osindero, 2014)
    """

    def __init__(self, config: CganConfig):
        super().__init__()
        self.config = config
        self.said = reader(config)
        self.generator = Grow(config, config.channels, config.blocks, config.code)

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """What may be turned when sampling."""
        told = "bound of the noise in standard deviations; smaller is safer and less varied"
        return (Knob("truncation", self.config.truncation, 0.05, 4, "float", told),)

    def paint(self, code: Tensor, said: Batch) -> Tensor:
        """(B, code) normal noise and an encoded condition -> pictures, (B, C, S, S)."""
        return self.generator(code, said)

    @torch.inference_mode()
    def sample(self, cond: Batch, rng: list[torch.Generator], **knobs: float) -> Iterator[Tensor]:
        """Yields the pictures, (B, C, S, S) in [-1, 1], once."""
        dials = check_knobs(self.knobs, knobs)
        code = truncated(noise((self.config.code,), rng), dials["truncation"])
        yield self.paint(code.to(self.generator.start.weight.device), self.said(cond)).clamp(-1, 1)


def truncated(normal: Tensor, bound: float) -> Tensor:
    """Normal numbers turned into those of the normal cut off at +-bound, in the same order.

    References:
        Large Scale GAN Training for High Fidelity Natural Image Synthesis (Brock et al., 2019), the truncation trick
    """
    inside = torch.special.ndtr(torch.tensor(bound, dtype=torch.float64))
    share = (1 - inside) + torch.special.ndtr(normal.double()) * (2 * inside - 1)
    return torch.special.ndtri(share).to(normal.dtype)


@dataclass(frozen=True)
class CganObjective:
    """How a cGAN is trained: the modern way by default, `CLASSIC` as it was taught.

    Args:
        loss: of the game: `rp`, `ns` or `hinge`, see `losses.adversarial`.
        gamma: weight of the penalties on the critic's slope at real (R1) and at painted pictures (R2); 0 is off.
        penalised: share of the batch that the penalties are computed on; they cost as much as three passes.
        augment: largest share of the pictures that the critic sees changed (shifted, a patch cut out, brightness).
        augment_over: steps over which the share rises to it.
        mismatched: weight of real pictures under another's condition, which the critic is to find wrong.

    References:
        The GAN is dead; long live the GAN! (Huang et al., 2024)
        Differentiable Augmentation for Data-Efficient GAN Training (Zhao et al., 2020)
        Generative Adversarial Text to Image Synthesis (Reed et al., 2016), for mismatched pairs
    """

    loss: Literal["rp", "ns", "hinge"] = "rp"
    gamma: float = 0.1
    penalised: float = 0.25
    augment: float = 0.3
    augment_over: int = 20_000
    mismatched: float = 0.0


CLASSIC = CganObjective(loss="ns", gamma=0.0, augment=0.0)
"""As taught: the non-saturating game, without penalties and augmentation."""


class CganTraining(nn.Module):
    """A Trainable around a cGAN, in two turns. Each network owns its reading of the condition.

    A batch holds `image` (B, C, S, S) and what was said, as for the diffusion decoder. What is logged is the health of
    the game: the share of real and of painted pictures on the right side of the critic, the slopes, and the diversity,
    the mean distance of two painted pictures of the batch over that of two real ones.
    """

    turns = ("discriminator", "generator")

    def __init__(self, decoder: CganDecoder, cgan: CganObjective, objective: DecoderObjective):
        super().__init__()
        shape = decoder.config
        self.decoder, self.cgan, self.tell = decoder, cgan, objective
        self.said = reader(shape)
        self.critic = Critic(shape, shape.channels, shape.blocks)
        self.register_buffer("seen", torch.zeros(()))  # steps of the discriminator

    def parameters_of(self, turn: str) -> Iterable[nn.Parameter]:
        if turn == "generator":
            return self.decoder.parameters()
        return [*self.said.parameters(), *self.critic.parameters()]

    def loss(self, batch: Batch, turn: str) -> dict[str, Tensor]:
        real, cond = batch["image"], self.tell(batch)
        code = torch.randn(len(real), self.decoder.config.code, device=real.device)
        with _fixed(self.parameters_of("discriminator" if turn == "generator" else "generator")):
            fake = self.decoder.paint(code, self.decoder.said(cond))
            return self._generator(real, fake, cond) if turn == "generator" else self._critic(real, fake, cond)

    def _generator(self, real: Tensor, fake: Tensor, cond: Batch) -> dict[str, Tensor]:
        read = self.critic.read(self.said(cond))
        with torch.no_grad():
            of_real = self._judge(real, read)
        of_fake = self._judge(fake, read)
        return {"loss": adversarial(self.cgan.loss, of_real, of_fake, "generator"), "diversity": diversity(fake, real)}

    def _critic(self, real: Tensor, fake: Tensor, cond: Batch) -> dict[str, Tensor]:
        own = self.cgan
        if self.training:
            self.seen += 1
        read = self.critic.read(self.said(cond))
        of_real, of_fake = self._judge(torch.cat([real, fake]), _twice(read)).chunk(2)
        loss = adversarial(own.loss, of_real, of_fake, "discriminator")
        right_real, right_fake = ((x > 0).float().mean() for x in (of_real, -of_fake))
        told = {"right_real": right_real, "right_fake": right_fake, "lead": (of_real - of_fake).mean().detach()}
        if own.mismatched:
            wrong = self._judge(real, tuple(part.roll(1, 0) if torch.is_tensor(part) else part for part in read))
            loss = loss + own.mismatched * adversarial(own.loss, of_real, wrong, "discriminator")
        if own.gamma:
            few = max(1, round(own.penalised * len(real)))
            images = torch.cat([real[:few], fake[:few]]).requires_grad_(True)
            logits = self._judge(images, _twice(part[:few] if torch.is_tensor(part) else part for part in read))
            slope = gradient_penalty(logits, images) * 2  # of R1 plus R2: the mean is over both halves
            loss = loss + own.gamma / 2 * slope
            told["slope"] = slope.detach()
        return {"loss": loss} | told

    def _judge(self, images: Tensor, read: tuple[Tensor, Tensor | float]) -> Tensor:
        """Logits, (B,), of pictures under what the critic read of their conditions."""
        return self.critic(self._augmented(images), *read)

    def _augmented(self, images: Tensor) -> Tensor:
        own = self.cgan
        if not own.augment:
            return images
        return augmented(images, own.augment * (self.seen / max(own.augment_over, 1)).clamp(max=1))


def _twice(read: Iterable[Tensor | float]) -> tuple[Tensor | float, ...]:
    """What was read of B conditions, for 2 B pictures."""
    return tuple(torch.cat([part, part]) if torch.is_tensor(part) else part for part in read)


@contextmanager
def _fixed(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Parameters of the player whose turn it is not: gradients pass through, none is kept."""
    those = [p for p in parameters if p.requires_grad]
    for p in those:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in those:
            p.requires_grad_(True)


def diversity(fake: Tensor, real: Tensor) -> Tensor:
    """Mean distance of neighbours in the batch, painted over real; near 0 the generator paints one picture."""

    def spread(images: Tensor) -> Tensor:
        return (images - images.roll(1, 0)).flatten(1).norm(dim=1).mean()

    return (spread(fake) / spread(real).clamp(min=1e-6)).detach()


def augmented(images: Tensor, share: Tensor | float) -> Tensor:
    """Each change is made to so large a share of the pictures, of its own strength: brightness and contrast, a shift of
    up to an eighth with the border repeated, a grey patch of half the edge. Gradients pass through all of them.
    """
    n, size = len(images), images.shape[-1]
    on = torch.rand(3, n, 1, 1, 1, device=images.device) < share
    draw = torch.rand(6, n, device=images.device)
    light, contrast = (draw[i][:, None, None, None] - 0.5 for i in (0, 1))
    x = torch.where(on[0], images * (1 + contrast) + light / 2, images)
    places = torch.arange(size, device=images.device)
    most = size // 8
    rows, columns = ((places + ((draw[i][:, None] * (2 * most + 1)).long() - most)).clamp(0, size - 1) for i in (2, 3))
    moved = x.gather(2, rows[:, None, :, None].expand_as(x)).gather(3, columns[:, None, None, :].expand_as(x))
    x = torch.where(on[1], moved, x)
    top, left = ((draw[i] * size)[:, None] - size / 4 for i in (4, 5))
    inside = [(places >= start) & (places < start + size / 2) for start in (top, left)]
    patch = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return torch.where(on[2] & patch, torch.zeros_like(x), x)
