"""Runs from image to image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from condgen.baselines.translation import PairedObjective, UnpairedObjective
from condgen.baselines.translation_nets import TranslatorConfig
from condgen.training.trainer import FitConfig


@dataclass(frozen=True)
class TwoSides:
    """What images to translate between, see `data.two_sides.open_sides`.

    Args:
        origin: files; edges or grey of any images; scenes by day and by night; squares and circles.
        size: edge of the images.
        drawn: how many to draw of each side, when the data is drawn.
        a: folder or table of the first side, below --data; empty looks for a, or trainA, or images side by side.
        b: the same of the second side.
        where_a: keep only such rows of the first table, e.g. `vendor=noto`.
        where_b: the same of the second.
        match: column of the tables that tells which rows are partners.
        names: what the two sides are called, for `condgen translate --to NAME`.
        use: which split to train on.
        how: how images that are not square become so.
        shift: largest random shift in pixels.
        flip: mirror every second image.
    """

    origin: Literal["files", "edges", "grey", "night", "shapes"] = "files"
    size: int = 64
    drawn: int = 10_000
    a: str = ""
    b: str = ""
    where_a: str = ""
    where_b: str = ""
    match: str = ""
    names: tuple[str, ...] = ()
    use: str = "train"
    how: Literal["crop", "pad"] = "crop"
    shift: int = 2
    flip: bool = True


@dataclass(frozen=True)
class GeneratorNetConfig(TranslatorConfig):
    """Which network translates, and its options.

    Args:
        kind: `unet`, which sees the whole image, or `resnet`, which sees about a block's neighbourhood.
    """

    kind: Literal["unet", "resnet"] = "unet"


@dataclass(frozen=True)
class TranslationTaskConfig:
    """Everything that fixes a run from image to image.

    Args:
        data: images of two kinds: a folder with a/ and b/, images side by side, or the folder of tables.
        seed: of weights, order, and what is drawn and held out.
        minutes: bound on the training; 0 sets none.
        images: bound on the images seen; 0 sets none.
        way: learn from pairs, or from two heaps without partners.
        watch: how often to judge the state so far.
        save_every: seconds between checkpoints.
    """

    data: str = ""
    seed: int = 0
    minutes: float = 0.0
    images: int = 0
    way: Literal["paired", "unpaired"] = "paired"
    watch: int = 10
    save_every: float = 60.0
    pictures: TwoSides = field(default_factory=TwoSides)
    net: GeneratorNetConfig = field(default_factory=GeneratorNetConfig)
    paired: PairedObjective = field(default_factory=PairedObjective)
    unpaired: UnpairedObjective = field(default_factory=UnpairedObjective)
    fit_translation: FitConfig = field(default_factory=FitConfig)
