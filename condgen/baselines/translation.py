"""Training of image translation: paired (pix2pix) and unpaired (CycleGAN)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen import distributed
from condgen.baselines.translation_nets import PatchCritic
from condgen.contracts import Batch, limited
from condgen.losses import adversarial
from condgen.nn.adversarial import diversity, frozen

GanLoss = Literal["ns", "ls", "hinge"]


@dataclass(frozen=True)
class PairedObjective:
    """Training options of a translator that is trained on pairs.

    Args:
        loss: adversarial loss, see `losses.adversarial`.
        adversarial: weight of the adversarial loss; with 0 only the L1 distance is left, and images are blurred.
        l1: weight of the mean absolute error to the partner.
        critic: channels of the discriminator's first level.
    """

    loss: GanLoss = "ns"
    adversarial: float = limited(1.0, low=0)
    l1: float = limited(100.0, low=0)
    critic: int = limited(16, low=1)


@dataclass(frozen=True)
class UnpairedObjective:
    """Training options of translators that are trained without pairs.

    Args:
        loss: adversarial loss, see `losses.adversarial`.
        cycle: weight of the cycle consistency: mean absolute error of an image translated there and back.
        identity: weight of the identity loss relative to `cycle`: mean absolute error of an image translated to its own
            domain; it preserves colours.
        pool: number of earlier generated images; one of them replaces every second new image that the discriminators
            see. 0 is off.
        critic: channels of the first level of the discriminators.
    """

    loss: GanLoss = "ls"
    cycle: float = limited(10.0, low=0)
    identity: float = limited(0.5, low=0)
    pool: int = limited(50, low=0)
    critic: int = limited(16, low=1)


class PairedTraining(nn.Module):
    """A Trainable around a generator in two turns; the discriminator sees an image with its translation or partner.

    A batch holds `a`, the input, and `b`, its partner, see `data.batches.pairs.PairBatches`.

    References:
        Image-to-Image Translation with Conditional Adversarial Networks (Isola et al., 2017)
    """

    turns = ("discriminator", "generator")

    def __init__(self, a_to_b: nn.Module, paired: PairedObjective):
        super().__init__()
        shape = a_to_b.spec
        self.a_to_b, self.paired = a_to_b, paired
        self.critic = PatchCritic(shape.size, shape.reads + shape.image_channels, paired.critic)

    def parameters_of(self, turn: str) -> Iterable[nn.Parameter]:
        return (self.a_to_b if turn == "generator" else self.critic).parameters()

    def loss(self, batch: Batch, turn: str) -> dict[str, Tensor]:
        a, b, objective = batch["a"], batch["b"], self.paired
        with frozen(self.parameters_of("discriminator" if turn == "generator" else "generator")):
            fake = self.a_to_b(a)
            if turn == "discriminator":
                real, fake = self.critic(torch.cat([torch.cat([a, x], 1) for x in (b, fake)])).chunk(2)
                loss = adversarial(objective.loss, real, fake, turn)
                return {"loss": loss} | patch_accuracy(objective.loss, real, fake)
            logits = self.critic(torch.cat([a, fake], 1))
            l1 = F.l1_loss(fake, b)
            fooling = adversarial(objective.loss, logits, logits, turn)
            loss = objective.adversarial * fooling + objective.l1 * l1
            return {"loss": loss, "adversarial": fooling.detach(), "l1": l1.detach()}


class UnpairedTraining(nn.Module):
    """A Trainable around two generators, one for each direction, in two turns, with a discriminator for each domain.

    Images translated there and back must be unchanged, and so must images translated to their own domain. Half the
    time, discriminators see an earlier generated image from a pool instead of a new one, so that they do not forget.

    A batch holds `a` and `b`, images of the two domains without pairs, and `dice`, see
    `data.batches.pairs.PairBatches`.

    Raises:
        ValueError: the identity loss is on, and the domains have different numbers of channels.

    References:
        Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks (Zhu et al., 2017)
        Learning from Simulated and Unsupervised Images through Adversarial Training (Shrivastava et al., 2017), for the
        pool
    """

    turns = ("discriminator", "generator")
    memory = ("pool_a", "pool_b", "pooled")

    def __init__(self, a_to_b: nn.Module, b_to_a: nn.Module, unpaired: UnpairedObjective):
        super().__init__()
        shape = a_to_b.spec
        if shape.reads != shape.image_channels and unpaired.identity:
            raise ValueError(
                f"identity needs as many channels on both sides, not {shape.reads} and {shape.image_channels}"
            )
        self.a_to_b, self.b_to_a, self.unpaired = a_to_b, b_to_a, unpaired
        self.critic_a = PatchCritic(shape.size, shape.reads, unpaired.critic)
        self.critic_b = PatchCritic(shape.size, shape.image_channels, unpaired.critic)
        for name, channels in (("pool_a", shape.reads), ("pool_b", shape.image_channels)):
            self.register_buffer(name, torch.zeros(unpaired.pool, channels, shape.size, shape.size))
        self.register_buffer("pooled", torch.zeros((), dtype=torch.long))  # images in each pool
        self._fresh: tuple[Tensor, Tensor, int] | None = None

    def parameters_of(self, turn: str) -> Iterable[nn.Parameter]:
        nets = (self.a_to_b, self.b_to_a) if turn == "generator" else (self.critic_a, self.critic_b)
        return [p for net in nets for p in net.parameters()]

    def loss(self, batch: Batch, turn: str) -> dict[str, Tensor]:
        with frozen(self.parameters_of("discriminator" if turn == "generator" else "generator")):
            return self._discriminator_loss(batch) if turn == "discriminator" else self._generator_loss(batch)

    def _discriminator_loss(self, batch: Batch) -> dict[str, Tensor]:
        fakes = self.b_to_a(batch["b"]).detach(), self.a_to_b(batch["a"]).detach()
        shown_a, shown_b = self._shown(*fakes, batch["dice"])
        loss, metrics = torch.zeros((), device=shown_a.device), {}
        for side, critic, fake in (("a", self.critic_a, shown_a), ("b", self.critic_b, shown_b)):
            logit_real, logit_fake = critic(torch.cat([batch[side], fake])).chunk(2)
            loss = loss + adversarial(self.unpaired.loss, logit_real, logit_fake, "discriminator") / 2
            accuracy = patch_accuracy(self.unpaired.loss, logit_real, logit_fake)
            metrics |= {f"{name}_{side}": share for name, share in accuracy.items()}
        return {"loss": loss} | metrics

    def _generator_loss(self, batch: Batch) -> dict[str, Tensor]:
        a, b, objective = batch["a"], batch["b"], self.unpaired
        if objective.identity:
            (fake_b, same_b), (fake_a, same_a) = (
                net(torch.cat(both)).chunk(2) for net, both in ((self.a_to_b, (a, b)), (self.b_to_a, (b, a)))
            )
            identity = F.l1_loss(same_a, a) + F.l1_loss(same_b, b)
        else:
            fake_b, fake_a, identity = self.a_to_b(a), self.b_to_a(b), torch.zeros((), device=a.device)
        cycle = F.l1_loss(self.b_to_a(fake_b), a) + F.l1_loss(self.a_to_b(fake_a), b)
        logits = (self.critic_a(fake_a), self.critic_b(fake_b))
        fooling = sum(adversarial(objective.loss, logit, logit, "generator") for logit in logits)
        metrics = {"adversarial": fooling, "cycle": cycle, "identity": identity, "diversity": diversity(fake_b, b)}
        loss = fooling + objective.cycle * (cycle + objective.identity * identity)
        return {"loss": loss} | {name: value.detach() for name, value in metrics.items()}

    def _shown(self, fake_a: Tensor, fake_b: Tensor, dice: Tensor) -> list[Tensor]:
        """Images for the discriminators, in part from the pools; the pools hold images of all processes."""
        if not self.unpaired.pool:
            return [fake_a, fake_b]
        dice, held, out, pools = distributed.all_gather_with_grad(dice), int(self.pooled), [], []
        here = slice(distributed.rank() * len(fake_a), (distributed.rank() + 1) * len(fake_a))
        for pool, fake, u in ((self.pool_a, fake_a, dice[:, :2]), (self.pool_b, fake_b, dice[:, 2:])):
            shown, pool, now = exchange(pool, held, distributed.all_gather_with_grad(fake), u)
            out.append(shown[here])
            pools.append(pool)
        self._fresh = (*pools, now)
        return out

    @torch.no_grad()
    def remember(self) -> None:
        """Puts the images of the last `loss` into the pools."""
        if self._fresh is None:
            return
        pool_a, pool_b, held = self._fresh
        self.pool_a.copy_(pool_a)
        self.pool_b.copy_(pool_b)
        self.pooled.fill_(held)
        self._fresh = None


def exchange(pool: Tensor, held: int, fakes: Tensor, dice: Tensor) -> tuple[Tensor, Tensor, int]:
    """Exchanges new images with a pool, one after the other.

    Until the pool is full, a new image is shown and added. Then, with probability 0.5, it replaces an image of the
    pool, which is shown instead.

    Args:
        pool: (P, C, S, S), of which the first `held` are images.
        fakes: (B, C, S, S).
        dice: (B, 2), uniform from 0 to 1: they decide whether to exchange, and with which image.

    Returns:
        (images to show, the new pool, number of images in it)
    """
    shown, pool = fakes.clone(), pool.clone()
    for i, (coin, place) in enumerate(dice.tolist()):
        if held < len(pool):
            pool[held] = fakes[i]
            held += 1
        elif coin < 0.5:
            k = int(place * len(pool))
            shown[i], pool[k] = pool[k].clone(), fakes[i]
    return shown, pool, held


def patch_accuracy(loss: GanLoss, logit_real: Tensor, logit_fake: Tensor) -> dict[str, Tensor]:
    """The shares of real and of generated patches that are classified correctly."""
    threshold = 0.5 if loss == "ls" else 0.0
    correct = {"right_real": logit_real > threshold, "right_fake": logit_fake < threshold}
    return {name: x.float().mean() for name, x in correct.items()}
