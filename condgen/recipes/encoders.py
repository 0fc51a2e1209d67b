"""Recipes that end in an encoder."""

from __future__ import annotations

from dataclasses import replace

from condgen.data.configs import CaptionData
from condgen.encoders.backbones import BackboneConfig
from condgen.encoders.clip import CLIPConfig
from condgen.encoders.clip_objective import ClipObjective
from condgen.recipes.table import ENCODERS as FAMILY
from condgen.recipes.table import Recipe
from condgen.tasks.clip import ClipTaskConfig
from condgen.tasks.selfsup import SelfsupTaskConfig
from condgen.training.trainer import FitConfig

_CLIP = ClipTaskConfig(
    clip=CLIPConfig(image="resnet", text="clip", image_width=32, image_depth=1),
    clip_objective=ClipObjective(negatives=0, caption=0.0),
    fit=FitConfig(
        total_images=2_000_000, batch=128, lr=1e-3, weight_decay=0.05, beta_2=0.98, decay_start=0.0, schedule="cosine"
    ),
)


def _patch(c: ClipTaskConfig) -> ClipTaskConfig:
    """Towers that can be exported to open_clip and transformers."""
    shape = replace(c.clip, image="patch", image_width=128, text_width=128, depth=4, image_depth=0, patch=4)
    return replace(c, clip=shape)


def _patch_base(c: ClipTaskConfig) -> ClipTaskConfig:
    """The same at the size of ViT-S, for GPUs."""
    shape = CLIPConfig(
        image="patch", text="clip", image_width=384, text_width=384, embed_dim=384, depth=12, heads=6, patch=16,
        vocab=32_000, context=0,
    )  # fmt: skip
    fit = replace(c.fit, total_images=100_000_000, batch=1024, lr=5e-4, optimiser="adamw")
    return replace(c, data=CaptionData(size=224), clip=shape, fit=fit)


_SELFSUP = SelfsupTaskConfig(
    fit=FitConfig(total_images=5_000_000, batch=256, lr=1e-2, decay_start=0.0, schedule="cosine")
)


def _resnet18(c: SelfsupTaskConfig) -> SelfsupTaskConfig:
    """A ResNet-18 whose stem leaves small images whole, for GPUs."""
    fit = replace(c.fit, total_images=10_000_000, batch=512)
    return replace(c, backbone=BackboneConfig(width=64, depth=2, patch=1, stages=4), fit=fit)


ENCODERS: dict[str, Recipe] = {
    "clip": Recipe(
        FAMILY,
        "CLIP: images and texts to one space; --data is captioned or labelled images",
        _CLIP,
        sizes={"patch": _patch, "base": _patch_base},
        needs_data=True,
    ),
    "selfsup": Recipe(
        FAMILY,
        "SimCLR, MoCo or instance discrimination, by --kind: images to features; --data is images of any kind",
        _SELFSUP,
        sizes={"resnet18": _resnet18},
        needs_data=True,
    ),
}
