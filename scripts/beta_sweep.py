"""Trains small beta-VAEs and scores reconstruction against disentanglement over the weight of the divergence.

    python scripts/beta_sweep.py runs/beta
    python scripts/beta_sweep.py runs/beta-nouns --data NOUNS --seeds 2

All see the same number of images, with five seeds each and a Bernoulli likelihood, for which beta is as in the
literature; a minute per model on one thread. Also trained: a divergence with increasing capacity, and PCA. Writes
results.json, results.md and results.png. The same command continues where it stopped.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from condgen import load
from condgen.baselines.pca import PrincipalComponents
from condgen.data.batches.base import to_float
from condgen.data.sources.open_images import open_any
from condgen.evaluation.report import markdown
from condgen.files.images import write_bytes
from condgen.latent_space.result import figure_png
from condgen.latent_space.tools.disentangle import disentangle, read_factors
from condgen.recipes import RECIPES, train
from condgen.training.trainer import FitConfig

LATENT = 10
SHOWN = ("MIG", "DCI disentanglement (permutation)", "FactorVAE score")


def pca_of(data: str, size: int, seed: int) -> PrincipalComponents:
    """Principal components as a latent space."""
    images = open_any(data, size).images
    some = np.random.default_rng(seed).permutation(len(images))[:10_000]
    pca = PrincipalComponents(to_float(images[some]), LATENT, seed=seed)
    pca.about = {"data": data}
    return pca


def space_of(row: str, changes: dict, out: Path, args: argparse.Namespace, seed: int):
    """The trained model of a row, or PCA."""
    if row == "PCA":
        return pca_of(args.data, args.size, seed)
    recipe = "scenes-beta-vae" if args.data == "scenes" else "pictures-beta-vae"
    base = RECIPES[recipe].config()
    shape = replace(base.autoencoder, body="mlp", hidden=(256, 128), latent=LATENT, likelihood="bernoulli")
    fit = FitConfig(total_images=args.images, batch=64, lr=2e-3, optimiser="adamw", weight_decay=0.0, decay_start=0.5)
    fit = replace(fit, schedule="cosine")
    config = replace(
        base, data=replace(base.data, path=args.data, size=args.size), seed=seed, autoencoder=shape,
        fit=fit, eval_count=1, components=0, objective=replace(base.objective, **changes),
    )  # fmt: skip
    return load(train(recipe, out / f"{row.replace(' ', '-')}-{seed}", config))


def rows_of(args: argparse.Namespace) -> dict[str, dict]:
    """Row -> changes of the objective."""
    rows: dict[str, dict] = {"PCA": {}} | {f"beta {beta:g}": {"beta": beta} for beta in args.betas}
    annealed = {"capacity_over": int(0.7 * args.images), "gamma": args.gamma}
    return rows | {f"capacity {nats:g}": {"capacity": nats} | annealed for nats in args.capacities}


def draw(results: dict[str, dict[str, dict]]) -> bytes:
    """A PNG of scores over the error, a dot for every seed, a line through the means of the betas."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(SHOWN), figsize=(13, 4.2), dpi=110)
    colours = pyplot.get_cmap("turbo")(np.linspace(0.05, 0.95, max(len(results), 2)))
    for axes, name in zip(panels, SHOWN):
        line = []
        for colour, (row, seeds) in zip(colours, results.items()):
            x, y = ([scores[key] for scores in seeds.values()] for key in ("mse", name))
            marker = "o" if row.startswith("beta") else "s" if row == "PCA" else "^"
            axes.scatter(x, y, s=22, color=colour, marker=marker, label=row)
            line += [(np.mean(x), np.mean(y))] if marker == "o" else []
        if line:
            axes.plot(*zip(*line), color="grey", linewidth=1, zorder=0)
        axes.set(xlabel="mean squared error of the reconstruction", ylabel=name, ylim=(0, 1))
        axes.grid(alpha=0.3)
    panels[-1].legend(fontsize=8)
    return figure_png(figure)


def table_markdown(results: dict[str, dict[str, dict]]) -> str:
    """Means over the seeds with their sd, as Markdown."""
    table = {}
    for row, seeds in results.items():
        columns = list(next(iter(seeds.values())))
        values = {name: [scores[name] for scores in seeds.values()] for name in columns}
        table[row] = {
            name: f"{np.mean(x):.3g}" + (f" ± {np.std(x, ddof=1):.2g}" if len(x) > 1 and np.ptp(x) else "")
            for name, x in values.items()
        } | {"seeds": len(seeds)}
    return markdown({"disentanglement": table}, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", default="scenes", help="images with two factors or more")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--images", type=int, default=300_000, help="images that every model sees")
    parser.add_argument("--size", type=int, default=32, help="edge of the images")
    parser.add_argument("--scored", type=int, default=5000, help="images that are scored")
    parser.add_argument("--betas", type=float, nargs="*", default=[1, 2, 4, 8, 16])
    parser.add_argument("--capacities", type=float, nargs="*", default=[12], help="in nats")
    parser.add_argument("--gamma", type=float, default=30.0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    kept = args.out / "results.json"
    results: dict[str, dict[str, dict]] = json.loads(kept.read_text()) if kept.exists() else {}
    data = None
    for seed in map(str, range(args.seeds)):  # a first answer after the first seed
        for row, changes in rows_of(args).items():
            if seed in results.get(row, {}):
                continue
            space = space_of(row, changes, args.out, args, int(seed))
            data = read_factors(space, args.data) if data is None else data
            found = disentangle(space, data, n=args.scored, seed=int(seed))
            if seed == "0":
                found.save(args.out / row.replace(" ", "-"))
            results.setdefault(row, {})[seed] = found.scores
            write_bytes(kept, json.dumps(results, indent=1).encode())
            write_bytes(args.out / "results.md", table_markdown(results).encode())
            write_bytes(args.out / "results.png", draw(results))
            print(row, seed, {name: round(found.scores[name], 3) for name in (*SHOWN, "mse")}, flush=True)


if __name__ == "__main__":
    main()
