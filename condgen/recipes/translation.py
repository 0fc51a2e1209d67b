"""Recipes of image-to-image translation."""

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


DRAWN = {"size": 32, "random_shift": 0}
"""Options of drawn pairs, which need no random shifts."""
EMOJI = {"a": "emoji-base.parquet", "b": "emoji-base.parquet", "match": "base"}
LINEART = {"a": "emoji-lineart.parquet", "filter_a": "vendor=emojitwo_bw", "filter_b": "vendor=emojitwo"}
NOTO = {"filter_a": "vendor=noto", "filter_b": "vendor=twemoji"}
NET = {"width": 64, "blocks": 6, "norm": "instance", "dropout": 0.5}
CLASSIC: Options = {
    "net": NET,
    "objective": {"critic": 64},
    "fit": {"batch": 1, "lr": 2e-4, "ema_gamma": 0.0, "total_images": 200 * 1000},
}
"""The networks and training options of the papers, for GPUs."""
PAIRED_SIZES: dict[str, Options] = {"classic": CLASSIC}
UNPAIRED_SIZES: dict[str, Options] = {"classic": CLASSIC | {"net": NET | {"dropout": 0.0}}}

TRANSLATION: dict[str, Recipe] = {
    "edges2picture": Recipe(
        FAMILY,
        "pix2pix, edges to images: drawn scenes, or --data images of any kind",
        translation_task,
        PAIRED | {"data": DRAWN | {"origin": "edges"}},
        PAIRED_SIZES,
    ),
    "grey2colour": Recipe(
        FAMILY,
        "pix2pix, grey images to colours: drawn scenes, or --data images of any kind",
        translation_task,
        PAIRED | {"data": DRAWN | {"origin": "grey"}},
        PAIRED_SIZES,
    ),
    "day2night": Recipe(
        FAMILY,
        "pix2pix, drawn scenes by day to the same by night",
        translation_task,
        PAIRED | {"data": DRAWN | {"origin": "night"}},
        PAIRED_SIZES,
    ),
    "squares2circles": Recipe(
        FAMILY,
        "CycleGAN, drawn squares to circles and back, without pairs",
        translation_task,
        UNPAIRED | {"data": DRAWN | {"origin": "shapes"}},
        UNPAIRED_SIZES,
    ),
    "lineart2colour": Recipe(
        FAMILY,
        "pix2pix, line art of emoji to colours; --data is the folder of the emoji",
        translation_task,
        PAIRED | {"data": EMOJI | LINEART | {"names": ("lineart", "colour")}},
        PAIRED_SIZES,
        needs_data=True,
    ),
    "noto2twemoji": Recipe(
        FAMILY,
        "CycleGAN, emoji of one style to another and back, without pairs; --data is the folder of the emoji",
        translation_task,
        UNPAIRED | {"data": EMOJI | NOTO | {"names": ("noto", "twemoji")}},
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
