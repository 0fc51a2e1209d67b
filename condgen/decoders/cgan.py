"""The conditional GAN: generates in one pass; a critic judges whether an image is real and fits its condition."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from condgen.contracts import Batch, SamplingOption, check_options, limited
from condgen.decoders.conditioning_dropout import DecoderObjective
from condgen.diffusion.samplers import noise
from condgen.losses import adversarial
from condgen.nn.adversarial import AdversarialObjective, AdversarialTraining, Read
from condgen.nn.conditioning import MAX_DEPTH, CondEncoderConfig, build_cond_encoder
from condgen.nn.generator import Critic, Generator
from condgen.nn.specs import CondSpec


@dataclass(frozen=True)
class CganConfig(CondEncoderConfig):
    """Options of a conditional GAN, beside those of its condition encoder.

    Args:
        channels: of every level, the first at full resolution over two by two folded pixels; each further one halves.
        blocks: residual blocks a level.
        code: length of the noise.
        truncation: default bound of the noise when sampling.
    """

    channels: tuple[int, ...] = limited((32, 64), low=1, longest=64)
    blocks: int = limited(1, low=0, high=MAX_DEPTH)
    code: int = limited(64, low=1)
    truncation: float = 1.5


class CganDecoder(nn.Module):
    """cond, noise -> image.

    References:
        Conditional Generative Adversarial Nets (Mirza, Osindero, 2014)
    """

    def __init__(self, config: CganConfig, spec: CondSpec):
        super().__init__()
        self.config, self.spec = config, spec
        self.cond_encoder = build_cond_encoder(config, spec)
        self.generator = Generator(spec, config.width, config.channels, config.blocks, config.code)

    @property
    def sampling_options(self) -> tuple[SamplingOption, ...]:
        """What may be turned when sampling."""
        metrics = "bound of the noise in standard deviations; smaller is safer and less varied"
        return (SamplingOption("truncation", self.config.truncation, 0.05, 4, "float", metrics),)

    def decode(self, code: Tensor, cond: Batch) -> Tensor:
        """(B, code) normal noise and an encoded condition -> images, (B, C, S, S)."""
        return self.generator(code, cond)

    @torch.inference_mode()
    def sample(self, cond: Batch, rng: list[torch.Generator], **options: float) -> Iterator[Tensor]:
        """Yields the images, (B, C, S, S) in [-1, 1], once."""
        options = check_options(self.sampling_options, options)
        code = truncated(noise((self.config.code,), rng), options["truncation"])
        yield self.decode(code.to(self.generator.start.weight.device), self.cond_encoder(cond)).clamp(-1, 1)


def truncated(normal: Tensor, bound: float) -> Tensor:
    """Normal numbers turned into those of the normal cut off at +-bound, in the same order.

    References:
        Large Scale GAN Training for High Fidelity Natural Image Synthesis (Brock et al., 2019), the truncation trick
    """
    inside = torch.special.ndtr(torch.tensor(bound, dtype=torch.float64))
    share = (1 - inside) + torch.special.ndtr(normal.double()) * (2 * inside - 1)
    return torch.special.ndtri(share).to(normal.dtype)


@dataclass(frozen=True)
class CganObjective(AdversarialObjective):
    """How a cGAN is trained: the modern way by default, `CLASSIC` as it was taught; see `nn.game.AdversarialObjective`.

    Args:
        loss: of the game: `rp`, `ns` or `hinge`, see `losses.adversarial`.
        gamma: weight of the penalties on the critic's slope at real (R1) and at painted images (R2); 0 is off.
        penalised: share of the batch that the penalties are computed on; they cost as much as three passes.
        augment: largest share of the images that the critic sees changed (shifted, a patch cut out, brightness).
        augment_over: steps over which the share rises to it.
        mismatched: weight of real images under another's condition, which the critic is to find wrong.

    References:
        Generative Adversarial Text to Image Synthesis (Reed et al., 2016), for mismatched pairs
    """

    mismatched: float = 0.0


CLASSIC = CganObjective(loss="ns", gamma=0.0, augment=0.0)
"""As taught: the non-saturating game, without penalties and augmentation."""


class CganTraining(AdversarialTraining):
    """A Trainable around a cGAN, in two turns. Each network owns its reading of the condition.

    A batch holds `image` (B, C, S, S) and the condition, as for the diffusion decoder.
    """

    rules: CganObjective

    def __init__(self, decoder: CganDecoder, cgan: CganObjective, objective: DecoderObjective):
        super().__init__(cgan)
        config, spec = decoder.config, decoder.spec
        self.decoder, self.tell = decoder, objective
        self.cond_encoder = build_cond_encoder(config, spec)
        self.critic = Critic(spec, config.width, config.channels, config.blocks)

    def parameters_of(self, turn: str) -> Iterable[nn.Parameter]:
        if turn == "generator":
            return self.decoder.parameters()
        return [*self.cond_encoder.parameters(), *self.critic.parameters()]

    def loss(self, batch: Batch, turn: str) -> dict[str, Tensor]:
        real, cond = batch["image"], self.tell(batch)
        code = torch.randn(len(real), self.decoder.config.code, device=real.device)
        with self.others_fixed(turn):
            fake = self.decoder.decode(code, self.decoder.cond_encoder(cond))
            read = self.critic.read(self.cond_encoder(cond))
            if turn == "generator":
                return self.play_generator(real, fake, read)[0]
            metrics, of_real, _ = self.play_critic(real, fake, read)
            if weight := self.rules.mismatched:
                wrong = self.judge(real, tuple(part.roll(1, 0) if torch.is_tensor(part) else part for part in read))
                loss = adversarial(self.rules.loss, of_real[:, 0], wrong[:, 0], "discriminator")
                metrics["loss"] = metrics["loss"] + weight * loss
            return self.penalised(metrics, real, fake, read)

    def judge(self, images: Tensor, read: Read) -> Tensor:
        return self.critic(self.augmented(images), *read)[:, None]
