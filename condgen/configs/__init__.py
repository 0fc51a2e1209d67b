"""Everything that fixes a run, a tree of plain values: each field is an option of the command line and a YAML key."""

from condgen.configs.autoencoders import AutoencoderShape, AutoencoderTaskConfig
from condgen.configs.data import AnyPictures, Labelled, Pictures
from condgen.configs.encoders import BackboneShape, ClipShape, ClipTaskConfig, SelfsupTaskConfig
from condgen.configs.gans import GanShape, GanTaskConfig
from condgen.configs.generators import (
    CganShape,
    ClassToImageTaskConfig,
    CvaeShape,
    DecoderShape,
    GeneratorConfig,
    PriorShape,
    TextToImageTaskConfig,
)
from condgen.configs.translation import TranslationTaskConfig, TranslatorShape, TwoSides

__all__ = [
    "AnyPictures",
    "AutoencoderShape",
    "AutoencoderTaskConfig",
    "BackboneShape",
    "CganShape",
    "ClassToImageTaskConfig",
    "ClipShape",
    "ClipTaskConfig",
    "CvaeShape",
    "DecoderShape",
    "GanShape",
    "GanTaskConfig",
    "GeneratorConfig",
    "Labelled",
    "Pictures",
    "PriorShape",
    "SelfsupTaskConfig",
    "TextToImageTaskConfig",
    "TranslationTaskConfig",
    "TranslatorShape",
    "TwoSides",
]
