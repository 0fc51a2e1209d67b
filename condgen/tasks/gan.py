"""One run of a GAN without a condition: images alone, two players, sheets to look at."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from condgen import distributed
from condgen.baselines.gans import Codes, Gan, GanConfig, GanTraining
from condgen.contracts import Batch
from condgen.data.batches.captions import to_float
from condgen.data.datasets.labels import LabelBatches, LabelledImages
from condgen.data.sources.open_images import open_any
from condgen.metrics.diversity import mean_distance
from condgen.nn.specs import ImageSpec
from condgen.pipelines.base import to_pil
from condgen.pipelines.latent import LatentModel
from condgen.tasks.base import Sheet, Task
from condgen.tasks.dry_run import dry_run_gan

LOOKED_AT, SHOWN = 256, 40
"""Images that tell how varied they are, and images on a sheet, below a row of real ones."""
COLLAPSED, ALIKE = 0.6, 0.3
"""Images whose mean distance is below this share of that of real ones are too much alike; those of one category."""


class GanTask(Task):
    """Args: see `Task`; config is a `configs.Adversarial`.

    The last state is exported: no number that is at hand in training says which state paints best.
    """

    stage = "gan"
    chooses = False

    def prepare(self) -> None:
        dry_run_gan(self.config, self.data.size, self.data.image_channels)

    # the data

    def reading(self) -> dict[str, Any]:
        return self.config.pictures.reading()

    @cached_property
    def data(self) -> LabelledImages:
        return open_any(self.config.data, split=self.config.pictures.use, **self.reading())

    @cached_property
    def real(self) -> Tensor:
        """Some of the images, to hold painted ones against."""
        some = np.random.default_rng(self.config.seed).permutation(len(self.data))[:LOOKED_AT]
        return to_float(self.data.images[np.sort(some)])

    # the training

    def trainable(self) -> nn.Module:
        c = self.config
        torch.manual_seed(c.seed)
        return GanTraining(Gan(c.gan, ImageSpec(self.data.size, self.data.image_channels)), c.objective)

    def views(self) -> Callable[[int], Batch]:
        c = self.config
        return LabelBatches(self.data, c.fit_gan.batch, c.seed, 0, c.flip, distributed.rank(), distributed.world())

    def model(self, trained: nn.Module, about: dict[str, Any]) -> LatentModel:
        return LatentModel(trained.gan, about, critic=trained.critic)

    # the judge

    def judge(self, model: LatentModel) -> tuple[dict[str, float], Sheet | None]:
        """How varied painted images are against real ones, those of a category among themselves too, and a sheet."""
        z = model.draw(range(LOOKED_AT))
        generated, real = model.decode(z), max(mean_distance(self.real), 1e-6)
        metrics = {"variety": mean_distance(generated) / real}
        if categories := model.net.config.categories:
            kinds = Codes.of(z, model.net.config).category.argmax(1)
            each = [mean_distance(generated[kinds == k]) for k in range(categories) if (kinds == k).sum() > 1]
            metrics["variety_in_a_category"] = sum(each) / max(len(each), 1) / real
        if metrics["variety"] < COLLAPSED or metrics.get("variety_in_a_category", 1) < ALIKE:
            self.display.say(
                "The images are too much alike: a collapse. Give the penalties on the critic more weight "
                "(--objective.gamma), lower the learning rate (--fit_gan.lr), or take another --size."
            )
        return metrics, self._sheet(model, generated)

    def _sheet(self, model: LatentModel, generated: Tensor) -> Sheet:
        """A row of real images, and painted ones; of an InfoGAN, a row for every category, with equal other codes."""
        shape = model.net.config
        metrics = ["painted"] * SHOWN
        if shape.categories:
            z = in_every_category(model.draw(range(8)), shape)
            generated, metrics = model.decode(z), [f"category {k}" for k in range(shape.categories) for _ in range(8)]
        return to_pil(torch.cat([self.real[:8], generated[: len(metrics)]])), ["real"] * 8 + metrics


def in_every_category(z: Tensor, config: GanConfig) -> Tensor:
    """The same codes (N, Z) with every category in turn, (categories N, Z)."""
    codes = Codes.of(z, config)
    rows = torch.eye(config.categories).repeat_interleave(len(z), 0)
    again = (part.repeat(config.categories, 1) for part in (codes.noise, codes.continuous))
    noise, continuous = again
    return Codes(noise, rows, continuous).joined()
