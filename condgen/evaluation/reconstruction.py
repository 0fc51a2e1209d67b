"""The evidence lower bound of a variational autoencoder."""

from __future__ import annotations

import torch
from torch import Tensor

from condgen.losses import kl_normal

CHUNK = 256


@torch.inference_mode()
def bound_of(model, images: Tensor, rng: torch.Generator) -> dict[str, float]:
    """The evidence bound of a variational autoencoder, from one code an image.

    Args:
        model: a LatentModel with a likelihood.
        images: (N, C, S, S) in [-1, 1], as the model takes them, see `Autoencoder.seen`.
        rng: of the codes.

    Returns:
        nll, the bound from above on the negative log likelihood, in nats an image; distortion and kl, which it is the
        sum of; active, the dimensions whose mean varies with the image (a variance above .01).

    References:
        Importance Weighted Autoencoders (Burda et al., 2016), appendix C, for active dimensions
    """
    mean, log_var = model.posterior(images)
    z = mean + (log_var / 2).exp() * torch.randn(mean.shape, generator=rng)
    parts = zip(images.split(CHUNK), z.split(CHUNK))
    likely = torch.cat([model.net.log_likelihood(x.to(model.device), c.to(model.device)).cpu() for x, c in parts])
    kl = kl_normal(mean, log_var).sum(1)
    return {
        "nll": (kl - likely).mean().item(),
        "distortion": -likely.mean().item(),
        "kl": kl.mean().item(),
        "active": float((mean.var(0) > 0.01).sum()),
    }
