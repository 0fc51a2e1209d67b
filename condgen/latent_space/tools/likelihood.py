"""Bound the log-likelihood of a VAE by importance weights."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from condgen.contracts import CondgenError, ProgressCallback
from condgen.files.plots import Curve, plot
from condgen.latent_space.adapters import Images, LatentSpace, as_float, as_space
from condgen.latent_space.registry import Tool, ToolCall, option, positive, register, seed_option
from condgen.latent_space.result import Analysis, no_progress, sheet
from condgen.losses import kl_normal
from condgen.pipelines.base import generator

BATCH = 2048
"""Number of latents that are decoded at a time."""
SHOWN = 10
"""Images on the sheet, from each end of the ranking."""


@dataclass(frozen=True)
class Likelihood(Analysis):
    """The result of `importance_weighted` in nats an image, (N,) each: an upper bound of -log p(x) from all latents, an
    estimate of the evidence lower bound, and the exact KL divergence of the posterior from the prior."""

    nll: Tensor
    elbo: Tensor
    kl: Tensor


def importance_weighted(
    space: LatentSpace, images: Images, samples: int = 64, seed: int = 0, progress: ProgressCallback = no_progress
) -> Likelihood:
    """An upper bound of -log p(x) of a variational autoencoder, from K latents drawn from the posterior.

        log p(x) >= E log 1/K sum_k p(x | z_k) p(z_k) / q(z_k | x)

    K = 1 is the evidence lower bound, and the bound rises with K to log p(x). It is the likelihood of the model: a
    density for a Gaussian likelihood, which cannot be compared with that of another observation model.

    Args:
        images: (N, C, S, S).
        samples: K.
        seed: image i draws its latents from seed + i alone.

    Raises:
        CondgenError: the space is not a variational autoencoder, or the images have a wrong shape.

    References:
        Importance Weighted Autoencoders (Burda et al., 2016)
    """
    space = as_space(space)
    if not space.is_variational:
        raise CondgenError(f"{space.name} has no likelihood: its latents have no distribution. Use a VAE.")
    space.check_images(images)
    if samples < 1:
        raise CondgenError(f"Expected 1 sample or more, got {samples}.")
    rows = max(1, BATCH // samples)
    # allocated at once: results kept between the large tensors of each part would fragment memory, by gigabytes
    weight, kl = torch.empty(len(images), samples, dtype=torch.float64), torch.empty(len(images))
    for k in range(0, len(images), rows):
        progress(k / len(images), f"likelihood of {len(images):,} images, {samples} latents each")
        part = slice(k, k + rows)
        weight[part], kl[part] = log_weights(space, as_float(images[part]), samples, seed + k)
    counts = [2**i for i in range(int(math.log2(samples)) + 1) if 2**i < samples] + [samples]
    curve = {k: -bound(weight, k).mean().item() for k in counts}
    nll, elbo = -bound(weight, samples), weight.mean(1)
    numbers = {"likelihood": {"nats per image": {
        "negative ELBO": -elbo.mean().item(), f"NLL, at most (K = {samples})": nll.mean().item(),
        "standard error": (nll.std() / math.sqrt(len(nll))).item(), "KL": kl.mean().item(), "images": len(nll),
    }}}  # fmt: skip
    return Likelihood(numbers, _draw(as_float(images), nll, curve), nll.float(), elbo.float(), kl)


@torch.no_grad()
def log_weights(space: LatentSpace, images: Tensor, samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """log p(x | z) + log p(z) - log q(z | x) of latents drawn for each image, (N, K); and the KL divergence, (N,)."""
    space = as_space(space)
    device, net = space.device, space.net
    if hasattr(net, "binarized"):  # a Bernoulli model takes grey values as probabilities and draws binary images
        images = net.binarized(images, generator(seed))
    images = images.to(device)
    mean, log_var = net.posterior(images)
    eps = torch.stack([torch.randn(samples, mean.shape[1], generator=generator(seed + i)) for i in range(len(images))])
    eps = eps.to(device)
    z = mean[:, None] + (log_var / 2).exp()[:, None] * eps  # (N, K, Z)
    log_prior = -z.square().sum(2) / 2  # the constants of prior and posterior cancel
    log_posterior = -(eps.square() + log_var[:, None]).sum(2) / 2
    each = torch.arange(len(images), device=device).repeat_interleave(samples)
    batches = zip(each.split(BATCH), z.flatten(0, 1).split(BATCH))
    log_likelihood = torch.cat([net.log_likelihood(images[rows], latents) for rows, latents in batches])
    weights = log_likelihood.unflatten(0, (-1, samples)) + log_prior - log_posterior
    return weights.cpu(), kl_normal(mean, log_var).sum(1).cpu()


def bound(weights: Tensor, k: int) -> Tensor:
    """The bound of log p(x) from k latents, (N,): the mean over the groups of k in the log weights (N, K)."""
    groups = weights[:, : weights.shape[1] // k * k].unflatten(1, (-1, k))
    return (groups.logsumexp(2) - math.log(k)).mean(1)


def _draw(x: Tensor, nll: Tensor, curve: dict[int, float]) -> dict[str, bytes]:
    order = nll.argsort()
    few = min(len(x), SHOWN)
    ends = (("most likely", order[:few]), ("least likely", order.flip(0)[:few]))
    rows = [(title, x[chosen], [f"{v:.0f}" for v in nll[chosen].tolist()]) for title, chosen in ends]
    line = Curve("bound of NLL", [float(k) for k in curve], [*curve.values()])
    return {"likelihood.png": sheet(rows), "bound.png": plot([line], "latents K", "nats", log=True)}


def run(call: ToolCall) -> Likelihood:
    args, source = call.args, call.source
    images = source.load(source.choose(args.n))
    return importance_weighted(call.space, images, args.samples, args.seed, call.progress)


OPTIONS = (
    option("--samples", type=int, default=64, metavar="K", help="latents of every image"),
    option("-n", type=positive, default=1000, metavar="N", help="images of the data"),
    seed_option("the latents"),
)
register(Tool("likelihood", __doc__, OPTIONS, run))
