"""Recipes of unconditional models: autoencoders, and GANs as first published (`classic`) or as trained today."""

from __future__ import annotations

from typing import TYPE_CHECKING

from condgen.recipes.generators import FIT_CGAN, FIT_CVAE
from condgen.recipes.table import CLASSIC_GAN, SPACES, Options, Recipe

if TYPE_CHECKING:
    from condgen.tasks.autoencoder import AutoencoderTask
    from condgen.tasks.gan import GanTask
    from condgen.tasks.images import ImagesTask


FIT = {"total_images": 1_000_000, "batch": 128, "lr": 3e-3, "weight_decay": 0.0, "decay_start": 0.0}
FIT |= {"schedule": "cosine"}
FIT_MLP = FIT | {"optimiser": "adamw", "lr": 1e-3, "beta_2": 0.999}
"""Training of fully connected layers: on their large matrices a step of Muon costs more than twenty of AdamW."""
KINDS = {
    "linear": "a linear autoencoder, equivalent to PCA",
    "ae": "a fully connected autoencoder",
    "conv-ae": "a convolutional autoencoder",
    "dae": "a convolutional denoising autoencoder (DAE)",
    "vae": "a fully connected variational autoencoder (VAE)",
    "conv-vae": "a convolutional variational autoencoder (VAE)",
    "beta-vae": "a beta-VAE, for disentangled latents",
}
"""Name of a kind -> description."""
COLLECTIONS = {
    "digits": "handwritten digits at 8 px, which come with scikit-learn",
    "fashion": "Fashion-MNIST at 28 px; --data is its folder",
    "cifar10": "CIFAR-10 at 32 px; --data is its folder",
    "scenes": "coloured shapes at 32 px, drawn here",
    "pictures": "your own images; --data is their folder or table",
}
"""Name of a collection -> description."""
OWN = {"digits": "digits", "scenes": "scenes"}
"""Collections that need no --data."""
CHANNELS = {"digits": (16,), "cifar10": (64, 128, 128)}
LATENTS = {"digits": 8, "cifar10": 128, "scenes": 16}


def autoencoder_task() -> type[AutoencoderTask]:
    from condgen.tasks.autoencoder import AutoencoderTask

    return AutoencoderTask


def _autoencoder(collection: str, kind: str) -> Options:
    """Options of an autoencoder of a kind for a collection."""
    body = {"linear": "linear", "ae": "mlp", "vae": "mlp"}.get(kind, "conv")
    beta = kind == "beta-vae"
    shape = {
        "body": body,
        "latent": 10 if beta else LATENTS.get(collection, 32),
        "channels": CHANNELS.get(collection, (16, 32)),
        "variational": kind.endswith("vae"),
        "sigma": "fixed" if beta else "optimal",
    }
    return {
        "data": {"path": OWN.get(collection, ""), "image_channels": 3 if collection == "cifar10" else 0},
        "autoencoder": shape,
        "objective": {"dae": {"noise": "gaussian", "strength": 0.5}, "beta-vae": {"beta": 4.0}}.get(kind, {}),
        "fit": {"linear": FIT | {"lr": 5e-2, "batch": 256}, "mlp": FIT_MLP, "conv": FIT}[body],
    }


BINARY: Options = {
    "autoencoder": {
        "body": "mlp", "latent": 40, "hidden": (512, 512), "variational": True, "likelihood": "bernoulli",
        "binary": True,
    },
    "fit": FIT_MLP | {"total_images": 12_000_000},
}  # fmt: skip
"""The VAE of binary pixels, whose likelihood is reported in nats."""

AUTOENCODERS: dict[str, Recipe] = {
    f"{collection}-{kind}": Recipe(
        SPACES,
        f"{what}, by {name}",
        autoencoder_task,
        _autoencoder(collection, kind),
        needs_data=collection not in OWN,
    )
    for collection, what in COLLECTIONS.items()
    for kind, name in KINDS.items()
} | {
    "mnist-binary-vae": Recipe(
        SPACES,
        "binarized MNIST, by a VAE with Bernoulli likelihood; --data is its folder",
        autoencoder_task,
        BINARY,
        needs_data=True,
    )
}


FIT_GAN = {"total_images": 1_000_000, "batch": 64, "lr": 1e-3, "optimiser": "adamw", "weight_decay": 0.0}
FIT_GAN |= {"beta_1": 0.0, "beta_2": 0.99, "max_grad_norm": 10.0}
FIT_CLASSIC = {"lr": 2e-4, "beta_1": 0.5, "beta_2": 0.999, "ema_gamma": 0.0, "warmup": 0.0, "decay_start": 1.0}
CLASSIC: Options = {"gan": {"norm": "batch"}, "objective": CLASSIC_GAN | {"augment_over": 20_000}, "fit": FIT_CLASSIC}
"""As in the original papers: batch normalisation in both networks, the non-saturating loss, Adam, no EMA."""
GAN_KINDS: dict[str, tuple[str, Options]] = {
    "gan": ("a GAN of fully connected layers", {"body": "mlp", "width": 128}),
    "dcgan": ("a convolutional GAN (DCGAN)", {}),
    "infogan": (
        "a GAN with categorical and continuous codes that can be inferred from its images (InfoGAN)",
        {"code": 62, "hidden": 256, "categories": 10, "continuous": 2},
    ),
}
"""Name of a kind -> description, and its shape."""
GAN_COLLECTIONS: dict[str, tuple[str, Options]] = {
    "digits": ("handwritten digits at 8 px, which come with scikit-learn", {"data": {"path": "digits"}}),
    "mnist": ("MNIST at 28 px; --data is its folder", {}),
    "fashion": ("Fashion-MNIST at 32 px; --data is its folder", {"data": {"size": 32}}),
    "cifar10": (
        "CIFAR-10 at 32 px; --data is its folder", {"random_flip": True, "data": {"image_channels": 3}}
    ),
    "scenes": ("coloured shapes at 32 px, drawn here", {"data": {"path": "scenes"}}),
    "pictures": ("your own images at 32 px; --data is their folder or table", {"data": {"size": 32}}),
}  # fmt: skip
"""Name of a collection -> description, and how it is read."""


def images_task() -> type[ImagesTask]:
    from condgen.tasks.images import ImagesTask

    return ImagesTask


IMAGES: dict[str, Recipe] = {
    "images": Recipe(
        SPACES,
        "your own images without captions: encoder, prior of its embeddings, decoder (RCG); --data is their folder",
        images_task,
        {"decoder": {"guidance": 1.0}, "decoder_objective": {"drop_embed": 0.0}},
        sizes={
            "tiny": {"decoder": {"channels": (32, 64), "depth": 1}},
            "small": {},
            "medium": {"decoder": {"channels": (32, 64, 128)}},
        },
        needs_data=True,
        kinds={"cgan": {"fit_decoder": FIT_CGAN}, "cvae": {"fit_decoder": FIT_CVAE}},
    )
}
"""Images without captions, by embeddings of an encoder of their own."""


def gan_task() -> type[GanTask]:
    from condgen.tasks.gan import GanTask

    return GanTask


def _gan(collection: str, kind: str) -> Options:
    """Options of a GAN of a kind for a collection.

    InfoGAN is as published, with a higher learning rate: without normalisation in the discriminator the generator
    collapsed to one image per category, and with more weight the continuous codes replaced the categories.
    """
    shape = GAN_KINDS[kind][1]
    if collection == "digits" and kind != "gan":  # there is only one level
        shape = shape | {"width": 64}
    objective, fit = {"augment_over": 10_000}, FIT_GAN
    if kind == "infogan":
        shape = shape | {"norm": "batch"}
        objective, fit = CLASSIC_GAN | {"continuous": 0.02}, FIT_GAN | FIT_CLASSIC | {"lr": 5e-4}
    return GAN_COLLECTIONS[collection][1] | {"gan": shape, "objective": objective, "fit": fit}


GANS: dict[str, Recipe] = {
    f"{collection}-{kind}": Recipe(
        SPACES,
        f"{what}, by {name}",
        gan_task,
        _gan(collection, kind),
        sizes={} if kind == "infogan" else {"modern": {}, "classic": CLASSIC},
        needs_data=collection not in ("digits", "scenes"),
    )
    for collection, (what, _) in GAN_COLLECTIONS.items()
    for kind, (name, _) in GAN_KINDS.items()
}
