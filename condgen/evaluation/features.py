"""Feature extractors: the features that a model of any kind has of images, and the baselines beside it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from condgen.baselines.pca import PrincipalComponents
from condgen.contracts import Batch, CondgenError
from condgen.decoders import DECODERS
from condgen.decoders.conditioning_dropout import DecoderObjective
from condgen.evaluation.embed import in_batches
from condgen.files.weights import new_like
from condgen.nn.conditioning import condition
from condgen.nn.specs import CondSpec
from condgen.pipelines.class_to_image import ClassToImage
from condgen.pipelines.encoder import ImageEncoder, TextImageEncoder
from condgen.pipelines.latent import LatentModel
from condgen.pipelines.text_to_image import TextToImage
from condgen.training import checkpoint

CRITIC_HINT = "Its critic is kept in the checkpoints of its training run: give the folder of the run, not a copy."
PIXELS = 32
"""The largest edge length of images whose raw pixels are evaluated."""


class FeatureExtractor(nn.Module):
    """(B, C, S, S) in [-1, 1] -> (B, F).

    Args:
        size, image_channels: S and C; 0 channels are as many as the images have.
        net: what has weights, and a `config` from which it can be built; None where nothing has.
    """

    def __init__(self, size: int, image_channels: int, net: nn.Module | None = None):
        super().__init__()
        self.size, self.image_channels, self.net = size, image_channels, net

    @property
    def config(self) -> object:
        """The options of the network."""
        return self.net.config

    @property
    def spec(self) -> object:
        """The data that the network reads, where it has a spec."""
        return getattr(self.net, "spec", None)

    def untrained(self, seed: int = 0) -> FeatureExtractor | None:
        """The architecture with initial weights; None where it cannot be built or reads trained weights."""
        if self.net is None:
            return None
        built = []
        for one in (seed, seed + 1):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(one)
                try:
                    built.append(self._build())
                except (TypeError, ValueError, AttributeError, CondgenError):  # a network of another library
                    return None
        first, second = (fresh.net.state_dict() for fresh in built)
        if all(torch.equal(value, second[name]) for name, value in first.items()):
            return None  # nothing in it is random
        return built[0].eval()

    def _build(self) -> FeatureExtractor:
        return type(self)(new_like(self.net))


class _NetFeatures(FeatureExtractor):
    """Features of a network with a spec of its images."""

    def __init__(self, net: nn.Module):
        super().__init__(net.spec.size, net.spec.image_channels, net)


class EncoderFeatures(FeatureExtractor):
    """The features of an encoder, before any projection into a shared space."""

    def __init__(self, net: nn.Module):
        super().__init__(net.size, 3, net)

    def forward(self, images: Tensor) -> Tensor:
        return self.net.features(images) if hasattr(self.net, "features") else self.net(images)

    def _build(self) -> FeatureExtractor:
        kind = type(self.net).__name__  # of other libraries, which cost seconds to import
        if kind == "OpenClip":
            from condgen.encoders.interop.openclip import empty_open_clip

            return EncoderFeatures(empty_open_clip(self.config))
        if kind == "OfTransformers":
            from condgen.encoders.interop.hf import empty_transformers

            return EncoderFeatures(empty_transformers(self.config))
        return super()._build()


class DecoderFeatures(_NetFeatures):
    """The features of a decoder under the null condition, e.g. the posterior mean of a CVAE."""

    def forward(self, images: Tensor) -> Tensor:
        return self.net.features(images, null_condition(self.spec, images))


class TrainingFeatures(FeatureExtractor):
    """The features of the training of a decoder under the null condition, e.g. of the critic of a cGAN."""

    def __init__(self, net: nn.Module):
        super().__init__(net.decoder.spec.size, net.decoder.spec.image_channels, net)

    @property
    def config(self) -> object:
        return self.net.decoder.config

    @property
    def spec(self) -> object:
        return self.net.decoder.spec

    def forward(self, images: Tensor) -> Tensor:
        return self.net.features(images, null_condition(self.spec, images))

    def _build(self) -> FeatureExtractor:
        return TrainingFeatures(_training_of(new_like(self.net.decoder)))


class LatentFeatures(_NetFeatures):
    """The latents of an autoencoder, the mean where there is a distribution."""

    def forward(self, images: Tensor) -> Tensor:
        return self.net.encode(images)


class CriticFeatures(_NetFeatures):
    """The features of the critic of a GAN."""

    def forward(self, images: Tensor) -> Tensor:
        return self.net.phi(images)


class Pixels(FeatureExtractor):
    """The images themselves."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


class PcaFeatures(FeatureExtractor):
    """Principal components."""

    def __init__(self, pca: PrincipalComponents):
        super().__init__(pca.size, pca.image_channels)
        self.pca = pca

    def forward(self, images: Tensor) -> Tensor:
        return self.pca.encode(images)


@singledispatch
def feature_extractor(model) -> FeatureExtractor:
    """The features that a model has of images, as a module.

    Args:
        model: an encoder, or the network of one; a TextToImage, for its encoder; a ClassToImage with a CVAE, for its
            posterior mean, or a cGAN, for its critic; an autoencoder, for its latents; a GAN, for its critic.

    Raises:
        CondgenError: it has no features; or its critic is missing.
    """
    return EncoderFeatures(model).eval()


@feature_extractor.register
def _(model: ImageEncoder) -> FeatureExtractor:
    return EncoderFeatures(model.net).eval()


@feature_extractor.register
def _(model: TextToImage) -> FeatureExtractor:
    return EncoderFeatures(model.clip).eval()


@feature_extractor.register
def _(model: LatentModel) -> FeatureExtractor:
    if model.encodes:
        return LatentFeatures(model.net).eval()
    if model.critic is None:
        raise CondgenError(f"{model.name} is a GAN without its critic, which has its features: export it again.")
    return CriticFeatures(model.critic).eval()


@feature_extractor.register
def _(model: ClassToImage) -> FeatureExtractor:
    features = DECODERS.kind_of(model.decoder).features
    if features == "decoder":
        return DecoderFeatures(model.decoder).eval()
    if features == "training":
        return TrainingFeatures(_trained(model)).eval()
    raise CondgenError(
        f"{model.name} has a {DECODERS.name_of(model.decoder)} decoder, but no encoder, posterior or critic whose "
        "features could be evaluated."
    )


def _training_of(decoder: nn.Module) -> nn.Module:
    kind = DECODERS.kind_of(decoder)
    return kind.training(decoder, kind.objective() if kind.objective else None, DecoderObjective())


def _trained(model: ClassToImage) -> nn.Module:
    """The training of a decoder from its last checkpoint."""
    kept = Path(model.path).parent.glob("checkpoints/decoder/step-*") if getattr(model, "path", None) else []
    place = next((folder for folder in sorted(kept, reverse=True) if checkpoint.verify(folder)), None)
    if place is None:
        raise CondgenError(f"{model.name} is a GAN, and there is no critic beside it. {CRITIC_HINT}")
    training = _training_of(copy.deepcopy(model.decoder))  # a checkpoint holds other weights than the model
    try:
        training.load_state_dict(checkpoint.load(place)[0].get("model", {}))
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise CondgenError(f"{place} holds another network than {model.name} ({reason}). {CRITIC_HINT}") from None
    return training


def null_condition(spec: CondSpec, images: Tensor) -> Batch:
    """The null condition, one for each image."""
    n, device = len(images), images.device
    if spec.cardinalities:
        targets = torch.zeros(n, len(spec.cardinalities), device=device)
        return {"targets": targets, "has_targets": targets > 0}
    z, tokens = torch.zeros(n, spec.embed_dim), torch.zeros(n, spec.context, dtype=torch.int64)
    return condition(z.to(device), tokens.to(device), use_z=False, use_words=False)


@dataclass(frozen=True)
class Row:
    """A row of the tables.

    Args:
        name: its title.
        extractor: its features.
        encoder: the model as an encoder of images and texts, where it is one.
        is_baseline: whether it is there to compare others with.
    """

    name: str
    extractor: FeatureExtractor
    encoder: TextImageEncoder | None = None
    is_baseline: bool = True


def text_encoder_of(model) -> TextImageEncoder | None:
    """The model as an encoder of images and texts, where it is one."""
    if isinstance(model, TextToImage):
        return TextImageEncoder(model.clip, model.tokenizer, {"name": model.name}, model.model_id)
    return model if isinstance(model, TextImageEncoder) else None


def rows_of(models: list) -> tuple[list[Row], list[str]]:
    """The rows of the tables: every model, every architecture among them with random weights, and raw pixels of the
    images of the first, scaled to PIXELS where they are larger.

    Returns:
        (rows, notes): a note for every baseline that cannot be built.
    """
    rows, shapes, notes = [], set(), []
    for model in models:
        name = model.name if model.name not in {row.name for row in rows} else f"{model.name} ({model.model_id[:8]})"
        rows.append(Row(name, feature_extractor(model), text_encoder_of(model), is_baseline=False))
    for row in [row for row in rows if row.extractor.net is not None]:
        shape = (type(row.extractor), type(row.extractor.net), row.extractor.config, row.extractor.spec)
        if shape in shapes:
            continue
        shapes.add(shape)
        fresh = row.extractor.untrained()
        if fresh is None:
            notes.append(f"The network of {row.name} cannot be built with random weights: that baseline is missing.")
            continue
        encoder = TextImageEncoder(fresh.net, row.encoder.tokenizer) if row.encoder else None
        rows.append(Row(f"random network ({row.name})", fresh, encoder))
    return [*rows, Row("raw pixels", Pixels(min(rows[0].extractor.size, PIXELS), 0))], notes


@torch.no_grad()
def extract(
    extractor: FeatureExtractor, images: np.ndarray, device: torch.device | str = "cpu",
    done: Callable[[int], None] = lambda n: None,
) -> Tensor:  # fmt: skip
    """Features of images, uint8 (N, C, S, S) -> float32 (N, F) on the CPU; `done` is called with every count.

    Raises:
        CondgenError: some are not finite.
    """
    extractor = extractor.to(device)

    def compute(part: Tensor) -> Tensor:
        done(len(part))
        return extractor(part).flatten(1).float()

    features = in_batches(compute, images, device).cpu()
    if not features.isfinite().all():
        raise CondgenError("The features of the network are not finite numbers: its weights are damaged.")
    return features
