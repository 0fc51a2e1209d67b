"""The tangent space of the manifold at an image: Jacobians of decoder and encoder, and what they say.

The decoder paints a surface among all images. Its Jacobian's left singular vectors are the directions in which a
image can change and stay on it (tangents), and the singular values say how far a step of the code goes. A model that
has learned the surface answers to steps along it and is deaf to steps off it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import jvp

from condgen.contracts import ProgressCallback
from condgen.latent_space.adapters import (
    Images,
    LatentSpace,
    as_float,
    check_pictures,
    decoded,
    device_of,
    encoded,
    encodes,
    net_of,
)
from condgen.latent_space.result import Analysis, Numbers, evenly, mean_of, quiet, seen, sheet
from condgen.metrics.prdc import nearest
from condgen.metrics.probes import effective_rank

ROWS = 32
"""Images whose Jacobians are held at a time."""
FLAT = 0.01
"""Singular values below this share of the largest are no directions of the surface."""
SHOWN, DIRECTIONS = 6, 7
"""Images and directions on the sheet."""


@dataclass(frozen=True)
class Jacobian(Analysis):
    """What `jacobian` found of N images of P = C S S numbers.

    Args:
        tangents: the tangent basis, orthonormal, by falling singular value, (N, P, min(P, Z)).
        values: singular values of the decoder's Jacobian, (N, min(P, Z)).
        rank: how many are above FLAT of the largest, int64 (N,).
        along, across: how much one unit of change in pixels along a tangent, or across all of them, moves what is
            asked, root mean square over directions, (N,) each by what is asked: `code` and `reconstruction`; empty
            where the space does not encode.
    """

    tangents: Tensor
    values: Tensor
    rank: Tensor
    along: dict[str, Tensor]
    across: dict[str, Tensor]


def jacobian(
    space: LatentSpace, images: Images, across: int = 64, eps: float = 0.1, among: Images | None = None, seed: int = 0,
    progress: ProgressCallback = quiet,
) -> Jacobian:  # fmt: skip
    """Tangents, local rank and sensitivity at images.

    Args:
        images: (N, C, S, S); or codes (N, Z), for a space that does not encode.
        across: random directions, orthogonal to all tangents, that tangents are held against.
        eps: how far the images of the sheet go along a tangent, root mean square per pixel.
        among: real images. The differences to the nearest of them are directions of the surface that the model did
            not choose itself, and are held against the same random directions.
        seed: of the random directions.
        progress: called with progress.

    Raises:
        CondgenError: the images do not fit, or there is no encoder for them.

    References:
        Contractive Auto-Encoders (Rifai et al., 2011); The Manifold Tangent Classifier (Rifai et al., 2011)
        What Regularized Auto-Encoders Learn from the Data-Generating Distribution (Alain, Bengio, 2014)
    """
    images = torch.as_tensor(images)
    codes = images.float() if images.dim() == 2 else encoded(space, images)
    x = decoded(space, codes) if images.dim() == 2 else as_float(images)
    check_pictures(space, x)
    rng = torch.Generator().manual_seed(seed)
    parts = []
    for k in range(0, len(x), ROWS):
        progress(k / len(x), f"Jacobians of {len(x)} images")
        near = None if among is None else _steps(x[k : k + ROWS], as_float(among))
        parts.append(_local(space, x[k : k + ROWS], codes[k : k + ROWS], across, near, rng))
    whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    tangents, values, rank = (whole.pop(name) for name in ("tangents", "values", "rank"))
    along, off = ({what: whole[f"{side} {what}"] for what in ("code", "reconstruction") if f"{side} {what}" in whole}
                  for side in ("along", "across"))  # fmt: skip
    real = {what: whole[f"real {what}"] for what in along if f"real {what}" in whole}
    effective = whole["effective"]
    numbers = _numbers(values, rank, effective, along, off, real, whole.get("real share"))
    return Jacobian(numbers, {"tangents.png": _drawn(space, x, codes, tangents, values, eps)}, tangents, values, rank,
                    along, off)  # fmt: skip


def of_decoder(net: nn.Module, codes: Tensor) -> Tensor:
    """The Jacobian of `decode` at every code: (N, Z) -> (N, P, Z).

    One number of all codes is moved at a time (forward mode): codes of a batch do not know of each other, so that Z
    passes give all Jacobians in the memory of one. torch's vmap would need Z times that, and knows no channels_last.
    """
    columns = []
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch about itself, when it first moves forward
        for k in range(codes.shape[1]):
            step = torch.zeros_like(codes)
            step[:, k] = 1
            columns.append(jvp(net.decode, (codes,), (step,))[1].flatten(1))
    return torch.stack(columns, 2)


def of_encoder(net: nn.Module, images: Tensor) -> Tensor:
    """The Jacobian of `encode` at every image: (N, C, S, S) -> (N, Z, P), one number of the code at a time."""
    with torch.enable_grad():
        x = images.detach().clone().requires_grad_(True)
        codes = net.encode(x)
        rows = [torch.autograd.grad(code.sum(), x, retain_graph=True)[0].flatten(1) for code in codes.T]
    return torch.stack(rows, 1)


def _local(
    space: LatentSpace, x: Tensor, codes: Tensor, across: int, near: Tensor | None, rng: torch.Generator
) -> dict[str, Tensor]:
    """Everything about a few images; see `jacobian`."""
    device, net = device_of(space), net_of(space)
    outward = of_decoder(net, codes.to(device)).float()
    basis, values, _ = torch.linalg.svd(outward, full_matrices=False)
    rank = (values > FLAT * values[:, :1]).sum(1)
    found = {"tangents": basis, "values": values, "rank": rank}
    found["effective"] = torch.tensor([effective_rank(one) for one in outward])
    if encodes(space):
        inward = of_encoder(net, x.to(device)).float()
        off = torch.randn(len(x), basis.shape[1], across, generator=rng).to(device)
        off = _unit(off - basis @ (basis.mT @ off))
        own = (torch.arange(values.shape[1], device=device) < rank[:, None]).float()
        directions = {"along": (basis, own), "across": (off, torch.ones(len(x), across, device=device))}
        if near is not None:
            near = near.to(device)
            directions["real"] = (near, torch.ones(len(x), near.shape[2], device=device))
            found["real share"] = (basis.mT @ near).square().sum(1).mean(1)
        for side, (these, weight) in directions.items():
            moved = inward @ these  # (N, Z, K)
            for what, change in (("code", moved), ("reconstruction", outward @ moved)):
                found[f"{side} {what}"] = ((change.square().sum(1) * weight).sum(1) / weight.sum(1)).sqrt()
    return {name: value.cpu() for name, value in found.items()}


def _steps(x: Tensor, among: Tensor, k: int = 8) -> Tensor:
    """Unit steps from images to the nearest real ones, (N, P, k); one that is the image itself is passed over."""
    flat, real = x.flatten(1), among.flatten(1)
    distances, rows = nearest(flat, real, min(k + 1, len(real)))
    first = (distances[:, :1] < 1e-6).long()
    own = rows.gather(1, first + torch.arange(rows.shape[1] - 1)) if rows.shape[1] > 1 else rows
    return _unit((real[own] - flat[:, None]).mT)


def _unit(directions: Tensor) -> Tensor:
    """(N, P, K) -> columns of length 1."""
    return directions / directions.norm(dim=1, keepdim=True).clamp(min=1e-12)


def _numbers(
    values: Tensor, rank: Tensor, effective: Tensor, along: dict, off: dict, real: dict, share: Tensor | None
) -> Numbers:
    numbers: Numbers = {"surface": {"mean over images": mean_of(
        local_rank=rank, effective_rank=effective, largest_singular_value=values[:, 0],
        log_volume=values.clamp(min=1e-12).log().sum(1),
    )}}  # fmt: skip
    numbers["surface"]["mean over images"]["pictures"] = len(values)
    for what in along:
        ratio = along[what] / off[what].clamp(min=1e-12)
        row = mean_of(along_tangents=along[what], across=off[what], ratio=ratio)
        row |= {"median ratio": ratio.median().item(), "share above 1": (ratio > 1).double().mean().item()}
        if what in real:
            toward = real[what] / off[what].clamp(min=1e-12)
            row |= mean_of(toward_real_neighbours=real[what], ratio_of_these=toward)
        numbers.setdefault("sensitivity", {})[f"of the {what}"] = row
    if share is not None:
        numbers["real_neighbours"] = {"their directions": mean_of(share_within_the_tangents=share)}
    return numbers


def _drawn(space: LatentSpace, x: Tensor, codes: Tensor, tangents: Tensor, values: Tensor, eps: float) -> bytes:
    few = evenly(len(x), SHOWN)
    again, rows = decoded(space, codes[few]), []
    for i, k in enumerate(few.tolist()):
        n = min(DIRECTIONS, tangents.shape[2])
        steps = tangents[k, :, :n].T.reshape(n, *x.shape[1:])
        told = ["the image", "as the model has it", *(f"s {v:.2g}" for v in values[k, :n].tolist())]
        pair = torch.stack([x[k], again[i]])
        rows.append(("tangents", torch.cat([pair, seen(steps)]), told))
        length = eps * x[k].numel() ** 0.5
        rows.append(("a step along them", torch.cat([pair, again[i] + length * steps]), []))
    return sheet(rows)
