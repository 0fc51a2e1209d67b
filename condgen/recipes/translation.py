"""Recipes from image to image."""

from __future__ import annotations

from dataclasses import replace

from condgen.baselines.translation import UnpairedObjective
from condgen.data.configs import SidesData
from condgen.recipes.table import TRANSLATION as FAMILY
from condgen.recipes.table import Recipe
from condgen.tasks.translation import GeneratorNetConfig, TranslationTaskConfig
from condgen.training.trainer import FitConfig

_FIT = FitConfig(
    total_images=300_000, batch=8, lr=1e-3, optimiser="adamw", weight_decay=0.0, beta_1=0.5, beta_2=0.999,
    max_grad_norm=1000.0,
)  # fmt: skip
_PAIRED = TranslationTaskConfig(fit=_FIT)
_UNPAIRED = TranslationTaskConfig(
    kind="unpaired",
    objective=UnpairedObjective(),
    net=GeneratorNetConfig(kind="resnet"),
    fit=replace(_FIT, total_images=150_000),
)


def _drawn(origin: str, base: TranslationTaskConfig = _PAIRED) -> TranslationTaskConfig:
    """Of pairs that are made here, small enough to need no shifts."""
    return replace(base, data=SidesData(origin=origin, size=32, random_shift=0))


def _emoji(
    a: str, filter_a: str, filter_b: str, names: tuple[str, str], base: TranslationTaskConfig
) -> TranslationTaskConfig:
    table = "emoji-base.parquet"
    sides = SidesData(a=a or table, b=table, filter_a=filter_a, filter_b=filter_b, match="base", names=names)
    return replace(base, data=sides)


def _classic(c: TranslationTaskConfig) -> TranslationTaskConfig:
    """The nets and the pace of the papers, for GPUs."""
    net = replace(c.net, width=64, blocks=6, norm="instance", dropout=0.5 if c.kind == "paired" else 0.0)
    fit = replace(c.fit, batch=1, lr=2e-4, ema_gamma=0.0, total_images=200 * 1000)
    return replace(c, net=net, objective=replace(c.objective, critic=64), fit=fit)


_SIZES = {"classic": _classic}

TRANSLATION: dict[str, Recipe] = {
    "edges2picture": Recipe(
        FAMILY, "pix2pix, edges to images: drawn scenes, or --data images of any kind", _drawn("edges"), _SIZES
    ),
    "grey2colour": Recipe(
        FAMILY, "pix2pix, grey images to colours: drawn scenes, or --data images of any kind", _drawn("grey"), _SIZES
    ),
    "day2night": Recipe(FAMILY, "pix2pix, drawn scenes by day to the same by night", _drawn("night"), _SIZES),
    "squares2circles": Recipe(
        FAMILY, "CycleGAN, drawn squares to circles and back, without pairs", _drawn("shapes", _UNPAIRED), _SIZES
    ),
    "lineart2colour": Recipe(
        FAMILY,
        "pix2pix, line art of emoji to colours; --data is the folder of the emoji",
        _emoji("emoji-lineart.parquet", "vendor=emojitwo_bw", "vendor=emojitwo", ("lineart", "colour"), _PAIRED),
        _SIZES,
        needs_data=True,
    ),
    "noto2twemoji": Recipe(
        FAMILY,
        "CycleGAN, emoji of one style to another and back, without pairs; --data is the folder of the emoji",
        _emoji("", "vendor=noto", "vendor=twemoji", ("noto", "twemoji"), _UNPAIRED),
        _SIZES,
        needs_data=True,
    ),
    "pairs": Recipe(
        FAMILY,
        "pix2pix, your own pairs; --data is a folder with a/ and b/, or of images side by side",
        _PAIRED,
        _SIZES,
        needs_data=True,
    ),
    "unpaired": Recipe(
        FAMILY,
        "CycleGAN, your own two sets of images, without pairs; --data is a folder with a/ and b/",
        _UNPAIRED,
        _SIZES,
        needs_data=True,
    ),
}
