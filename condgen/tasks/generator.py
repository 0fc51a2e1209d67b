"""Builds decoders and priors of every kind, and their training, from the options of a task."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn

from condgen.contracts import Batch, CondgenError, check_options, limited
from condgen.decoders import DECODERS
from condgen.decoders.diffusion import DiffusionDecoderConfig, DiffusionObjective
from condgen.nn.conditioning import DecoderObjective
from condgen.nn.specs import CondSpec, TextSpec
from condgen.priors import PRIORS
from condgen.priors.transformer import EmbeddingNormalizer, EmbeddingSpec, PriorConfig
from condgen.tasks.base import TaskConfig
from condgen.tasks.dry_run import token_ids


@dataclass(frozen=True)
class GeneratorConfig(TaskConfig):
    """Options of a decoder and its training.

    Args:
        kind: kind of decoder, `diffusion`, `cgan` or `cvae`; it determines the options of `decoder` and `objective`.
        decoder: options of the network.
        decoder_objective: the condition that the decoder sees in training.
        objective: options of the loss, if this kind of decoder has any.
    """

    kind: str = "diffusion"
    decoder: Any = field(default_factory=DiffusionDecoderConfig)
    decoder_objective: DecoderObjective = field(default_factory=DecoderObjective)
    objective: Any = field(default_factory=DiffusionObjective)

    def with_kind(self, kind: str, **options: Any) -> GeneratorConfig:
        if kind not in DECODERS:
            raise CondgenError(f"There is no decoder {kind!r}: --kind is one of {', '.join(DECODERS)}.")
        known = DECODERS[kind]
        defaults = {"decoder": known.config(), "objective": known.objective() if known.objective else None}
        return super().with_kind(kind, **defaults | options)


def new_decoder(config: GeneratorConfig, spec: CondSpec, images: Tensor | None = None) -> nn.Module:
    """Builds an untrained decoder.

    Args:
        spec: the images and the condition.
        images: training images, (N, C, S, S) in [-1, 1], to calibrate it with.
    """
    kind = DECODERS[config.kind]
    decoder = kind.network(config.decoder, spec)
    if images is not None and kind.calibrate:
        kind.calibrate(decoder, images)
    return decoder


def new_training(config: GeneratorConfig, decoder: nn.Module, encoder: Any = None) -> nn.Module:
    """Builds the Trainable of a decoder; its attribute `decoder` is the decoder.

    Args:
        encoder: the image encoder, for kinds that have a perceptual loss, if it has feature maps.
    """
    kind = DECODERS[config.kind]
    sees = {"encoder": encoder} if kind.perceptual and hasattr(encoder, "feature_maps") else {}
    return kind.training(decoder, config.objective, config.decoder_objective, **sees)


def dry_run_decoder(config: GeneratorConfig, spec: CondSpec, batch: Batch) -> tuple[nn.Module, Batch]:
    """A training and its batch for `dry_run`; the defaults of the sampling options are checked too."""
    decoder = new_decoder(config, spec)
    check_options(decoder.sampling_options, {})
    return new_training(config, decoder), batch


@dataclass(frozen=True)
class PriorsConfig(PriorConfig):
    """Which priors to train, and their options.

    Args:
        kinds: priors to train: regression, diffusion, autoregressive; the first is the default of the
            model.
        dims, buckets: of the autoregressive prior, see `AutoregressiveConfig`.
    """

    kinds: tuple[str, ...] = ("regression", "diffusion")
    dims: int = limited(512, low=1, high=2**16)
    buckets: int = limited(64, low=2, high=2**16)


def dry_run_prior(kind: str, config: PriorsConfig, spec: TextSpec) -> tuple[nn.Module, Batch]:
    """A training and its batch for `dry_run`."""
    z, ids = torch.zeros(2, spec.embed_dim), torch.zeros(2, 1, dtype=torch.long)
    batch = {"text_embed": z, "image_embed": z, "tokens": token_ids(), "text_id": ids[:, 0], "true_ids": ids}
    normalizer = EmbeddingNormalizer(EmbeddingSpec(spec.embed_dim, ""))
    return PRIORS[kind].training(new_prior(kind, config, spec), normalizer), batch


def new_prior(kind: str, config: PriorsConfig, spec: TextSpec, embeds: Batch | None = None) -> nn.Module:
    """An untrained prior; `embeds` are training embeddings for kinds that are calibrated, see `Kind`."""
    known = PRIORS[kind]
    options = {one.name: getattr(config, one.name) for one in fields(known.config) if hasattr(config, one.name)}
    own = known.config(**options)
    if embeds is not None and known.configure:
        own = known.configure(own, embeds)
    prior = known.network(own, spec)
    if embeds is not None and known.calibrate:
        known.calibrate(prior, embeds)
    return prior
