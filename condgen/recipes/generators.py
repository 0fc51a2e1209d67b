"""Recipes of text-to-image and class-to-image models."""

from __future__ import annotations

from dataclasses import replace

from condgen.data.configs import LabelData
from condgen.decoders.cgan import CLASSIC, CganConfig, CganObjective
from condgen.decoders.cvae import CvaeConfig
from condgen.decoders.diffusion import DiffusionDecoderConfig
from condgen.encoders.clip_objective import ClipObjective
from condgen.recipes.table import LABELS, WORDS, Recipe
from condgen.tasks.class_to_image import ClassToImageTaskConfig
from condgen.tasks.text_to_image import PriorsConfig, TextToImageTaskConfig
from condgen.training.trainer import FitConfig

FIT_CGAN = FitConfig(
    total_images=300_000,
    batch=32,
    lr=1e-3,
    optimiser="adamw",
    weight_decay=0.0,
    beta_1=0.0,
    beta_2=0.99,
    max_grad_norm=10.0,
)
FIT_CVAE = FitConfig(total_images=400_000, batch=64, lr=4e-3)


def _tiny(c: TextToImageTaskConfig) -> TextToImageTaskConfig:
    return replace(c, data=replace(c.data, size=32))


def _small(c: TextToImageTaskConfig) -> TextToImageTaskConfig:
    return replace(
        c,
        data=replace(c.data, size=64, random_shift=2),
        clip=replace(c.clip, embed_dim=192, image_width=16, text_width=192),
        decoder=replace(c.decoder, channels=(32, 64, 128), depth=2),
        fit_decoder=replace(c.fit_decoder, lr=2e-3),
    )


def _base(c: TextToImageTaskConfig) -> TextToImageTaskConfig:
    return replace(
        c,
        data=replace(c.data, size=64, random_shift=2),
        clip=replace(c.clip, embed_dim=256, image_width=64, text_width=256, depth=4, heads=8),
        prior=replace(c.prior, width=256, depth=6, heads=8),
        decoder=replace(c.decoder, channels=(64, 128, 256), blocks=2, depth=4, heads=8, width=256),
        fit_clip=replace(c.fit_clip, total_images=4_000_000, batch=256, lr=5e-4),
        fit_prior=replace(c.fit_prior, total_images=2_000_000, lr=5e-4),
        fit_decoder=replace(c.fit_decoder, total_images=6_000_000, batch=128, lr=1e-3),
    )


_SCENES = TextToImageTaskConfig(
    prior=PriorsConfig(kinds=("diffusion", "regression")),
    decoder=DiffusionDecoderConfig(guidance=4.0),
    fit_prior=FitConfig(total_images=1_000_000, batch=256, lr=1e-3),
)
_SCENES_KINDS = {
    "cgan": {"decoder": CganConfig(channels=(48, 96)), "objective": CganObjective(mismatched=0.5)},
    "cvae": {"decoder": CvaeConfig(channels=(48, 96), latent=64)},
}
_CAPTIONS = TextToImageTaskConfig(clip_objective=ClipObjective(negatives=0))


def _by_label() -> dict[str, Recipe]:
    """Every kind of decoder for every collection."""
    small = DiffusionDecoderConfig(channels=(32, 64), depth=1, guidance=1.5)
    fashion = ClassToImageTaskConfig(decoder=small, fit=FitConfig(total_images=300_000, batch=64, lr=2e-3))
    digits = replace(
        fashion,
        data=LabelData("digits"),
        decoder=replace(small, channels=(64,)),
        fit=FitConfig(total_images=60_000, batch=64, lr=2e-3),
    )
    cifar = replace(
        fashion,
        data=LabelData(random_flip=True, image_channels=3),
        decoder=DiffusionDecoderConfig(channels=(64, 128, 128), blocks=2, guidance=1.5),
    )
    small_kinds = {"cvae": {"decoder": CvaeConfig(latent=128)}}
    digits_kinds = {"cgan": {"decoder": CganConfig(channels=(64,))}, "cvae": {"decoder": CvaeConfig(channels=(64,))}}
    cifar_kinds = {
        "cgan": {"decoder": CganConfig(channels=(64, 128, 128))},
        "cvae": {"decoder": CvaeConfig(channels=(64, 128, 128), latent=256)},
    }
    collections = {
        "digits": ("handwritten digits at 8 px, which come with scikit-learn", digits, digits_kinds),
        "fashion": ("Fashion-MNIST at 28 px; --data is its folder", fashion, small_kinds),
        "cifar10": ("CIFAR-10 at 32 px; --data is its folder", cifar, cifar_kinds),
        "labels": ("your own labelled images; --data is their folder or table", fashion, small_kinds),
    }
    recipes = {}
    for name, (images, base, options) in collections.items():
        for kind, (decoder, fit) in _KINDS.items():
            changes = {"fit": fit or base.fit} | options.get(kind, {})
            recipes[f"{name}-{kind}"] = Recipe(
                LABELS,
                f"{images}, by {decoder}",
                base.with_kind(kind, **changes) if kind != base.kind else base,
                sizes={"modern": lambda c: c, "classic": _classic} if kind == "cgan" else {},
                needs_data=not base.data.path,
                kinds=options | {"diffusion": {"decoder": base.decoder}},
            )
    return recipes


_KINDS = {
    "diffusion": ("a diffusion model (DDPM, flow matching)", None),
    "cgan": ("a conditional GAN (CGAN)", FIT_CGAN),
    "cvae": ("a conditional VAE (CVAE)", FIT_CVAE),
}
"""Kind of a decoder -> what it is, and its pace, where that of the collection does not suit it."""


def _classic(c: ClassToImageTaskConfig) -> ClassToImageTaskConfig:
    """The GAN and the learning rates of the original papers."""
    return replace(c, objective=CLASSIC, fit=replace(c.fit, lr=2e-4, beta_1=0.5, beta_2=0.999, ema_gamma=0.0))


GENERATORS: dict[str, Recipe] = {
    "scenes32": Recipe(
        WORDS,
        "coloured shapes at 32 px, drawn here; the model of the package",
        _SCENES,
        examples=(
            "a red circle above a blue square",
            "three green triangles",
            "a large pink cross",
            "a yellow diamond left of a purple circle",
            "a small orange triangle",
            "four cyan squares",
        ),
        kinds=_SCENES_KINDS,
    ),
    "nouns32": Recipe(
        WORDS,
        "pixel-art characters at 32 px; --data is the folder of the nouns",
        _CAPTIONS,
        needs_data=True,
    ),
    "captions": Recipe(
        WORDS,
        "your own captioned images; --data is their folder, file or shards",
        _CAPTIONS,
        sizes={"tiny": _tiny, "small": _small, "base": _base},
        needs_data=True,
    ),
    "scenes32-cgan": Recipe(
        WORDS,
        "scenes32 by a conditional GAN; --init_from takes encoder and priors of another run",
        _SCENES.with_kind("cgan", fit_decoder=FIT_CGAN, **_SCENES_KINDS["cgan"]),
    ),
    "scenes32-cvae": Recipe(
        WORDS,
        "scenes32 by a conditional VAE; --init_from takes encoder and priors of another run",
        _SCENES.with_kind("cvae", fit_decoder=FIT_CVAE, **_SCENES_KINDS["cvae"]),
    ),
    **_by_label(),
}
