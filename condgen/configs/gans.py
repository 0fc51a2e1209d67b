"""What fixes a run that ends in a GAN without a condition."""

from __future__ import annotations

from dataclasses import dataclass, field

from condgen.baselines.gans import GanConfig, GanObjective
from condgen.configs.data import AnyPictures
from condgen.training.trainer import FitConfig


@dataclass(frozen=True)
class GanTaskConfig:
    """Everything that fixes a run of a GAN without a condition.

    Args:
        data: images: `digits`, `scenes`, a folder of them, or labelled or captioned ones in any form.
        seed: of weights, order and codes.
        minutes: bound on the training; 0 sets none.
        images: bound on the images seen; 0 sets none.
        flip: mirror every second image.
        watch: how often to look at the state so far.
        save_every: seconds between checkpoints.
    """

    data: str = ""
    seed: int = 0
    minutes: float = 0.0
    images: int = 0
    flip: bool = False
    watch: int = 6
    save_every: float = 60.0
    pictures: AnyPictures = field(default_factory=AnyPictures)
    gan: GanConfig = field(default_factory=GanConfig)
    objective: GanObjective = field(default_factory=GanObjective)
    fit_gan: FitConfig = field(default_factory=FitConfig)
