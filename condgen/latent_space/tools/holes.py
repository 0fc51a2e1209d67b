"""Sample latents, and measure how many lie in holes, far from the latents of real images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from condgen.baselines.mixture import fit_mixture
from condgen.contracts import CondgenError, ProgressCallback
from condgen.latent_space.adapters import Images, LatentSpace, as_space
from condgen.latent_space.measures import rmse
from condgen.latent_space.registry import (
    MAX_REAL,
    Tool,
    ToolCall,
    false_alarms_option,
    option,
    positive,
    register,
    seed_option,
)
from condgen.latent_space.result import Analysis, Numbers, figure_png, no_progress, sheet
from condgen.metrics.anomaly import check_share
from condgen.metrics.prdc import nearest
from condgen.pipelines.base import generator

NEIGHBOUR = 5
"""k: the density around a latent is measured by the distance to the k-th nearest latent of a real image."""
COMPONENTS = 10
"""Components of the Gaussian mixture that is fitted to the latents of real images."""
ROUND_TRIPS = 1000
"""Maximum number of latents of each source that are decoded and encoded again."""
SHOWN = 10
"""Images in a row of the sheet."""
HELD_OUT = "real images, held out"


class Density:
    """The density of real images around a latent, by two measures. Latents are standardised first.

    Args:
        latents: latents of real images, (N, Z).
        seed: seed of the mixture.
    """

    def __init__(self, latents: Tensor, seed: int = 0):
        self.center, spread = latents.mean(0), latents.std(0, correction=0)
        self.spread = spread.clamp(min=1e-6 * spread.max().clamp(min=1e-12))
        self.latents = self._standardise(latents)
        self.mixture = fit_mixture(self.latents, COMPONENTS, seed)

    def _standardise(self, latents: Tensor) -> Tensor:
        return (latents - self.center) / self.spread

    def distance(self, latents: Tensor) -> Tensor:
        """Distance to the NEIGHBOUR-th nearest latent of a real image, (N,)."""
        return nearest(self._standardise(latents), self.latents, min(NEIGHBOUR, len(self.latents)))[0][:, -1]

    def log_prob(self, latents: Tensor) -> Tensor:
        """Log density under the mixture, in nats, (N,)."""
        return self.mixture.log_prob(self._standardise(latents))


@dataclass(frozen=True)
class Holes(Analysis):
    """The result of `holes`: by source, the latents (N, Z), and bool (N,), true for latents in a hole."""

    latents: dict[str, Tensor]
    in_hole: dict[str, Tensor]


def holes(
    space: LatentSpace, train: Images, test: Images, n: int = 2000, false_alarms: float = 0.05, seed: int = 0,
    progress: ProgressCallback = no_progress,
) -> Holes:  # fmt: skip
    """Draws latents from several sources and measures how many lie in holes.

    In a variational space the latents of images are drawn from their posteriors: together they should cover the prior.

    Args:
        train: real images to estimate the density from.
        test: other real images, which set the threshold: a latent is in a hole if it is farther from `train` than all
            but a share `false_alarms` of their latents.
        n: latents from each source: the distribution of the model; a normal distribution with the mean and covariance
            of the real latents; the midpoints of two real latents.
        seed: seed of all random numbers.

    Raises:
        CondgenError: the space has no encoder, or there are too few images.

    References:
        Resampled Priors for Variational Autoencoders (Bauer, Mnih, 2019), for holes
        From Variational to Deterministic Autoencoders (Ghosh et al., 2020), for mixtures fitted afterwards
    """
    space = as_space(space)
    space.check_encoder()
    generator(seed)
    check_share(false_alarms)
    progress(0.0, "latents of real images")
    z, z_test = space.sample_posterior(train[:MAX_REAL], seed), space.sample_posterior(test[:MAX_REAL], seed + 1)
    if len(z) < 2 * NEIGHBOUR or len(z_test) < 1 / false_alarms:
        raise CondgenError(
            f"There are {len(z)} images to measure the density by, and {len(z_test)} held out; at least "
            f"{2 * NEIGHBOUR} and {round(1 / false_alarms)} are needed."
        )
    progress(0.3, "density")
    density, rng = Density(z, seed), torch.Generator().manual_seed(seed)
    a, b = (z[torch.randint(0, len(z), (n,), generator=rng)] for _ in range(2))
    model = space.sample(range(seed, seed + n))
    sources = {HELD_OUT: z_test, "samples of the model": model, "normal fit": normal_fit(z, n, rng),
               "between two images": (a + b) / 2}  # fmt: skip
    if space.is_variational:
        sources["the prior"] = torch.randn(n, z.shape[1], generator=rng)
        del sources["samples of the model"]  # which are of the prior
    distance = {name: density.distance(latents) for name, latents in sources.items()}
    limit = distance[HELD_OUT].quantile(1 - false_alarms)
    in_hole = {name: values > limit for name, values in distance.items()}
    table: Numbers = {"holes": {}}
    for k, (name, latents) in enumerate(sources.items()):
        progress(0.5 + 0.4 * k / len(sources), name)
        some = latents[:ROUND_TRIPS]
        table["holes"][name] = {
            "in holes": in_hole[name].double().mean().item(),
            "distance to real latents": distance[name].mean().item(),
            "log density": density.log_prob(latents).mean().item(),
            "round-trip error": (rmse(space.encode(space.decode(some)), some) / z.std()).mean().item(),
            "latents": len(latents),
        }
    sheets = {"holes.png": _sheet(space, sources, distance), "map.png": _map(z, sources, in_hole)}
    return Holes(table, sheets, sources, in_hole)


def normal_fit(latents: Tensor, n: int, rng: torch.Generator) -> Tensor:
    """Samples of the normal distribution with the mean and covariance of latents, (n, Z)."""
    values, vectors = torch.linalg.eigh(latents.double().T.cov().reshape(latents.shape[1], -1))
    root = (vectors * values.clamp(min=0).sqrt()).float()
    return latents.mean(0) + torch.randn(n, latents.shape[1], generator=rng) @ root.T


def _sheet(space: LatentSpace, sources: dict[str, Tensor], distance: dict[str, Tensor]) -> bytes:
    """Images of every source, from the densest region and from the deepest holes."""
    rows = []
    for name, latents in sources.items():
        order = distance[name].argsort()
        for region, few in (("dense", order[:SHOWN]), ("hole", order.flip(0)[:SHOWN])):
            rows.append((f"{name}: {region}", space.decode(latents[few]), [f"{d:.2f}" for d in distance[name][few]]))
    return sheet(rows)


def _map(z: Tensor, sources: dict[str, Tensor], in_hole: dict[str, Tensor], most: int = 1500) -> bytes:
    """Plots the latents in the plane of their first two principal components; without projection if Z is at most 2."""
    import matplotlib
    import numpy as np

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from sklearn.decomposition import PCA

    pca = PCA(2).fit(z.numpy()) if z.shape[1] > 2 else None

    def flat(latents: Tensor) -> np.ndarray:
        points = pca.transform(latents.numpy()) if pca else latents.numpy()
        return points if points.shape[1] == 2 else np.column_stack([points, np.zeros(len(points), points.dtype)])

    names = [name for name in sources if name != HELD_OUT]
    figure, all_axes = pyplot.subplots(1, len(names), figsize=(4.5 * len(names), 4.5), dpi=100, squeeze=False)
    for axes, name in zip(all_axes[0], names):
        points, hole = flat(sources[name][:most]), in_hole[name][:most].numpy()
        axes.scatter(*flat(z[:most]).T, s=4, c="#bbbbbb", label="real images")
        axes.scatter(*points[~hole].T, s=5, c="#2a78d6", label=f"{name}, near real images")
        axes.scatter(*points[hole].T, s=5, c="#eb6834", label=f"{name}, in a hole")
        axes.set_title(f"{name}: {hole.mean():.0%} in holes", fontsize=10)
        axes.legend(fontsize=7, loc="upper right")
    return figure_png(figure)


def run(call: ToolCall) -> Holes:
    args, source = call.args, call.source
    train, test = source.train.images, source.test.images
    return holes(call.space, train, test, args.n, args.false_alarms, args.seed, call.progress)


OPTIONS = (
    option("-n", type=positive, default=2000, metavar="N", help="latents from each source"),
    false_alarms_option("latents of real images that may count as in a hole"),
    seed_option("everything that is drawn"),
)
register(Tool("holes", __doc__, OPTIONS, run))
