"""The game of a GAN: a generator paints, a critic tells what is painted from what is real, each in its own turn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from condgen.contracts import limited
from condgen.losses import adversarial, gradient_penalty

Metrics = dict[str, Tensor]
Read = tuple[Tensor | float, ...]
"""What a critic read of the conditions of B images; empty where there are none."""


@dataclass(frozen=True)
class AdversarialObjective:
    """How a GAN is trained, the modern way by default.

    Args:
        loss: of the game: `rp`, `ns` or `hinge`, see `losses.adversarial`.
        gamma: weight of the penalties on the critic's slope at real (R1) and at painted images (R2); 0 is off.
        penalised: share of the batch that the penalties are computed on; they cost as much as three passes.
        augment: largest share of the images that the critic sees changed (shifted, a patch cut out, brightness).
        augment_over: steps over which the share rises to it.

    References:
        The GAN is dead; long live the GAN! (Huang et al., 2024)
        Differentiable Augmentation for Data-Efficient GAN Training (Zhao et al., 2020)
    """

    loss: Literal["rp", "ns", "hinge"] = "rp"
    gamma: float = limited(0.1, low=0)
    penalised: float = limited(0.25, low=0, high=1)
    augment: float = limited(0.3, low=0, high=1)
    augment_over: int = limited(20_000, low=0)


class AdversarialTraining(nn.Module):
    """What the training of every GAN shares; a subclass owns the players and says how the critic judges.

    What is logged is the health of the game. Of `rp`, where only differences of logits mean something, how often a real
    image is above the painted one of its pair (0.5: the critic cannot tell); of the others, the share of real and of
    painted images on the right side of zero. Of all, by how much real ones lead, the slopes, and the diversity, the
    mean distance of two painted images of the batch over that of two real ones.
    """

    turns = ("discriminator", "generator")

    def __init__(self, rules: AdversarialObjective):
        super().__init__()
        self.rules = rules
        self.register_buffer("seen", torch.zeros(()))  # steps of the discriminator

    def parameters_of(self, turn: str) -> Iterable[nn.Parameter]:
        raise NotImplementedError

    def judge(self, images: Tensor, read: Read) -> Tensor:
        """What the critic says of images, augmented: (B, 1 + K), the logit and K more answers."""
        raise NotImplementedError

    def judge_both(self, real: Tensor, fake: Tensor, read: Read) -> tuple[Tensor, Tensor]:
        """The same of real and of painted images under the same conditions, in one pass."""
        return self.judge(torch.cat([real, fake]), _twice(read)).chunk(2)

    def others_fixed(self, turn: str):
        """The player whose turn it is not stays as it is."""
        return fixed(self.parameters_of("discriminator" if turn == "generator" else "generator"))

    def play_generator(self, real: Tensor, fake: Tensor, read: Read = ()) -> tuple[Metrics, Tensor]:
        """The loss of the generator's turn, and what the critic said of its images."""
        of_fake = of_real = self.judge(fake, read)
        if self.rules.loss == "rp":  # the others look at painted images alone
            with torch.no_grad():
                of_real = self.judge(real, read)
        loss = adversarial(self.rules.loss, of_real[:, 0], of_fake[:, 0], "generator")
        return {"loss": loss, "diversity": diversity(fake, real)}, of_fake

    def play_critic(self, real: Tensor, fake: Tensor, read: Read = ()) -> tuple[Metrics, Tensor, Tensor]:
        """The loss of the critic's turn without the penalties, and what it said of real and of painted images."""
        if self.training:
            self.seen += 1
        both = self.judge_both(real, fake, read)
        of_real, of_fake = (answers[:, 0] for answers in both)
        loss = adversarial(self.rules.loss, of_real, of_fake, "discriminator")
        sides = {"right_real": of_real, "right_fake": -of_fake}
        if self.rules.loss == "rp":
            sides = {"right_pairs": of_real - of_fake}
        metrics = {name: (x > 0).float().mean() for name, x in sides.items()}
        return {"loss": loss} | metrics | {"lead": (of_real - of_fake).mean().detach()}, *both

    def penalised(self, metrics: Metrics, real: Tensor, fake: Tensor, read: Read = ()) -> Metrics:
        """The same with the penalties added."""
        rules = self.rules
        if not rules.gamma:
            return metrics
        few = max(1, round(rules.penalised * len(real)))
        images = torch.cat([real[:few], fake[:few]]).requires_grad_(True)
        logits = self.judge(images, _twice(part[:few] if torch.is_tensor(part) else part for part in read))[:, 0]
        slope = gradient_penalty(logits, images) * 2  # of R1 plus R2: the mean is over both halves
        return metrics | {"loss": metrics["loss"] + rules.gamma / 2 * slope, "slope": slope.detach()}

    def augmented(self, images: Tensor) -> Tensor:
        """Images as the critic sees them."""
        rules = self.rules
        if not rules.augment:
            return images
        return augmented(images, rules.augment * (self.seen / max(rules.augment_over, 1)).clamp(max=1))


def _twice(read: Iterable[Tensor | float]) -> Read:
    """What was read of B conditions, for 2 B images."""
    return tuple(torch.cat([part, part]) if torch.is_tensor(part) else part for part in read)


@contextmanager
def fixed(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
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
    """Mean distance of neighbours in the batch, painted over real; near 0 the generator paints one image."""

    def spread(images: Tensor) -> Tensor:
        return (images - images.roll(1, 0)).flatten(1).norm(dim=1).mean()

    return (spread(fake) / spread(real).clamp(min=1e-6)).detach()


def augmented(images: Tensor, share: Tensor | float) -> Tensor:
    """Each change is made to so large a share of the images, of its own strength: brightness and contrast, a shift of
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
