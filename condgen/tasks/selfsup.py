"""One run of self-supervised training: images alone to a backbone."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen import distributed
from condgen.contracts import Batch, CondgenError
from condgen.data.attributes import LABEL
from condgen.data.batches.augment import DICE, augment
from condgen.data.batches.captions import to_float
from condgen.data.batches.order import held_out
from condgen.data.batches.views import ViewBatches
from condgen.data.datasets.labels import LabelledImages
from condgen.data.sources.open_images import open_any
from condgen.encoders.backbones import Backbone
from condgen.encoders.selfsup import LOOKS, METHODS, InstanceTraining, check_queue
from condgen.files.images import grid, png_bytes, write_bytes
from condgen.metrics.probes import accuracy, effective_rank, knn, spread
from condgen.nn.specs import EncoderSpec
from condgen.pipelines.base import to_pil
from condgen.pipelines.encoder import ImageEncoder
from condgen.tasks.base import Sheet, Task
from condgen.tasks.dry_run import dry_run_selfsup

MOST_HELD, MOST_KNOWN = 5_000, 10_000
"""Images held out of training to choose the best state by, and images that vote on them, at most."""
COLLAPSED = 0.1
"""Features whose spread is below this tell no images apart."""


class SelfsupTask(Task):
    """Args: see `Task`; config is a `configs.SelfSupervised`."""

    stage = "selfsup"

    def prepare(self) -> None:
        c, n = self.config, len(self.data)
        dry_run_selfsup(c, self.data.size)
        if c.method == "moco":
            check_queue(c.objective, n)
        if c.fit_selfsup.batch > n:
            raise CondgenError(
                f"A batch of {c.fit_selfsup.batch} images would hold some of the {n} twice. Choose a smaller one "
                "with --fit_selfsup.batch."
            )

    # the data

    def reading(self) -> dict[str, Any]:
        return self.config.pictures.reading()

    @cached_property
    def _opened(self) -> tuple[LabelledImages, LabelledImages | None]:
        """Images to train on, and some held out where there are labels to judge by."""
        data = open_any(self.config.data, split=self.config.pictures.use, **self.reading())
        parts = held_out(len(data), 12, MOST_HELD, self.config.seed)
        if parts is None or LABEL not in [attribute.name for attribute in data.attributes]:
            return data, None
        return data.rows(parts[0]), data.rows(parts[1])

    @property
    def data(self) -> LabelledImages:
        return self._opened[0]

    # the training

    def trainable(self) -> nn.Module:
        c = self.config
        torch.manual_seed(c.seed)
        backbone = Backbone(c.backbone, EncoderSpec(self.data.size))
        training = METHODS[c.method](backbone, c.objective, len(self.data))
        if isinstance(training, InstanceTraining) and not (self.root / "checkpoints" / self.stage).exists():
            training.look(self.data.images)
        return training

    def views(self) -> Callable[[int], Batch]:
        c = self.config
        noise = c.objective.noise if c.method == "instance" else 0
        own = (distributed.rank(), distributed.world())
        return ViewBatches(self.data.images, c.fit_selfsup.batch, c.seed, c.augment, LOOKS[c.method], noise, *own)

    def model(self, trained: nn.Module, about: dict[str, Any]) -> ImageEncoder:
        return ImageEncoder(trained.encoder.backbone, about)

    # the judge

    @property
    def chooses(self) -> bool:
        return self._opened[1] is not None

    def begin(self) -> None:
        """Shows what training looks at: sixteen images, each with seven looks at it."""
        with distributed.first_alone():
            if not distributed.rank():
                images = to_float(self.data.images[:: max(1, len(self.data) // 16)][:16]).repeat_interleave(8, 0)
                dice = torch.rand(len(images), DICE, generator=torch.Generator().manual_seed(self.config.seed))
                looks = augment(images, dice, self.config.augment)
                looks[::8] = images[::8]
                sheet = grid(to_pil(looks), ["the image", *[""] * 7] * 16, columns=8, cell=96)
                write_bytes(self.root / "samples" / "looks.png", png_bytes(sheet))

    def judge(self, model: ImageEncoder) -> tuple[dict[str, float], Sheet | None]:
        """Whether held-out images lie among training images of their class, and a sheet of who lies beside whom."""
        data, held = self._opened
        known = np.sort(np.random.default_rng((self.config.seed, 2)).permutation(len(data))[:MOST_KNOWN])
        features = F.normalize(model.features(_coloured(data.images[known])), dim=1)
        scores = {"spread": spread(features), "effective rank": effective_rank(features)}
        if scores["spread"] < COLLAPSED:
            self.display.say(
                "The features of all images are nearly the same: a collapse. Lower the learning rate "
                "(--fit_selfsup.lr), or raise the temperature (--objective.temperature)."
            )
        if held is None:
            near = (features[:8] @ features.T).fill_diagonal_(-2)  # not itself
            return scores, self._neighbours(data.images[known[:8]], near, known)
        labels, asked = torch.from_numpy(data.labels[known]), F.normalize(model.features(_coloured(held.images)), dim=1)
        found = knn(features, labels, asked, max(data.labels.max(), held.labels.max()) + 1)
        scores = {"kNN": accuracy(found, torch.from_numpy(held.labels))} | scores
        return scores, self._neighbours(held.images[:8], asked[:8] @ features.T, known)

    def _neighbours(self, asked: np.ndarray, near: Tensor, known: np.ndarray) -> Sheet:
        """Images (M, C, S, S), each in a row with the training images that lie nearest; near (M, K) to `known`."""
        which = known[near.topk(min(7, near.shape[1]), 1).indices.numpy()]
        images = np.concatenate([asked[:, None], self.data.images[which]], 1)
        metrics = ["an image", *(f"{k}. nearest" for k in range(1, images.shape[1]))]
        return to_pil(to_float(images.reshape(-1, *images.shape[2:]))), metrics * len(images)


def _coloured(images: np.ndarray) -> Tensor:
    """uint8 (N, C, S, S) -> float (N, 3, S, S)."""
    return to_float(images).expand(-1, 3, -1, -1)
