"""Whether the numbers of a code stand for the factors that made the images, one for each: scores and two images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from condgen.contracts import CondgenError, ProgressCallback, listed
from condgen.data.attributes import Attribute
from condgen.data.datasets.labels import LabelledImages
from condgen.data.sources.labels import every_factor, open_labelled
from condgen.latent_space.adapters import LatentSpace, as_float, encoded, is_variational, name_of, rebuilt
from condgen.latent_space.inputs import Pictures
from condgen.latent_space.result import Analysis, figure_png, quiet, sheet
from condgen.latent_space.traversal import traverse
from condgen.metrics.disentanglement import BINS, INACTIVE, dci, entropies, factor_vae_score, mig, mutual_information
from condgen.metrics.image_quality import similarity

READ = ("image_column", "split_column", "filter", "resize", "max_bad_fraction")
"""What is taken over of how the images of the training were read."""
FEWEST = 200
"""Images whose factors must be known."""
QUANTILES = 10
"""Levels that a factor which is a real number is cut into, with as many images each."""
ROWS, REBUILT = 10, 2000
"""Latents on the sheet, and images that the reconstruction is told on, at most."""


@dataclass(frozen=True)
class Disentanglement(Analysis):
    """What `evaluate_disentanglement` found; `numbers["disentanglement"]` has the scores.

    Args:
        information: (Z, K), mutual information of latents and factors as a share of the entropy of the factor.
        factors: the names of the K factors.
    """

    information: np.ndarray
    factors: tuple[str, ...]

    @property
    def scores(self) -> dict[str, float]:
        """By name, the higher the better, but for the error."""
        return next(iter(self.numbers["disentanglement"].values()))


def read_factors(
    space: LatentSpace, data: str = "", split: str = "test", factors: Sequence[str] = (), filter: str = ""
) -> LabelledImages:
    """Images with their factors, as large and in as many colours as a space reads them.

    Args:
        data: labelled images, see `data.labels`; by default those of the training.
        split: which part of them.
        factors: columns; by default all of those that are known, see `labels.every_factor`, or that can be guessed.
        filter: keeps rows of a table.

    Raises:
        CondgenError: nothing there that can be read, or it has no factors.
    """
    pictures = Pictures(space, data, split, {"filter": filter})
    if not pictures.source or not isinstance(pictures.source, str):
        raise CondgenError(f"{name_of(space)} does not say what it was trained on: name images with --data.")
    how = {name: pictures.own[name] for name in READ if name in pictures.own}
    chosen = tuple(factors) or every_factor(pictures.source)
    return open_labelled(
        pictures.source, space.size, space.image_channels, split=split, attribute_columns=chosen, **how
    )


def evaluate_disentanglement(
    space: LatentSpace, data: LabelledImages, n: int = 10_000, seed: int = 0, progress: ProgressCallback = quiet
) -> Disentanglement:
    """Scores of disentanglement, see `metrics.disentanglement`, with what every factor and latent has to do with it.

    Factors that are always the same are left out; images of which one is not known, too. Codes of a plain autoencoder
    have no scale: their largest standard deviation is taken as 1.

    Args:
        space: encodes.
        data: images with two factors or more.
        n: so many of them at most.
        seed: of the choice, and of the forests and votes.
        progress: called with progress.

    Raises:
        CondgenError: no encoder; fewer than two factors that vary, or too few images.
    """
    data, levels = _varying(data, n, seed)
    names = tuple(factor.name for factor in data.attributes)
    progress(0.0, "codes")
    codes = encoded(space, data.images).double().numpy()
    sd = codes.std(0)
    if not sd.any():
        raise CondgenError(f"{name_of(space)} gives the same code to all images of {data.name}.")
    if not is_variational(space):
        codes, sd = codes / sd.max(), sd / sd.max()
    progress(0.1, "mutual information")
    entropy = entropies(levels)
    information = mutual_information(codes, levels)
    gaps = mig(information, entropy)
    progress(0.2, "forests")
    found = dci(codes, levels, seed)
    progress(0.8, "votes")
    vote = factor_vae_score(codes, levels, seed)
    progress(0.9, "what comes back")
    images = as_float(data.images[:REBUILT])
    scores = {
        "MIG": float(gaps.mean()), "DCI disentanglement": found.disentanglement, "DCI completeness": found.completeness,
        "DCI informativeness": found.informativeness, "FactorVAE score": vote,
        "active latents": int((sd >= INACTIVE).sum()),
    } | similarity(rebuilt(space, images).clamp(-1, 1), images) | {"N": len(data)}  # fmt: skip
    shares = information / entropy
    best, most = shares.argmax(0), np.minimum(1, np.log(BINS) / entropy)
    by_factor = {
        name: {
            "levels": data.attributes[k].cardinality, "latent that tells most": f"latent {best[k]}",
            "its share": float(shares[best[k], k]), "gap": float(gaps[k]), "most that bins can tell": float(most[k]),
            "accuracy of a forest": float(found.accuracy[k]), "chance": float(found.chance[k]),
        }
        for k, name in enumerate(names)
    }  # fmt: skip
    order = sorted(range(len(sd)), key=lambda z: (sd[z] < INACTIVE, int(shares[z].argmax()), -shares[z].max()))
    by_latent = {
        f"latent {z}": {"sd": float(sd[z]), "factor": names[shares[z].argmax()]} | dict(zip(names, shares[z].tolist()))
        for z in order
    }
    numbers = {
        "disentanglement": {name_of(space): scores},
        "factors": by_factor,
        "share_of_a_factor_that_a_latent_tells": by_latent,
    }
    sheets = {
        "information.png": _heat(shares[order], [f"latent {z}" for z in order], names),
        "traversals.png": _traversals(space, as_float(data.images), order[:ROWS], shares, names),
    }
    return Disentanglement(numbers, sheets, shares, names)


def _varying(data: LabelledImages, n: int, seed: int) -> tuple[LabelledImages, np.ndarray]:
    """Some of the images, with the factors that vary among them and the levels of these, int64 (N, K)."""
    rows = np.flatnonzero(~np.isnan(data.targets).any(1))
    data = data.rows(np.random.default_rng((seed, 23)).permutation(rows)[:n])
    if len(data) < FEWEST:
        raise CondgenError(f"{data.name} has {len(data)} images whose factors are all known; {FEWEST} are needed.")
    levels = [_levels(factor, codes) for factor, codes in zip(data.attributes, data.targets.T)]
    chosen = [k for k, own in enumerate(levels) if len(np.unique(own)) > 1]
    if len(chosen) < 2:
        there = listed(factor.name for factor in data.attributes)
        raise CondgenError(
            f"Of {data.name} the factors {there} are known, and {len(chosen)} of them vary. Two are needed: name "
            "columns of the table with --attribute-columns."
        )
    data = replace(data, attributes=tuple(data.attributes[k] for k in chosen), targets=data.targets[:, chosen])
    return data, np.stack([levels[k] for k in chosen], axis=1)


def _levels(factor: Attribute, codes: np.ndarray) -> np.ndarray:
    """Codes of a factor as levels from 0, int64 (N,); a real number is cut into QUANTILES of them."""
    if factor.values:
        return codes.astype(np.int64)
    cuts = np.unique(np.quantile(codes, np.linspace(0, 1, QUANTILES + 1)[1:-1]))
    return np.searchsorted(cuts, codes, side="right").astype(np.int64)


def _heat(shares: np.ndarray, latents: Sequence[str], factors: Sequence[str]) -> bytes:
    """A PNG of which latent, by row, tells how much of which factor, by column."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

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
    """A PNG of one image with every latent moved, in the order given, and what the latent tells of."""
    found = traverse(space, images[:1], order, among=images)
    rows = [
        (f"latent {z}: {names[shares[z].argmax()]} {shares[z].max():.2f}", found.images[0, found.latents.index(z)], ())
        for z in order
    ]
    return sheet([("image, and what comes back", torch.cat([images[:1], rebuilt(space, images[:1])]), ()), *rows])
