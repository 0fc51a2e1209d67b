"""The judge of models that are told nothing: what comes back of an image, how likely it is, what new ones are like.

Beside an autoencoder stands PCA with as many numbers, fitted to the same training images: what no bend can beat is
not learned.
"""

from __future__ import annotations

import math
import time

import numpy as np
import torch
from torch import Tensor

from condgen.contracts import CondgenError, ProgressCallback
from condgen.data.batches.captions import to_float, to_uint8
from condgen.data.datasets.labels import LabelledImages
from condgen.data.sources.open_images import open_any
from condgen.evaluation.distribution import rgb
from condgen.evaluation.embed import Example
from condgen.evaluation.reconstruction import bound_of
from condgen.latent_space.tools.likelihood import importance_weighted
from condgen.metrics.image_quality import similarity

PCA_ON = 20_000
"""Training images that PCA is fitted to, at most."""
SHOWN = 16
"""Images of each kind on the sheet."""
READ = ("image_column", "caption_column", "label_column", "split_column", "resize", "filter", "exclude_classes")
"""How images are read, see `data.anything.open_any`."""


def read_any(model, data: str, split: str, asked: dict[str, str | None]) -> tuple[LabelledImages, LabelledImages]:
    """Training and test images, read as those of the training were where nothing else is asked for.

    A class that training left out is left out of the training images alone.

    Args:
        model: a LatentModel; `about["data"]` names its data and `about["reading"]` how it was read.
        data, split, asked: see `evaluation.labels.read_labelled`.
    """
    source = data or model.about.get("data")
    if not source or not isinstance(source, str):
        raise CondgenError(f"{model.name} does not say what it was trained on: name the images with --data.")
    trained = model.about.get("reading")
    trained = trained if isinstance(trained, dict) else {}
    chosen = {name: trained[name] for name in READ if isinstance(trained.get(name), str)}
    chosen |= {name: value for name, value in asked.items() if value is not None}
    exclude = chosen.pop("exclude_classes", "")
    try:
        train = open_any(source, model.size, model.image_channels, split="train", exclude_classes=exclude, **chosen)
        test = open_any(source, model.size, model.image_channels, split=split, **chosen)
    except CondgenError as error:
        hint = "" if data else " The images to judge on are those of the training unless --data names others."
        raise CondgenError(f"{error}{hint}") from None
    return train, test


def evaluate_autoencoder(
    model, train: LabelledImages, test: LabelledImages, importance: int, progress: ProgressCallback
) -> tuple[dict, list[Example]]:
    """Reconstruction and likelihood of an autoencoder.

    Args:
        model: a LatentModel that encodes.
        train, test: real images; what comes back is judged on the second.
        importance: codes an image for the likelihood; 0 leaves it out.
        progress: called with progress.

    Returns:
        (sections of the report, images each above what comes back of it)
    """
    rng = torch.Generator().manual_seed(0)
    images, known = (
        model.net.seen(to_float(part.images), rng) for part in (test, train.rows(_some(len(train), PCA_ON)))
    )
    progress(0.0, "what comes back")
    back = model.decode(model.encode(images))
    report: dict = {"reconstruction": {model.name: similarity(back, images) | {"N": len(images)}}}
    report["reconstruction"]["its training images"] = similarity(model.decode(model.encode(known)), known) | {
        "N": len(known)
    }
    if model.latent < min(known[0].numel(), len(known)):
        report["reconstruction"][f"PCA, {model.latent} numbers"] = similarity(
            pca_back(known, images, model.latent), images
        )
    if model.variational and importance:
        began = time.perf_counter()
        pixels = images[0].numel()
        bound = bound_of(model, images, rng)
        found = importance_weighted(model, images, importance, 0, lambda share, what: progress(0.1 + 0.4 * share, what))
        nll = found.nll.double()
        line = {
            "NLL, importance-weighted": nll.mean().item(),
            "standard error": (nll.std() / math.sqrt(len(nll))).item(),
        }
        line |= {"codes": importance, "bound": bound["nll"], "distortion": bound["distortion"], "kl": bound["kl"]}
        line |= {"active": bound["active"], "N": len(images), "seconds": time.perf_counter() - began}
        if not model.net.config.binary:
            line["bits per dimension"] = (nll.mean().item() / pixels + math.log(127.5)) / math.log(2)
        report["likelihood_in_nats"] = {model.name: line}
    shown: list[Example] = []
    for start in range(0, min(SHOWN, len(images)), 8):
        for name, some in (("picture", images), ("comes back", back)):
            shown += [(name, rgb(picture), True) for picture in to_uint8(some[start : start + 8])]
    return report, shown


def pca_back(known: Tensor, images: Tensor, latent: int) -> Tensor:
    """What comes back of images through so many principal components of others, by scikit-learn."""
    from sklearn.decomposition import PCA

    fitted = PCA(latent, svd_solver="randomized", random_state=0).fit(known.flatten(1).numpy())
    back = fitted.inverse_transform(fitted.transform(images.flatten(1).numpy()))
    return torch.from_numpy(back).float().unflatten(1, images.shape[1:]).clamp(-1, 1)


def _some(n: int, most: int) -> np.ndarray:
    return np.sort(np.random.default_rng(0).permutation(n)[:most])
