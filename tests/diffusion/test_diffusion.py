"""Identities of the noise path, and diffusers as the oracle of our solver."""

from dataclasses import replace

import pytest
import torch

from condgen.contracts import CondgenError
from condgen.diffusion.objectives import EDM, OBJECTIVES, XPrediction, add_noise, denoising_loss
from condgen.diffusion.samplers import SHIFT, SOLVERS, Guided, Init, _renoised, levels, noise, sample


def generators(n, first=0):
    return [torch.Generator().manual_seed(first + i) for i in range(n)]


def last(frames):
    *_, x = frames
    return x


def test_the_path_ends_in_image_and_noise():
    x, eps = torch.randn(3, 4), torch.randn(3, 4)
    torch.testing.assert_close(add_noise(x, eps, torch.zeros(3)), x)
    torch.testing.assert_close(add_noise(x, eps, torch.ones(3)), eps)


@pytest.mark.parametrize("objective", [kind() for kind in OBJECTIVES.values()], ids=list(OBJECTIVES))
def test_a_network_that_knows_the_answer_has_no_loss(objective):
    """For every objective: the output that stands for x_0 gives loss 0 and denoises exactly."""
    x_0 = torch.randn(64, 5)

    def perfect(x_in, t, cond):
        if isinstance(objective, EDM):
            norm, t = objective._norm(t)[:, None], t[:, None]
            return (x_0 - (1 - t) / norm**2 * (x_in * norm)) * norm / t
        return x_0

    assert denoising_loss(objective, perfect, x_0, {}).item() < 1e-6


@pytest.mark.parametrize("objective", [kind() for kind in OBJECTIVES.values()], ids=list(OBJECTIVES))
def test_noise_levels_are_inside_and_weights_positive(objective):
    t = objective.draw_t(10_000)
    assert t.min() > 0 and t.max() < 1
    assert (objective.weight(t) > 0).all() and objective.weight(t).isfinite().all()
    assert torch.logit(t).mean().item() == pytest.approx(objective.mean, abs=0.05)


def test_edm_is_karras_table_one():
    """c_skip, c_out, c_in at sigma_data 1, from the paper, against ours in t."""
    sigma = torch.tensor([0.01, 0.3, 1.0, 5.0, 50.0])
    t = sigma / (1 + sigma)
    x = torch.randn(5, 7)  # x_0 + sigma eps
    network = lambda x_in, t, cond: torch.sin(x_in)  # noqa: E731
    c_skip, c_out, c_in = 1 / (sigma**2 + 1), sigma / (sigma**2 + 1).sqrt(), 1 / (sigma**2 + 1).sqrt()
    paper = c_skip[:, None] * x + c_out[:, None] * torch.sin(c_in[:, None] * x)
    ours = EDM().denoise(network, x * (1 - t)[:, None], t, {})
    torch.testing.assert_close(ours, paper)
    torch.testing.assert_close(EDM().weight(t), (sigma**2 + 1) / sigma**2)


def test_edm_starts_as_the_identity_of_small_noise():
    x = torch.randn(4, 3)
    out = EDM().denoise(lambda x, t, c: torch.zeros_like(x), x, torch.full((4,), 1e-4), {})
    torch.testing.assert_close(out, x, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("steps", [1, 2, 5, 12, 20])
def test_dpm_solver_equals_diffusers(steps):
    from diffusers import DPMSolverMultistepScheduler

    denoise = lambda x, t, c: torch.tanh(x) * (1 - t[:, None]) + 0.3  # noqa: E731
    ours = last(sample(denoise, (6,), {}, generators(1), steps))
    plan = DPMSolverMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=SHIFT)
    plan.set_timesteps(steps)
    x = noise((6,), generators(1))
    for i, timestep in enumerate(plan.timesteps):
        t = plan.sigmas[i]
        x = plan.step((x - denoise(x, t[None], {})) / t, timestep, x).prev_sample
    torch.testing.assert_close(ours, x, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("solver", SOLVERS)
def test_solvers_agree_in_the_limit_on_a_gaussian(solver):
    """Data N(m, s^2): the ideal denoiser is known, and so is the sample that each noise flows to."""
    m, s = 0.7, 0.5

    def ideal(x, t, cond):
        a, b = 1 - t[:, None], t[:, None]
        return m + a * s**2 / (a**2 * s**2 + b**2) * (x - a * m)

    x = last(sample(ideal, (4,), {}, generators(64), 400, solver=solver))
    torch.testing.assert_close(x, m + s * noise((4,), generators(64)), atol=0.03, rtol=0)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_constant_denoiser_is_reached_at_any_number_of_steps(solver):
    for steps in (1, 3, 12):
        x = last(sample(lambda x, t, c: torch.full_like(x, 0.25), (3,), {}, generators(2), steps, solver=solver))
        torch.testing.assert_close(x, torch.full((2, 3), 0.25), atol=2e-3, rtol=0)


def test_sampling_yields_once_a_step():
    assert len(list(sample(lambda x, t, c: x, (2,), {}, generators(3), 7))) == 7
    assert len(levels(7)) == 8 and levels(7)[-1] == 0


def test_a_seed_names_a_sample_whatever_the_batch():
    denoise = lambda x, t, c: torch.tanh(x)  # noqa: E731
    many = last(sample(denoise, (5,), {}, generators(4), 6))
    one = last(sample(denoise, (5,), {}, generators(1, first=2), 6))
    torch.testing.assert_close(many[2:3], one)


def test_unknown_solver_is_named():
    with pytest.raises(CondgenError, match="heun"):
        last(sample(lambda x, t, c: x, (2,), {}, generators(1), 2, solver="heun"))


def guided(w):
    return Guided(lambda x, t, c: x * 0 + c["v"], lambda c: {"v": c["v"] * 0 - 1}, w)


def test_guidance_identities():
    """w = 1 is the conditional, w = 0 the null; between and beyond it is linear in w."""
    x, t, cond = torch.randn(3, 2), torch.rand(3), {"v": torch.randn(3, 2)}
    torch.testing.assert_close(guided(1)(x, t, cond), cond["v"])
    torch.testing.assert_close(guided(0)(x, t, cond), torch.full_like(x, -1))
    torch.testing.assert_close(guided(3)(x, t, cond), -1 + 3 * (cond["v"] + 1))


def test_the_null_branch_sees_the_noisy_input():
    seen = []
    denoise = lambda x, t, c: (seen.append(x), x)[1]  # noqa: E731
    x = torch.randn(2, 3)
    Guided(denoise, lambda c: c, 2.0)(x, torch.rand(2), {"v": x})
    torch.testing.assert_close(seen[0], torch.cat([x, x]))


def test_training_weight_is_that_of_the_velocity():
    """The squared error of the velocity (x_t - x_0) / t is 1/t^2 times that of x_0."""
    t = torch.tensor([0.2, 0.9])
    torch.testing.assert_close(XPrediction().weight(t), 1 / t**2)


@pytest.mark.parametrize("t, s", [(0.9, 0.5), (0.5, 0.1), (0.999, 0.95)])
def test_new_noise_leads_back_to_the_level(t, s):
    """Of x_t = (1 - t) x_0 + t eps with the right x_0, one level down and up again gives x_t of other noise."""
    x_0, eps, new = torch.full((50_000,), 3.0), *torch.randn(2, 50_000, generator=torch.Generator().manual_seed(0))
    again = _renoised((1 - t) * x_0 + t * eps, x_0, t, s, new)
    assert again.mean().item() == pytest.approx((1 - t) * 3, abs=0.02)
    assert again.std().item() == pytest.approx(t, rel=0.02)
    assert not torch.allclose(again, (1 - t) * x_0 + t * eps)


@pytest.mark.parametrize("resample", [1, 2, 4])
def test_resampling_calls_the_denoiser_so_often_at_every_level_and_keeps_what_stays(resample):
    calls, x_0 = [], torch.randn(2, 6)
    keep = torch.tensor([True, False] * 3)

    def denoise(x_t, t, cond):
        calls.append(t[0].item())
        return x_t * 0.5

    init = Init(x_0=x_0, keep=keep, resample=resample)
    x = last(sample(denoise, (6,), {}, generators(2), 5, init=init))
    assert len(calls) == 5 * resample and len(set(calls)) == 5
    torch.testing.assert_close(x[:, keep], x_0[:, keep])
    alone = [
        last(sample(denoise, (6,), {}, generators(1, k), 5, init=replace(init, x_0=x_0[k : k + 1]))) for k in (0, 1)
    ]
    torch.testing.assert_close(torch.cat(alone), x)
