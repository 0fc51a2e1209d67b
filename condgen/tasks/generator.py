"""Builds decoders of every kind, and their training, from the options of a task."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from condgen.contracts import Batch, CondgenError, check_options
from condgen.decoders import DECODERS
from condgen.decoders.diffusion import DiffusionDecoderConfig, DiffusionObjective
from condgen.nn.conditioning import DecoderObjective
from condgen.nn.specs import CondSpec
from condgen.tasks.base import TaskConfig


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


def new_training(config: GeneratorConfig, decoder: nn.Module) -> nn.Module:
    """Builds the Trainable of a decoder; its attribute `decoder` is the decoder."""
    return DECODERS[config.kind].training(decoder, config.objective, config.decoder_objective)


def dry_run_decoder(config: GeneratorConfig, spec: CondSpec, batch: Batch) -> tuple[nn.Module, Batch]:
    """A training and its batch for `dry_run`; the defaults of the sampling options are checked too."""
    decoder = new_decoder(config, spec)
    check_options(decoder.sampling_options, {})
    return new_training(config, decoder), batch
