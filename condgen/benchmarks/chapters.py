"""The chapters of the page, each about one idea: what it is, what it can and cannot do, numbers and images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.linalg import subspace_angles

from condgen import latent_space
from condgen.benchmarks.models import IN_A_ROW, KINDS, Shelf, said
from condgen.data.batches.captions import to_float
from condgen.evaluation.report import table_of
from condgen.evaluation.translation import read_sides, sheet_of
from condgen.files.images import grid, png_bytes
from condgen.latent_space.inputs import ImageSource
from condgen.latent_space.result import Analysis, sheet
from condgen.latent_space.tools.disentangle import disentangle, read_factors
from condgen.pipelines.base import to_pil
from condgen.recipes import find_recipe
from condgen.tasks.gan import in_every_category

Table = dict[str, dict[str, Any]]


def codes(shelf: Shelf) -> list[str]:
    """Linear, perceptrons, convolutions."""
    names = ("linear", "ae", "conv-ae")
    table: Table = {}
    for name in names:
        model, rows = shelf.model(name), shelf.report(name)["reconstruction"]
        own, pca = rows[model.name], next((row for title, row in rows.items() if title.startswith("PCA")), {})
        table[KINDS[name].title] = {
            "numbers in the code": model.latent, "parameters": _parameters(model), "PSNR": own["PSNR"],
            "SSIM": own.get("SSIM"), "PCA with as many numbers, PSNR": pca.get("PSNR"),
        } | _seen(shelf, name)  # fmt: skip
    angle, ratio = beside_pca(shelf.model("linear"), shelf.pictures("linear"))
    images = shelf.shown()
    rows = [("picture", images, [])]
    rows += [(KINDS[n].title, shelf.model(n).decode(shelf.model(n).encode(images)), []) for n in names]
    return [
        "## An image through a few numbers: autoencoders",
        "",
        said(f"""
            An encoder turns an image into a short code, a decoder turns the code back into an image, and the mean
            squared error teaches both. **Can:** keep most of an image in few numbers. A linear one finds what
            principal component analysis finds: here the largest angle between the two subspaces is {angle:.1e} rad,
            and its error {ratio:.4f} times that of PCA. Bends may do better with as many numbers; whether they do
            after so short a training stands beside. **Cannot:** paint anything new by itself: nothing says which
            codes are those of images.
        """),
        "",
        *table_of(table),
        *shelf.show("codes", sheet(rows), "Test images above what comes back of them"),
    ]


def noise(shelf: Shelf) -> list[str]:
    """Denoising, and tangents against normals."""
    model, images = shelf.model("dae"), shelf.shown()
    strength = find_recipe(shelf.recipe("dae")).base.objective.strength
    spoilt = images + strength * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    back = model.decode(model.encode(spoilt))
    rows = [("picture", images, []), ("with noise", spoilt.clamp(-1, 1), []), ("comes back", back, [])]
    found = shelf.study(
        "dae",
        "tangents",
        lambda m: latent_space.jacobian(m, shelf.test[:32], real=shelf.pictures("dae").train.images[:5000]),
    )
    before, after = ((x - images).square().mean().item() for x in (spoilt, back))
    return [
        "## Noise taken away: the denoising autoencoder",
        "",
        said(f"""
            It is shown an image with noise (sd {strength:g} on the scale of -1 to 1) and asked for the clean one.
            **Can:** bring an image back to where images are: of the noise of these {len(images)} test images
            {after / before:.0%} is left, as mean squared error. What it learns is where the surface of images
            lies: it passes on what changes along that surface, and takes away what leads off it. The table holds
            both against each other. **Cannot:** draw anew; and what it takes away is what it takes for noise, fine
            detail too.
        """),
        "",
        *shelf.show("noise", sheet(rows), "Test images, with noise, and what comes back"),
        *_tables(found),
        *shelf.show("tangents", next(iter(found.sheets.values())), "Images moved along the tangents of the surface"),
    ]


def distributions(shelf: Shelf) -> list[str]:
    """VAEs, new images, holes."""
    table: Table = {}
    for name in ("vae", "conv-vae"):
        report, model = shelf.report(name), shelf.model(name)
        line = report["likelihood_in_nats"][model.name]
        wanted = ("bound", "NLL, importance-weighted", "bits per dimension", "kl", "active")
        own = {"PSNR": report["reconstruction"][model.name]["PSNR"]} | {k: line[k] for k in wanted if k in line}
        table[KINDS[name].title] = own | _quality(report) | _seen(shelf, name)
    table[KINDS["conv-ae"].title + ", with a mixture"] = {
        "PSNR": shelf.report("conv-ae")["reconstruction"][shelf.model("conv-ae").name]["PSNR"]
    } | _quality(shelf.report("conv-ae"))
    seeds = range(IN_A_ROW)
    rows = [(f"{KINDS[n].title}, new", shelf.model(n).sample(seeds), []) for n in ("vae", "conv-vae")]
    plain = shelf.model("conv-ae")
    rows.append(("plain, from a mixture", plain.sample(seeds), []))
    rng = torch.Generator().manual_seed(0)
    rows.append(("plain, from N(0, 1)", plain.decode(torch.randn(IN_A_ROW, plain.latent, generator=rng)), []))
    lines = []
    for name in ("conv-ae", "conv-vae"):
        known, held = shelf.pictures(name).train.images[:5000], shelf.pictures(name).test.images[:2000]
        found = shelf.study(name, "holes", lambda m, k=known, h=held: latent_space.holes(m, k, h, 1000))
        lines += [f"Codes of the {'plain one' if name == 'conv-ae' else 'VAE'} of convolutions:", "", *_tables(found)]
    return [
        "## A distribution of codes: the variational autoencoder",
        "",
        said("""
            An image has a normal distribution of codes, and a divergence draws all of them together towards one
            normal distribution, the prior. **Can:** paint new images from codes that are drawn, and say how
            likely an image is, at least so likely: the bound, and closer by importance weights. **Cannot:** be
            sharp: what a code leaves open is averaged. A plain autoencoder becomes generative when a mixture of
            normals is fitted to its codes; codes drawn without that, from N(0, 1), lie where no image ever was,
            and look like it.
        """),
        "",
        *table_of(table),
        *shelf.show("new", sheet(rows), "New images: ten codes each"),
        said("""
            Codes that are drawn can fall into holes, where no real image's code is: farther from these than 95 %
            of those of held-out images.
        """),
        "",
        *lines,
    ]


def between(shelf: Shelf) -> list[str]:
    """Interpolation."""
    pictures = shelf.pictures("conv-vae")
    data = pictures.test
    first = np.unique(data.labels, return_index=True)[1][:6] if data.attributes else np.arange(6)
    ends = to_float(data.images[first])
    found = shelf.study(
        "conv-vae",
        "between images",
        lambda m: latent_space.interpolate(m, ends[:3], ends[3:6], real=pictures.train.images[:10_000]),
    )
    return [
        "## Between two images",
        "",
        said("""
            Half of one image over half of another is no image, but a double exposure; half way between two
            codes lies the code of something. **Can:** show that the codes follow the surface of images: the
            numbers say how far images on the way are from the nearest real one. **Cannot:** know a way where
            there is none: between two kinds of things something is painted that is neither.
        """),
        "",
        *_tables(found),
        *shelf.show("between", next(iter(found.sheets.values())), "Across pixels, along a line and a circle of codes"),
    ]


def factors(shelf: Shelf) -> list[str]:
    """Disentanglement on scenes."""
    found = shelf.study("beta-vae", "factors", lambda m: disentangle(m, read_factors(m), 4000))
    pictures = iter(found.sheets.items())
    shown: list[str] = []
    for name, png in pictures:
        shown += shelf.show(f"factors-{Path(name).stem}", png, f"The beta-VAE on scenes: {Path(name).stem}")
    return [
        "## What varies: the beta-VAE",
        "",
        said("""
            Drawn scenes of one thing have five factors: shape, colour, size, and two of place. With the divergence
            weighed more, a number of the code that is not needed stays unused, and the others come closer to one
            factor each. **Can:** find some of the factors without ever being told of them; how far, is what the
            scores say (1 is each factor in a number of its own). **Cannot:** promise it: what makes it work is the
            data and the seed as much as the weight, and what it costs is the image. A sweep over weights and
            seeds is in [results.md](results.md).
        """),
        "",
        *_tables(found),
        *shown,
    ]


def games(shelf: Shelf) -> list[str]:
    """GANs."""
    names, table = ("gan", "dcgan-classic", "dcgan"), {}
    for name in names:
        report = shelf.report(name)
        table[KINDS[name].title] = (
            {"parameters": _parameters(shelf.model(name))} | _quality(report) | _seen(shelf, name)
        )
    table["real images"] = _quality(shelf.report("dcgan"), "real")
    rows = [(KINDS[n].title, shelf.model(n).sample(range(IN_A_ROW)), []) for n in names]
    return [
        "## A game: generative adversarial networks",
        "",
        said("""
            A generator paints from noise, a critic tells its images from real ones, and each learns from the
            other. **Can:** be sharp, for nothing is averaged. **Cannot:** say what code an image has, nor how
            likely it is; and nothing makes it paint everything: recall, and the classes that are missing, say how
            much of the data it paints. The classic and the modern DCGAN share their generator; the modern one has
            penalties on the critic's slope, augmentation, a game of pairs, a running mean of the weights, and no
            batch norm in the critic.
        """),
        "",
        *table_of(table),
        *shelf.show("games", sheet(rows), "New images by the three, from ten seeds"),
    ]


def categories(shelf: Shelf) -> list[str]:
    """InfoGAN."""
    report, model = shelf.report("infogan"), shelf.model("infogan")
    own = report.get("categories") or {}
    generated = model.decode(in_every_category(model.draw(range(8)), model.net.config))
    rows = [(f"category {c}", images, []) for c, images in enumerate(generated.split(8))]
    return [
        "## Codes that can be read off the image: InfoGAN",
        "",
        said("""
            Part of the noise is a category and two numbers, and the critic must be able to read these off the
            image. **Can:** find kinds of images without labels: the table says how often the category that it
            reads off a test image is that of the image's class, after the best assignment of the one to the
            other on training images. **Cannot:** be asked for kinds that people would choose; two classes that
            look alike may share a category.
        """),
        "",
        *table_of({name: line for name, line in own.items() if isinstance(line, dict)} or {"": own}),
        *shelf.show("categories", sheet(rows), "A category in each row, the same noise in each column"),
    ]


def translation(shelf: Shelf) -> list[str]:
    """Image to image."""
    names = ("edges2picture", "grey2colour", "day2night", "squares2circles")
    tables: dict[str, Table] = {}
    shown: list[str] = []
    for name in names:
        report, model = shelf.report(name), shelf.model(name)
        for section in ("translation", "there_and_back", "attributes"):
            for row, line in report.get(section, {}).items():
                tables.setdefault(section, {})[f"{KINDS[name].title}: {row}"] = line
        shown += shelf.show(
            name, png_bytes(_translated(model)), f"{KINDS[name].title[0].upper()}{KINDS[name].title[1:]}"
        )
    lines = [
        line for section, table in tables.items() for line in (f"**{section.replace('_', ' ')}**", "", *table_of(table))
    ]
    return [
        "## Image to image: translation",
        "",
        said("""
            With pairs at hand a U-Net learns to turn the one image into the other, by their distance and by a
            critic of patches; without pairs two generators learn, each the other's way back. **Can:** put in what
            the other side always has, and leave what both share. **Cannot:** know what the image does not tell:
            from a grey image two colours that are equally bright are one; and without pairs nothing but the way
            back says what is to stay.
        """),
        "",
        *lines,
        *shown,
    ]


CHAPTERS: dict[str, Callable[[Shelf], list[str]]] = {
    "codes": codes, "noise": noise, "distributions": distributions, "between": between, "factors": factors,
    "games": games, "categories": categories, "translation": translation,
}  # fmt: skip
"""In the order of the page."""


# What they share --------------------------------------------------------------------------------------------------


def beside_pca(model, pictures: ImageSource) -> tuple[float, float]:
    """A linear autoencoder beside PCA of its images: the largest angle of the two subspaces, and the ratio of errors.

    Its run held a few of these out, which PCA sees here: the angle is that between the two data sets, too.
    """
    from sklearn.decomposition import PCA

    x = to_float(pictures.train.images).flatten(1)
    fitted = PCA(model.latent, svd_solver="covariance_eigh").fit(x.numpy())
    angle = subspace_angles(model.net.decoder.map.weight.detach().numpy(), fitted.components_.T).max()
    with torch.no_grad():
        back = model.net.decode(
            model.net.encode(x.unflatten(1, (model.image_channels, model.size, model.size)))
        ).flatten(1)
    least = torch.from_numpy(fitted.inverse_transform(fitted.transform(x.numpy())))
    return float(angle), ((back - x).square().mean() / (least - x).square().mean()).item()


def _translated(model) -> Any:
    """Images of the training's kind above their translations, as a sheet."""
    images, labels = sheet_of(model, read_sides(model, "", "test"))
    return grid(to_pil(torch.cat([to_float(image)[None].expand(-1, 3, -1, -1) for image in images])), labels, 8, 80)


def _tables(study: Analysis) -> list[str]:
    """The tables of a tool."""
    lines: list[str] = []
    for section, rows in study.numbers.items():
        lines += [f"**{section.replace('_', ' ')}**", "", *table_of(rows)]
    return lines


def _parameters(model) -> int:
    return sum(p.numel() for p in model.net.parameters())


def _seen(shelf: Shelf, name: str) -> dict[str, int]:
    """How many images a training saw."""
    lines = (shelf.runs / name / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return {"images seen": json.loads(lines[-1])["images"]}


def _quality(report: dict, side: str = "generated") -> dict[str, Any]:
    """What new images are like, in a line: distances, precision, recall, and what is missing."""
    line: dict[str, Any] = {}
    for name, row in report.get("distances", {}).items():
        line[name] = row.get(side)
    for name in ("precision", "recall"):
        if name in report.get("coverage", {}):
            line[name] = report["coverage"][name].get(side)
    for name, row in report.get("variety", {}).items():
        if "missing" in name:
            line[name] = row.get(side)
    return line
