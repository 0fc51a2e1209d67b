"""Trains unconditional GANs, including InfoGAN."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from condgen import distributed
from condgen.baselines.gans import Codes, Gan, GanConfig, GanObjective, GanTraining
from condgen.contracts import Batch, CondgenError, limited
from condgen.data.batches.base import to_float
from condgen.data.batches.labels import LabelBatches
from condgen.data.datasets.labels import LabelledImages
from condgen.data.options import ImageData
from condgen.metrics.diversity import mean_distance
from condgen.nn.specs import ImageSpec
from condgen.pipelines.base import to_pil
from condgen.pipelines.latent import LatentModel
from condgen.tasks.base import Scores, Sheet, SingleStageTask, TaskConfig
from condgen.tasks.dry_run import all_equal, dry_run, images, warn_of_little
from condgen.training.trainer import FitConfig

COMPARED, SHOWN = 256, 40
"""Number of images to measure diversity on, and of images on a sheet, below a row of real ones."""
COLLAPSED, COLLAPSED_CATEGORY = 0.6, 0.3
"""The generator has collapsed if the mean distance of its images, relative to real ones, is below the first; within one
category, below the second."""


@dataclass(frozen=True)
class GanTaskConfig(TaskConfig):
    """Options of the training of an unconditional GAN.

    Args:
        random_flip: mirror every second image.
    """

    eval_count: int = limited(6, low=0)
    random_flip: bool = False
    data: ImageData = field(default_factory=ImageData)
    gan: GanConfig = field(default_factory=GanConfig)
    objective: GanObjective = field(default_factory=GanObjective)
    fit: FitConfig = field(default_factory=FitConfig)


class GanTask(SingleStageTask):
    """Trains a GAN. It exports the final state, as no cheap score tells which state is best.

    Args: see `Task`.
    """

    config_class, needs, stage = GanTaskConfig, "images", "gan"
    chooses = False

    def check(self) -> None:
        c, (size, channels) = self.config, (self.data.size, self.data.image_channels)
        if c.fit.batch < 2:
            raise CondgenError(f"--fit.batch is {c.fit.batch}; it must be at least 2: the generator norms over it.")

        def build() -> tuple[nn.Module, Batch]:
            return GanTraining(Gan(c.gan, ImageSpec(size, channels)), c.objective), {"image": images(size, channels)}

        self.builds = {"gan": build}
        dry_run(c, self.builds)
        warn_of_little(self.data.name, self.data.images)

    def open_data(self) -> LabelledImages:
        return self.config.data.open()

    @cached_property
    def real(self) -> Tensor:
        """A sample of training images, for comparison."""
        some = np.random.default_rng(self.config.seed).permutation(len(self.data))[:COMPARED]
        return to_float(self.data.images[np.sort(some)])

    def module(self) -> GanTraining:
        c = self.config
        torch.manual_seed(c.seed)
        return GanTraining(Gan(c.gan, ImageSpec(self.data.size, self.data.image_channels)), c.objective)

    def batches(self) -> Callable[[int], Batch]:
        c = self.config
        return LabelBatches(self.data, c.fit.batch, c.seed, flip=c.random_flip, **distributed.process())

    def model(self, trained: nn.Module, about: dict[str, Any]) -> LatentModel:
        return LatentModel(trained.gan, about, critic=trained.critic)

    def evaluate(self, model: LatentModel) -> tuple[Scores, Sheet | None]:
        """Returns the diversity relative to real images, overall and within a category, and a sheet."""
        z, config = model.draw(range(COMPARED)), model.net.config
        generated = model.decode(z)
        if all_equal(self.data.images):  # there is no variety to compare with
            return {}, self._sheet(model, generated)
        real = max(mean_distance(self.real), 1e-6)
        scores = {"variety": mean_distance(generated) / real}
        if config.categories:
            category = Codes.of(z, config).category.argmax(1)
            each = [
                mean_distance(generated[category == k]) for k in range(config.categories) if (category == k).sum() > 1
            ]
            scores["variety_in_a_category"] = sum(each) / max(len(each), 1) / real
        if scores["variety"] < COLLAPSED or scores.get("variety_in_a_category", 1) < COLLAPSED_CATEGORY:
            self.display.say(
                "The images are too much alike: mode collapse. Give the penalties on the discriminator more weight "
                "(--objective.gamma), lower the learning rate (--fit.lr), or take another --size."
            )
        return scores, self._sheet(model, generated)

    def _sheet(self, model: LatentModel, generated: Tensor) -> Sheet:
        """Makes a sheet: a row of real images above generated ones; for InfoGAN a row per category with equal codes."""
        config, labels = model.net.config, ["generated"] * SHOWN
        if config.categories:
            generated = model.decode(in_every_category(model.draw(range(8)), config))
            labels = [f"category {k}" for k in range(config.categories) for _ in range(8)]
        real = self.real[torch.arange(8) % len(self.real)]
        return to_pil(torch.cat([real, generated[: len(labels)]])), ["real"] * 8 + labels


def in_every_category(z: Tensor, config: GanConfig) -> Tensor:
    """Combines codes (N, Z) with every category, (categories N, Z)."""
    codes, n = Codes.of(z, config), config.categories
    categories = torch.eye(n).repeat_interleave(len(z), 0)
    return Codes(codes.noise.repeat(n, 1), categories, codes.continuous.repeat(n, 1)).joined()
