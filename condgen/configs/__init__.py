"""Everything that fixes a run, a tree of plain values: each field is an option of the command line and a YAML key."""

from condgen.configs.autoencoders import AutoencoderShape, Autoencoding
from condgen.configs.data import AnyPictures, Labelled, Pictures
from condgen.configs.encoders import BackboneShape, ClipShape, Contrastive, SelfSupervised
from condgen.configs.gans import Adversarial, GanShape
from condgen.configs.generators import ByLabel, CganShape, Corridor, CvaeShape, DecoderShape, Painter, PriorShape
from condgen.configs.translation import Translating, TranslatorShape, TwoSides

__all__ = [
    "Adversarial",
    "AnyPictures",
    "AutoencoderShape",
    "Autoencoding",
    "BackboneShape",
    "ByLabel",
    "CganShape",
    "ClipShape",
    "Contrastive",
    "Corridor",
    "CvaeShape",
    "DecoderShape",
    "GanShape",
    "Labelled",
    "Painter",
    "Pictures",
    "PriorShape",
    "SelfSupervised",
    "Translating",
    "TranslatorShape",
    "TwoSides",
]
