"""Project images onto the image manifold: by repeated reconstruction, or by a search for the latent."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from condgen.contracts import CondgenError, ProgressCallback, short
from condgen.latent_space.adapters import Images, LatentSpace, as_float, as_space
from condgen.latent_space.measures import means, nearest_real, rmse
from condgen.latent_space.registry import Tool, ToolCall, images_option, option, register
from condgen.latent_space.result import Analysis, no_progress, sheet

CORRUPTIONS = ("noise", "occlusion", "pixels")
SHOWN = 10
"""Images on the sheet."""
SEARCHED = 20
"""Number of images of a search if none are named: a search takes long."""


@dataclass(frozen=True)
class Search:
    """A search for latents by gradient descent.

    Args:
        starts: number of initial latents for each image, drawn by the space.
        steps: steps of Adam.
        lr: learning rate, which falls linearly to 0.
        seed: seed of the initial latents.
    """

    starts: int = 4
    steps: int = 200
    lr: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class Projection(Analysis):
    """The result of `project`: the input images and those after every round, (rounds + 1, N, C, S, S); and the latents
    (N, Z) of a search."""

    images: Tensor
    latents: Tensor | None = None


def project(
    space: LatentSpace, images: Images, clean: Images | None = None, rounds: int = 5, real: Images | None = None,
    search: Search | None = None, progress: ProgressCallback = no_progress,
) -> Projection:  # fmt: skip
    """Projects images onto the image manifold of a model.

    Args:
        images: (N, C, S, S), such as noisy or occluded ones.
        clean: the same images without corruption, to measure how well they are restored.
        rounds: number of times an image is encoded and decoded.
        real: real images; the distance of the results to the nearest one is measured.
        search: search for the latent with the nearest image by gradient descent, instead of the rounds; always used if
            the space has no encoder.

    Raises:
        CondgenError: the images have a wrong shape, or a number of rounds, starts or steps is below 1.

    References:
        What Regularized Auto-Encoders Learn from the Data-Generating Distribution (Alain, Bengio, 2014), for rounds
        Generative Visual Manipulation on the Natural Image Manifold (Zhu et al., 2016), for the search
    """
    space = as_space(space)
    x = as_float(images)
    space.check_images(x)
    if search is None and not space.has_encoder:
        search = Search()
    counts = (rounds, search.starts, search.steps) if search else (rounds,)
    if min(counts) < 1:
        raise CondgenError(f"Rounds, starts and steps are 1 or more; got {', '.join(map(str, counts))}.")
    if search:
        latents = find_latents(space, x, search, progress)
        chain = {"as given": x, "searched": space.decode(latents)}
    else:
        latents, chain, now = None, {"as given": x}, x
        for k in range(rounds):
            progress(k / rounds, f"round {k + 1} of {rounds}")
            chain[f"round {k + 1}"] = now = space.reconstruct(now)
    table, before = {}, x
    for name, now in chain.items():
        row = means(moved=rmse(now, before), from_the_image=rmse(now, x))
        if clean is not None:
            row |= means(from_the_clean_image=rmse(now, as_float(clean)))
        if real is not None:
            row |= means(to_the_nearest_real_image=nearest_real(now, real))
        table[name], before = row, now
    rows = [] if clean is None else [("clean", as_float(clean[:SHOWN]), [])]
    rows += [(name, now[:SHOWN], []) for name, now in chain.items()]
    return Projection({"projection": table}, {"projection.png": sheet(rows)}, torch.stack([*chain.values()]), latents)


def find_latents(
    space: LatentSpace, images: Tensor, search: Search | None = None, progress: ProgressCallback = no_progress
) -> Tensor:
    """Searches for the latents whose images have the least squared error to given images, from several starts each:
    (N, Z) on the CPU. Rows of a batch are independent, so all searches run at once.
    """
    space = as_space(space)
    search = search or Search()
    starts, steps = search.starts, search.steps
    device, net, n = space.device, space.net, len(images)
    target = images.to(device).repeat(starts, 1, 1, 1)
    z = space.sample(range(search.seed, search.seed + starts * n)).to(device).clone().requires_grad_(True)
    optimizer = torch.optim.Adam([z], lr=search.lr)
    with torch.enable_grad():
        for step in range(steps + 1):
            errors = (net.decode(z) - target).flatten(1).square().mean(1)
            if step == steps:
                break
            (z.grad,) = torch.autograd.grad(errors.sum(), z)  # the network's weights get no gradient
            for group in optimizer.param_groups:
                group["lr"] = search.lr * (1 - step / steps)
            optimizer.step()
            if step % 10 == 0:
                best = errors.detach().unflatten(0, (starts, n)).amin(0).mean()
                progress(step / steps, f"searching for latents, mean squared error {best:.4f}")
    best = errors.detach().unflatten(0, (starts, n)).argmin(0)
    return z.detach().unflatten(0, (starts, n))[best, torch.arange(n, device=device)].cpu()


def corrupt(images: Images, kind: str, strength: float = 0.5, seed: int = 0) -> Tensor:
    """Corrupts images.

    Args:
        kind: `noise` adds normal noise of standard deviation `strength`; `occlusion` hides a square whose edge is that
            share of the image's; `pixels` replaces that share of the pixels by uniform values.
        strength: see `kind`.
        seed: seed of the corruption.

    Raises:
        CondgenError: the kind is unknown.
    """
    x, rng = as_float(images).clone(), torch.Generator().manual_seed(seed)
    size = x.shape[-1]
    if kind == "noise":
        return (x + strength * torch.randn(x.shape, generator=rng)).clamp(-1, 1)
    if kind == "pixels":
        hit = torch.rand(x[:, :1].shape, generator=rng) < strength
        return torch.where(hit, 2 * torch.rand(x.shape, generator=rng) - 1, x)
    if kind != "occlusion":
        raise CondgenError(f"A corruption is one of {', '.join(CORRUPTIONS)}, got {short(kind)}.")
    edge = min(size, max(1, round(strength * size)))
    corners = torch.randint(0, size - edge + 1, (len(x), 2), generator=rng)
    for image, (top, left) in zip(x, corners.tolist()):
        image[:, top : top + edge, left : left + edge] = 0
    return x


def run(call: ToolCall) -> Projection:
    args, encodes = call.args, call.space.has_encoder
    names = call.names(100) if encodes else args.images or [str(row) for row in range(SEARCHED)]
    clean = call.source.load_images(names)
    images = corrupt(clean, args.corrupt, args.strength) if args.corrupt else clean
    search = Search(args.starts, args.steps) if args.search or not encodes else None
    return project(call.space, images, clean if args.corrupt else None, args.rounds, call.real, search, call.progress)


OPTIONS = (
    images_option(f"100 of the data, {SEARCHED} for a search"),
    option("--corrupt", choices=CORRUPTIONS, help="corrupt the images first: noise, occlusion, or pixels (any value)"),
    option("--strength", type=float, default=0.5, metavar="S",
           help="standard deviation of the noise, or share of the edge or of the pixels"),
    option("--rounds", type=int, default=5, metavar="K", help="encode and decode K times"),
    option("--search", action="store_true", help="search for the latent instead, as is always done for GANs"),
    option("--starts", type=int, default=4, metavar="K", help="initial latents of the search"),
    option("--steps", type=int, default=200, metavar="K", help="steps of the search"),
)  # fmt: skip
register(Tool("project", __doc__, OPTIONS, run))
