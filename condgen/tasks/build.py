"""Decoders of any kind, translators, and their training, built from a config."""

from __future__ import annotations

from dataclasses import fields

from torch import Tensor, nn

from condgen.baselines import TRANSLATION_NETWORKS
from condgen.baselines.translation import PairedTraining, UnpairedTraining
from condgen.baselines.translation_nets import TranslatorConfig
from condgen.configs import GeneratorConfig, TranslationTaskConfig
from condgen.decoders import DECODERS
from condgen.nn.specs import CondSpec, TranslationSpec

SHAPES = {"diffusion": "decoder", "cgan": "cgan", "cvae": "cvae"}
"""Which field of a `configs.Painter` holds the shape of a kind."""


def new_decoder(config: GeneratorConfig, spec: CondSpec, some: Tensor | None = None) -> nn.Module:
    """An untrained decoder.

    Args:
        config: which kind, and its shape.
        spec: the images and the condition.
        some: training images, (N, C, S, S) in [-1, 1]; a diffusion decoder takes mean and deviation from them.
    """
    kind = DECODERS[config.kind]
    decoder = kind.network(getattr(config, SHAPES[config.kind]), spec)
    if some is not None and kind.calibrate:
        kind.calibrate(decoder, some)
    return decoder


def training_of(config: GeneratorConfig, decoder: nn.Module) -> nn.Module:
    """The Trainable around a decoder; `.decoder` is the decoder."""
    kind, own = DECODERS[config.kind], {"cgan": config.cgan_objective, "cvae": config.cvae_objective}
    objective = own.get(config.kind) or (kind.objective() if kind.objective else None)
    return kind.training(decoder, objective, config.decoder_objective)


def part_of(cls: type, config: object) -> object:
    """The fields of a config that one of its base classes has, as that class."""
    return cls(**{field.name: getattr(config, field.name) for field in fields(cls)})


def translation_of(config: TranslationTaskConfig, reads: int, image_channels: int) -> nn.Module:
    """The training of a translator for images of so many channels on either side, with its first weights."""

    def net(before: int, after: int) -> nn.Module:
        spec = TranslationSpec(config.pictures.size, before, after)
        return TRANSLATION_NETWORKS[config.net.kind].network(part_of(TranslatorConfig, config.net), spec)

    if config.way == "paired":
        return PairedTraining(net(reads, image_channels), config.paired)
    return UnpairedTraining(net(reads, image_channels), net(image_channels, reads), config.unpaired)
