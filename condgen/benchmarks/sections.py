"""The sections of the page, one per method: description, strengths and limits, metrics and images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.linalg import subspace_angles

from condgen import latent_space
from condgen.baselines.pca import PrincipalComponents
from condgen.benchmarks.models import BASELINES, IN_A_ROW, Benchmark, one_line
from condgen.data.batches.base import to_float
from condgen.evaluation.options import TranslationOptions
from condgen.evaluation.report import section, table_of
from condgen.evaluation.translation import read_sides, sheet_of
from condgen.files.images import grid, png_bytes
from condgen.latent_space.inputs import ImageSource
from condgen.latent_space.result import Analysis, sheet
from condgen.latent_space.tools.disentangle import disentangle, read_factors
from condgen.pipelines.base import to_pil
from condgen.recipes import find_recipe
from condgen.tasks.gan import in_every_category

Table = dict[str, dict[str, Any]]


def autoencoders(benchmark: Benchmark) -> list[str]:
    """Autoencoders: linear, MLP, convolutional."""
    names = ("linear", "ae", "conv-ae")
    table: Table = {}
    for name in names:
        model, rows = benchmark.model(name), benchmark.report(name)["reconstruction"]
        row, pca = rows[model.name], next((row for title, row in rows.items() if title.startswith("PCA")), {})
        table[BASELINES[name].title] = {
            "latent dimensions": model.latent, "parameters": _parameters(model), "PSNR": row["PSNR"],
            "SSIM": row.get("SSIM"), "PSNR of PCA, as many components": pca.get("PSNR"),
        } | _images_seen(benchmark, name)  # fmt: skip
    angle, ratio = beside_pca(benchmark.model("linear"), benchmark.images("linear"))
    images = benchmark.shown()
    rows = [("image", images, [])]
    for name in names:
        model = benchmark.model(name)
        rows.append((BASELINES[name].title, model.decode(model.encode(images)), []))
    return [
        *_intro(
            "Autoencoders",
            f"""
            An encoder maps an image to a short code, a decoder maps the code back to an image, and the mean squared
            error trains both. **Can:** keep most of an image in few numbers. A linear one finds the subspace of
            principal component analysis: here the largest angle between both is {angle:.1e} rad, and its error is
            {ratio:.4f} times that of PCA. Nonlinear ones may be better with as many numbers; the table says whether
            they are after so short a training. **Cannot:** generate new images by itself: nothing says which codes
            are those of images.
        """,
        ),
        *table_of(table),
        *benchmark.figure("codes", sheet(rows), "Test images above their reconstructions"),
    ]


def denoising(benchmark: Benchmark) -> list[str]:
    """The denoising autoencoder; its response along tangents and normals of the image manifold."""
    model, images = benchmark.model("dae"), benchmark.shown()
    strength = find_recipe(benchmark.recipe("dae")).base.objective.strength
    noisy = images + strength * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    denoised = model.decode(model.encode(noisy))
    rows = [("image", images, []), ("with noise", noisy.clamp(-1, 1), []), ("denoised", denoised, [])]
    known = benchmark.images("dae").train.images[:5000]
    found = benchmark.analysis("dae", "tangents", lambda m: latent_space.jacobian(m, benchmark.test[:32], real=known))
    before, after = ((x - images).square().mean().item() for x in (noisy, denoised))
    left = f"{after / before:.0%}"
    return [
        *_intro(
            "Denoising autoencoder",
            f"""
            It sees an image with noise (sd {strength:g} on the scale of -1 to 1) and is trained to return the clean
            one. **Can:** map an image back towards the data: of the noise of these {len(images)} test images {left}
            is left, as mean squared error. It learns the surface on which images lie: it keeps changes along that
            surface and removes those that lead away from it; the table compares both. **Cannot:** generate; and it
            removes all that looks like noise, fine detail too.
        """,
        ),
        *benchmark.figure("noise", sheet(rows), "Test images, with noise, denoised"),
        *_tables(found),
        *benchmark.figure("tangents", next(iter(found.sheets.values())), "Images moved along tangents of the surface"),
    ]


def variational(benchmark: Benchmark) -> list[str]:
    """Variational autoencoders: samples and holes in the latent space."""
    table: Table = {}
    for name in ("vae", "conv-vae"):
        report, model = benchmark.report(name), benchmark.model(name)
        line = report["likelihood_in_nats"][model.name]
        wanted = ("bound", "NLL, importance-weighted", "bits per dimension", "kl", "active")
        row = {"PSNR": report["reconstruction"][model.name]["PSNR"]} | {k: line[k] for k in wanted if k in line}
        table[BASELINES[name].title] = row | _quality(report) | _images_seen(benchmark, name)
    plain, report = benchmark.model("conv-ae"), benchmark.report("conv-ae")
    table[BASELINES["conv-ae"].title + ", with a mixture"] = {
        "PSNR": report["reconstruction"][plain.name]["PSNR"]
    } | _quality(report)
    seeds = range(IN_A_ROW)
    rows = [(f"{BASELINES[n].title}, new", benchmark.model(n).sample(seeds), []) for n in ("vae", "conv-vae")]
    rows.append(("plain, from a mixture", plain.sample(seeds), []))
    rng = torch.Generator().manual_seed(0)
    rows.append(("plain, from N(0, 1)", plain.decode(torch.randn(IN_A_ROW, plain.latent, generator=rng)), []))
    lines = []
    for name, title in (("conv-ae", "plain autoencoder"), ("conv-vae", "VAE")):
        known, held = benchmark.images(name).train.images[:5000], benchmark.images(name).test.images[:2000]
        found = benchmark.analysis(name, "holes", lambda m, k=known, h=held: latent_space.holes(m, k, h, 1000))
        lines += [f"Codes of the convolutional {title}:", "", *_tables(found)]
    return [
        *_intro(
            "Variational autoencoder",
            """
            The encoder gives a normal distribution of codes, and a divergence pulls all of them towards one normal
            distribution, the prior. **Can:** generate new images from codes of the prior, and bound the likelihood of
            an image; importance weights tighten the bound. **Cannot:** be sharp: what a code leaves open is averaged.
            A plain autoencoder becomes generative when a mixture of normals is fitted to its codes; codes drawn from
            N(0, 1) instead lie where no image is, and look like it.
        """,
        ),
        *table_of(table),
        *benchmark.figure("new", sheet(rows), "New images from ten codes each"),
        "A drawn code lies in a hole where it is farther from codes of training images than 95 % of those of held-out "
        "images.",
        "",
        *lines,
    ]


def interpolation(benchmark: Benchmark) -> list[str]:
    """Interpolation in the latent space."""
    images = benchmark.images("conv-vae")
    data = images.test
    first = np.unique(data.labels, return_index=True)[1][:6] if data.attributes else np.arange(6)
    ends = to_float(data.images[first])
    known = images.train.images[:10_000]
    found = benchmark.analysis(
        "conv-vae", "interpolation", lambda m: latent_space.interpolate(m, ends[:3], ends[3:6], real=known)
    )
    return [
        *_intro(
            "Interpolation",
            """
            Half of one image over half of another is a double exposure; half way between two codes lies the code of
            an image. **Can:** show that codes follow the surface of images: the table says how far images on the way
            are from the nearest real one. **Cannot:** find a way where there is none: between two kinds of things
            lies an image that is neither.
        """,
        ),
        *_tables(found),
        *benchmark.figure(
            "between", next(iter(found.sheets.values())), "Across pixels, along a line and an arc of codes"
        ),
    ]


def disentanglement(benchmark: Benchmark) -> list[str]:
    """Disentanglement: the beta-VAE on scenes."""
    found = benchmark.analysis("beta-vae", "factors", lambda m: disentangle(m, read_factors(m), 4000))
    figures = [(Path(name).stem, png) for name, png in found.sheets.items()]
    return [
        *_intro(
            "Disentanglement: beta-VAE",
            """
            Drawn scenes of one thing have five factors: shape, colour, size, and two of position. With a larger
            weight of the divergence, latent dimensions that are not needed stay unused, and the others come closer to
            one factor each. **Can:** find some of the factors without labels; the scores say how far (1 is one
            dimension per factor; DCI is by permutation importance on held-out images, not by the forests' own, and not
            comparable with published numbers). **Cannot:** promise it: it depends on data and seed as much as on the
            weight, and costs reconstruction. A sweep over weights and seeds is in [results.md](results.md).
        """,
        ),
        *_tables(found),
        *(
            line
            for name, png in figures
            for line in benchmark.figure(f"factors-{name}", png, f"The beta-VAE on scenes: {name}")
        ),
    ]


def gans(benchmark: Benchmark) -> list[str]:
    """Generative adversarial networks."""
    names, table = ("gan", "dcgan-classic", "dcgan"), {}
    for name in names:
        row = {"parameters": _parameters(benchmark.model(name))} | _quality(benchmark.report(name))
        table[BASELINES[name].title] = row | _images_seen(benchmark, name)
    table["real images"] = _quality(benchmark.report("dcgan"), "real")
    rows = [(BASELINES[n].title, benchmark.model(n).sample(range(IN_A_ROW)), []) for n in names]
    return [
        *_intro(
            "Generative adversarial networks",
            """
            A generator makes images from noise, a critic tells them from real ones, and each learns from the other.
            **Can:** be sharp, for nothing is averaged. **Cannot:** encode an image, nor give its likelihood; and
            nothing makes it cover the data: recall and the missing classes say how much it covers. The classic and
            the modern DCGAN share their generator; the modern one has gradient penalties, augmentation, a
            relativistic loss, a running mean of the weights, and no batch norm in the critic.
        """,
        ),
        *table_of(table),
        *benchmark.figure("games", sheet(rows), "New images by the three, from ten seeds"),
    ]


def infogan(benchmark: Benchmark) -> list[str]:
    """InfoGAN: categories learned without labels."""
    found, model = benchmark.report("infogan").get("categories") or {}, benchmark.model("infogan")
    generated = model.decode(in_every_category(model.draw(range(8)), model.net.config))
    rows = [(f"category {c}", images, []) for c, images in enumerate(generated.split(8))]
    return [
        *_intro(
            "InfoGAN",
            """
            Part of the noise is a category and two numbers, and the critic must infer them from the image. **Can:**
            find kinds of images without labels: the table says how often the category of a test image is that of its
            class, after the best assignment on training images. **Cannot:** find the kinds that people would choose;
            classes that look alike may share a category.
        """,
        ),
        *table_of({name: line for name, line in found.items() if isinstance(line, dict)} or {"": found}),
        *benchmark.figure("categories", sheet(rows), "A category in each row, the same noise in each column"),
    ]


def translation(benchmark: Benchmark) -> list[str]:
    """Image-to-image translation."""
    names = ("edges2picture", "grey2colour", "day2night", "squares2circles")
    tables: dict[str, Table] = {}
    figures: list[str] = []
    for name in names:
        report, model, title = benchmark.report(name), benchmark.model(name), BASELINES[name].title
        for part in ("translation", "cycle", "attributes"):
            for row, line in report.get(part, {}).items():
                tables.setdefault(part, {})[f"{title}: {row}"] = line
        figures += benchmark.figure(name, png_bytes(_translated(model)), f"{title[0].upper()}{title[1:]}")
    return [
        *_intro(
            "Image-to-image translation",
            """
            With pairs, a U-Net learns to map one image to the other, by their distance and a critic of patches;
            without pairs, two generators learn that each undoes the other. **Can:** add what the target side always
            has, and keep what both sides share. **Cannot:** know what the image does not show: in a grey image two
            colours of equal brightness are one; and without pairs only the way back says what is to be kept.
        """,
        ),
        *(line for part, table in tables.items() for line in section(part, table)),
        *figures,
    ]


SECTIONS: dict[str, Callable[[Benchmark], list[str]]] = {
    "autoencoders": autoencoders, "denoising": denoising, "variational": variational, "interpolation": interpolation,
    "disentanglement": disentanglement, "gans": gans, "infogan": infogan, "translation": translation,
}  # fmt: skip
"""In the order of the page."""


def _intro(title: str, text: str) -> list[str]:
    return [f"## {title}", "", one_line(text), ""]


def beside_pca(model, images: ImageSource) -> tuple[float, float]:
    """Compares a linear autoencoder with PCA of its images: the largest angle of the two subspaces in rad, and the
    ratio of the errors.

    PCA is fitted to a few more images, those that the training held out, which contributes to the angle.
    """
    x = to_float(images.train.images)
    pca = PrincipalComponents(x, model.latent, "covariance_eigh")
    angle = subspace_angles(model.net.decoder.map.weight.detach().numpy(), pca.basis.T.numpy()).max()
    with torch.no_grad():
        errors = [(space.decode(space.encode(x)) - x).square().mean() for space in (model.net, pca)]
    return float(angle), (errors[0] / errors[1]).item()


def _translated(model) -> Any:
    """A sheet of test images above their translations."""
    images, labels = sheet_of(model, read_sides(model, TranslationOptions()))
    return grid(to_pil(torch.cat([to_float(image)[None].expand(-1, 3, -1, -1) for image in images])), labels, 8, 80)


def _tables(analysis: Analysis) -> list[str]:
    """The tables of a latent-space tool."""
    return [line for name, rows in analysis.numbers.items() for line in section(name, rows)]


def _parameters(model) -> int:
    return sum(p.numel() for p in model.net.parameters())


def _images_seen(benchmark: Benchmark, name: str) -> dict[str, int]:
    """Number of images seen in a training."""
    lines = (benchmark.runs / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return {"images seen": json.loads(lines[-1])["images"]}


def _quality(report: dict, side: str = "generated") -> dict[str, Any]:
    """The quality of samples in a row: distances, precision, recall, and missing values."""
    row = {name: line.get(side) for name, line in report.get("distances", {}).items()}
    coverage = report.get("coverage", {})
    row |= {name: coverage[name].get(side) for name in ("precision", "recall") if name in coverage}
    return row | {name: line.get(side) for name, line in report.get("diversity", {}).items() if "missing" in name}
