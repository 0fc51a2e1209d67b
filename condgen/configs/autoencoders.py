"""What fixes a run that ends in an autoencoder."""

from __future__ import annotations

from dataclasses import dataclass, field

from condgen.baselines.autoencoders import AutoencoderConfig, AutoencoderObjective
from condgen.configs.data import AnyPictures
from condgen.training.trainer import FitConfig


@dataclass(frozen=True)
class AutoencoderTaskConfig:
    """Everything that fixes a run of an autoencoder.

    Args:
        data: images: `digits`, `scenes`, a folder of them, or labelled or captioned ones in any form.
        seed: of weights, order, noise, and what is held out.
        minutes: bound on the training; 0 sets none.
        images: bound on the images seen; 0 sets none.
        components: normals of the mixture that new codes are drawn from, fitted after training; 0 fits none.
        watch: how often to judge the state so far.
        save_every: seconds between checkpoints.
    """

    data: str = ""
    seed: int = 0
    minutes: float = 0.0
    images: int = 0
    components: int = 10
    watch: int = 6
    save_every: float = 60.0
    pictures: AnyPictures = field(default_factory=AnyPictures)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    objective: AutoencoderObjective = field(default_factory=AutoencoderObjective)
    fit_autoencoder: FitConfig = field(default_factory=FitConfig)
