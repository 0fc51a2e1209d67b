"""Trains image-to-image translation: one generator on pairs (pix2pix), or two without pairs (CycleGAN)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import nn

from condgen import distributed
from condgen.baselines import TRANSLATION_NETWORKS
from condgen.baselines.translation import PairedObjective, PairedTraining, UnpairedObjective, UnpairedTraining
from condgen.baselines.translation_nets import TranslatorConfig
from condgen.contracts import Batch, CondgenError, CondgenWarning, limited
from condgen.data.batches.pairs import PairBatches
from condgen.data.datasets.pairs import Pairs, Unpaired
from condgen.data.options import SidesData
from condgen.evaluation.translation import scores_of, sheet_of
from condgen.files.images import grid, write_sheet
from condgen.nn.specs import TranslationSpec
from condgen.pipelines.translator import BACKWARD, FORWARD, Translator
from condgen.tasks.base import Scores, Sheet, SingleStageTask, TaskConfig
from condgen.tasks.dry_run import dry_run, images
from condgen.training.trainer import FitConfig

MAX_HELD_OUT = 200
"""Maximum number of images per side held out for validation."""
MIN_IMAGES = 500
"""With fewer images a discriminator overfits."""


@dataclass(frozen=True)
class GeneratorNetConfig(TranslatorConfig):
    """Which network translates, and its options.

    Args:
        kind: `unet`, whose receptive field is the whole image, or `resnet`, with a local receptive field.
    """

    kind: Literal["unet", "resnet"] = "unet"


@dataclass(frozen=True)
class TranslationTaskConfig(TaskConfig):
    """Options of the training of an image-to-image translator.

    Args:
        kind: `paired` trains on pairs, `unpaired` on two sets of images.
    """

    eval_count: int = limited(10, low=0)
    kind: Literal["paired", "unpaired"] = "paired"
    data: SidesData = field(default_factory=SidesData)
    net: GeneratorNetConfig = field(default_factory=GeneratorNetConfig)
    objective: Any = field(default_factory=PairedObjective)
    fit: FitConfig = field(default_factory=FitConfig)

    def with_kind(self, kind: str, **options: Any) -> TranslationTaskConfig:
        objective = UnpairedObjective() if kind == "unpaired" else PairedObjective()
        return super().with_kind(kind, **{"objective": objective} | options)


class TranslationTask(SingleStageTask):
    """Args: see `Task`."""

    config_class, needs, stage = TranslationTaskConfig, "images of two kinds", "translation"

    def check(self) -> None:
        c, channels = self.config, self.data.image_channels
        if len(c.data.names) not in (0, 2) or len(set(self.data.sides)) < 2:
            raise CondgenError(f"--data.names must be two different names, got {list(c.data.names)}.")

        def build() -> tuple[nn.Module, Batch]:
            a, b = (images(c.data.size, n) for n in channels)
            no_pool = {} if c.kind == "paired" else {"pool": 0}  # a pool branches on values, which `meta` lacks
            training = new_training(replace(c, objective=replace(c.objective, **no_pool)), *channels)
            return training, {"a": a, "b": b, "dice": torch.zeros(2, 4)}

        self.builds = {"net": build}
        dry_run(c, self.builds)
        if (few := min(len(self.data.a), len(self.data.b))) < MIN_IMAGES:
            warnings.warn(
                f"There are {few} training images. A discriminator overfits on so few, and translations of other "
                "images get worse: look at the sample sheets, which show held-out images.",
                CondgenWarning,
                stacklevel=2,
            )

    @cached_property
    def splits(self) -> tuple[Unpaired, Unpaired | None]:
        """Images to train on, and some held out."""
        paired = self.config.kind == "paired"
        data = self.config.data.open(paired, self.config.seed)
        if paired and not isinstance(data, Pairs):
            raise CondgenError(f"{data.name} have no pairs to learn from: choose --kind unpaired.")
        return data.parted(12, MAX_HELD_OUT, self.config.seed) or (data, None)

    def open_data(self) -> Unpaired:
        return self.splits[0]

    def about(self, **more: Any) -> dict[str, Any]:
        about = super().about(**more)
        return about | {"reading": about["reading"] | {"given": bool(self.config.data.path)}}

    def set_up(self) -> None:
        """Writes a sheet of training data: sixteen images of each side, partners above each other."""
        with distributed.main_process_first():
            if not distributed.rank():
                sides = [side[:: max(1, len(side) // 16)][:16] for side in (self.data.a, self.data.b)]
                shown = [
                    (x, name) for k in (0, 8) for side, name in zip(sides, self.data.sides) for x in side[k : k + 8]
                ]
                sheet = grid([as_pil(x) for x, _ in shown], [name for _, name in shown], columns=8, cell=self.cell)
                write_sheet(self.root / "samples" / "sides.png", sheet)

    def module(self) -> PairedTraining | UnpairedTraining:
        torch.manual_seed(self.config.seed)
        return new_training(self.config, *self.data.image_channels)

    def batches(self) -> Callable[[int], Batch]:
        c, d, process = self.config, self.config.data, distributed.process()
        return PairBatches(self.data, c.fit.batch, c.seed, shift=d.random_shift, flip=d.random_flip, **process)

    def model(self, trained: nn.Module, about: dict[str, Any]) -> Translator:
        nets = {name: getattr(trained, name) for name in (FORWARD, BACKWARD) if hasattr(trained, name)}
        return Translator(nets, self.data.sides, about)

    @property
    def chooses(self) -> bool:
        return isinstance(self.splits[1], Pairs)

    def evaluate(self, model: Translator) -> tuple[Scores, Sheet | None]:
        """Returns the similarity of held-out images to their partners (unpaired: the cycle error), and a sheet."""
        data, held = self.splits
        shown, labels = sheet_of(model, held or data)
        return scores_of(model, held) if held else {}, ([as_pil(x) for x in shown], labels)


def new_training(config: TranslationTaskConfig, reads: int, image_channels: int) -> PairedTraining | UnpairedTraining:
    """Builds the training with its initial weights, for sides with the given numbers of channels."""
    options = {one.name: getattr(config.net, one.name) for one in fields(TranslatorConfig)}

    def net(before: int, after: int) -> nn.Module:
        return TRANSLATION_NETWORKS[config.net.kind].network(
            TranslatorConfig(**options), TranslationSpec(config.data.size, before, after)
        )

    if config.kind == "paired":
        return PairedTraining(net(reads, image_channels), config.objective)
    return UnpairedTraining(net(reads, image_channels), net(image_channels, reads), config.objective)


def as_pil(image: np.ndarray) -> Image.Image:
    """Converts uint8 (C, S, S) to a PIL image."""
    return Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
