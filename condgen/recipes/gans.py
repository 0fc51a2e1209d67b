"""Recipes of GANs without a condition: plain, DCGAN and InfoGAN, each as it was taught and as it is done now."""

from __future__ import annotations

from dataclasses import replace

from condgen.baselines.gans import CLASSIC, GanConfig, GanObjective
from condgen.data.configs import ImageData
from condgen.recipes.table import SPACES, Recipe
from condgen.tasks.gan import GanTaskConfig
from condgen.training.trainer import FitConfig

FIT = FitConfig(
    total_images=1_000_000,
    batch=64,
    lr=1e-3,
    optimiser="adamw",
    weight_decay=0.0,
    beta_1=0.0,
    beta_2=0.99,
    max_grad_norm=10.0,
)
KINDS = {
    "gan": ("a GAN of fully connected layers", GanConfig(body="mlp", width=128)),
    "dcgan": ("a convolutional GAN (DCGAN)", GanConfig()),
    "infogan": (
        "a GAN with categories and numbers that can be inferred from its images (InfoGAN)",
        GanConfig(code=62, hidden=256, categories=10, continuous=2),
    ),
}  # fmt: skip
"""Name of a kind -> what it is, and its shape."""
COLLECTIONS = {
    "digits": ("handwritten digits at 8 px, which come with scikit-learn", GanTaskConfig(data=ImageData("digits"))),
    "mnist": ("MNIST at 28 px; --data is its folder", GanTaskConfig()),
    "fashion": ("Fashion-MNIST at 32 px; --data is its folder", GanTaskConfig(data=ImageData(size=32))),
    "cifar10": (
        "CIFAR-10 at 32 px; --data is its folder", GanTaskConfig(random_flip=True, data=ImageData(image_channels=3))
    ),
    "scenes": ("coloured shapes at 32 px, drawn here", GanTaskConfig(data=ImageData("scenes"))),
    "pictures": (
        "your own images at 32 px; --data is their folder or table", GanTaskConfig(data=ImageData(size=32))
    ),
}  # fmt: skip
"""Name of a collection -> what it is, and how it is read."""


def _of_kind(collection: str, base: GanTaskConfig, kind: str, shape: GanConfig) -> GanTaskConfig:
    """A kind of GAN for a collection.

    InfoGAN is as published, with a higher learning rate: without norms in the discriminator the generator collapsed to
    one image of every category, and with more weight the continuous codes replaced the categories.
    """
    if collection == "digits" and kind != "gan":  # there is but one level
        shape = replace(shape, width=64)
    config = replace(base, gan=shape, objective=GanObjective(augment_over=10_000), fit=FIT)
    if kind != "infogan":
        return config
    classic = _classic(config)
    objective = replace(classic.objective, continuous=0.02)
    return replace(classic, objective=objective, fit=replace(classic.fit, lr=5e-4))


def _classic(c: GanTaskConfig) -> GanTaskConfig:
    """As it was taught: batch normalisation in both players, the game that does not saturate, Adam, no mean."""
    fit = replace(c.fit, lr=2e-4, beta_1=0.5, beta_2=0.999, ema_gamma=0.0, warmup=0.0, decay_start=1.0)
    return replace(c, gan=replace(c.gan, norm="batch"), objective=CLASSIC, fit=fit)


GANS: dict[str, Recipe] = {
    f"{collection}-{kind}": Recipe(
        SPACES,
        f"{what}, by {name}",
        _of_kind(collection, base, kind, shape),
        sizes={} if kind == "infogan" else {"modern": lambda c: c, "classic": _classic},
        needs_data=not base.data.path,
    )
    for collection, (what, base) in COLLECTIONS.items()
    for kind, (name, shape) in KINDS.items()
}
