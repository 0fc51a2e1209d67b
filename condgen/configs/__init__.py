"""Everything that fixes a run, a tree of plain values: each field is an option of the command line and a YAML key."""

from condgen.configs.autoencoders import AutoencoderTaskConfig
from condgen.configs.data import AnyPictures, Labelled, Pictures
from condgen.configs.encoders import ClipTaskConfig, SelfsupTaskConfig
from condgen.configs.gans import GanTaskConfig
from condgen.configs.generators import ClassToImageTaskConfig, GeneratorConfig, PriorsConfig, TextToImageTaskConfig
from condgen.configs.translation import GeneratorNetConfig, TranslationTaskConfig, TwoSides

__all__ = [
    "AnyPictures",
    "AutoencoderTaskConfig",
    "ClassToImageTaskConfig",
    "ClipTaskConfig",
    "GanTaskConfig",
    "GeneratorConfig",
    "GeneratorNetConfig",
    "Labelled",
    "Pictures",
    "PriorsConfig",
    "SelfsupTaskConfig",
    "TextToImageTaskConfig",
    "TranslationTaskConfig",
    "TwoSides",
]
