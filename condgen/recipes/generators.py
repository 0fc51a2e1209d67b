"""Recipes of text-to-image and class-to-image models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from condgen.recipes.table import CLASSIC_GAN, LABELS, WORDS, Options, Recipe

if TYPE_CHECKING:
    from condgen.tasks.class_to_image import ClassToImageTask
    from condgen.tasks.text_to_image import TextToImageTask

FIT_CGAN = {"total_images": 300_000, "batch": 32, "lr": 1e-3, "optimiser": "adamw", "weight_decay": 0.0}
FIT_CGAN |= {"beta_1": 0.0, "beta_2": 0.99, "max_grad_norm": 10.0}
FIT_CVAE = {"total_images": 400_000, "batch": 64, "lr": 4e-3}
CLASSIC: Options = {
    "objective": CLASSIC_GAN,
    "fit": {"lr": 2e-4, "beta_1": 0.5, "beta_2": 0.999, "ema_gamma": 0.0},
}
"""The GAN and the learning rates of the original papers."""
KINDS: dict[str, tuple[str, Options]] = {
    "diffusion": ("a diffusion model (DDPM, flow matching)", {}),
    "cgan": ("a conditional GAN (CGAN)", {"fit": FIT_CGAN}),
    "cvae": ("a conditional VAE (CVAE)", {"fit": FIT_CVAE}),
}
"""Kind of decoder -> description, and training options that replace those of the collection."""
SHAPES: Options = {"levels": (1.1, 1.0), "floor": 0.3, "draws": 2, "perceptual": 10.0}
"""Training of a diffusion decoder where shapes are learned soon, see `docs/results.md`."""
CAPTIONS: Options = {"clip_objective": {"negatives": 0}}
CAPTIONS_SIZES: dict[str, Options] = {
    "tiny": {"data": {"size": 32}},
    "small": {
        "data": {"size": 64, "random_shift": 2},
        "clip": {"embed_dim": 192, "image_width": 16, "text_width": 192},
        "decoder": {"channels": (32, 64, 128), "depth": 2},
        "fit_decoder": {"lr": 2e-3},
    },
    "base": {
        "data": {"size": 64, "random_shift": 2},
        "clip": {"embed_dim": 256, "image_width": 64, "text_width": 256, "depth": 4, "heads": 8},
        "prior": {"width": 256, "depth": 6, "heads": 8},
        "decoder": {"channels": (64, 128, 256), "blocks": 2, "depth": 4, "heads": 8, "width": 256},
        "fit_clip": {"total_images": 4_000_000, "batch": 256, "lr": 5e-4},
        "fit_prior": {"total_images": 2_000_000, "lr": 5e-4},
        "fit_decoder": {"total_images": 6_000_000, "batch": 128, "lr": 1e-3},
    },
}
SCENES: Options = {
    "prior": {"kinds": ("diffusion", "regression")},
    "fit_prior": {"total_images": 500_000, "batch": 64, "lr": 3e-3},
}
SCENES_KINDS: dict[str, Options] = {
    "diffusion": {
        "decoder": {"channels": (32, 64), "guidance": 4.0, "layout_mlp": True},
        "objective": SHAPES,
        "decoder_objective": {"drop_embed": 0.05, "drop_text": 0.1},
        "fit_decoder": {"batch": 16},
    },
    "cgan": {"decoder": {"channels": (48, 96)}, "objective": {"mismatched": 0.5}},
    "cvae": {"decoder": {"channels": (48, 96), "latent": 64}},
}
SCENES_EXAMPLES = (
    "a red circle above a blue square",
    "three green triangles",
    "a large pink cross",
    "a yellow diamond left of a purple circle",
    "a small orange triangle",
    "four cyan squares",
)


def text_to_image_task() -> type[TextToImageTask]:
    from condgen.tasks.text_to_image import TextToImageTask

    return TextToImageTask


def class_to_image_task() -> type[ClassToImageTask]:
    from condgen.tasks.class_to_image import ClassToImageTask

    return ClassToImageTask


_SMALL = {"channels": (32, 64), "depth": 1, "guidance": 1.5}
_FASHION: tuple[Options, dict[str, Options]] = (
    {"fit": {"total_images": 300_000, "batch": 64, "lr": 2e-3}},
    {"diffusion": {"decoder": _SMALL}, "cvae": {"decoder": {"latent": 128}}},
)
COLLECTIONS: dict[str, tuple[str, Options, dict[str, Options]]] = {
    "digits": (
        "handwritten digits at 8 px, which come with scikit-learn",
        {"data": {"path": "digits"}, "fit": {"total_images": 60_000, "batch": 64, "lr": 2e-3}},
        {
            "diffusion": {"decoder": _SMALL | {"channels": (64,)}},
            "cgan": {"decoder": {"channels": (64,)}},
            "cvae": {"decoder": {"channels": (64,)}},
        },
    ),
    "fashion": ("Fashion-MNIST at 28 px; --data is its folder", *_FASHION),
    "cifar10": (
        "CIFAR-10 at 32 px; --data is its folder",
        _FASHION[0] | {"data": {"random_flip": True, "image_channels": 3}},
        {
            "diffusion": {"decoder": {"channels": (64, 128, 128), "blocks": 2, "guidance": 1.5}},
            "cgan": {"decoder": {"channels": (64, 128, 128)}},
            "cvae": {"decoder": {"channels": (64, 128, 128), "latent": 256}},
        },
    ),
    "labels": ("your own labelled images; --data is their folder or table", *_FASHION),
}
"""Name of a collection -> description, options, and the options of every kind of decoder."""

GENERATORS: dict[str, Recipe] = {
    "scenes32": Recipe(
        WORDS,
        "coloured shapes at 32 px, drawn here; the model of the package",
        text_to_image_task,
        SCENES | SCENES_KINDS["diffusion"],
        examples=SCENES_EXAMPLES,
        kinds={kind: SCENES_KINDS[kind] for kind in ("cgan", "cvae")},
    ),
    "nouns32": Recipe(
        WORDS,
        "pixel-art characters at 32 px; --data is the folder of the nouns",
        text_to_image_task,
        CAPTIONS,
        needs_data=True,
    ),
    "captions": Recipe(
        WORDS,
        "your own captioned images; --data is their folder, file or shards",
        text_to_image_task,
        CAPTIONS,
        CAPTIONS_SIZES,
        needs_data=True,
    ),
    "scenes32-cgan": Recipe(
        WORDS,
        "scenes32 by a conditional GAN; --init_from takes encoder and priors of another run",
        text_to_image_task,
        SCENES | SCENES_KINDS["cgan"] | {"kind": "cgan", "fit_decoder": FIT_CGAN},
    ),
    "scenes32-cvae": Recipe(
        WORDS,
        "scenes32 by a conditional VAE; --init_from takes encoder and priors of another run",
        text_to_image_task,
        SCENES | SCENES_KINDS["cvae"] | {"kind": "cvae", "fit_decoder": FIT_CVAE},
    ),
} | {
    f"{name}-{kind}": Recipe(
        LABELS,
        f"{images}, by {decoder}",
        class_to_image_task,
        options | fit | kinds.get(kind, {}) | {"kind": kind},
        sizes={"modern": {}, "classic": CLASSIC} if kind == "cgan" else {},
        needs_data=name != "digits",
        kinds=kinds,
    )
    for name, (images, options, kinds) in COLLECTIONS.items()
    for kind, (decoder, fit) in KINDS.items()
}
