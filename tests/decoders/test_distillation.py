"""Distillation: the targets of a student of few steps, and what its config says."""

from dataclasses import replace

import pytest
import torch

from condgen.decoders.diffusion import DiffusionDecoder
from condgen.decoders.distillation import DistillationObjective, DistillationTraining, student_of, target_of
from condgen.diffusion.objectives import add_noise
from condgen.diffusion.samplers import even_levels, levels, sample, shifted
from condgen.nn.conditioning import DecoderObjective, condition
from tests.tiny import tiny_decoder

SPEC = {"size": 8, "embed_dim": 16}


def teacher_of(**changes):
    decoder = tiny_decoder("diffusion", SPEC)
    decoder.config = replace(decoder.config, steps=12, guidance=3.0, **changes)
    return decoder


def batch(n=4):
    rng = torch.Generator().manual_seed(0)
    return {"image": torch.rand(n, 3, 8, 8, generator=rng) * 2 - 1, "z": torch.randn(n, 16, generator=rng)}


@pytest.mark.parametrize("steps, each", [(4, 3), (2, 6), (3, 2), (1, 5)])
def test_a_perfect_student_makes_the_images_of_its_teacher(steps, each):
    """With a solver without memory, as many steps as the student has lead along the whole path of the teacher."""
    teacher = teacher_of()
    cond = teacher.encode_cond(condition(batch()["z"]))
    grid = even_levels(steps)

    def student(x_t, t, cond):
        i = min(range(steps), key=lambda i: abs(shifted(grid[i]) - t[0].item()))
        path = [shifted(grid[i] + (grid[i + 1] - grid[i]) * k / each) for k in range(each + 1)]
        return target_of(teacher.denoise, path, x_t, cond)

    def images(denoise, n):
        rng = [torch.Generator().manual_seed(seed) for seed in range(4)]
        *_, last = sample(denoise, (3, 8, 8), cond, rng, n, "ddim")
        return last

    torch.testing.assert_close(images(student, steps), images(teacher.denoise, steps * each), atol=1e-4, rtol=1e-4)


def test_a_teacher_that_always_sees_one_image_gives_it_as_the_target():
    x_0, eps = torch.randn(2, 4, 3, 8, 8)
    path = levels(6)[1:4]
    x_t = add_noise(x_0, eps, torch.full((4,), path[0]))
    torch.testing.assert_close(target_of(lambda *_: x_0, path, x_t, {}), x_0, atol=1e-4, rtol=1e-4)


def test_ddim_is_the_euler_step_of_the_velocity():
    """Against diffusers' Euler scheduler, on the same levels."""
    teacher = teacher_of()
    cond = teacher.encode_cond(condition(batch()["z"]))
    made = []
    for solver in ("ddim", "euler"):
        rng = [torch.Generator().manual_seed(seed) for seed in range(4)]
        made.append(list(sample(teacher.denoise, (3, 8, 8), cond, rng, 5, solver))[-1])
    torch.testing.assert_close(*made, atol=1e-4, rtol=1e-4)


def test_a_student_begins_as_its_teacher_and_says_what_it_is():
    teacher = teacher_of()
    student = student_of(teacher, 4, DistillationObjective())
    known = student.config
    assert (known.steps, known.guidance, known.solver, known.distilled) == (4, 1.0, "ddim", 3.0)
    assert all(torch.equal(a, b) for a, b in zip(student.state_dict().values(), teacher.state_dict().values()))
    options = {option.name: option for option in student.sampling_options}
    assert options["steps"].default == 4 and "distilled to 4" in options["steps"].help
    assert options["guidance"].default == 1 and "scale 3" in options["guidance"].help
    assert student_of(teacher, 4, DistillationObjective(guidance=5.0)).config.distilled == 5
    assert student_of(student, 2, DistillationObjective(guidance=5.0)).config.distilled == 3  # it is in the weights


@pytest.mark.parametrize(
    "steps, teacher_steps, each",
    [(4, 8, 2), (2, 8, 4), (4, 24, 6), (5, 12, 3), (12, 1, 2)],
)
def test_the_teacher_takes_a_multiple_of_the_steps(steps, teacher_steps, each):
    teacher, objective = teacher_of(), DistillationObjective(teacher_steps=teacher_steps)
    training = DistillationTraining(student_of(teacher, steps, objective), teacher, objective, DecoderObjective())
    assert training.each == each and training.guidance == 3
    again = student_of(training.decoder, 1, objective)
    later = DistillationTraining(again, training.decoder, objective, DecoderObjective())
    assert later.guidance == 1 and later.each == max(2, steps)


def test_the_teacher_stays_as_it_is_and_outside_of_the_state():
    teacher, objective = teacher_of(), DistillationObjective()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    training = DistillationTraining(student_of(teacher, 2, objective), teacher, objective, DecoderObjective())
    assert all(name.startswith("decoder.") for name in training.state_dict())
    optimiser = torch.optim.Adam(training.parameters_of("decoder"), 3e-3)
    losses = []
    for step in range(40):
        torch.manual_seed(step % 5)
        optimiser.zero_grad()
        loss = training.loss(batch())["loss"]
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert isinstance(training.decoder, DiffusionDecoder) and not any(p.requires_grad for p in teacher.parameters())


@pytest.mark.parametrize("between", [0.0, 1.0])
def test_images_are_used_at_the_levels_of_the_sampler_or_between_them(between):
    teacher, objective = teacher_of(), DistillationObjective(between=between)
    training = DistillationTraining(student_of(teacher, 4, objective), teacher, objective, DecoderObjective())
    x_t, t, target = training._targets(batch()["image"], condition(batch()["z"]))
    assert x_t.shape == target.shape == (16, 3, 8, 8) and t.shape == (16,)
    own = torch.tensor(levels(4)[:-1]).repeat_interleave(4)
    assert torch.allclose(t, own) == (not between)
    lower = torch.tensor(levels(4)[1:]).repeat_interleave(4)
    assert ((lower < t) & (t <= own + 1e-6)).all()
