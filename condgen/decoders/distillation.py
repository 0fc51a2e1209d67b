"""Distillation of a diffusion decoder: a student of few steps learns to land where its guided teacher lands."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from condgen.contracts import Batch, limited
from condgen.decoders.diffusion import DiffusionDecoder
from condgen.diffusion.objectives import Denoiser, add_noise
from condgen.diffusion.samplers import DDIM, Guided, even_levels, shifted
from condgen.losses import weighted_mse
from condgen.nn.conditioning import DecoderObjective, null_cond, repeated

MAX_WEIGHT = 4.0
"""Largest weight of the squared error of x_0, which is max(SNR, 1) otherwise: levels near the image have no end."""


@dataclass(frozen=True)
class DistillationObjective:
    """Training options of a decoder of few steps.

    Args:
        guidance: guidance scale of the teacher, which becomes part of the weights; 0 takes the teacher's default.
        teacher_steps: steps of the teacher from noise to image, rounded up to a multiple of the student's, at least two
            for one of the student; a teacher that was distilled itself takes its own number.
        drops: probability of an incomplete condition, relative to that of the decoder's training.
        between: share of the batches whose levels lie between those of the sampler, where an image is given a part of
            the noise, as in editing.
    """

    guidance: float = limited(0.0, low=0, high=20)
    teacher_steps: int = limited(8, low=1, high=1000)
    drops: float = limited(0.5, low=0, high=1)
    between: float = limited(0.2, low=0, high=1)


def student_of(teacher: DiffusionDecoder, steps: int, objective: DistillationObjective) -> DiffusionDecoder:
    """A decoder of `steps` steps with the weights of its teacher, to be trained."""
    known = teacher.config
    guidance = known.distilled or objective.guidance or known.guidance
    config = replace(known, steps=steps, guidance=1.0, solver="ddim", distilled=guidance)
    student = DiffusionDecoder(config, teacher.spec)
    student.load_state_dict(teacher.state_dict())
    return student


class DistillationTraining(nn.Module):
    """A Trainable around a decoder of few steps.

    The student replaces several steps of the teacher by one: from the same x_t at a level t of its sampler, the target
    is the x_0 with which its own deterministic step ends at the teacher's x_s, s the next level. A student of 4 steps
    can teach one of 2. Every image of a batch is used at all levels, for which its condition is encoded once.

    A batch is that of `DiffusionTraining`.

    References:
        Progressive Distillation for Fast Sampling of Diffusion Models (Salimans, Ho, 2022), Algorithm 2 and section 4
        On Distillation of Guided Diffusion Models (Meng et al., 2023), for guidance as part of the weights

    Args:
        decoder: the student, see `student_of`.
        teacher: is not trained, and not part of the state.
        objective: options.
        conditioning: that of the decoder's training.
    """

    turns = ("decoder",)

    def __init__(
        self,
        decoder: DiffusionDecoder,
        teacher: DiffusionDecoder,
        objective: DistillationObjective,
        conditioning: DecoderObjective,
    ):
        super().__init__()
        drops = {name: objective.drops * getattr(conditioning, name) for name in ("drop_all", "drop_embed", "drop_text",
                                                                                 "drop_attr")}  # fmt: skip
        self.decoder, self.objective, self.conditioning = decoder, objective, replace(conditioning, **drops)
        self._teacher = [teacher.eval().requires_grad_(False)]  # in a list, so that it is no submodule
        steps, known = decoder.config.steps, teacher.config
        total = known.steps if known.distilled else objective.teacher_steps
        self.each = max(2, -(-total // steps))
        self.guidance = 1.0 if known.distilled else decoder.config.distilled

    def parameters_of(self, turn: str) -> Iterable[nn.Parameter]:
        return self.parameters()

    def loss(self, batch: Batch, turn: str = "decoder") -> dict[str, Tensor]:
        decoder, cond = self.decoder, self.conditioning(batch)
        x_0 = (batch["image"] - decoder.mean) / decoder.sd
        with torch.no_grad():
            x_t, t, target = self._targets(x_0, cond)
        encoded = repeated(decoder.encode_cond(cond), decoder.config.steps)
        weight = ((1 - t) / t).pow(2).clamp(1, MAX_WEIGHT)
        return {"loss": weighted_mse(decoder.denoise(x_t, t, encoded), target, weight)}

    def _targets(self, x_0: Tensor, cond: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """x_t, t and the student's x_0 at every level of the sampler: (K B, ...), (K B,), (K B, ...) for K steps."""
        teacher = self._teacher[0].to(x_0.device)
        encoded = teacher.encode_cond(cond)
        null = teacher.encode_cond(null_cond(cond)) if self.guidance != 1 else {}
        guided = Guided(teacher.denoise, lambda _: null, self.guidance)
        steps, rows = self.decoder.config.steps, []
        grid = even_levels(steps)
        some = self.objective.between > 0
        later = torch.rand(steps + 1, device="cpu").tolist() if some else [0.0] * steps + [1.0]
        for i in range(steps):
            start = grid[i] - (grid[i] - grid[i + 1]) * later[i] * (later[-1] < self.objective.between)
            path = [*(start + (grid[i + 1] - start) * k / self.each for k in range(self.each)), grid[i + 1]]
            t = torch.full((len(x_0),), shifted(start), device=x_0.device)
            x_t = add_noise(x_0, torch.randn_like(x_0), t)
            rows.append((x_t, t, target_of(guided, [*map(shifted, path)], x_t, encoded)))
        x_t, t, target = zip(*rows)
        return torch.cat(x_t), torch.cat(t), torch.cat(target)


def target_of(denoise: Denoiser, path: list[float], x_t: Tensor, cond: Batch) -> Tensor:
    """The x_0, (B, ...), with which one step of DDIM leads to where those of the teacher lead.

    Args:
        denoise: the teacher, guided or not.
        path: falling noise levels, from that of x_t.
    """
    t, s, solver, x = path[0], path[-1], DDIM(path), x_t
    for i, level in enumerate(path[:-1]):
        x = solver.step(i, x, denoise(x, torch.full((len(x),), level, device=x.device), cond))
    return (x - s / t * x_t) / (1 - s / t)
