"""Adversarial training: a generator and a discriminator are trained in turns."""

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
CriticCond = tuple[Tensor | float, ...]
"""Encoded conditions of B images, as a discriminator takes them; empty without conditions."""


@dataclass(frozen=True)
class AdversarialObjective:
    """Training options of a GAN; the defaults follow R3GAN (Huang et al., 2024).

    Args:
        loss: `rp`, `ns` or `hinge`, see `losses.adversarial`.
        gamma: weight of the gradient penalties at real (R1) and generated images (R2); 0 is off.
        penalised: share of the batch that the penalties are computed on; they cost as much as three passes.
        augment: largest share of the images that is augmented (shift, cutout, brightness) for the discriminator.
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
    """Base of the training of all GANs; a subclass holds both networks and calls the discriminator.

    Logged metrics: with `rp`, where only differences of logits matter, `right_pairs`, the share of pairs whose real
    image has the higher logit (0.5: the discriminator cannot tell); otherwise `right_real` and `right_fake`, the shares
    of real and of generated images that are classified correctly. Always `lead`, the mean difference of the logits,
    `slope`, the gradient penalties, and `diversity`, see `diversity`.
    """

    turns = ("discriminator", "generator")

    def __init__(self, objective: AdversarialObjective):
        super().__init__()
        self.objective = objective
        self.register_buffer("seen", torch.zeros(()))  # steps of the discriminator

    def parameters_of(self, turn: str) -> Iterable[nn.Parameter]:
        raise NotImplementedError

    def discriminate(self, images: Tensor, cond: CriticCond) -> Tensor:
        """Output of the discriminator for augmented images: (B, 1 + K), the logit and K further outputs."""
        raise NotImplementedError

    def discriminate_both(self, real: Tensor, fake: Tensor, cond: CriticCond) -> tuple[Tensor, Tensor]:
        """Outputs for real and generated images of the same conditions, in one pass."""
        return self.discriminate(torch.cat([real, fake]), _doubled(cond)).chunk(2)

    def opponent_frozen(self, turn: str):
        """A context in which the other turn's parameters need no gradient."""
        return frozen(self.parameters_of("discriminator" if turn == "generator" else "generator"))

    def generator_loss(self, real: Tensor, fake: Tensor, cond: CriticCond = ()) -> tuple[Metrics, Tensor]:
        """The loss of the generator's turn, and the discriminator's outputs for the generated images."""
        out_fake = out_real = self.discriminate(fake, cond)
        if self.objective.loss == "rp":  # the other losses need generated images alone
            with torch.no_grad():
                out_real = self.discriminate(real, cond)
        loss = adversarial(self.objective.loss, out_real[:, 0], out_fake[:, 0], "generator")
        return {"loss": loss, "diversity": diversity(fake, real)}, out_fake

    def discriminator_loss(self, real: Tensor, fake: Tensor, cond: CriticCond = ()) -> tuple[Metrics, Tensor, Tensor]:
        """The discriminator's loss without penalties, and its outputs for real and for generated images."""
        if self.training:
            self.seen += 1
        both = self.discriminate_both(real, fake, cond)
        logit_real, logit_fake = (out[:, 0] for out in both)
        loss = adversarial(self.objective.loss, logit_real, logit_fake, "discriminator")
        correct = {"right_real": logit_real, "right_fake": -logit_fake}
        if self.objective.loss == "rp":
            correct = {"right_pairs": logit_real - logit_fake}
        metrics = {name: (x > 0).float().mean() for name, x in correct.items()}
        return {"loss": loss} | metrics | {"lead": (logit_real - logit_fake).mean().detach()}, *both

    def with_penalties(self, metrics: Metrics, real: Tensor, fake: Tensor, cond: CriticCond = ()) -> Metrics:
        """Metrics with the gradient penalties added to the loss."""
        objective = self.objective
        if not objective.gamma:
            return metrics
        few = max(1, round(objective.penalised * len(real)))
        images = torch.cat([real[:few], fake[:few]]).requires_grad_(True)
        few_cond = _doubled(part[:few] if torch.is_tensor(part) else part for part in cond)
        logits = self.discriminate(images, few_cond)[:, 0]
        slope = gradient_penalty(logits, images) * 2  # of R1 plus R2: the mean is over both halves
        return metrics | {"loss": metrics["loss"] + objective.gamma / 2 * slope, "slope": slope.detach()}

    def augmented(self, images: Tensor) -> Tensor:
        """Images as the discriminator sees them."""
        objective = self.objective
        if not objective.augment:
            return images
        share = objective.augment * (self.seen / max(objective.augment_over, 1)).clamp(max=1)
        return augment(images, share)


def _doubled(cond: Iterable[Tensor | float]) -> CriticCond:
    """Encoded conditions of B images, repeated for 2 B images."""
    return tuple(torch.cat([part, part]) if torch.is_tensor(part) else part for part in cond)


@contextmanager
def frozen(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Within the block the parameters need no gradient; gradients still pass through their modules."""
    trained = [p for p in parameters if p.requires_grad]
    for p in trained:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in trained:
            p.requires_grad_(True)


def diversity(fake: Tensor, real: Tensor) -> Tensor:
    """Ratio of the mean distances of neighbours in the batch, generated over real images; near 0 after a collapse."""

    def spread(images: Tensor) -> Tensor:
        return (images - images.roll(1, 0)).flatten(1).norm(dim=1).mean()

    return (spread(fake) / spread(real).clamp(min=1e-6)).detach()


def augment(images: Tensor, share: Tensor | float) -> Tensor:
    """Applies each of three differentiable augmentations to a share of the images, with a random strength for each:
    brightness and contrast, a shift of up to an eighth with repeated borders, a grey square of half the edge.
    """
    n, size = len(images), images.shape[-1]
    on = torch.rand(3, n, 1, 1, 1, device=images.device) < share
    draw = torch.rand(6, n, device=images.device)
    brightness, contrast = (draw[i][:, None, None, None] - 0.5 for i in (0, 1))
    x = torch.where(on[0], images * (1 + contrast) + brightness / 2, images)
    index = torch.arange(size, device=images.device)
    most = size // 8
    rows, columns = ((index + ((draw[i][:, None] * (2 * most + 1)).long() - most)).clamp(0, size - 1) for i in (2, 3))
    shifted = x.gather(2, rows[:, None, :, None].expand_as(x)).gather(3, columns[:, None, None, :].expand_as(x))
    x = torch.where(on[1], shifted, x)
    top, left = ((draw[i] * size)[:, None] - size / 4 for i in (4, 5))
    inside = [(index >= start) & (index < start + size / 2) for start in (top, left)]
    square = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return torch.where(on[2] & square, torch.zeros_like(x), x)
