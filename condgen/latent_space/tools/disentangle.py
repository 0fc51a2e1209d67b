"""Score how well each latent dimension encodes one factor (MIG, DCI by permutation importance, FactorVAE score)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from condgen.contracts import CondgenError, ProgressCallback, listed
from condgen.data.attributes import Attribute
from condgen.data.datasets.labels import LabelledImages
from condgen.data.sources.labels import every_attribute, open_labelled
from condgen.latent_space.adapters import LatentSpace, as_float, as_space
from condgen.latent_space.inputs import ImageSource
from condgen.latent_space.registry import Tool, ToolCall, option, register, seed_option
from condgen.latent_space.result import Analysis, figure_png, no_progress, sheet
from condgen.latent_space.tools.traverse import traverse
from condgen.metrics.disentanglement import (
    BINS,
    DCI_BY,
    INACTIVE,
    dci,
    entropies,
    factor_vae_score,
    mig,
    mutual_information,
)
from condgen.metrics.image_quality import similarity

MIN_IMAGES = 200
"""Minimum number of images with known factors."""
QUANTILES = 10
"""Number of bins of a real-valued factor, with equally many images each."""
MAX_ROWS, MAX_RECONSTRUCTED = 10, 2000
"""Maximum numbers of dimensions on the sheet, and of images for the reconstruction error."""


@dataclass(frozen=True)
class Disentanglement(Analysis):
    """The result of `disentangle`; `numbers["disentanglement"]` has the scores.

    Args:
        information: (Z, K), mutual information of dimensions and factors as a share of the entropy of the factor.
        factors: the names of the K factors.
    """

    information: np.ndarray
    factors: tuple[str, ...]

    @property
    def scores(self) -> dict[str, float]:
        """The scores by name; higher is better, except for the error."""
        return next(iter(self.numbers["disentanglement"].values()))


def read_factors(
    space: LatentSpace, data: str = "", split: str = "test", factors: Sequence[str] = (), filter: str = ""
) -> LabelledImages:
    """Images with their factors, in the size and channels of a latent space.

    Args:
        data: labelled images, see `data.sources.labels`; by default the training data.
        split: the split to read.
        factors: columns of the factors; by default all known ones, see `every_attribute`, or guessed ones.
        filter: keeps rows of a table.

    Raises:
        CondgenError: the data cannot be read, or has no factors.
    """
    space = as_space(space)
    source = ImageSource(space, data, split, {"filter": filter})
    if not source.path or not isinstance(source.path, str):
        raise CondgenError(f"{space.name} does not record its training data: name images with --data.")
    chosen = tuple(factors) or every_attribute(source.path)
    options = source.options.but(attribute_columns=chosen, caption_column="", label_column="", exclude_classes="")
    return open_labelled(source.path, space.size, space.image_channels, options, split=split)


def disentangle(
    space: LatentSpace, data: LabelledImages, n: int = 10_000, seed: int = 0,
    progress: ProgressCallback = no_progress,
) -> Disentanglement:  # fmt: skip
    """Computes the scores in `metrics.disentanglement`, and the mutual information of dimensions and factors.

    Constant factors and images with an unknown factor are ignored. The latents of a plain autoencoder have no fixed
    scale and are divided by their largest standard deviation.

    Args:
        space: a latent space with an encoder.
        data: images with two factors or more.
        n: maximum number of images.
        seed: seed of the choice of images, the forests and the votes.

    Raises:
        CondgenError: there is no encoder, fewer than two factors vary, or there are too few images.
    """
    space = as_space(space)
    data, levels = _varying(data, n, seed)
    names = tuple(factor.name for factor in data.attributes)
    progress(0.0, "latents")
    latents = space.encode(data.images).double().numpy()
    sd = latents.std(0)
    if not sd.any():
        raise CondgenError(f"{space.name} gives the same latent to all images of {data.name}.")
    if not space.is_variational:
        latents, sd = latents / sd.max(), sd / sd.max()
    progress(0.1, "mutual information")
    entropy = entropies(levels)
    information = mutual_information(latents, levels)
    gaps = mig(information, entropy)
    progress(0.2, "forests")
    forests = dci(latents, levels, seed)
    progress(0.8, "votes")
    vote = factor_vae_score(latents, levels, seed)
    progress(0.9, "reconstructions")
    images = as_float(data.images[:MAX_RECONSTRUCTED])
    scores = {
        "MIG": float(gaps.mean()), f"DCI disentanglement ({DCI_BY})": forests.disentanglement,
        f"DCI completeness ({DCI_BY})": forests.completeness,
        f"DCI informativeness ({DCI_BY})": forests.informativeness, "FactorVAE score": vote,
        "active latents": int((sd >= INACTIVE).sum()),
    } | similarity(space.reconstruct(images).clamp(-1, 1), images) | {"N": len(data)}  # fmt: skip
    shares = information / entropy
    best, limit = shares.argmax(0), np.minimum(1, np.log(BINS) / entropy)
    by_factor = {
        name: {
            "values": data.attributes[k].cardinality, "most informative": f"latent {best[k]}",
            "its share": float(shares[best[k], k]), "gap": float(gaps[k]), "upper limit by the bins": float(limit[k]),
            "accuracy of a forest": float(forests.accuracy[k]), "chance": float(forests.chance[k]),
        }
        for k, name in enumerate(names)
    }  # fmt: skip
    order = sorted(range(len(sd)), key=lambda z: (sd[z] < INACTIVE, int(shares[z].argmax()), -shares[z].max()))
    by_latent = {
        f"latent {z}": {"sd": float(sd[z]), "factor": names[shares[z].argmax()]} | dict(zip(names, shares[z].tolist()))
        for z in order
    }
    numbers = {
        "disentanglement": {space.name: scores},
        "factors": by_factor,
        "information_as_a_share_of_entropy": by_latent,
    }
    sheets = {
        "information.png": _heat_map(shares[order], [f"latent {z}" for z in order], names),
        "traversals.png": _traversals(space, as_float(data.images), order[:MAX_ROWS], shares, names),
    }
    return Disentanglement(numbers, sheets, shares, names)


def _varying(data: LabelledImages, n: int, seed: int) -> tuple[LabelledImages, np.ndarray]:
    """At most n images, the factors that vary among them, and their values, int64 (N, K)."""
    rows = np.flatnonzero(~np.isnan(data.targets).any(1))
    data = data.rows(np.random.default_rng((seed, 23)).permutation(rows)[:n])
    if len(data) < MIN_IMAGES:
        raise CondgenError(f"{data.name} has {len(data)} images whose factors are all known; {MIN_IMAGES} are needed.")
    levels = [_levels(factor, targets) for factor, targets in zip(data.attributes, data.targets.T)]
    chosen = [k for k, values in enumerate(levels) if len(np.unique(values)) > 1]
    if len(chosen) < 2:
        raise CondgenError(
            f"The known factors of {data.name} are {listed(factor.name for factor in data.attributes)}, and "
            f"{len(chosen)} of them vary. Two are needed: name columns of the table with --attribute-columns."
        )
    data = replace(data, attributes=tuple(data.attributes[k] for k in chosen), targets=data.targets[:, chosen])
    return data, np.stack([levels[k] for k in chosen], axis=1)


def _levels(factor: Attribute, targets: np.ndarray) -> np.ndarray:
    """Values of a factor as integers from 0, (N,); real numbers are divided into QUANTILES bins."""
    if factor.values:
        return targets.astype(np.int64)
    cuts = np.unique(np.quantile(targets, np.linspace(0, 1, QUANTILES + 1)[1:-1]))
    return np.searchsorted(cuts, targets, side="right").astype(np.int64)


def _heat_map(shares: np.ndarray, latents: Sequence[str], factors: Sequence[str]) -> bytes:
    """A PNG of the information that each latent dimension (row) has about each factor (column)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    if not all(name.isascii() for name in factors):
        from condgen.files.fonts import plot_labels

        matplotlib.rcParams["font.family"], factors = plot_labels(factors)
    figure, axes = pyplot.subplots(figsize=(2 + 0.8 * len(factors), 1.2 + 0.32 * len(latents)), dpi=110)
    shown = axes.imshow(shares, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    axes.set_xticks(range(len(factors)), factors)
    axes.set_yticks(range(len(latents)), latents)
    if shares.size <= 400:
        for z, k in np.ndindex(*shares.shape):
            axes.text(k, z, f"{shares[z, k]:.2f}", ha="center", va="center", fontsize=8,
                      color="white" if shares[z, k] < 0.6 else "black")  # fmt: skip
    axes.set_title("information about the factor,\nas a share of its entropy", fontsize=9)
    figure.colorbar(shown, ax=axes)
    return figure_png(figure)


def _traversals(
    space: LatentSpace, images: Tensor, order: list[int], shares: np.ndarray, names: Sequence[str]
) -> bytes:
    """A PNG of one image with each latent dimension varied, in the given order, titled with the factor it encodes."""
    found = traverse(space, images[:1], order, real=images)
    rows = [
        (f"latent {z}: {names[shares[z].argmax()]} {shares[z].max():.2f}",
         found.images[0, found.dimensions.index(z)], ())
        for z in order
    ]  # fmt: skip
    return sheet([("image and reconstruction", torch.cat([images[:1], space.reconstruct(images[:1])]), ()), *rows])


def run(call: ToolCall) -> Disentanglement:
    args = call.args
    data = read_factors(call.space, args.data, args.split, args.attribute_columns, args.filter)
    return disentangle(call.space, data, args.n, args.seed, call.progress)


OPTIONS = (
    option("-n", type=int, default=10_000, metavar="N", help="maximum number of images"),
    seed_option("the choice of images, the forests and the votes"),
)
register(Tool("disentangle", __doc__, OPTIONS, run))
