"""Recipes that end in a painter: of words, and of labels."""

from __future__ import annotations

from dataclasses import replace

from condgen.configs import (
    ClassToImageTaskConfig,
    Labelled,
    PriorsConfig,
    TextToImageTaskConfig,
)
from condgen.decoders.cgan import CLASSIC, CganConfig, CganObjective
from condgen.decoders.cvae import CvaeConfig
from condgen.decoders.diffusion import DiffusionDecoderConfig
from condgen.encoders.clip_objective import ClipObjective
from condgen.recipes.table import LABELS, WORDS, Recipe
from condgen.training.trainer import FitConfig

FIT_CGAN = FitConfig(
    images=300_000, batch=32, lr=1e-3, optimiser="adamw", weight_decay=0.0, beta_1=0.0, beta_2=0.99, clip=10.0
)
FIT_CVAE = FitConfig(images=400_000, batch=64, lr=4e-3)


def _tiny(c: TextToImageTaskConfig) -> TextToImageTaskConfig:
    return replace(c, pictures=replace(c.pictures, size=32))


def _small(c: TextToImageTaskConfig) -> TextToImageTaskConfig:
    return replace(
        c,
        pictures=replace(c.pictures, size=64, shift=2),
        clip=replace(c.clip, embed_dim=192, image_width=16, text_width=192),
        decoder=replace(c.decoder, channels=(32, 64, 128), depth=2),
        fit_decoder=replace(c.fit_decoder, lr=2e-3),
    )


def _base(c: TextToImageTaskConfig) -> TextToImageTaskConfig:
    return replace(
        c,
        pictures=replace(c.pictures, size=64, shift=2),
        clip=replace(c.clip, embed_dim=256, image_width=64, text_width=256, depth=4, heads=8),
        prior=replace(c.prior, width=256, depth=6, heads=8),
        decoder=replace(c.decoder, channels=(64, 128, 256), blocks=2, depth=4, heads=8, width=256),
        fit_clip=replace(c.fit_clip, images=4_000_000, batch=256, lr=5e-4),
        fit_prior=replace(c.fit_prior, images=2_000_000, lr=5e-4),
        fit_decoder=replace(c.fit_decoder, images=6_000_000, batch=128, lr=1e-3),
    )


_SCENES = TextToImageTaskConfig(
    prior=PriorsConfig(kinds=("diffusion", "regression")),
    decoder=DiffusionDecoderConfig(guidance=4.0),
    cgan=CganConfig(channels=(48, 96)),
    cvae=CvaeConfig(channels=(48, 96), latent=64),
    cgan_objective=CganObjective(mismatched=0.5),
    fit_prior=FitConfig(images=1_000_000, batch=256, lr=1e-3),
)
_CAPTIONS = TextToImageTaskConfig(clip_objective=ClipObjective(negatives=0))


def _of_kind(
    config: TextToImageTaskConfig | ClassToImageTaskConfig, kind: str
) -> TextToImageTaskConfig | ClassToImageTaskConfig:
    """The same with another decoder, and the pace that suits it."""
    pace = {"diffusion": config.fit_decoder, "cgan": FIT_CGAN, "cvae": FIT_CVAE}
    return replace(config, kind=kind, fit_decoder=pace[kind])


def _classic(c: ClassToImageTaskConfig) -> ClassToImageTaskConfig:
    """A GAN as it was taught."""
    fit = replace(c.fit_decoder, lr=2e-4, beta_1=0.5, beta_2=0.999, ema=0.0)
    return replace(c, cgan_objective=CLASSIC, fit_decoder=fit)


def _by_label() -> dict[str, Recipe]:
    """Every kind of decoder for every collection."""
    small = DiffusionDecoderConfig(channels=(32, 64), depth=1, guidance=1.5)
    fashion = ClassToImageTaskConfig(
        decoder=small, cvae=CvaeConfig(latent=128), fit_decoder=FitConfig(images=300_000, batch=64, lr=2e-3)
    )
    digits = replace(
        fashion,
        data="digits",
        decoder=replace(small, channels=(64,)),
        cgan=CganConfig(channels=(64,)),
        cvae=CvaeConfig(channels=(64,)),
        fit_decoder=FitConfig(images=60_000, batch=64, lr=2e-3),
    )
    cifar = replace(
        fashion,
        pictures=Labelled(flip=True, image_channels=3),
        decoder=DiffusionDecoderConfig(channels=(64, 128, 128), blocks=2, guidance=1.5),
        cgan=CganConfig(channels=(64, 128, 128)),
        cvae=CvaeConfig(channels=(64, 128, 128), latent=256),
    )
    told = {
        "digits": ("handwritten digits at 8 px, which come with scikit-learn", digits),
        "fashion": ("Fashion-MNIST at 28 px; --data is its folder", fashion),
        "cifar10": ("CIFAR-10 at 32 px; --data is its folder", cifar),
        "labels": ("your own labelled images; --data is their folder or table", fashion),
    }
    names = {"diffusion": "a diffusion model", "cgan": "a conditional GAN", "cvae": "a conditional VAE"}
    return {
        f"{data}-{kind}": Recipe(
            LABELS,
            f"{what}, by {names[kind]}",
            _of_kind(base, kind),
            sizes={"modern": lambda c: c, "classic": _classic} if kind == "cgan" else {},
            needs_data=not base.data,
        )
        for data, (what, base) in told.items()
        for kind in names
    }


PAINTING: dict[str, Recipe] = {
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
        "the same by a conditional GAN; --start takes encoder and priors of another run",
        _of_kind(_SCENES, "cgan"),
    ),
    "scenes32-cvae": Recipe(
        WORDS,
        "the same by a conditional VAE; --start takes encoder and priors of another run",
        _of_kind(_SCENES, "cvae"),
    ),
    **_by_label(),
}
