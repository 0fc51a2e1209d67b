"""From noise to samples: diffusers' schedulers driven along x_t = (1 - t) x_0 + t eps."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from condgen.contracts import Batch, CondgenError
from condgen.diffusion.precondition import Denoiser


def scheduler(name: str = "dpm++"):
    """A diffusers scheduler for this path: `dpm++` (second order, multistep), `unipc`, or `euler`."""
    flow = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 1.0}
    if name == "dpm++":
        from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

        return DPMSolverMultistepScheduler(**flow)
    if name == "unipc":
        from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

        return UniPCMultistepScheduler(**flow)
    if name == "euler":
        from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

        return FlowMatchEulerDiscreteScheduler()
    raise CondgenError(f"There is no scheduler {name!r}; choose dpm++, unipc or euler.")


def noise(shape: tuple[int, ...], rng: list[torch.Generator]) -> Tensor:
    """(len(rng), *shape): sample i comes from generator i alone, so that a seed names a picture."""
    return torch.stack([torch.randn(shape, generator=generator) for generator in rng])


@torch.inference_mode()
def sample(
    denoise: Denoiser,
    shape: tuple[int, ...],
    cond: Batch,
    rng: list[torch.Generator],
    steps: int,
    solver: str = "dpm++",
    device: torch.device | str = "cpu",
) -> Iterator[Tensor]:
    """Yields the denoiser's estimate of x_0 after every step, and last the sample itself, (B, *shape) each.

    Args:
        denoise: may be guided.
        shape: of one sample.
        cond: B conditions.
        rng: B generators on the CPU.
        steps: calls of the denoiser.
        solver: see `scheduler`.
    """
    plan = scheduler(solver)
    plan.set_timesteps(steps, device=device)
    x_t = noise(shape, rng).to(device)
    for i, timestep in enumerate(plan.timesteps):
        t = plan.sigmas[i].to(device=device, dtype=x_t.dtype)
        x_0 = denoise(x_t, t.expand(len(x_t)), cond)
        yield x_0
        x_t = plan.step((x_t - x_0) / t, timestep, x_t).prev_sample
    yield x_t
