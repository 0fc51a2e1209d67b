"""The conditional GAN: generates in one pass; a discriminator evaluates realism and the match with the condition."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from condgen.contracts import Batch, SamplingOption, check_options, limited
from condgen.decoders import DecoderKind
from condgen.diffusion.samplers import noise
from condgen.losses import adversarial
from condgen.nn.adversarial import AdversarialObjective, AdversarialTraining, CriticCond
from condgen.nn.conditioning import MAX_DEPTH, CondEncoderConfig, DecoderObjective, build_cond_encoder
from condgen.nn.generator import Critic, Generator
from condgen.nn.specs import CondSpec


@dataclass(frozen=True)
class CganConfig(CondEncoderConfig):
    """Options of a conditional GAN, including those of its condition encoder.

    Args:
        width, heads, word_depth: see `CondEncoderConfig`.
        channels: channels of every level. The first level works on pixels folded two by two; each further one halves
            the resolution.
        blocks: residual blocks per level.
        code: length of the noise.
        truncation: default bound of the noise when sampling.
    """

    channels: tuple[int, ...] = limited((32, 64), low=1, longest=64)
    blocks: int = limited(1, low=0, high=MAX_DEPTH)
    code: int = limited(64, low=1)
    truncation: float = 1.5


class CganDecoder(nn.Module):
    """Generates images from a condition and noise.

    References:
        Conditional Generative Adversarial Nets (Mirza, Osindero, 2014)
    """

    def __init__(self, config: CganConfig, spec: CondSpec):
        super().__init__()
        self.config, self.spec, self.latent = config, spec, config.code
        self.cond_encoder = build_cond_encoder(config, spec)
        self.generator = Generator(spec, config.width, config.channels, config.blocks, config.code)

    @property
    def sampling_options(self) -> tuple[SamplingOption, ...]:
        """Options of `sample`."""
        text = "bound of the noise in standard deviations; smaller is safer and less varied"
        return (SamplingOption("truncation", self.config.truncation, 0.05, 4, "float", text),)

    def decode(self, z: Tensor, cond: Batch) -> Tensor:
        """Normal noise (B, code) and an encoded condition -> images, (B, C, S, S)."""
        return self.generator(z, cond)

    decode_normal = decode

    @torch.inference_mode()
    def sample(self, cond: Batch, rng: list[torch.Generator], **options: float) -> Iterator[Tensor]:
        """Yields the images, (B, C, S, S) in [-1, 1], once."""
        options = check_options(self.sampling_options, options)
        z = truncated(noise((self.config.code,), rng), options["truncation"])
        yield self.decode(z.to(self.generator.start.weight.device), self.cond_encoder(cond)).clamp(-1, 1)


def truncated(normal: Tensor, bound: float) -> Tensor:
    """Maps normal numbers to a normal truncated at +-bound, monotonically.

    References:
        Large Scale GAN Training for High Fidelity Natural Image Synthesis (Brock et al., 2019), the truncation trick
    """
    inside = torch.special.ndtr(torch.tensor(bound, dtype=torch.float64))
    share = (1 - inside) + torch.special.ndtr(normal.double()) * (2 * inside - 1)
    return torch.special.ndtri(share).to(normal.dtype)


@dataclass(frozen=True)
class CganObjective(AdversarialObjective):
    """Training options of a conditional GAN.

    Args:
        loss, gamma, penalised, augment, augment_over: see `nn.adversarial.AdversarialObjective`.
        mismatched: weight of the loss of real images under another image's condition, which count as generated.

    References:
        Generative Adversarial Text to Image Synthesis (Reed et al., 2016), for mismatched pairs
    """

    mismatched: float = limited(0.0, low=0)


class CganTraining(AdversarialTraining):
    """A Trainable around a conditional GAN. Each of the two networks has its own condition encoder.

    A batch holds `image` (B, C, S, S) and the condition, as for the diffusion decoder.
    """

    objective: CganObjective

    def __init__(self, decoder: CganDecoder, objective: CganObjective, conditioning: DecoderObjective):
        super().__init__(objective)
        config, spec = decoder.config, decoder.spec
        self.decoder, self.conditioning = decoder, conditioning
        self.cond_encoder = build_cond_encoder(config, spec)
        self.critic = Critic(spec, config.width, config.channels, config.blocks)

    def parameters_of(self, turn: str) -> Iterable[nn.Parameter]:
        if turn == "generator":
            return self.decoder.parameters()
        return [*self.cond_encoder.parameters(), *self.critic.parameters()]

    def loss(self, batch: Batch, turn: str) -> dict[str, Tensor]:
        real, cond = batch["image"], self.conditioning(batch)
        z = torch.randn(len(real), self.decoder.config.code, device=real.device)
        with self.opponent_frozen(turn):
            fake = self.decoder.decode(z, self.decoder.cond_encoder(cond))
            critic_cond = self.critic.encode_cond(self.cond_encoder(cond))
            if turn == "generator":
                return self.generator_loss(real, fake, critic_cond)[0]
            metrics, out_real, _ = self.discriminator_loss(real, fake, critic_cond)
            if weight := self.objective.mismatched:
                other = tuple(part.roll(1, 0) if torch.is_tensor(part) else part for part in critic_cond)
                wrong = self.discriminate(real, other)
                loss = adversarial(self.objective.loss, out_real[:, 0], wrong[:, 0], "discriminator")
                metrics["loss"] = metrics["loss"] + weight * loss
            return self.with_penalties(metrics, real, fake, critic_cond)

    def discriminate(self, images: Tensor, cond: CriticCond) -> Tensor:
        return self.critic(self.augmented(images), *cond)[:, None]

    def features(self, images: Tensor, cond: Batch) -> Tensor:
        """The discriminator's features of images under a condition, (B, F)."""
        _, layout = self.critic.encode_cond(self.cond_encoder(cond))
        return self.critic.phi(images, layout)


KIND = DecoderKind(CganDecoder, CganConfig, CganTraining, CganObjective, has_latent=True, features="training")
