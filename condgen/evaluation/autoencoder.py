"""Evaluation of autoencoders and GANs: reconstruction, likelihood, and their samples.

An autoencoder is compared with PCA of as many components, fitted to the same training images.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from condgen.baselines.pca import MOST, PrincipalComponents
from condgen.contracts import ProgressCallback, Undefined
from condgen.data.batches.base import to_float, to_uint8
from condgen.data.datasets.labels import LabelledImages
from condgen.data.sources.open_images import open_any
from condgen.evaluation.base import Example, Findings, Report, register
from condgen.evaluation.distribution import rgb
from condgen.evaluation.options import SampleOptions, UnconditionalOptions
from condgen.evaluation.reading import read_train_and_test
from condgen.evaluation.samples import evaluate_samples
from condgen.latent_space.tools.likelihood import importance_weighted
from condgen.losses import kl_normal
from condgen.metrics.image_quality import similarity
from condgen.pipelines.latent import LatentModel
from condgen.pipelines.unconditional import UnconditionalDecoder

CHUNK = 256
"""Images or codes that go through the network at a time."""
SHOWN = 16
"""Images of each kind on the sheet."""


@register(LatentModel, options=UnconditionalOptions)
def evaluate_latent_model(model, options: UnconditionalOptions, progress: ProgressCallback) -> Findings:
    """Evaluates the reconstruction and likelihood of a model that encodes, and the samples of one that generates."""
    train, test = read_images(model, options)
    found = Findings({"kind": "unconditional", "data": test.name})
    if model.encodes:
        report, found.sheets["sheet"] = evaluate_reconstruction(
            model, train, test, options.importance_samples, progress
        )
        found.report |= report
    if not model.encodes or model.variational or model.mixture is not None:
        samples = evaluate_samples(model, train, test, options, progress=progress)
        found = replace(found, report=found.report | samples.report, sheets=found.sheets | samples.sheets)
    return found


@register(UnconditionalDecoder, options=SampleOptions)
def evaluate_unconditional_decoder(model, options: SampleOptions, progress: ProgressCallback) -> Findings:
    """Evaluates the samples of a decoder without captions and labels, with or without embeddings."""
    train, test = read_images(model, options)
    found = evaluate_samples(model, train, test, options, progress=progress)
    return replace(found, report={"kind": "unconditional", "data": test.name} | found.report)


def read_images(model, options: SampleOptions) -> tuple[LabelledImages, LabelledImages]:
    """Training and test images; a class that was excluded from training is missing in the training images only."""
    return read_train_and_test(model, options, open_any)


def evaluate_reconstruction(
    model, train: LabelledImages, test: LabelledImages, samples: int, progress: ProgressCallback
) -> tuple[Report, list[Example]]:
    """Reconstruction and likelihood of an autoencoder.

    Args:
        model: a LatentModel that encodes.
        train, test: real images; the scores are those of the second.
        samples: codes per image for the likelihood; 0 skips it.
        progress: called with progress.

    Returns:
        (sections of the report, images, each above its reconstruction)
    """
    rng = torch.Generator().manual_seed(0)
    known = train.rows(np.sort(np.random.default_rng(0).permutation(len(train))[:MOST]))
    images, known = (model.net.binarized(to_float(part.images), rng) for part in (test, known))
    progress(0.0, "reconstruction")
    rebuilt = model.decode(model.encode(images))
    rows = {model.name: similarity(rebuilt, images) | {"N": len(images)}}
    rows["training images"] = similarity(model.decode(model.encode(known)), known) | {"N": len(known)}
    if model.latent < min(known[0].numel(), len(known)):
        pca = PrincipalComponents(known, model.latent)
        rows[pca.name] = similarity(pca.decode(pca.encode(images)).clamp(-1, 1), images)
    report: Report = {"reconstruction": rows}
    if model.variational and samples:
        report["likelihood_in_nats"] = {model.name: _likelihood(model, images, samples, rng, progress)}
    shown: list[Example] = []
    for start in range(0, min(SHOWN, len(images)), 8):
        for name, some in (("image", images), ("reconstruction", rebuilt)):
            shown += [(name, rgb(image), True) for image in to_uint8(some[start : start + 8])]
    return report, shown


def _likelihood(model, images: Tensor, samples: int, rng: torch.Generator, progress: ProgressCallback) -> dict:
    """A row of the table of likelihoods, in nats per image."""
    began = time.perf_counter()
    elbo = bound(model, images, rng)
    estimate = importance_weighted(
        model, images, samples, 0, lambda share, message: progress(0.1 + 0.4 * share, message)
    )
    nll = estimate.nll.double()
    row = {
        "NLL, importance-weighted": nll.mean().item(),
        "standard error": (nll.std() / math.sqrt(len(nll))).item() if len(nll) > 1 else Undefined("one image"),
        "samples": samples, "bound": elbo["nll"], "distortion": elbo["distortion"], "kl": elbo["kl"],
        "active": elbo["active"], "N": len(images), "seconds": time.perf_counter() - began,
    }  # fmt: skip
    if not model.net.config.binary:
        row["bits per dimension"] = (nll.mean().item() / images[0].numel() + math.log(127.5)) / math.log(2)
    return row


@torch.inference_mode()
def bound(model, images: Tensor, rng: torch.Generator) -> dict[str, float]:
    """The evidence lower bound of a variational autoencoder, from one code per image.

    Args:
        model: a LatentModel with a likelihood.
        images: (N, C, S, S) in [-1, 1], binarised if the model needs it, see `Autoencoder.binarized`.
        rng: generator of the codes.

    Returns:
        nll, the upper bound on the negative log likelihood in nats per image; its two terms distortion and kl;
        active, the number of latent dimensions whose mean varies with the image (variance above .01).

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
        "active": float((mean.var(0) > 0.01).sum()) if len(mean) > 1 else Undefined("one image"),
    }
