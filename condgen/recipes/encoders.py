"""Recipes of encoders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from condgen.recipes.table import ENCODERS as FAMILY
from condgen.recipes.table import Options, Recipe

if TYPE_CHECKING:
    from condgen.tasks.clip import ClipTask
    from condgen.tasks.selfsup import SelfsupTask

CLIP: Options = {
    "clip": {"image": "resnet", "text": "clip", "image_width": 32, "image_depth": 1},
    "clip_objective": {"negatives": 0, "caption": 0.0},
    "fit": {
        "total_images": 2_000_000, "batch": 128, "lr": 1e-3, "weight_decay": 0.05, "beta_2": 0.98, "decay_start": 0.0,
        "schedule": "cosine",
    },
}  # fmt: skip
CLIP_PATCH: Options = {
    "clip": {"image": "patch", "image_width": 128, "text_width": 128, "depth": 4, "image_depth": 0, "patch": 4}
}
"""Towers that can be exported to open_clip and transformers."""
CLIP_BASE: Options = {
    "data": {"size": 224},
    "clip": {
        "image": "patch", "image_width": 384, "text_width": 384, "embed_dim": 384, "depth": 12, "image_depth": 0,
        "heads": 6, "patch": 16, "vocab": 32_000,
    },
    "fit": {"total_images": 100_000_000, "batch": 1024, "lr": 5e-4, "optimiser": "adamw"},
}  # fmt: skip
"""Exportable towers of the size of ViT-S, for GPUs."""
SELFSUP: Options = {
    "fit": {"total_images": 5_000_000, "batch": 256, "lr": 1e-2, "decay_start": 0.0, "schedule": "cosine"}
}
RESNET18: Options = {
    "backbone": {"width": 64, "depth": 2, "patch": 1, "stages": 4},
    "fit": {"total_images": 10_000_000, "batch": 512},
}
"""A ResNet-18 whose stem does not downsample, for small images, on GPUs."""


def clip_task() -> type[ClipTask]:
    from condgen.tasks.clip import ClipTask

    return ClipTask


def selfsup_task() -> type[SelfsupTask]:
    from condgen.tasks.selfsup import SelfsupTask

    return SelfsupTask


ENCODERS: dict[str, Recipe] = {
    "clip": Recipe(
        FAMILY,
        "CLIP: images and texts to one space; --data is captioned or labelled images",
        clip_task,
        CLIP,
        sizes={"patch": CLIP_PATCH, "base": CLIP_BASE},
        needs_data=True,
    ),
    "selfsup": Recipe(
        FAMILY,
        "SimCLR, MoCo or instance discrimination, by --kind: images to features; --data is images of any kind",
        selfsup_task,
        SELFSUP,
        sizes={"resnet18": RESNET18},
        needs_data=True,
    ),
}
