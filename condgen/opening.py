"""Opening a model as what its index says it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from condgen.models import paints_labels

if TYPE_CHECKING:
    from condgen.labelling import LabelToImage
    from condgen.pipeline import TextToImage


def open_model(folder: Path) -> TextToImage | LabelToImage:
    """A model that paints words, or one that paints labels; errors as in their `load`."""
    if paints_labels(folder):
        from condgen.labelling import LabelToImage

        return LabelToImage.load(folder)
    from condgen.pipeline import TextToImage

    return TextToImage.load(folder)
