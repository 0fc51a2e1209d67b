"""Recipes of GANs without a condition: plain, DCGAN and InfoGAN, each as it was taught and as it is done now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from condgen.recipes.table import CLASSIC_GAN, SPACES, Options, Recipe

if TYPE_CHECKING:
    from condgen.tasks.gan import GanTask

FIT = {"total_images": 1_000_000, "batch": 64, "lr": 1e-3, "optimiser": "adamw", "weight_decay": 0.0}
FIT |= {"beta_1": 0.0, "beta_2": 0.99, "max_grad_norm": 10.0}
FIT_CLASSIC = {"lr": 2e-4, "beta_1": 0.5, "beta_2": 0.999, "ema_gamma": 0.0, "warmup": 0.0, "decay_start": 1.0}
CLASSIC: Options = {"gan": {"norm": "batch"}, "objective": CLASSIC_GAN | {"augment_over": 20_000}, "fit": FIT_CLASSIC}
"""As it was taught: batch normalisation in both players, the game that does not saturate, Adam, no mean."""
KINDS: dict[str, tuple[str, Options]] = {
    "gan": ("a GAN of fully connected layers", {"body": "mlp", "width": 128}),
    "dcgan": ("a convolutional GAN (DCGAN)", {}),
    "infogan": (
        "a GAN with categories and numbers that can be inferred from its images (InfoGAN)",
        {"code": 62, "hidden": 256, "categories": 10, "continuous": 2},
    ),
}
"""Name of a kind -> what it is, and its shape."""
COLLECTIONS: dict[str, tuple[str, Options]] = {
    "digits": ("handwritten digits at 8 px, which come with scikit-learn", {"data": {"path": "digits"}}),
    "mnist": ("MNIST at 28 px; --data is its folder", {}),
    "fashion": ("Fashion-MNIST at 32 px; --data is its folder", {"data": {"size": 32}}),
    "cifar10": (
        "CIFAR-10 at 32 px; --data is its folder", {"random_flip": True, "data": {"image_channels": 3}}
    ),
    "scenes": ("coloured shapes at 32 px, drawn here", {"data": {"path": "scenes"}}),
    "pictures": ("your own images at 32 px; --data is their folder or table", {"data": {"size": 32}}),
}  # fmt: skip
"""Name of a collection -> what it is, and how it is read."""


def gan_task() -> type[GanTask]:
    from condgen.tasks.gan import GanTask

    return GanTask


def _of_kind(collection: str, kind: str) -> Options:
    """A kind of GAN for a collection.

    InfoGAN is as published, with a higher learning rate: without norms in the discriminator the generator collapsed to
    one image of every category, and with more weight the continuous codes replaced the categories.
    """
    shape = KINDS[kind][1]
    if collection == "digits" and kind != "gan":  # there is but one level
        shape = shape | {"width": 64}
    objective, fit = {"augment_over": 10_000}, FIT
    if kind == "infogan":
        shape = shape | {"norm": "batch"}
        objective, fit = CLASSIC_GAN | {"continuous": 0.02}, FIT | FIT_CLASSIC | {"lr": 5e-4}
    return COLLECTIONS[collection][1] | {"gan": shape, "objective": objective, "fit": fit}


GANS: dict[str, Recipe] = {
    f"{collection}-{kind}": Recipe(
        SPACES,
        f"{what}, by {name}",
        gan_task,
        _of_kind(collection, kind),
        sizes={} if kind == "infogan" else {"modern": {}, "classic": CLASSIC},
        needs_data=collection not in ("digits", "scenes"),
    )
    for collection, (what, _) in COLLECTIONS.items()
    for kind, (name, _) in KINDS.items()
}
