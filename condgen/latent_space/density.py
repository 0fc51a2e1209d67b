"""Where among codes the real images are, and the holes between: what is painted from there is of nothing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from condgen.baselines.mixture import fit_mixture
from condgen.contracts import CondgenError, ProgressCallback
from condgen.latent_space.adapters import (
    Images,
    LatentSpace,
    check_encodes,
    codes_of,
    decoded,
    drawn,
    encoded,
    is_variational,
)
from condgen.latent_space.result import Analysis, Numbers, apart, figure_png, quiet, sheet
from condgen.metrics.anomaly import check_share
from condgen.metrics.prdc import nearest
from condgen.pipelines.base import generator

NEAR = 5
"""A code's density is told by the distance to its so many-th nearest code of a real image."""
COMPONENTS = 10
"""Of the mixture of normals that is fitted to the codes of real images."""
MOST = 10_000
"""Codes of real images that are looked at."""
READ = 1000
"""Codes that are painted and read again."""
SHOWN = 10
"""Images of a row of the sheet."""


class Density:
    """How dense the codes of real images lie around a code, in two ways. Codes are standardised first.

    Args:
        codes: of real images, (N, Z).
        seed: of the mixture.
    """

    def __init__(self, codes: Tensor, seed: int = 0):
        self.middle, spread = codes.mean(0), codes.std(0, correction=0)
        self.spread = spread.clamp(min=1e-6 * spread.max().clamp(min=1e-12))
        self.codes = self._standard(codes)
        self.mixture = fit_mixture(self.codes, COMPONENTS, seed)

    def _standard(self, codes: Tensor) -> Tensor:
        return (codes - self.middle) / self.spread

    def distance(self, codes: Tensor) -> Tensor:
        """To the NEAR-th nearest code of a real image, (N,)."""
        return nearest(self._standard(codes), self.codes, min(NEAR, len(self.codes)))[0][:, -1]

    def log_prob(self, codes: Tensor) -> Tensor:
        """Log density under the mixture, in nats, (N,)."""
        return self.mixture.log_prob(self._standard(codes))


@dataclass(frozen=True)
class Holes(Analysis):
    """What `holes` found.

    Args:
        codes: that were drawn, by where from, (N, Z) each.
        in_hole: bool (N,), of each whether it is farther from real images than `false_alarms` of the held-out ones.
    """

    codes: dict[str, Tensor]
    in_hole: dict[str, Tensor]


def holes(
    space: LatentSpace, known: Images, held: Images, n: int = 2000, false_alarms: float = 0.05, seed: int = 0,
    progress: ProgressCallback = quiet,
) -> Holes:  # fmt: skip
    """Draws codes and looks whether real images lie there.

    Of a variational space the codes of images are drawn from their posteriors: together they should fill the prior.

    Args:
        known: real images that the density is measured by.
        held: others, which say what distance is usual: a code farther than all but `false_alarms` of theirs is in a
            hole.
        n: codes to draw from each source: the space's own draws; a normal with the mean and covariance of the codes,
            which is what one would take without knowing better; and the middle between the codes of two images.
        seed: of everything that is drawn.
        progress: called with progress.

    Raises:
        CondgenError: the space has no encoder, or there are too few images.

    References:
        Resampled Priors for Variational Autoencoders (Bauer, Mnih, 2019), for holes
        From Variational to Deterministic Autoencoders (Ghosh et al., 2020), for mixtures fitted afterwards
    """
    check_encodes(space)
    generator(seed)
    check_share(false_alarms)
    progress(0.0, "codes of real images")
    z, z_held = codes_of(space, known[:MOST], seed), codes_of(space, held[:MOST], seed + 1)
    if len(z) < 2 * NEAR or len(z_held) < 1 / false_alarms:
        raise CondgenError(
            f"There are {len(z)} images to measure the density by, and {len(z_held)} held out; {2 * NEAR} and "
            f"{round(1 / false_alarms)} at least are needed."
        )
    progress(0.3, "density")
    density, rng = Density(z, seed), torch.Generator().manual_seed(seed)
    a, b = (z[torch.randint(0, len(z), (n,), generator=rng)] for _ in range(2))
    sources = {
        "real images, held out": z_held,
        "draws of the model": drawn(space, range(seed, seed + n)),
        "a normal like the codes": normal_like(z, n, rng),
        "between two images": (a + b) / 2,
    }
    if is_variational(space):
        sources["the prior"] = torch.randn(n, z.shape[1], generator=rng)
        del sources["draws of the model"]  # which are of the prior
    distance = {name: density.distance(own) for name, own in sources.items()}
    limit = distance["real images, held out"].quantile(1 - false_alarms)
    in_hole = {name: own > limit for name, own in distance.items()}
    table: Numbers = {"holes": {}}
    for k, (name, own) in enumerate(sources.items()):
        progress(0.5 + 0.4 * k / len(sources), name)
        again = encoded(space, decoded(space, own[:READ]))
        table["holes"][name] = {
            "in holes": in_hole[name].double().mean().item(),
            "distance to real codes": distance[name].mean().item(),
            "log density": density.log_prob(own).mean().item(),
            "lost when painted and read": (apart(again, own[:READ]) / z.std()).mean().item(),
            "codes": len(own),
        }
    pictures = {"holes.png": _sheet(space, sources, distance), "map.png": _map(space, z, sources, in_hole)}
    return Holes(table, pictures, sources, in_hole)


def normal_like(codes: Tensor, n: int, rng: torch.Generator) -> Tensor:
    """Draws of the normal distribution with the mean and covariance of codes, (n, Z)."""
    values, vectors = torch.linalg.eigh(codes.double().T.cov().reshape(codes.shape[1], -1))
    root = (vectors * values.clamp(min=0).sqrt()).float()
    return codes.mean(0) + torch.randn(n, codes.shape[1], generator=rng) @ root.T


def _sheet(space: LatentSpace, sources: dict[str, Tensor], distance: dict[str, Tensor]) -> bytes:
    """Of every source, images from where it is densest and from the deepest holes."""
    rows = []
    for name, codes in sources.items():
        order = distance[name].argsort()
        for where, own in (("dense", order[:SHOWN]), ("hole", order.flip(0)[:SHOWN])):
            rows.append((f"{name}: {where}", decoded(space, codes[own]), [f"{d:.2f}" for d in distance[name][own]]))
    return sheet(rows)


def _map(
    space: LatentSpace, z: Tensor, sources: dict[str, Tensor], in_hole: dict[str, Tensor], most: int = 1500
) -> bytes:
    """The codes on the plane in which they vary most, or as they are where they have two numbers."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from sklearn.decomposition import PCA

    flat = PCA(2).fit(z.numpy()) if z.shape[1] > 2 else None
    across = [name for name in sources if name != "real images, held out"]
    figure, all_axes = pyplot.subplots(1, len(across), figsize=(4.5 * len(across), 4.5), dpi=100, squeeze=False)
    for axes, name in zip(all_axes[0], across):
        own, hole = sources[name][:most], in_hole[name][:most].numpy()
        here, there = (flat.transform(x.numpy()) if flat else x.numpy() for x in (z[:most], own))
        if here.shape[1] == 1:
            here, there = ([[x[0], 0] for x in rows] for rows in (here, there))
            here, there = torch.tensor(here).numpy(), torch.tensor(there).numpy()
        axes.scatter(*here.T, s=4, c="#bbbbbb", label="real images")
        axes.scatter(*there[~hole].T, s=5, c="#2a78d6", label=f"{name}, where images are")
        axes.scatter(*there[hole].T, s=5, c="#eb6834", label=f"{name}, in a hole")
        axes.set_title(f"{name}: {hole.mean():.0%} in holes", fontsize=10)
        axes.legend(fontsize=7, loc="upper right")
    return figure_png(figure)
