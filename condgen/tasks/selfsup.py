"""Trains an image backbone without labels: SimCLR, MoCo, or instance discrimination."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgen import distributed
from condgen.contracts import Batch, CondgenError, limited
from condgen.data.attributes import LABEL
from condgen.data.batches.augment import DICE, Augment, augment
from condgen.data.batches.base import held_out, to_float
from condgen.data.batches.views import ViewBatches
from condgen.data.datasets.labels import LabelledImages
from condgen.data.options import ImageData
from condgen.encoders.backbones import Backbone, BackboneConfig
from condgen.encoders.selfsup import METHODS, NUM_VIEWS, InstanceTraining, SelfsupObjective, SimCLRTraining, check_queue
from condgen.files.images import grid, png_bytes, write_bytes
from condgen.metrics.probes import accuracy, effective_rank, knn, spread
from condgen.nn.specs import EncoderSpec
from condgen.pipelines.base import to_pil
from condgen.pipelines.encoder import ImageEncoder
from condgen.tasks.base import Scores, Sheet, SingleStageTask, TaskConfig
from condgen.tasks.dry_run import check_contrast, dry_run, images
from condgen.training.trainer import FitConfig

MAX_HELD_OUT, MAX_NEIGHBOURS = 5_000, 10_000
"""Maximum number of images held out for validation, and of training images to search neighbours among."""
COLLAPSED = 0.1
"""Features have collapsed if their spread is below this."""
COLLAPSE = (
    "The features of all images are nearly the same: a collapse. Lower the learning rate (--{}.lr), or raise the "
    "temperature (--{}.temperature)."
)


@dataclass(frozen=True)
class SelfsupTaskConfig(TaskConfig):
    """Options of self-supervised training.

    Args:
        kind: `instance`, every image is a separate class; `simclr`, two views of an image find each other in the
            batch; `moco`, among those in a queue.
    """

    eval_count: int = limited(10, low=0)
    kind: Literal["instance", "simclr", "moco"] = "simclr"
    data: ImageData = field(default_factory=ImageData)
    augment: Augment = field(default_factory=Augment)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    objective: SelfsupObjective = field(default_factory=SelfsupObjective)
    fit: FitConfig = field(default_factory=FitConfig)


class SelfsupTask(SingleStageTask):
    """Args: see `Task`."""

    config_class, needs, stage = SelfsupTaskConfig, "images", "selfsup"

    def check(self) -> None:
        c = self.config
        self.builds = {"backbone": lambda: dry_run_backbone(c.backbone, self.data.size, c.objective)}
        dry_run(c, self.builds)
        check_views(self.data, c.augment, c.fit.batch, "--fit.batch")
        if c.kind == "moco":
            check_queue(c.objective, len(self.data))

    @cached_property
    def splits(self) -> tuple[LabelledImages, LabelledImages | None]:
        """Returns images to train on, and held-out ones if there are labels to evaluate with."""
        data = self.config.data.open()
        parts = held_out(len(data), 12, MAX_HELD_OUT, self.config.seed)
        if parts is None or LABEL not in [attribute.name for attribute in data.attributes]:
            return data, None
        return data.rows(parts[0]), data.rows(parts[1])

    def open_data(self) -> LabelledImages:
        return self.splits[0]

    def set_up(self) -> None:
        """Writes a sheet of training data: sixteen images, each with seven augmented views."""
        with distributed.main_process_first():
            if not distributed.rank():
                x = to_float(self.data.images[:: max(1, len(self.data) // 16)][:16]).repeat_interleave(8, 0)
                dice = torch.rand(len(x), DICE, generator=torch.Generator().manual_seed(self.config.seed))
                views = augment(x, dice, self.config.augment)
                views[::8] = x[::8]
                sheet = grid(to_pil(views), ["the image", *[""] * 7] * 16, columns=8, cell=self.cell)
                write_bytes(self.root / "samples" / "views.png", png_bytes(sheet))

    def module(self) -> nn.Module:
        c = self.config
        torch.manual_seed(c.seed)
        backbone = Backbone(c.backbone, EncoderSpec(self.data.size))
        training = METHODS[c.kind](backbone, c.objective, len(self.data))
        if isinstance(training, InstanceTraining) and not (self.root / "checkpoints" / self.stage).exists():
            training.fill_bank(self.data.images)
        return training

    def batches(self) -> Callable[[int], Batch]:
        c = self.config
        noise = c.objective.noise if c.kind == "instance" else 0
        return ViewBatches(
            self.data.images, c.fit.batch, c.seed, c.augment, NUM_VIEWS[c.kind], noise, **distributed.process()
        )

    def model(self, trained: nn.Module, about: dict[str, Any]) -> ImageEncoder:
        return ImageEncoder(trained.encoder.backbone, about)

    @property
    def chooses(self) -> bool:
        return self.splits[1] is not None

    def evaluate(self, model: ImageEncoder) -> tuple[Scores, Sheet | None]:
        scores, sheet = evaluate_backbone(model, *self.splits, self.config.seed)
        if scores["spread"] < COLLAPSED:
            self.display.say(COLLAPSE.format("fit", "objective"))
        return scores, sheet


def dry_run_backbone(config: BackboneConfig, size: int, objective: SelfsupObjective) -> tuple[nn.Module, Batch]:
    """A training and its batch for `dry_run`."""
    views = images(size, 1)
    return SimCLRTraining(Backbone(config, EncoderSpec(size)), objective), {"view_1": views, "view_2": views}


def check_views(data: LabelledImages, augment: Augment, batch: int, option: str) -> None:
    """Raises `CondgenError` for images, or a batch set by `option`, in which views cannot be distinguished."""
    if not 0 < augment.crop <= 1:
        raise CondgenError(f"--augment.crop is {augment.crop}; it is a share of the area, above 0 and up to 1.")
    check_contrast(data.name, data.images)
    if batch > len(data):
        raise CondgenError(
            f"A batch of {batch} images would hold some of the {len(data)} twice. Choose a smaller one with {option}."
        )


def evaluate_backbone(
    model: ImageEncoder, data: LabelledImages, held: LabelledImages | None, seed: int
) -> tuple[Scores, Sheet]:
    """Measures of collapse, kNN accuracy on held-out labelled images if there are any, and a sheet of nearest
    neighbours among the training images.
    """
    rows = np.sort(np.random.default_rng((seed, 2)).permutation(len(data))[:MAX_NEIGHBOURS])
    features = F.normalize(model.features(_rgb(data.images[rows])), dim=1)
    scores = {"spread": spread(features), "effective rank": effective_rank(features)}
    if held is None:
        similarity = (features[:8] @ features.T).fill_diagonal_(-2)  # exclude the image itself
        return scores, _neighbours(data, data.images[rows[:8]], similarity, rows)
    labels, queries = torch.from_numpy(data.labels[rows]), F.normalize(model.features(_rgb(held.images)), dim=1)
    predicted = knn(features, labels, queries, max(data.labels.max(), held.labels.max()) + 1)
    scores = {"kNN": accuracy(predicted, torch.from_numpy(held.labels))} | scores
    return scores, _neighbours(data, held.images[:8], queries[:8] @ features.T, rows)


def _neighbours(data: LabelledImages, queries: np.ndarray, similarity: Tensor, rows: np.ndarray) -> Sheet:
    """Makes a sheet of images (M, C, S, S) and their nearest training images; similarity (M, K) to these `rows`."""
    nearest = rows[similarity.topk(min(7, similarity.shape[1]), 1).indices.numpy()]
    shown = np.concatenate([queries[:, None], data.images[nearest]], 1)
    labels = ["an image", *(f"{k}. nearest" for k in range(1, shown.shape[1]))]
    return to_pil(to_float(shown.reshape(-1, *shown.shape[2:]))), labels * len(shown)


def _rgb(x: np.ndarray) -> Tensor:
    """Converts uint8 (N, C, S, S) to float (N, 3, S, S)."""
    return to_float(x).expand(-1, 3, -1, -1)
