"""One training run of the side door: labelled images, a decoder, a model, each kept on disk when done."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from condgen import distributed
from condgen.contracts import CondgenError
from condgen.data.attributes import LABEL
from condgen.data.batches.captions import to_float
from condgen.data.datasets.labels import LabelBatches, LabelledImages
from condgen.data.embeddings.compute import digest_of
from condgen.data.sources.labels import open_labelled
from condgen.decoders import DECODERS
from condgen.files.card import write_card
from condgen.files.images import grid, png_bytes, write_bytes
from condgen.files.weights import load_part, save_part
from condgen.nn.specs import CondSpec
from condgen.pipelines.base import to_pil
from condgen.pipelines.class_to_image import WEAK, ClassToImage
from condgen.tasks.build import new_decoder, training_of
from condgen.tasks.dry_run import dry_run_labels
from condgen.training import fsdp
from condgen.training.run_folder import Display, RunFolder, drive, milestones, wants_more
from condgen.training.trainer import FitConfig, Trainer

COLLAPSED = 0.25
"""Images of one label that differ by less than so much of what real ones do are one image."""


class ClassToImageTask:
    """Args:
    name, recipe: which recipe, and its line of the table.
    root: the run's folder.
    config: a `configs.ByLabel`.
    bound: gives the fit under the run's minutes and images.
    measure: gives numbers about the model so far, which are logged at every sample sheet.
    """

    def __init__(
        self,
        name: str,
        recipe,
        root: Path,
        config,
        bound: Callable[[str, FitConfig], FitConfig],
        measure: Callable[[ClassToImage], dict[str, float]] | None = None,
    ):
        self.name, self.recipe, self.root, self.config, self.bound = name, recipe, root, config, bound
        self.measure = measure
        self.part, self.weak = root / "parts" / "decoder", root / "parts" / WEAK
        self.exported = root / "exported"  # an empty file, there while `model/` holds the decoder as it is

    def train(self) -> Path:
        """Trains what is not done yet; gives the model's folder."""
        cardinalities = tuple(
            attribute.cardinality for attribute in self.data.attributes
        )  # bad data must leave no folder behind
        dry_run_labels(self.config, self.data.size, self.data.image_channels, cardinalities)
        fsdp.asked()
        distributed.join()
        distributed.split(self.config.fit_decoder.batch, distributed.rank(), distributed.world())
        if self._is_there() and self._wants_more():
            raise CondgenError(
                f"{self.root} is finished, and the bounds given now ask for more. Choose another folder."
            )
        config, digest = {"recipe": self.name} | asdict(self.config), {"memory": digest_of(self.data)}
        self.run = RunFolder(self.root, config, self.config.save_every, digest)
        with Display(["decoder"]) as self.display:
            if self._is_there():
                self.display.show("decoder", 1.0, "done")
            else:
                self._train(cardinalities)
        model = self.root / "model"
        with distributed.first_alone():
            if not distributed.rank() and not (model.exists() and self.exported.exists()):
                self.export()
        return model

    def _is_there(self) -> bool:
        return (self.part / "model.safetensors").exists()

    def _wants_more(self) -> bool:
        return wants_more(self.root, "decoder", self.bound("decoder", self.config.fit_decoder))

    @property
    def reading(self) -> dict:
        """How the data is read, arguments of `open_labelled`; a model keeps them for its judge."""
        p = self.config.pictures
        own = {
            "size": p.size,
            "image_channels": p.image_channels,
            "image_column": p.image,
            "label_column": p.label,
            "attribute_columns": p.attributes,
        }
        return own | {"split_column": p.split, "resize": p.how, "max_bad_fraction": p.max_bad}

    @cached_property
    def data(self) -> LabelledImages:
        return open_labelled(self.config.data, split=self.config.pictures.use, **self.reading)

    def _train(self, cardinalities: tuple[int, ...]) -> None:
        c = self.config
        torch.manual_seed(c.seed)
        spec = CondSpec(self.data.size, self.data.image_channels, cardinalities=cardinalities)
        decoder = new_decoder(c, spec, to_float(self.data.images[:5000]))
        own = (distributed.rank(), distributed.world())
        views = LabelBatches(self.data, c.fit_decoder.batch, c.seed, c.pictures.shift, c.pictures.flip, *own)
        fit = Trainer(training_of(c, decoder), views, self.bound("decoder", c.fit_decoder), c.seed)
        for step in drive(fit, self.run, "decoder", self.display, milestones(c.watch)):
            now = fit.snapshot()
            if not distributed.rank():
                self._watch(now.decoder, step)
        self.exported.unlink(missing_ok=True)
        trained = fit.snapshot()
        with distributed.first_alone():
            if not distributed.rank():
                save_part(trained.decoder, self.part)

    def _watch(self, decoder: torch.nn.Module, step) -> None:
        """Paints a sheet with the running mean of the weights, and looks whether the images of a label differ."""
        model = self._model(decoder)
        if 0 < self.config.weak <= step.progress < 1 and not (self.weak / "model.safetensors").exists():
            save_part(decoder, self.weak)
        with torch.random.fork_rng(devices=[]):
            place = self.root / "samples" / f"decoder-{step.images:09d}.png"
            write_bytes(place, png_bytes(sheet(model, self.shown)))
            variety = self._variety(model)
            more = self.measure(model) if self.measure else {}
        own = {} if math.isnan(variety) else {"variety": variety}  # no two training images may be of one kind
        self.run.log("decoder", step.images, own | {"seconds": step.seconds} | more)
        told = f"{step.images:,} images: {place.name}"
        told += f", variety within a label {variety:.2f} of the real one" if own else ""
        told += "".join(f", {name} {value:.3f}" for name, value in more.items())
        if variety < COLLAPSED and step.progress > 0.5:  # before, most decoders paint means
            told += " (the decoder paints nearly one image a label: a collapse; see the sheet)"
        self.display.say(told)

    def _variety(self, model: ClassToImage) -> float:
        """Mean distance of two painted images of one condition over that of two real ones, over some conditions."""
        targets = np.nan_to_num(self.data.targets, nan=-1e9)
        _, which, count = np.unique(targets, axis=0, return_inverse=True, return_counts=True)
        several = np.flatnonzero(count > 1)[:16]
        if not len(several):
            return math.nan
        pairs = np.stack([np.flatnonzero(which.ravel() == kind)[:2] for kind in several])
        real = to_float(self.data.images[pairs.ravel()])
        wanted = [self._said(row) for row in pairs.ravel()]
        *_, last = model.generate_batch(wanted, list(range(len(wanted))))
        apart = [(x[::2] - x[1::2]).flatten(1).norm(dim=1).mean().item() for x in (last.images, real)]
        return apart[0] / max(apart[1], 1e-6)

    def _said(self, row: int) -> dict[str, str | float]:
        """What is known of a training image: names of values, and numbers."""
        pairs = zip(self.data.attributes, self.data.targets[row])
        known = [(attribute, float(code)) for attribute, code in pairs if not math.isnan(code)]
        return {
            attribute.name: attribute.format_target(code) if attribute.values else attribute.to_number(code)
            for attribute, code in known
        }

    @cached_property
    def shown(self) -> list[dict[str, str | float]]:
        """What the sample sheets show: eight images of every label, or what some training images are."""
        label = next((attribute for attribute in self.data.attributes if attribute.name == LABEL), None)
        if label is not None and len(self.data.attributes) == 1:
            return [{LABEL: value} for value in islice(label.values, 10) for _ in range(8)]
        rows = np.random.default_rng(self.config.seed).permutation(len(self.data))[:64]
        return [self._said(row) for row in rows]

    def _model(self, decoder: torch.nn.Module) -> ClassToImage:
        about = {
            "name": self.root.resolve().name if self.name.startswith("labels-") else self.name,
            "recipe": self.name,
            "data": self.data.name,
            "reading": self.reading | {"attribute_columns": list(self.config.pictures.attributes)},
        }
        return ClassToImage(decoder, self.data.attributes, about)

    def export(self) -> Path:
        """Writes `model/`: the decoder as it is, with 16-bit weights, and a card."""
        folder = self.root / "model"
        decoder = load_part(DECODERS[self.config.kind].network, self.part)
        if self.weak.exists():
            decoder.guide_by(load_part(DECODERS[self.config.kind].network, self.weak))
        model = self._model(decoder)
        card = write_card(model, self.name, self.recipe.base, self.config, self.root / "metrics.jsonl", len(self.data))
        model.save(folder, card)
        write_bytes(folder / "sheet.png", png_bytes(sheet(ClassToImage.load(folder), self.shown)))
        self.exported.touch()
        example = shlex.join(f"{name}={value}" for name, value in self.shown[0].items())
        self.display.say(f"The model is {folder}. Try it: condgen sample --model {folder} --set {example}")
        return folder


def sheet(model: ClassToImage, wanted: list[dict[str, str | float]], seed: int = 0):
    """A labelled sheet, one image each; eight in a row."""
    *_, last = model.generate_batch(wanted, [seed + i for i in range(len(wanted))])
    labels = [", ".join(str(one) for one in condition.values()) for condition in wanted]
    return grid(to_pil(last.images), labels, columns=8, cell=96)
