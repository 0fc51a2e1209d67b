"""One run of an autoencoder: images alone, a code, a way back, and a sampler after the fact."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from condgen import distributed
from condgen.baselines.autoencoders import (
    Autoencoder,
    AutoencoderTraining,
    calibrate,
    corrupt,
)
from condgen.baselines.mixture import fit_mixture
from condgen.contracts import Batch
from condgen.data.batches.captions import to_float
from condgen.data.batches.order import held_out
from condgen.data.datasets.labels import LabelBatches, LabelledImages
from condgen.data.sources.open_images import open_any
from condgen.evaluation.autoencoder import bound
from condgen.metrics.image_quality import psnr
from condgen.nn.specs import ImageSpec
from condgen.pipelines.base import to_pil
from condgen.pipelines.latent import LatentModel
from condgen.tasks.base import Sheet, Task
from condgen.tasks.dry_run import dry_run_autoencoder

HELD, FITTED = 2_000, 20_000
"""Images held out of training to judge by, at most, and codes that the mixture is fitted to."""


class AutoencoderTask(Task):
    """Args: see `Task`; config is a `configs.Autoencoding`."""

    stage = "autoencoder"

    def prepare(self) -> None:
        dry_run_autoencoder(self.config, self.data.size, self.data.image_channels)

    # the data

    def reading(self) -> dict[str, Any]:
        return self.config.pictures.reading()

    @cached_property
    def _opened(self) -> tuple[LabelledImages, LabelledImages | None]:
        """Images to train on, and some held out."""
        data = open_any(self.config.data, split=self.config.pictures.use, **self.reading())
        parts = held_out(len(data), 20, HELD, self.config.seed)
        return (data, None) if parts is None else (data.rows(parts[0]), data.rows(parts[1]))

    @property
    def data(self) -> LabelledImages:
        return self._opened[0]

    # the training

    def trainable(self) -> nn.Module:
        c = self.config
        torch.manual_seed(c.seed)
        net = Autoencoder(c.autoencoder, ImageSpec(self.data.size, self.data.image_channels))
        calibrate(net, to_float(self.data.images))
        return AutoencoderTraining(net, c.objective)

    def views(self) -> Callable[[int], Batch]:
        c = self.config
        return LabelBatches(
            self.data, c.fit_autoencoder.batch, c.seed, 0, False, distributed.rank(), distributed.world()
        )

    def model(self, trained: nn.Module, about: dict[str, Any]) -> LatentModel:
        return LatentModel(trained.net, about)

    # the judge

    @property
    def chooses(self) -> bool:
        own = self.config.objective
        by_bound = own.beta == 1 and not own.capacity  # else the bound is not what it is trained for
        return self._opened[1] is not None and (by_bound or not self.config.autoencoder.variational)

    def judge(self, model: LatentModel) -> tuple[dict[str, float], Sheet | None]:
        """How well held-out images come back, of a variational one the bound before that; and a sheet of them."""
        data, held = self._opened
        rng = torch.Generator().manual_seed(self.config.seed)
        taken = model.net.binarized(to_float((held or data).images[:HELD]), rng)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            given = corrupt(taken, self.config.objective)
        back = model.decode(model.encode(given))
        found = bound(model, taken, rng) if model.variational else {}
        scores = ({"bound": -found["nll"]} if found else {}) | {"PSNR": psnr(back, taken)} | found
        return scores, self._sheet(model, taken[:16], given[:16], back[:16])

    def _sheet(self, model: LatentModel, pictures: Tensor, given: Tensor, back: Tensor) -> Sheet:
        """Images, what is made of them where there is noise, and what comes back, eight in a row; and new ones."""
        noisy = self.config.objective.noise != "none"
        rows = [("picture", pictures), *([("with noise", given)] if noisy else []), ("comes back", back)]
        shown: list[tuple[str, Tensor]] = []
        for start in range(0, len(pictures), 8):
            shown += [(name, images[start : start + 8]) for name, images in rows]
        if model.variational:
            shown.append(("new", model.sample(range(16))))
        return [one for _, images in shown for one in to_pil(images)], [name for name, i in shown for _ in i]

    def finish(self, best: LatentModel) -> LatentModel:
        """The mixture, fitted to codes of training images."""
        if self.config.components:
            some = np.random.default_rng(self.config.seed).permutation(len(self.data))[:FITTED]
            rng = torch.Generator().manual_seed(self.config.seed)
            codes = best.encode(best.net.binarized(to_float(self.data.images[np.sort(some)]), rng))
            best.mixture = fit_mixture(codes, self.config.components, self.config.seed)
        return best
