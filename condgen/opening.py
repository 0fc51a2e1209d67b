"""Opening a model as what its index says it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from condgen.contracts import CondgenError
from condgen.models import LABELS, PAIRS, PICTURES, WORDS, about, encodes, kind_of

if TYPE_CHECKING:
    from condgen.encoding import ImageEncoder
    from condgen.labelling import LabelToImage
    from condgen.pipeline import TextToImage


def open_model(folder: Path) -> TextToImage | LabelToImage | ImageEncoder:
    """A model that paints words, one that paints labels, or an encoder; errors as in their `load`."""
    kind = kind_of(folder)
    if kind == LABELS:
        from condgen.labelling import LabelToImage

        return LabelToImage.load(folder)
    if kind in (PAIRS, PICTURES):
        from condgen.encoding import ImageEncoder, TextImageEncoder

        return (TextImageEncoder if kind == PAIRS else ImageEncoder).load(folder)
    from condgen.pipeline import TextToImage

    return TextToImage.load(folder)


def open_encoder(folder: Path) -> ImageEncoder:
    """An encoder, or that of a model that paints words, whose other parts are not read.

    Raises:
        CondgenError: the model paints labels and has none; else as in its `load`.
    """
    from condgen.encoding import TextImageEncoder
    from condgen.painters import index_of, model_id_of

    if encodes(folder):
        return open_model(folder)
    if kind_of(folder) == LABELS:
        raise CondgenError(f"{folder} paints labels and has no encoder. Give an encoder, or a model that paints words.")
    index_of(folder, WORDS)
    encoder = TextImageEncoder(*TextImageEncoder._load_parts(folder), about(folder), model_id_of(folder))
    encoder.path = folder
    return encoder
