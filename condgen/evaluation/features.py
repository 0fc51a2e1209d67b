"""Whatever has features, as one module: images in, features out. And what every such module is held against."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from condgen import distributed
from condgen.baselines.autoencoders import Autoencoder
from condgen.baselines.gans import GanCritic
from condgen.contracts import Batch, CondgenError
from condgen.data.batches.captions import to_float
from condgen.decoders import DECODERS
from condgen.decoders.cgan import CganDecoder, CganObjective, CganTraining
from condgen.decoders.conditioning_dropout import DecoderObjective
from condgen.decoders.cvae import CvaeDecoder
from condgen.files.weights import new_like
from condgen.nn.conditioning import condition
from condgen.nn.specs import CondSpec
from condgen.pipelines.base import BATCH_ROWS
from condgen.pipelines.encoder import ImageEncoder, TextImageEncoder
from condgen.pipelines.latent import LatentModel
from condgen.training import checkpoint

CRITIC = (
    "Its critic is kept in the checkpoints of its training run: give the folder of the run, not a copy of the model."
)
PIXELS = 32
"""The largest edge of images whose raw pixels are judged."""


@dataclass(frozen=True)
class Row:
    """A line of the tables.

    Args:
        name: what it is called there.
        eyes: its features.
        words: the same model where it knows words.
        control: whether it is there to hold the others against.
    """

    name: str
    eyes: Eyes
    words: TextImageEncoder | None = None
    control: bool = True


class Eyes(nn.Module):
    """(B, C, S, S) in [-1, 1] -> (B, F).

    Args:
        size, colours: S and C; 0 colours are as many as the images have.
        net: what has weights, and a `config` from which it can be built anew; None where nothing has.
    """

    def __init__(self, size: int, image_channels: int, net: nn.Module | None = None):
        super().__init__()
        self.size, self.image_channels, self.net = size, image_channels, net

    @property
    def config(self) -> object:
        """Options of the network."""
        return self.net.config

    @property
    def spec(self) -> object:
        """The data that the network reads."""
        return getattr(self.net, "spec", None)

    def untrained(self, seed: int = 0) -> Eyes | None:
        """The same architecture with the weights that training begins with; None where it cannot be built anew."""
        if self.net is None:
            return None
        built = []
        for own in (seed, seed + 1):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(own)
                try:
                    built.append(self._anew())
                except (TypeError, ValueError, AttributeError, CondgenError):  # a network of somebody else's
                    return None
        first, second = (fresh.net.state_dict() for fresh in built)
        if all(torch.equal(value, second[name]) for name, value in first.items()):
            return None  # nothing in it is random: it has read trained weights
        return built[0].eval()

    def _anew(self) -> Eyes:
        return type(self)(new_like(self.net))


class Pixels(Eyes):
    """The images themselves."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


class OfEncoder(Eyes):
    """The features of an encoder, before any map into a shared space."""

    def __init__(self, net: nn.Module):
        super().__init__(net.size, 3, net)

    def forward(self, images: Tensor) -> Tensor:
        return self.net.features(images) if hasattr(self.net, "features") else self.net(images)

    def _anew(self) -> Eyes:
        kind = type(self.net).__name__  # of other libraries, which cost seconds to import
        if kind == "OpenClip":
            from condgen.encoders.interop.openclip import empty_open_clip

            return OfEncoder(empty_open_clip(self.config))
        if kind == "OfTransformers":
            from condgen.encoders.interop.hf import empty_transformers

            return OfEncoder(empty_transformers(self.config))
        return super()._anew()


class OfPosterior(Eyes):
    """The mean of the code that the encoder of a CVAE reads off an image, with nothing said about it."""

    def __init__(self, net: CvaeDecoder):
        super().__init__(net.spec.size, net.spec.image_channels, net)

    def forward(self, images: Tensor) -> Tensor:
        return self.net.features(images, nothing(self.spec, images))


class OfCritic(Eyes):
    """What the critic of a cGAN sees in an image, with nothing said about it, before it judges."""

    def __init__(self, net: CganTraining):
        super().__init__(net.decoder.spec.size, net.decoder.spec.image_channels, net)

    @property
    def config(self) -> object:
        return self.net.decoder.config

    @property
    def spec(self) -> object:
        return self.net.decoder.spec

    def forward(self, images: Tensor) -> Tensor:
        return self.net.features(images, nothing(self.spec, images))

    def _anew(self) -> Eyes:
        return OfCritic(_with_critic(new_like(self.net.decoder)))


class OfCode(Eyes):
    """The code of an autoencoder, its mean where there is a distribution."""

    def __init__(self, net: Autoencoder):
        super().__init__(net.spec.size, net.spec.image_channels, net)

    def forward(self, images: Tensor) -> Tensor:
        return self.net.encode(images)


class OfGanCritic(Eyes):
    """What the critic of a GAN sees in an image, before it judges."""

    def __init__(self, net: GanCritic):
        super().__init__(net.spec.size, net.spec.image_channels, net)

    def forward(self, images: Tensor) -> Tensor:
        return self.net.phi(images)


class Components(Eyes):
    """Principal components of images: what a linear autoencoder with codes of that length can see.

    Args:
        images: uint8 (N, C, S, S), that they are fitted to.
        n: how many.
    """

    def __init__(self, images: np.ndarray, n: int):
        from sklearn.decomposition import PCA

        super().__init__(images.shape[-1], images.shape[1])
        pixels = to_float(images).flatten(1)
        fitted = PCA(min(n, *pixels.shape), svd_solver="randomized", random_state=0).fit(pixels.numpy())
        self.register_buffer("mean", torch.from_numpy(fitted.mean_).float())
        self.register_buffer("basis", torch.from_numpy(fitted.components_.T.copy()).float())

    def forward(self, images: Tensor) -> Tensor:
        return (images.flatten(1) - self.mean) @ self.basis


def _with_critic(decoder: CganDecoder) -> CganTraining:
    return CganTraining(decoder, CganObjective(), DecoderObjective())


def nothing(reads: CondSpec, images: Tensor) -> Batch:
    """A condition that says nothing, one for each image."""
    n, device = len(images), images.device
    if reads.cardinalities:
        targets = torch.zeros(n, len(reads.cardinalities), device=device)
        return {"targets": targets, "has_targets": targets > 0}
    z, tokens = torch.zeros(n, reads.embed_dim), torch.zeros(n, reads.context, dtype=torch.int64)
    return condition(z.to(device), tokens.to(device), use_z=False, use_words=False)


def features_of(model) -> Eyes:
    """What a model sees in images, as a module to call with them, or to train on.

    Args:
        model: an encoder, or the network of one; a TextToImage, of which it is the encoder; a ClassToImage whose
            decoder is a CVAE, of which it is the mean of the posterior, or a cGAN, of which it is the critic; an
            autoencoder, of which it is the code; a GAN, of which it is the critic.

    Raises:
        CondgenError: it has no features; or a critic that is not there.
    """
    if isinstance(model, ImageEncoder):
        return OfEncoder(model.net).eval()
    if isinstance(model, LatentModel):
        return _eyes_of_latents(model).eval()
    if hasattr(model, "clip"):
        return OfEncoder(model.clip).eval()
    decoder = getattr(model, "decoder", None)
    if isinstance(decoder, CvaeDecoder):
        return OfPosterior(decoder).eval()
    if isinstance(decoder, CganDecoder):
        return OfCritic(_critic_of(model)).eval()
    if decoder is not None:
        raise CondgenError(
            f"{model.name} has a {DECODERS.name_of(decoder)} decoder, but no encoder, posterior or critic whose "
            "features could be evaluated."
        )
    return OfEncoder(model).eval()


def _eyes_of_latents(model: LatentModel) -> Eyes:
    """The code of an autoencoder; the critic that is kept beside a GAN."""
    if model.encodes:
        return OfCode(model.net)
    critic = getattr(model, "critic", None)
    if critic is None:
        raise CondgenError(
            f"{model.name} is a GAN without its critic, whose features could be judged: export it again."
        )
    return OfGanCritic(critic)


def _critic_of(model) -> CganTraining:
    """The training of a cGAN as its last checkpoint has it."""
    path = getattr(model, "path", None)
    kept = sorted((Path(path).parent / "checkpoints" / "decoder").glob("step-*"), reverse=True) if path else []
    place = next((folder for folder in kept if checkpoint.verify(folder)), None)
    if place is None:
        raise CondgenError(f"{model.name} is a GAN, and where it lies there is no critic beside it. {CRITIC}")
    training = _with_critic(copy.deepcopy(model.decoder))  # in the checkpoint it has other weights than in the model
    tensors = checkpoint.load(place)[0].get("model", {})
    try:
        training.load_state_dict(tensors)
    except RuntimeError as error:
        told = str(error).splitlines()[-1].strip()
        raise CondgenError(f"{place} holds another network than {model.name} ({told}). {CRITIC}") from None
    return training


def words_of(model) -> TextImageEncoder | None:
    """The model as an encoder of images and words, where it is one."""
    if isinstance(model, TextImageEncoder):
        return model
    if hasattr(model, "clip"):
        return TextImageEncoder(model.clip, model.tokenizer, {"name": model.name}, model.model_id)
    return None


def rows_of(models: list) -> tuple[list[Row], list[str]]:
    """The lines of the tables: every model, every architecture among them with random weights, and the raw pixels that
    the first of them looks at, of images wider than PIXELS scaled to that.

    Returns:
        (rows, notes): what could not be had.
    """
    rows, shapes, notes = [], set(), []
    for model in models:
        name = model.name if model.name not in {row.name for row in rows} else f"{model.name} ({model.model_id[:8]})"
        rows.append(Row(name, features_of(model), words_of(model), control=False))
    for row in [row for row in rows if row.eyes.net is not None]:
        shape = (type(row.eyes), type(row.eyes.net), row.eyes.config, row.eyes.spec)
        if shape in shapes:
            continue
        shapes.add(shape)
        fresh = row.eyes.untrained()
        if fresh is None:
            notes.append(f"The network of {row.name} cannot be built anew: there is no control with random weights.")
            continue
        words = TextImageEncoder(fresh.net, row.words.tokenizer) if row.words else None
        rows.append(Row(f"random network ({row.name})", fresh, words))
    return [*rows, Row("raw pixels", Pixels(min(rows[0].eyes.size, PIXELS), 0))], notes


@torch.no_grad()
def see(eyes: Eyes, images, device: torch.device | str = "cpu", done=lambda n: None) -> Tensor:
    """Features of images, uint8 (N, C, S, S) -> float32 (N, F) on the CPU; `done` is told of every part.

    Raises:
        CondgenError: some are no numbers.
    """
    eyes = eyes.to(device)

    def compute(own: slice) -> Tensor:
        parts = []
        for part in torch.as_tensor(images[own]).split(BATCH_ROWS):
            parts.append(eyes(to_float(part).to(device)).flatten(1).float().cpu())
            done(len(part))
        return torch.cat(parts)

    features = distributed.shared_out(compute, len(images))
    if not features.isfinite().all():
        raise CondgenError("The network makes features that are no finite numbers: its weights are damaged.")
    return features
