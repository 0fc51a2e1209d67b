"""Opening a model as what its index says it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from condgen.files.registry import LABELS, LATENTS, PAIRS, PICTURES, TRANSLATORS, find, is_foreign, kind_of

if TYPE_CHECKING:
    from condgen.pipelines.class_to_image import ClassToImage
    from condgen.pipelines.encoder import ImageEncoder
    from condgen.pipelines.latent import LatentModel
    from condgen.pipelines.text_to_image import TextToImage
    from condgen.pipelines.translator import Translator

    Model = TextToImage | ClassToImage | LatentModel | ImageEncoder | Translator


def open_named(path_or_name: str | Path | None) -> Model:
    """A model by path or name, see `models.find`, or an encoder of another library, see `encoders.opening`."""
    if not is_foreign(path_or_name):
        return open_model(find(path_or_name))
    from condgen.encoders.interop.load import open_encoder
    from condgen.pipelines.encoder import TextImageEncoder

    return TextImageEncoder(*open_encoder(path_or_name), {"name": Path(str(path_or_name)).name})


def open_model(folder: Path) -> Model:
    """A model that paints words, labels or neither, an encoder or a translator; errors as in their `load`."""
    kind = kind_of(folder)
    if kind == LABELS:
        from condgen.pipelines.class_to_image import ClassToImage

        return ClassToImage.load(folder)
    if kind == LATENTS:
        from condgen.pipelines.latent import LatentModel

        return LatentModel.load(folder)
    if kind in (PAIRS, PICTURES):
        from condgen.pipelines.encoder import ImageEncoder, TextImageEncoder

        return (TextImageEncoder if kind == PAIRS else ImageEncoder).load(folder)
    if kind == TRANSLATORS:
        from condgen.pipelines.translator import Translator

        return Translator.load(folder)
    from condgen.pipelines.text_to_image import TextToImage

    return TextToImage.load(folder)
