"""Feature extractors: the image features of a model of any kind, and those of baselines."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, singledispatch
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from condgen.contracts import Batch, CondgenError
from condgen.decoders import DECODERS
from condgen.evaluation.embed import in_batches
from condgen.files.weights import new_like
from condgen.nn.conditioning import DecoderObjective, condition
from condgen.nn.specs import CondSpec
from condgen.pipelines.class_to_image import ClassToImage
from condgen.pipelines.encoder import ImageEncoder, TextImageEncoder
from condgen.pipelines.latent import LatentModel
from condgen.pipelines.text_to_image import TextToImage
from condgen.pipelines.unconditional import EmbeddingToImage, UnconditionalDecoder
from condgen.training import checkpoint

CRITIC_HINT = "Its critic is kept in the checkpoints of its training run: give the folder of the run, not a copy."
PIXELS = 32
"""The largest edge length of images whose raw pixels are evaluated."""


class FeatureExtractor(nn.Module):
    """(B, C, S, S) in [-1, 1] -> (B, F).

    Args:
        size, image_channels: S and C; 0 channels accept any number.
        compute: a method of `net`, or a function of images.
        net: a network with weights.
        spec: spec of the condition that `compute` takes after the images; the null condition is passed.
        untrained: a feature extractor of the same architecture with initial weights.
    """

    def __init__(
        self, size: int, image_channels: int, compute: Callable[..., Tensor], net: nn.Module | None = None,
        spec: CondSpec | None = None, untrained: Callable[[], FeatureExtractor] | None = None,
    ):  # fmt: skip
        super().__init__()
        self.size, self.image_channels, self.net = size, image_channels, net
        self._compute, self._spec, self._untrained = compute, spec, untrained

    def forward(self, images: Tensor) -> Tensor:
        given = () if self._spec is None else (null_condition(self._spec, images),)
        return self._compute(images, *given)

    def untrained(self, seed: int = 0) -> FeatureExtractor | None:
        """The architecture with initial weights; None where it cannot be built or depends on trained weights."""
        if self._untrained is None:
            return None
        built = []
        for one in (seed, seed + 1):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(one)
                try:
                    built.append(self._untrained())
                except (TypeError, ValueError, AttributeError, CondgenError):  # a network of another library
                    return None
        first, second = (fresh.net.state_dict() for fresh in built)
        if all(torch.equal(value, second[name]) for name, value in first.items()):
            return None  # nothing in it is random
        return built[0].eval()


def encoder_features(net: nn.Module) -> FeatureExtractor:
    """The features of an encoder, before any projection into a shared space."""
    compute = net.features if hasattr(net, "features") else net.forward
    return FeatureExtractor(net.size, 3, compute, net, untrained=lambda: encoder_features(_new_encoder(net)))


def _new_encoder(net: nn.Module) -> nn.Module:
    kind = type(net).__name__  # encoders of other libraries take seconds to import
    if kind == "OpenClip":
        from condgen.encoders.interop.openclip import empty_open_clip

        return empty_open_clip(net.config)
    if kind == "OfTransformers":
        from condgen.encoders.interop.hf import empty_transformers

        return empty_transformers(net.config)
    return new_like(net)


def latent_features(net: nn.Module) -> FeatureExtractor:
    """The latents of an autoencoder as features; the mean where there is a distribution."""
    shape = (net.spec.size, net.spec.image_channels)
    return FeatureExtractor(*shape, net.encode, net, untrained=lambda: latent_features(new_like(net)))


def critic_features(net: nn.Module) -> FeatureExtractor:
    """The features of the critic of a GAN."""
    shape = (net.spec.size, net.spec.image_channels)
    return FeatureExtractor(*shape, net.phi, net, untrained=lambda: critic_features(new_like(net)))


def decoder_features(net: nn.Module) -> FeatureExtractor:
    """The features of a decoder under the null condition, e.g. the posterior mean of a CVAE."""
    spec = net.spec
    return FeatureExtractor(
        spec.size, spec.image_channels, net.features, net, spec, lambda: decoder_features(new_like(net))
    )


def training_features(net: nn.Module) -> FeatureExtractor:
    """The features of the training of a decoder under the null condition, e.g. of the critic of a cGAN."""
    spec = net.decoder.spec
    return FeatureExtractor(
        spec.size, spec.image_channels, net.features, net, spec,
        lambda: training_features(_training_of(new_like(net.decoder))),
    )  # fmt: skip


@singledispatch
def feature_extractor(model) -> FeatureExtractor:
    """The image features of a model, as a module.

    Args:
        model: an encoder, or its network; a TextToImage or EmbeddingToImage (features of its encoder); a ClassToImage
            with a CVAE (posterior mean) or a cGAN (critic); an autoencoder (latents); a GAN (critic).

    Raises:
        CondgenError: the model has no features; or its critic is missing.
    """
    return encoder_features(model).eval()


@feature_extractor.register
def _(model: ImageEncoder) -> FeatureExtractor:
    return encoder_features(model.net).eval()


@feature_extractor.register
def _(model: TextToImage) -> FeatureExtractor:
    return encoder_features(model.clip).eval()


@feature_extractor.register
def _(model: EmbeddingToImage) -> FeatureExtractor:
    return encoder_features(model.encoder).eval()


@feature_extractor.register
def _(model: UnconditionalDecoder) -> FeatureExtractor:
    raise CondgenError(f"{model.name} has a decoder alone, and no encoder whose features could be evaluated.")


@feature_extractor.register
def _(model: LatentModel) -> FeatureExtractor:
    if model.encodes:
        return latent_features(model.net).eval()
    if model.critic is None:
        raise CondgenError(f"{model.name} is a GAN without its critic, which has its features: export it again.")
    return critic_features(model.critic).eval()


@feature_extractor.register
def _(model: ClassToImage) -> FeatureExtractor:
    features = DECODERS.kind_of(model.decoder).features
    if features == "decoder":
        return decoder_features(model.decoder).eval()
    if features == "training":
        return training_features(_trained(model)).eval()
    raise CondgenError(
        f"{model.name} has a {DECODERS.name_of(model.decoder)} decoder, but no encoder, posterior or critic whose "
        "features could be evaluated."
    )


def _training_of(decoder: nn.Module) -> nn.Module:
    kind = DECODERS.kind_of(decoder)
    return kind.training(decoder, kind.objective() if kind.objective else None, DecoderObjective())


def _trained(model: ClassToImage) -> nn.Module:
    """Loads the training module of a decoder from its last checkpoint."""
    kept = Path(model.path).parent.glob("checkpoints/decoder/step-*") if getattr(model, "path", None) else []
    place = next((folder for folder in sorted(kept, reverse=True) if checkpoint.verify(folder)), None)
    if place is None:
        raise CondgenError(f"{model.name} is a GAN, and there is no critic beside it. {CRITIC_HINT}")
    training = _training_of(copy.deepcopy(model.decoder))  # the weights of a checkpoint differ from those of the model
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
    z = torch.zeros(n, spec.embed_dim, device=device)
    tokens = torch.zeros(n, spec.context, dtype=torch.int64, device=device) if spec.vocab else None
    return condition(z, tokens, use_z=False, use_words=False)


@dataclass(frozen=True)
class Row:
    """A row of the tables.

    Args:
        name: title of the row.
        extractor: feature extractor of the model.
        encoder: the model as an encoder of images and texts, if it is one.
        is_baseline: the row is a baseline.
    """

    name: str
    extractor: FeatureExtractor
    encoder: TextImageEncoder | None = None
    is_baseline: bool = True


def text_encoder_of(model) -> TextImageEncoder | None:
    """The model as an encoder of images and texts, or None."""
    if isinstance(model, TextToImage):
        return TextImageEncoder(model.clip, model.tokenizer, {"name": model.name}, model.model_id)
    return model if isinstance(model, TextImageEncoder) else None


def rows_of(models: list) -> tuple[list[Row], list[str]]:
    """The rows of the tables: all models, their architectures with random weights, and raw pixels at the image size of
    the first model, at most PIXELS.

    Returns:
        (rows, notes): a note for every baseline that cannot be built.
    """
    rows, shapes, notes = [], set(), []
    for model in models:
        name = model.name if model.name not in {row.name for row in rows} else f"{model.name} ({model.model_id[:8]})"
        rows.append(Row(name, feature_extractor(model), text_encoder_of(model), is_baseline=False))
    for row in [row for row in rows if row.extractor.net is not None]:
        net = row.extractor.net if hasattr(row.extractor.net, "config") else row.extractor.net.decoder
        shape = (type(row.extractor.net), net.config, getattr(net, "spec", None))
        if shape in shapes:
            continue
        shapes.add(shape)
        fresh = row.extractor.untrained()
        if fresh is None:
            notes.append(f"The network of {row.name} cannot be built with random weights: that baseline is missing.")
            continue
        encoder = TextImageEncoder(fresh.net, row.encoder.tokenizer) if row.encoder else None
        rows.append(Row(f"random network ({row.name})", fresh, encoder))
    pixels = FeatureExtractor(min(rows[0].extractor.size, PIXELS), 0, partial(torch.flatten, start_dim=1))
    return [*rows, Row("raw pixels", pixels)], notes


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
