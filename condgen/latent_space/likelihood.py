"""How likely a variational autoencoder finds images: the evidence bound, and tighter ones by importance weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from condgen.contracts import CondgenError, ProgressCallback
from condgen.files.plots import Curve, plot
from condgen.latent_space.adapters import (
    Images,
    LatentSpace,
    as_float,
    check_pictures,
    device_of,
    is_variational,
    name_of,
    net_of,
)
from condgen.latent_space.result import Analysis, evenly, quiet, sheet
from condgen.losses import kl_normal
from condgen.pipelines.base import generator

AT_ONCE = 2048
"""Codes that are decoded at a time."""
SHOWN = 10
"""Images on the sheet, of either end."""


@dataclass(frozen=True)
class Likelihood(Analysis):
    """What `importance_weighted` found, in nats an image, (N,) each.

    Args:
        nll: upper bound of -log p(x) by all K codes.
        elbo: the evidence bound of log p(x), estimated by the same codes.
        kl: of the posterior from the prior, exact.
    """

    nll: Tensor
    elbo: Tensor
    kl: Tensor


def importance_weighted(
    space: LatentSpace, images: Images, samples: int = 64, seed: int = 0, progress: ProgressCallback = quiet
) -> Likelihood:
    """-log p(x) of a variational autoencoder, bounded by K codes drawn from the posterior.

        log p(x) >= E log 1/K sum_k p(x | z_k) p(z_k) / q(z_k | x)

    K = 1 is the evidence bound, and the bound rises with K to log p(x). The likelihood is that of the model: a density
    for a Gaussian one, which means nothing beside that of another model of pixels.

    Args:
        images: (N, C, S, S).
        samples: K.
        seed: image i draws its codes from seed + i alone.
        progress: called with progress.

    Raises:
        CondgenError: the space is no variational autoencoder, or the images do not fit.

    References:
        Importance Weighted Autoencoders (Burda et al., 2016)
    """
    if not is_variational(space):
        raise CondgenError(f"{name_of(space)} has no likelihood: its codes are no distribution. Take a VAE.")
    check_pictures(space, images)
    if samples < 1:
        raise CondgenError(f"There must be 1 sample or more, got {samples}.")
    rows = max(1, AT_ONCE // samples)
    # made at once: results that are kept between the large tensors of each part would scatter memory, by gigabytes
    weight, kl = torch.empty(len(images), samples, dtype=torch.float64), torch.empty(len(images))
    for k in range(0, len(images), rows):
        progress(k / len(images), f"likelihood of {len(images):,} images, {samples} codes each")
        part = slice(k, k + rows)
        weight[part], kl[part] = log_weights(space, as_float(images[part]), samples, seed + k)
    curve = {k: -bound(weight, k).mean().item() for k in _counts(samples)}
    nll, elbo = -bound(weight, samples), weight.mean(1)
    numbers = {"likelihood": {"nats an image": {
        "negative evidence bound": -elbo.mean().item(), f"NLL, at most (K = {samples})": nll.mean().item(),
        "standard error": (nll.std() / math.sqrt(len(nll))).item(), "KL": kl.mean().item(),
        "pictures": len(nll),
    }}}  # fmt: skip
    return Likelihood(numbers, _drawn(as_float(images), nll, curve), nll.float(), elbo.float(), kl)


@torch.no_grad()
def log_weights(space: LatentSpace, images: Tensor, samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """log p(x | z) + log p(z) - log q(z | x) of codes drawn for each image, (N, K); and the KL divergence, (N,)."""
    device, net = device_of(space), net_of(space)
    if hasattr(net, "seen"):  # a model of black and white takes pixels as such by chance
        images = net.seen(images, generator(seed))
    images = images.to(device)
    mean, log_var = net.posterior(images)
    eps = torch.stack([torch.randn(samples, mean.shape[1], generator=generator(seed + i)) for i in range(len(images))])
    eps = eps.to(device)
    z = mean[:, None] + (log_var / 2).exp()[:, None] * eps  # (N, K, Z)
    prior = -z.square().sum(2) / 2  # the constants of prior and posterior cancel
    own = -(eps.square() + log_var[:, None]).sum(2) / 2
    each = torch.arange(len(images), device=device).repeat_interleave(samples)
    pairs = zip(each.split(AT_ONCE), z.flatten(0, 1).split(AT_ONCE))
    likely = torch.cat([net.log_likelihood(images[rows], codes) for rows, codes in pairs]).unflatten(0, (-1, samples))
    return (likely + prior - own).cpu(), kl_normal(mean, log_var).sum(1).cpu()


def bound(weights: Tensor, k: int) -> Tensor:
    """The bound of log p(x) by k codes, (N,), from the log weights (N, K): the mean over as many groups as K has."""
    groups = weights[:, : weights.shape[1] // k * k].unflatten(1, (-1, k))
    return (groups.logsumexp(2) - math.log(k)).mean(1)


def _counts(samples: int) -> list[int]:
    return [2**i for i in range(int(math.log2(samples)) + 1) if 2**i < samples] + [samples]


def _drawn(x: Tensor, nll: Tensor, curve: dict[int, float]) -> dict[str, bytes]:
    order = nll.argsort()
    few = evenly(len(x), SHOWN)
    ends = (("the likeliest", order[: len(few)]), ("the least likely", order.flip(0)[: len(few)]))
    rows = [(title, x[own], [f"{v:.0f}" for v in nll[own].tolist()]) for title, own in ends]
    bounds = plot([Curve("bound of NLL", [float(k) for k in curve], [*curve.values()])], "codes K", "nats", log=True)
    return {"likelihood.png": sheet(rows), "bound.png": bounds}
