"""Images off the manifold, brought onto it: by encoding and decoding, again and again, or by searching for a code."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from condgen.contracts import CondgenError, ProgressCallback, short
from condgen.latent_space.adapters import (
    Images,
    LatentSpace,
    as_float,
    check_pictures,
    decoded,
    device_of,
    drawn,
    encodes,
    net_of,
    rebuilt,
)
from condgen.latent_space.neighbours import nearest_real
from condgen.latent_space.result import Analysis, apart, mean_of, quiet, sheet

SPOILED = ("noise", "occlusion", "pixels")
SHOWN = 10
"""Images on the sheet."""


@dataclass(frozen=True)
class Projection(Analysis):
    """What `project` found.

    Args:
        images: of every round, the images as they were first, (rounds + 1, N, C, S, S).
        codes: that paint the last of them where they were searched for, (N, Z).
    """

    images: Tensor
    codes: Tensor | None = None


def project(
    space: LatentSpace, images: Images, clean: Images | None = None, rounds: int = 5, among: Images | None = None,
    search: bool | None = None, starts: int = 4, steps: int = 200, lr: float = 0.1, seed: int = 0,
    progress: ProgressCallback = quiet,
) -> Projection:  # fmt: skip
    """Brings images onto the manifold.

    Args:
        images: (N, C, S, S): with noise, with a part hidden, of another kind.
        clean: the same images unspoiled, to measure whether they are found again.
        rounds: how often an image is encoded and decoded.
        among: real images, to measure how near the results come to any of these.
        search: find by gradient descent the code that paints the image best, `rounds` or no; by default where the
            space does not encode.
        starts, steps, lr: of the search: codes to start from (drawn by the space), steps of Adam, its learning rate.
        seed: of those codes.
        progress: called with progress.

    Raises:
        CondgenError: the images do not fit, or it is to encode and cannot.

    References:
        What Regularized Auto-Encoders Learn from the Data-Generating Distribution (Alain, Bengio, 2014), for rounds
        Generative Visual Manipulation on the Natural Image Manifold (Zhu et al., 2016), for the search
    """
    x = as_float(images)
    check_pictures(space, x)
    if rounds < 1 or starts < 1 or steps < 1:
        raise CondgenError(f"Rounds, starts and steps are 1 or more; got {rounds}, {starts} and {steps}.")
    codes = None
    if search or (search is None and not encodes(space)):
        codes = find_codes(space, x, starts, steps, lr, seed, progress)
        chain = [x, decoded(space, codes)]
    else:
        chain = [x]
        for k in range(rounds):
            progress(k / rounds, f"round {k + 1} of {rounds}")
            chain.append(rebuilt(space, chain[-1]))
    found = torch.stack(chain)
    table = {}
    for k, now in enumerate(chain):
        row = {"moved": apart(now, chain[k - 1]).mean().item() if k else 0.0}
        row |= mean_of(from_the_picture=apart(now, x))
        if clean is not None:
            row |= mean_of(from_the_clean_picture=apart(now, as_float(clean)))
        if among is not None:
            row |= mean_of(to_the_nearest_real_picture=nearest_real(now, among))
        table[(f"round {k}" if k else "as given") if codes is None else ("searched" if k else "as given")] = row
    n = min(SHOWN, len(x))
    rows = [(name, now[:n], []) for name, now in zip(table, chain)]
    if clean is not None:
        rows = [("clean", as_float(clean[:n]), []), *rows]
    return Projection({"projection": table}, {"projection.png": sheet(rows)}, found, codes)


def find_codes(
    space: LatentSpace, images: Tensor, starts: int = 4, steps: int = 200, lr: float = 0.1, seed: int = 0,
    progress: ProgressCallback = quiet,
) -> Tensor:  # fmt: skip
    """The codes whose images are nearest to some, by gradient descent from several starts each: (N, Z) on the CPU.

    Codes of a batch do not know of each other: all are searched for at once.
    """
    device, net, n = device_of(space), net_of(space), len(images)
    target = images.to(device).repeat(starts, 1, 1, 1)
    z = drawn(space, range(seed, seed + starts * n)).to(device).clone().requires_grad_(True)
    optimiser = torch.optim.Adam([z], lr=lr)
    with torch.enable_grad():
        for step in range(steps + 1):
            errors = (net.decode(z) - target).flatten(1).square().mean(1)
            if step == steps:
                break
            (z.grad,) = torch.autograd.grad(errors.sum(), z)  # the network's weights get none
            for group in optimiser.param_groups:
                group["lr"] = lr * (1 - step / steps)
            optimiser.step()
            if step % 10 == 0:
                progress(
                    step / steps, f"searching for codes, {errors.detach().unflatten(0, (starts, n)).amin(0).mean():.4f}"
                )
    best = errors.detach().unflatten(0, (starts, n)).argmin(0)
    return z.detach().unflatten(0, (starts, n))[best, torch.arange(n, device=device)].cpu()


def spoiled(images: Images, how: str, strength: float = 0.5, seed: int = 0) -> Tensor:
    """Images taken off the manifold.

    Args:
        how: `noise` adds normal noise of that standard deviation; `occlusion` hides a square of that share of the edge;
            `pixels` replaces that share of the pixels by any value.
        strength: see there.
        seed: of what is random.

    Raises:
        CondgenError: it is none of these.
    """
    x, rng = as_float(images).clone(), torch.Generator().manual_seed(seed)
    size = x.shape[-1]
    if how == "noise":
        return (x + strength * torch.randn(x.shape, generator=rng)).clamp(-1, 1)
    if how == "pixels":
        hit = torch.rand(x[:, :1].shape, generator=rng) < strength
        return torch.where(hit, 2 * torch.rand(x.shape, generator=rng) - 1, x)
    if how != "occlusion":
        raise CondgenError(f"Images are spoiled by {', '.join(SPOILED)}, not by {short(how)}.")
    edge = min(size, max(1, round(strength * size)))
    corners = torch.randint(0, size - edge + 1, (len(x), 2), generator=rng)
    for picture, (top, left) in zip(x, corners.tolist()):
        picture[:, top : top + edge, left : left + edge] = 0
    return x
