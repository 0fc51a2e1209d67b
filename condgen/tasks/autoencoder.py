"""Trains autoencoders on images; a mixture of normals is fitted to the latents afterwards, to sample from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from condgen import distributed
from condgen.baselines.autoencoders import (
    Autoencoder,
    AutoencoderConfig,
    AutoencoderObjective,
    AutoencoderTraining,
    calibrate,
    corrupt,
)
from condgen.baselines.mixture import fit_mixture
from condgen.contracts import Batch, CondgenError, limited
from condgen.data.batches.base import held_out, to_float
from condgen.data.batches.labels import LabelBatches
from condgen.data.datasets.labels import LabelledImages
from condgen.data.options import ImageData
from condgen.evaluation.autoencoder import bound
from condgen.metrics.image_quality import psnr
from condgen.nn.specs import ImageSpec
from condgen.pipelines.base import to_pil
from condgen.pipelines.latent import LatentModel
from condgen.tasks.base import Scores, Sheet, SingleStageTask, TaskConfig
from condgen.tasks.dry_run import dry_run, images, warn_of_little
from condgen.training.trainer import FitConfig

MAX_HELD_OUT, MAX_FITTED = 2_000, 20_000
"""Maximum number of images held out for validation, and of latents that the mixture is fitted to."""


@dataclass(frozen=True)
class AutoencoderTaskConfig(TaskConfig):
    """Options of the training of an autoencoder.

    Args:
        components: number of components of the Gaussian mixture that new latents are drawn from, fitted after training;
            0 fits none.
    """

    eval_count: int = limited(6, low=0)
    components: int = limited(10, low=0)
    data: ImageData = field(default_factory=ImageData)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    objective: AutoencoderObjective = field(default_factory=AutoencoderObjective)
    fit: FitConfig = field(default_factory=FitConfig)


class AutoencoderTask(SingleStageTask):
    """Args: see `Task`."""

    config_class, needs, stage = AutoencoderTaskConfig, "images", "autoencoder"

    def check(self) -> None:
        c, (size, channels) = self.config, (self.data.size, self.data.image_channels)
        if c.objective.noise == "masking" and not 0 <= c.objective.strength <= 1:
            raise CondgenError(f"--objective.strength is {c.objective.strength}; masking takes a fraction from 0 to 1.")
        if c.autoencoder.binary and c.autoencoder.likelihood != "bernoulli":
            raise CondgenError("--autoencoder.binary makes pixels black or white: their likelihood is bernoulli.")

        def build() -> tuple[nn.Module, Batch]:
            net = Autoencoder(c.autoencoder, ImageSpec(size, channels))
            return AutoencoderTraining(net, c.objective), {"image": images(size, channels)}

        self.builds = {"autoencoder": build}
        dry_run(c, self.builds)
        warn_of_little(self.data.name, self.data.images)

    @cached_property
    def splits(self) -> tuple[LabelledImages, LabelledImages | None]:
        """Returns images to train on, and held-out ones."""
        data = self.config.data.open()
        parts = held_out(len(data), 20, MAX_HELD_OUT, self.config.seed)
        return (data, None) if parts is None else (data.rows(parts[0]), data.rows(parts[1]))

    def open_data(self) -> LabelledImages:
        return self.splits[0]

    def module(self) -> AutoencoderTraining:
        c = self.config
        torch.manual_seed(c.seed)
        net = Autoencoder(c.autoencoder, ImageSpec(self.data.size, self.data.image_channels))
        calibrate(net, to_float(self.data.images))
        return AutoencoderTraining(net, c.objective)

    def batches(self) -> Callable[[int], Batch]:
        c = self.config
        return LabelBatches(self.data, c.fit.batch, c.seed, **distributed.process())

    def model(self, trained: nn.Module, about: dict[str, Any]) -> LatentModel:
        return LatentModel(trained.net, about)

    @property
    def chooses(self) -> bool:
        objective = self.config.objective
        trains_bound = objective.beta == 1 and not objective.capacity
        return self.splits[1] is not None and (trains_bound or not self.config.autoencoder.variational)

    def evaluate(self, model: LatentModel) -> tuple[Scores, Sheet | None]:
        """Returns the PSNR of held-out images and, for a variational model, the bound on their likelihood."""
        data, held = self.splits
        rng = torch.Generator().manual_seed(self.config.seed)
        x = model.net.binarized(to_float((held or data).images[:MAX_HELD_OUT]), rng)
        torch.manual_seed(self.config.seed)
        noisy = corrupt(x, self.config.objective)
        back = model.decode(model.encode(noisy))
        nats = bound(model, x, rng) if model.variational else {}
        scores = ({"bound": -nats["nll"]} if nats else {}) | {"PSNR": psnr(back, x)} | nats
        return scores, self._sheet(model, x[:16], noisy[:16], back[:16])

    def _sheet(self, model: LatentModel, x: Tensor, noisy: Tensor, back: Tensor) -> Sheet:
        """Makes a sheet of images, with the noise of training, and reconstructions, eight per row; then new images."""
        noise = [("with noise", noisy)] if self.config.objective.noise != "none" else []
        rows = [("image", x), *noise, ("reconstruction", back)]
        shown = [(name, part[i : i + 8]) for i in range(0, len(x), 8) for name, part in rows]
        if model.variational:
            shown.append(("new", model.sample(range(16))))
        return [one for _, part in shown for one in to_pil(part)], [name for name, part in shown for _ in part]

    def finish(self, model: LatentModel) -> LatentModel:
        """Fits the mixture to latents of training images."""
        if self.config.components:
            some = np.random.default_rng(self.config.seed).permutation(len(self.data))[:MAX_FITTED]
            rng = torch.Generator().manual_seed(self.config.seed)
            latents = model.encode(model.net.binarized(to_float(self.data.images[np.sort(some)]), rng))
            model.mixture = fit_mixture(latents, self.config.components, self.config.seed)
        return model
