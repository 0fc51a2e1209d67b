"""Find the tangent space of the image manifold, and how the model responds to steps along it and off it.

The images that a decoder generates form a surface in the space of images. The left singular vectors of the decoder's
Jacobian are the tangents, the directions in which an image can change and stay on the surface; the singular values are
the changes of the image for a unit step of the latent. A model that has learned the surface responds to steps along it
and ignores others.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import jvp

from condgen.contracts import ProgressCallback
from condgen.latent_space.adapters import Images, LatentSpace, as_float, as_space
from condgen.latent_space.measures import means
from condgen.latent_space.registry import Tool, ToolCall, images_option, option, positive, register
from condgen.latent_space.result import Analysis, Numbers, evenly_spaced, no_progress, sheet
from condgen.metrics.prdc import nearest
from condgen.metrics.probes import effective_rank

ROWS = 32
"""Images whose Jacobians are held in memory at once."""
RANK_THRESHOLD = 0.01
"""Singular values below this share of the largest do not count towards the rank."""
SHOWN, DIRECTIONS = 6, 7
"""Images and tangents on the sheet."""
OUTPUTS = ("latent", "reconstruction")
"""Outputs whose sensitivity to a step in pixels is measured."""


@dataclass(frozen=True)
class Jacobian(Analysis):
    """The result of `jacobian` for N images of P = C S S numbers.

    Args:
        tangents: an orthonormal basis, in the order of falling singular values, (N, P, min(P, Z)).
        values: singular values of the decoder's Jacobian, (N, min(P, Z)).
        rank: number of singular values above RANK_THRESHOLD of the largest, int64 (N,).
        along, across: for each of OUTPUTS, its change for a unit step in pixels along a tangent, or orthogonal to all
            tangents: root mean square over directions, (N,). Empty if the space has no encoder.
    """

    tangents: Tensor
    values: Tensor
    rank: Tensor
    along: dict[str, Tensor]
    across: dict[str, Tensor]


def jacobian(
    space: LatentSpace, images: Images, across: int = 64, eps: float = 0.1, real: Images | None = None, seed: int = 0,
    progress: ProgressCallback = no_progress,
) -> Jacobian:  # fmt: skip
    """Computes tangents, local rank and sensitivity at images.

    Args:
        images: (N, C, S, S); or latents (N, Z).
        across: number of random directions orthogonal to all tangents, to compare the tangents with.
        eps: length of the steps on the sheet, root mean square per pixel.
        real: real images. Steps from an image to its nearest real images follow the surface of real images, and are
            compared with the same random directions.
        seed: seed of the random directions.

    Raises:
        CondgenError: the images have a wrong shape, or there is no encoder for them.

    References:
        Contractive Auto-Encoders (Rifai et al., 2011); The Manifold Tangent Classifier (Rifai et al., 2011)
        What Regularized Auto-Encoders Learn from the Data-Generating Distribution (Alain, Bengio, 2014)
    """
    space = as_space(space)
    images = torch.as_tensor(images)
    latents = images.float() if images.dim() == 2 else space.encode(images)
    x = space.decode(latents) if images.dim() == 2 else as_float(images)
    space.check_images(x)
    rng = torch.Generator().manual_seed(seed)
    parts = []
    for k in range(0, len(x), ROWS):
        progress(k / len(x), f"Jacobians of {len(x)} images")
        steps = None if real is None else _steps_to_nearest(x[k : k + ROWS], as_float(real))
        parts.append(_measure(space, x[k : k + ROWS], latents[k : k + ROWS], across, steps, rng))
    found = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    sheets = {"tangents.png": _draw(space, x, latents, found["tangents"], found["values"], eps)}
    along, off = ({output: found[f"{side} {output}"] for output in OUTPUTS if f"{side} {output}" in found}
                  for side in ("along", "across"))  # fmt: skip
    return Jacobian(_numbers(found), sheets, found["tangents"], found["values"], found["rank"], along, off)


def decoder_jacobian(net: nn.Module, latents: Tensor) -> Tensor:
    """The Jacobian of `decode` at every latent: (N, Z) -> (N, P, Z).

    Forward mode, one latent dimension of the whole batch at a time: rows of a batch do not depend on each other, so Z
    passes give all Jacobians in the memory of one. torch's vmap would need Z times that, and has no channels_last.
    """
    columns = []
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # raised inside torch when forward mode is first used
        for k in range(latents.shape[1]):
            step = torch.zeros_like(latents)
            step[:, k] = 1
            columns.append(jvp(net.decode, (latents,), (step,))[1].flatten(1))
    return torch.stack(columns, 2)


def encoder_jacobian(net: nn.Module, images: Tensor) -> Tensor:
    """The Jacobian of `encode` at every image: (N, C, S, S) -> (N, Z, P), one latent dimension at a time."""
    with torch.enable_grad():
        x = images.detach().clone().requires_grad_(True)
        latents = net.encode(x)
        rows = [torch.autograd.grad(z.sum(), x, retain_graph=True)[0].flatten(1) for z in latents.T]
    return torch.stack(rows, 1)


def _measure(
    space: LatentSpace, x: Tensor, latents: Tensor, across: int, steps: Tensor | None, rng: torch.Generator
) -> dict[str, Tensor]:
    """Singular vectors and values, ranks, and sensitivities of a few images, by name."""
    device, net = space.device, space.net
    outward = decoder_jacobian(net, latents.to(device)).float()
    basis, values, _ = torch.linalg.svd(outward, full_matrices=False)
    rank = (values > RANK_THRESHOLD * values[:, :1]).sum(1)
    found = {"tangents": basis, "values": values, "rank": rank}
    found["effective"] = torch.tensor([effective_rank(one) for one in outward])
    if space.has_encoder:
        inward = encoder_jacobian(net, x.to(device)).float()
        off = torch.randn(len(x), basis.shape[1], across, generator=rng).to(device)
        off = _normalize(off - basis @ (basis.mT @ off))
        tangent = (torch.arange(values.shape[1], device=device) < rank[:, None]).float()
        directions = {"along": (basis, tangent), "across": (off, torch.ones(len(x), across, device=device))}
        if steps is not None:
            steps = steps.to(device)
            directions["real"] = (steps, torch.ones(len(x), steps.shape[2], device=device))
            found["real share"] = (basis.mT @ steps).square().sum(1).mean(1)
        for side, (vectors, weight) in directions.items():
            moved = inward @ vectors  # (N, Z, K)
            for output, change in zip(OUTPUTS, (moved, outward @ moved)):
                found[f"{side} {output}"] = ((change.square().sum(1) * weight).sum(1) / weight.sum(1)).sqrt()
    return {name: value.cpu() for name, value in found.items()}


def _steps_to_nearest(x: Tensor, real: Tensor, k: int = 8) -> Tensor:
    """Unit steps from images to the k nearest real ones other than themselves, (N, P, k)."""
    flat, real = x.flatten(1), real.flatten(1)
    distances, rows = nearest(flat, real, min(k + 1, len(real)))
    if rows.shape[1] > 1:
        same = (distances[:, :1] < 1e-6).long()
        rows = rows.gather(1, same + torch.arange(rows.shape[1] - 1))
    return _normalize((real[rows] - flat[:, None]).mT)


def _normalize(directions: Tensor) -> Tensor:
    """(N, P, K) -> columns of length 1."""
    return directions / directions.norm(dim=1, keepdim=True).clamp(min=1e-12)


def _numbers(found: dict[str, Tensor]) -> Numbers:
    values = found["values"]
    row = means(
        local_rank=found["rank"], effective_rank=found["effective"], largest_singular_value=values[:, 0],
        log_volume=values.clamp(min=1e-12).log().sum(1),
    )  # fmt: skip
    numbers: Numbers = {"surface": {"mean over images": row | {"images": len(values)}}}
    for output in OUTPUTS if "along latent" in found else ():
        along, across = found[f"along {output}"], found[f"across {output}"]
        ratio = along / across.clamp(min=1e-12)
        row = means(along_tangents=along, across=across, ratio=ratio)
        row |= {"median ratio": ratio.median().item(), "share above 1": (ratio > 1).double().mean().item()}
        if (toward := found.get(f"real {output}")) is not None:
            row |= means(toward_real_neighbours=toward, ratio_of_these=toward / across.clamp(min=1e-12))
        numbers.setdefault("sensitivity", {})[f"of the {output}"] = row
    if "real share" in found:
        numbers["real_neighbours"] = {"their directions": means(share_within_the_tangents=found["real share"])}
    return numbers


def _draw(space: LatentSpace, x: Tensor, latents: Tensor, tangents: Tensor, values: Tensor, eps: float) -> bytes:
    few = evenly_spaced(len(x), SHOWN)
    reconstructions, rows = space.decode(latents[few]), []
    for i, k in enumerate(few.tolist()):
        n = min(DIRECTIONS, tangents.shape[2])
        steps = tangents[k, :, :n].T.reshape(n, *x.shape[1:])
        scaled = steps / steps.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12)  # grey is no change
        captions = ["image", "reconstruction", *(f"s {v:.2g}" for v in values[k, :n].tolist())]
        pair = torch.stack([x[k], reconstructions[i]])
        rows.append(("tangents", torch.cat([pair, scaled]), captions))
        moved = reconstructions[i] + eps * x[k].numel() ** 0.5 * steps
        rows.append(("a step along them", torch.cat([pair, moved]), []))
    return sheet(rows)


def run(call: ToolCall) -> Jacobian:
    images, args = call.source.load(call.names(64)), call.args
    return jacobian(call.space, images, args.across, args.eps, call.real, progress=call.progress)


OPTIONS = (
    images_option("64 of the data"),
    option("--across", type=positive, default=64, metavar="M",
           help="random directions orthogonal to the tangents, to compare with"),
    option("--eps", type=float, default=0.1, metavar="E",
           help="length of the steps on the sheet, RMS per pixel on the scale of -1 to 1"),
)  # fmt: skip
register(Tool("jacobian", __doc__, OPTIONS, run))
