"""Recipes from image to image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from condgen.recipes.table import TRANSLATION as FAMILY
from condgen.recipes.table import Options, Recipe

if TYPE_CHECKING:
    from condgen.tasks.translation import TranslationTask

FIT = {"total_images": 300_000, "batch": 8, "lr": 1e-3, "optimiser": "adamw", "weight_decay": 0.0, "beta_1": 0.5}
FIT |= {"beta_2": 0.999, "max_grad_norm": 1000.0}
PAIRED: Options = {"fit": FIT}
UNPAIRED: Options = {"kind": "unpaired", "net": {"kind": "resnet"}, "fit": FIT | {"total_images": 150_000}}


def translation_task() -> type[TranslationTask]:
    from condgen.tasks.translation import TranslationTask

    return TranslationTask


def _drawn(origin: str) -> Options:
    """Of pairs that are made here, small enough to need no shifts."""
    return {"data": {"origin": origin, "size": 32, "random_shift": 0}}


def _emoji(a: str, filter_a: str, filter_b: str, names: tuple[str, str]) -> Options:
    table = "emoji-base.parquet"
    sides = {"a": a or table, "b": table, "filter_a": filter_a, "filter_b": filter_b, "match": "base", "names": names}
    return {"data": sides}


def _classic(dropout: float) -> dict[str, Options]:
    """The nets and the pace of the papers, for GPUs."""
    net = {"width": 64, "blocks": 6, "norm": "instance", "dropout": dropout}
    fit = {"batch": 1, "lr": 2e-4, "ema_gamma": 0.0, "total_images": 200 * 1000}
    return {"classic": {"net": net, "objective": {"critic": 64}, "fit": fit}}


PAIRED_SIZES, UNPAIRED_SIZES = _classic(dropout=0.5), _classic(dropout=0.0)

TRANSLATION: dict[str, Recipe] = {
    "edges2picture": Recipe(
        FAMILY,
        "pix2pix, edges to images: drawn scenes, or --data images of any kind",
        translation_task,
        PAIRED | _drawn("edges"),
        PAIRED_SIZES,
    ),
    "grey2colour": Recipe(
        FAMILY,
        "pix2pix, grey images to colours: drawn scenes, or --data images of any kind",
        translation_task,
        PAIRED | _drawn("grey"),
        PAIRED_SIZES,
    ),
    "day2night": Recipe(
        FAMILY,
        "pix2pix, drawn scenes by day to the same by night",
        translation_task,
        PAIRED | _drawn("night"),
        PAIRED_SIZES,
    ),
    "squares2circles": Recipe(
        FAMILY,
        "CycleGAN, drawn squares to circles and back, without pairs",
        translation_task,
        UNPAIRED | _drawn("shapes"),
        UNPAIRED_SIZES,
    ),
    "lineart2colour": Recipe(
        FAMILY,
        "pix2pix, line art of emoji to colours; --data is the folder of the emoji",
        translation_task,
        PAIRED | _emoji("emoji-lineart.parquet", "vendor=emojitwo_bw", "vendor=emojitwo", ("lineart", "colour")),
        PAIRED_SIZES,
        needs_data=True,
    ),
    "noto2twemoji": Recipe(
        FAMILY,
        "CycleGAN, emoji of one style to another and back, without pairs; --data is the folder of the emoji",
        translation_task,
        UNPAIRED | _emoji("", "vendor=noto", "vendor=twemoji", ("noto", "twemoji")),
        UNPAIRED_SIZES,
        needs_data=True,
    ),
    "pairs": Recipe(
        FAMILY,
        "pix2pix, your own pairs; --data is a folder with a/ and b/, or of images side by side",
        translation_task,
        PAIRED,
        PAIRED_SIZES,
        needs_data=True,
    ),
    "unpaired": Recipe(
        FAMILY,
        "CycleGAN, your own two sets of images, without pairs; --data is a folder with a/ and b/",
        translation_task,
        UNPAIRED,
        UNPAIRED_SIZES,
        needs_data=True,
    ),
}
