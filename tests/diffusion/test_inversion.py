"""Inversion against a denoiser that is known exactly, and against diffusers'."""

import pytest
import torch

from condgen.diffusion.inversion import invert
from condgen.diffusion.samplers import Init, levels, sample


def last(frames):
    *_, x = frames
    return x


def ideal(mean: float, sd: float):
    """The denoiser of data N(mean, sd^2)."""

    def denoise(x, t, cond):
        a, b = 1 - t.reshape(-1, 1), t.reshape(-1, 1)
        return mean + a * sd**2 / (a**2 * sd**2 + b**2) * (x - a * mean)

    return denoise


@pytest.mark.parametrize("mean, sd", [(0.0, 1.0), (0.7, 0.5), (-1.0, 2.0)])
def test_on_a_gaussian_the_noise_is_the_standardised_data(mean, sd):
    """The flow of N(m, s^2) keeps the number of standard deviations from the mean."""
    eps = torch.linspace(-2, 2, 9)[:, None]
    found = last(invert(ideal(mean, sd), mean + sd * eps, {}, 800))
    torch.testing.assert_close(found, eps, atol=0.02, rtol=0)


@pytest.mark.parametrize("steps", [1, 2, 12, 50])
def test_it_yields_once_a_step(steps):
    assert len(list(invert(ideal(0, 1), torch.zeros(1, 3), {}, steps))) == steps


def test_more_steps_reconstruct_better():
    denoise, x_0 = ideal(0.3, 0.5), torch.linspace(-1, 1, 12)[:, None]
    errors = []
    for steps in (5, 12, 25, 50, 100):
        eps = last(invert(denoise, x_0, {}, steps))
        again = last(sample(denoise, (1,), {}, [torch.Generator()] * 12, steps, init=Init(noise=eps)))
        errors.append((again - x_0).abs().max().item())
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.03


def test_it_equals_the_inverse_scheduler_of_diffusers():
    """From the lowest noise level on; there the two begin differently."""
    from diffusers import DDIMInverseScheduler

    steps, denoise = 12, ideal(0.7, 0.5)
    ours = list(invert(denoise, torch.linspace(-2, 2, 8)[:, None], {}, steps))
    path = torch.tensor(sorted(levels(steps))[1:], dtype=torch.float64)
    scale = ((1 - path) ** 2 + path**2).sqrt()  # x_t over this has the variance of DDPM's path
    alphas = ((1 - path) / scale) ** 2
    betas = 1 - alphas / torch.cat([torch.ones(1), alphas[:-1]])
    plan = DDIMInverseScheduler(
        num_train_timesteps=steps,
        trained_betas=betas.numpy(),
        prediction_type="sample",
        clip_sample=False,
        timestep_spacing="leading",
    )
    plan.set_timesteps(steps)
    x = ours[0] / scale[0]
    for k in range(1, steps):
        x_0 = denoise(x * scale[k - 1], path[k - 1].float()[None], {})
        x = plan.step(x_0, plan.timesteps[k], x).prev_sample.float()
        torch.testing.assert_close(x * scale[k].float(), ours[k], atol=1e-4, rtol=1e-4)
