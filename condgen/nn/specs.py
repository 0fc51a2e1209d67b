"""Specs describe the data of a network; its options are a separate config: `Network(config, spec)`.

On disk both are one flat dict, see `files.weights.described`.
"""

from __future__ import annotations

from dataclasses import dataclass

from condgen.contracts import limited

MAX_SIZE = 2**16
"""Maximum edge of images, so that a damaged file cannot keep a computer busy for hours."""


@dataclass(frozen=True)
class ImageSpec:
    """The images that a network reads or generates.

    Args:
        size: edge S.
        image_channels: channels C, 1 or 3.
    """

    size: int = limited(high=MAX_SIZE)
    image_channels: int = 3


@dataclass(frozen=True)
class EncoderSpec:
    """The colour images that an encoder reads.

    Args:
        size: edge S.
        trims: on the CPU, the padding that all captions of a batch share is not computed; False in models of the first
            edition, whose numbers it would change in the last digits.
    """

    size: int = limited(32, high=MAX_SIZE)
    trims: bool = limited(False, added=True)


@dataclass(frozen=True)
class TranslationSpec:
    """The images that a translator reads and generates.

    Args:
        size: edge S.
        reads: channels of the input images, 1 or 3.
        image_channels: channels of the output images, 1 or 3.
    """

    size: int = limited(high=MAX_SIZE)
    reads: int = 3
    image_channels: int = 3


@dataclass(frozen=True)
class TextSpec:
    """The embeddings and tokens that a prior reads.

    Args:
        embed_dim: width D of the encoder's embeddings.
        vocab: number of its token ids.
        context: tokens of a caption, L.
        space: fingerprint of the encoder.
        trims: see `EncoderSpec`.
    """

    embed_dim: int
    vocab: int
    context: int
    space: str = ""
    trims: bool = limited(False, added=True)


@dataclass(frozen=True)
class CondSpec:
    """The images that a decoder generates and the condition that it reads.

    Args:
        size: edge S of the images.
        image_channels: channels C of the images, 1 or 3.
        embed_dim, vocab, context, space, trims: describe the encoder whose embeddings and tokens it reads, as in
            `TextSpec`; without text, vocab is 0.
        cardinalities: without an encoder, the number of values of each label or attribute; 0 for a real number.
    """

    size: int = limited(32, high=MAX_SIZE)
    image_channels: int = 3
    embed_dim: int = 0
    vocab: int = 0
    context: int = 0
    space: str = ""
    cardinalities: tuple[int, ...] = ()
    trims: bool = limited(False, added=True)
