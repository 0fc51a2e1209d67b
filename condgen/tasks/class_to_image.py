"""Trains a decoder on labelled images: class- and attribute-conditional generation."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from condgen import distributed
from condgen.contracts import Batch, CondgenError, limited
from condgen.data.attributes import LABEL
from condgen.data.batches.base import to_float
from condgen.data.batches.labels import LabelBatches
from condgen.data.datasets.labels import LabelledImages
from condgen.data.options import LabelData
from condgen.decoders import DECODERS
from condgen.files.images import grid, write_sheet
from condgen.files.registry import find
from condgen.files.weights import load_part, save_part
from condgen.nn.specs import CondSpec
from condgen.pipelines.base import to_pil
from condgen.pipelines.class_to_image import WEAK, ClassToImage
from condgen.tasks.base import Scores, Sheet, SingleStageTask, Stage
from condgen.tasks.distilling import (
    SHARE,
    DistilledConfig,
    check,
    check_labels,
    copy_parts,
    decoder_part,
    distill_stage,
    dry_run_distillation,
    save_decoder,
    stages_of,
)
from condgen.tasks.dry_run import dry_run, images, warn_of_little
from condgen.tasks.generator import dry_run_decoder, new_decoder, new_training
from condgen.training.checkpoint import exactly_once
from condgen.training.trainer import FitConfig, Step

COLLAPSED = 0.25
"""A decoder has collapsed if images of one class differ by less than this fraction of the difference of real ones."""

Condition = dict[str, str | float]


@dataclass(frozen=True)
class ClassToImageTaskConfig(DistilledConfig):
    """Options of the training of a class-conditional decoder.

    Args:
        init_from: a model or run whose decoder is distilled, in place of training one; see `distill`.
        autoguidance_fraction: fraction of the run after which the state of a diffusion decoder is kept for
            autoguidance; it doubles the size of the model. 0 keeps none.
    """

    init_from: str = ""
    autoguidance_fraction: float = limited(0.0, low=0)
    data: LabelData = field(default_factory=LabelData)
    fit: FitConfig = field(default_factory=lambda: FitConfig(total_images=600_000, batch=32, lr=3e-3))


class ClassToImageTask(SingleStageTask):
    """Trains a decoder of labelled images; exports the final state.

    Args:
        measure: model -> scores, logged with every sample sheet.
        others: see `Task`.
    """

    config_class, needs, stage = ClassToImageTaskConfig, "labelled images", "decoder"
    chooses = False

    def __init__(self, *args, measure: Callable[[ClassToImage], Scores] | None = None):
        super().__init__(*args)
        self.measure = measure
        self.parts = self.root / "parts"
        self.weak = self.parts / WEAK

    @classmethod
    def fits(cls, config: ClassToImageTaskConfig) -> dict[str, FitConfig]:
        return {"decoder": config.fit, "distill": config.fit_distill}

    @property
    def stage_names(self) -> list[str]:
        return ["decoder"] * (not self.config.init_from) + stages_of(self.config)

    def share(self, stage: str) -> float:
        names = self.stage_names
        shares = {name: (SHARE / len(stages_of(self.config)) if " " in name else 1 - SHARE) for name in names}
        return shares[stage] / sum(shares.values())

    @cached_property
    def spec(self) -> CondSpec:
        """The images and the condition of the decoder."""
        cardinalities = tuple(attribute.cardinality for attribute in self.data.attributes)
        return CondSpec(self.data.size, self.data.image_channels, cardinalities=cardinalities)

    def check(self) -> None:
        c, size, n = self.config, self.data.size, len(self.spec.cardinalities)
        if c.autoguidance_fraction and (not DECODERS[c.kind].autoguidance or not 0 < c.autoguidance_fraction < 1):
            raise CondgenError(
                f"--autoguidance_fraction is {c.autoguidance_fraction}: the share of the run, below 1, after which a "
                "diffusion decoder is kept as its own guide. Other decoders have no such guidance."
            )
        if size < 8:
            raise CondgenError(f"Images of {size} x {size} pixels are too small. Enlarge them with --data.size.")

        def build() -> tuple[nn.Module, Batch]:
            targets = torch.zeros(2, n)
            batch = {"image": images(size, self.spec.image_channels), "targets": targets, "has_targets": targets == 0}
            return dry_run_decoder(c, self.spec, batch)

        def distill(name: str) -> tuple[nn.Module, Batch]:
            return dry_run_distillation(c, name, self.spec, build()[1])

        if c.distill:
            check(c)
        if c.init_from:
            check_labels(self)
        self.builds = {"decoder": build} | {name: partial(distill, name) for name in stages_of(c)}
        dry_run(c, self.builds)
        label = [attribute for attribute in self.data.attributes if attribute.values]
        one_class = len(self.data.attributes) == 1 and label and len(np.unique(self.data.targets)) == 1
        warn_of_little(self.data.name, self.data.images, label[0].values[:1] if one_class else None)

    def open_data(self) -> LabelledImages:
        return self.config.data.open()

    def is_done(self, stage: str) -> bool:
        return (self.parts / stage.replace(" ", "_") / "model.safetensors").exists()

    def set_up(self) -> None:
        if self.config.init_from:
            exactly_once(self.parts, lambda folder: copy_parts(find(self.config.init_from), folder))

    def stages(self) -> Iterator[Stage]:
        if not self.config.init_from:
            yield from super().stages()
        for name in stages_of(self.config):
            if not self.skips(name):
                yield distill_stage(self, name, self.batches_of(name), self.model, self._validate)

    def module(self) -> nn.Module:
        torch.manual_seed(self.config.seed)
        return new_training(self.config, new_decoder(self.config, self.spec, to_float(self.data.images[:5000])))

    def batches(self) -> Callable[[int], Batch]:
        return self.batches_of(self.stage)

    def batches_of(self, stage: str) -> Callable[[int], Batch]:
        """Batches for a stage."""
        d, batch = self.config.data, self.fit(stage).batch
        options = {"shift": d.random_shift, "flip": d.random_flip} | distributed.process()
        return LabelBatches(self.data, batch, self.config.seed, **options)

    def save(self, trained: nn.Module) -> None:
        save_decoder(self, self.stage, trained.decoder)

    def validate(self, trained: nn.Module, step: Step) -> None:
        """Writes a sample sheet, and checks whether images of a class differ; may keep the weak version."""
        c = self.config
        if 0 < c.autoguidance_fraction <= step.progress < 1 and not (self.weak / "model.safetensors").exists():
            save_part(trained.decoder, self.weak)
        self._validate(self.stage, self.model(trained.decoder), step)

    def _validate(self, stage: str, model: ClassToImage, step: Step) -> None:
        sheet, variety = self._sheet(model), self._variety(model)
        scores = {} if math.isnan(variety) else {"variety": variety}  # every training image may have its own condition
        collapsed = variety < COLLAPSED and step.progress > 0.5  # earlier, most decoders generate averages
        note = " (the decoder generates nearly one image a label: a collapse; see the sheet)" if collapsed else ""
        self.report(stage, step, scores | (self.measure(model) if self.measure else {}), sheet, note)

    def _variety(self, model: ClassToImage) -> float:
        """Mean distance between two generated images of a condition, relative to real ones, over some conditions."""
        targets = np.nan_to_num(self.data.targets, nan=-1e9)
        _, which, count = np.unique(targets, axis=0, return_inverse=True, return_counts=True)
        several = np.flatnonzero(count > 1)[:16]
        if not len(several):
            return math.nan
        pairs = np.stack([np.flatnonzero(which.ravel() == kind)[:2] for kind in several])
        real = to_float(self.data.images[pairs.ravel()])
        conditions = [self._condition(row) for row in pairs.ravel()]
        *_, last = model.generate_batch(conditions, list(range(len(conditions))))
        generated, real = ((x[::2] - x[1::2]).flatten(1).norm(dim=1).mean().item() for x in (last.images, real))
        return generated / real if real > 1e-6 else math.nan

    def _condition(self, row: int) -> Condition:
        """The known attributes of a training image: names of values, and numbers."""
        known = [
            (attribute, float(x))
            for attribute, x in zip(self.data.attributes, self.data.targets[row])
            if not math.isnan(x)
        ]
        return {
            attribute.name: attribute.format_target(code) if attribute.values else attribute.to_number(code)
            for attribute, code in known
        }

    @cached_property
    def conditions(self) -> list[Condition]:
        """Conditions of the sample sheets: eight images of every class, or conditions of some training images."""
        label = next((attribute for attribute in self.data.attributes if attribute.name == LABEL), None)
        if label is not None and len(self.data.attributes) == 1:
            return [{LABEL: value} for value in islice(label.values, 10) for _ in range(8)]
        rows = np.random.default_rng(self.config.seed).permutation(len(self.data))[:64]
        return [self._condition(row) for row in rows]

    def _sheet(self, model: ClassToImage) -> Sheet:
        """Makes a sheet of one image per condition."""
        *_, last = model.generate_batch(self.conditions, list(range(len(self.conditions))))
        return to_pil(last.images), [", ".join(map(str, condition.values())) for condition in self.conditions]

    def model(self, trained: nn.Module, about: dict | None = None) -> ClassToImage:
        """Makes the pipeline of a decoder."""
        name = self.root.resolve().name if self.name.startswith("labels-") else self.name
        return ClassToImage(trained, self.data.attributes, self.about(name=name) if about is None else about)

    def unfinished(self, trained: nn.Module) -> ClassToImage:
        return self.model(trained.decoder)

    def pipeline(self) -> ClassToImage:
        network = DECODERS[self.config.kind].network
        decoder = load_part(network, decoder_part(self))
        if self.weak.exists() and not stages_of(self.config):
            decoder.guide_by(load_part(network, self.weak))
        return self.model(decoder)

    def present(self, folder: Path) -> str:
        sheet: Image.Image = grid(*self._sheet(ClassToImage.load(folder)), columns=8, cell=self.cell)
        write_sheet(folder / "sheet.png", sheet)
        example = shlex.join(f"{name}={value}" for name, value in self.conditions[0].items())
        return f"Try it: condgen sample --model {folder} --set {example}"
