"""How well images come back from their codes, and what the bound says: numbers about an autoencoder."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from condgen.losses import kl_normal

CHUNK = 256


def errors(back: Tensor, images: Tensor) -> dict[str, float]:
    """How far images that came back are from the given ones, (N, C, S, S) in [-1, 1] both.

    Returns:
        mse, mean over pixels on the scale [-1, 1]; PSNR in decibels, of the mean error, with 2 for the range; SSIM, by
        torchmetrics, where the images have eleven pixels an edge, its window.
    """
    mse = (back - images).square().mean().item()
    found = {"mse": mse, "PSNR": 10 * math.log10(4 / max(mse, 1e-12))}
    if images.shape[-1] >= 11:
        from torchmetrics.functional.image import structural_similarity_index_measure

        found["SSIM"] = structural_similarity_index_measure(back, images, data_range=2.0).item()
    return found


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
