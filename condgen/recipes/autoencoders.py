"""Recipes of autoencoders: linear, neural, convolutional, denoising, variational, with a weighted divergence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from condgen.recipes.table import SPACES, Options, Recipe

if TYPE_CHECKING:
    from condgen.tasks.autoencoder import AutoencoderTask

FIT = {"total_images": 1_000_000, "batch": 128, "lr": 3e-3, "weight_decay": 0.0, "decay_start": 0.0}
FIT |= {"schedule": "cosine"}
FIT_MLP = FIT | {"optimiser": "adamw", "lr": 1e-3, "beta_2": 0.999}
"""Of layers that are fully connected: on their large matrices a step of Muon costs more than twenty of AdamW."""
KINDS = {
    "linear": "a linear autoencoder, equivalent to PCA",
    "ae": "a fully connected autoencoder",
    "conv-ae": "a convolutional autoencoder",
    "dae": "a convolutional denoising autoencoder (DAE)",
    "vae": "a fully connected variational autoencoder (VAE)",
    "conv-vae": "a convolutional variational autoencoder (VAE)",
    "beta-vae": "a beta-VAE, for disentangled latents",
}
"""Name of a kind -> what it is."""
COLLECTIONS = {
    "digits": "handwritten digits at 8 px, which come with scikit-learn",
    "fashion": "Fashion-MNIST at 28 px; --data is its folder",
    "cifar10": "CIFAR-10 at 32 px; --data is its folder",
    "scenes": "coloured shapes at 32 px, drawn here",
    "pictures": "your own images; --data is their folder or table",
}
"""Name of a collection -> what it is."""
OWN = {"digits": "digits", "scenes": "scenes"}
"""Collections that need no --data."""
CHANNELS = {"digits": (16,), "cifar10": (64, 128, 128)}
LATENTS = {"digits": 8, "cifar10": 128, "scenes": 16}


def autoencoder_task() -> type[AutoencoderTask]:
    from condgen.tasks.autoencoder import AutoencoderTask

    return AutoencoderTask


def _of_kind(collection: str, kind: str) -> Options:
    """A kind of autoencoder for a collection."""
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
        _of_kind(collection, kind),
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
