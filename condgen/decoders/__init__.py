"""Decoders generate images from a condition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from condgen.kinds import Kind, Registry, kind_in


@dataclass(frozen=True)
class DecoderKind(Kind):
    """A kind of decoder. Its network keeps the `Decoder` contract and is built as `network(config, CondSpec)`.

    Args:
        network, config: as in `Kind`.
        training: called with (decoder, objective, conditioning), the latter a `DecoderObjective`; the Trainable keeps
            the decoder as its attribute `decoder`.
        objective, calibrate: as in `Kind`.
        has_latent: the decoder generates in one pass from `decoder.latent` normal numbers: `decode_normal(z, encoded
            condition)` gives images.
        encodes: `encode_normal(images, encoded condition)` inverts `decode_normal`.
        autoguidance: `decoder.guide_by(weak)` sets an earlier state of the decoder as its guide.
        inverts: `decoder.sample` takes `init`, see `diffusion.samplers.Init`, and `decoder.invert` gives the noise of
            an image.
        negatives: `decoder.sample` takes `negative`, a condition to steer away from.
        perceptual: `training` takes `encoder`, an image encoder with `feature_maps`.
        distills: it takes several steps, and `decoders.distillation` can train it to take few.
        features: the part that has `features(images, cond)`, unconditional features (B, F) that can be evaluated: the
            decoder, its training (the discriminator of a GAN), or none.
    """

    has_latent: bool = False
    encodes: bool = False
    autoguidance: bool = False
    inverts: bool = False
    negatives: bool = False
    perceptual: bool = False
    distills: bool = False
    features: Literal["decoder", "training", "none"] = "none"


DECODERS: Registry[DecoderKind] = Registry("decoder")


for _name in ("diffusion", "cgan", "cvae"):
    DECODERS.register(_name, kind_in(f"condgen.decoders.{_name}"))
