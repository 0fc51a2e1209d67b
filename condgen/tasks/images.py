"""Trains a generator of images without captions in stages: encoder, prior of its embeddings, decoder."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from condgen import distributed
from condgen.contracts import Batch, CondgenError
from condgen.data.batches.augment import Augment
from condgen.data.batches.base import to_float
from condgen.data.batches.embedded import EmbeddedBatches
from condgen.data.batches.views import ViewBatches
from condgen.data.datasets.labels import LabelledImages
from condgen.data.options import ImageData
from condgen.decoders import DECODERS
from condgen.encoders.backbones import Backbone, BackboneConfig
from condgen.encoders.interop.load import reads_size
from condgen.encoders.selfsup import SelfsupObjective, SimCLRTraining
from condgen.files.images import grid, write_sheet
from condgen.files.registry import INDEX
from condgen.files.weights import WEIGHTS, load_part, save_part
from condgen.metrics.fid_kid import frechet_distance
from condgen.nn.specs import CondSpec, EncoderSpec
from condgen.pipelines.auto import load_folder
from condgen.pipelines.base import generator, to_pil
from condgen.pipelines.encoder import ImageEncoder
from condgen.pipelines.unconditional import EmbeddingToImage, UnconditionalDecoder
from condgen.priors.transformer import EmbeddingNormalizer, EmbeddingSpec
from condgen.priors.unconditional import UnconditionalPrior, UnconditionalPriorConfig, UnconditionalPriorTraining
from condgen.retrieval.search import encoder_of
from condgen.tasks.base import Sheet, Stage
from condgen.tasks.dry_run import dry_run, images, warn_of_little
from condgen.tasks.encoder_based import EmbeddingTask, rows_of
from condgen.tasks.generator import GeneratorConfig, dry_run_decoder, new_decoder, new_training
from condgen.tasks.selfsup import COLLAPSE, COLLAPSED, check_views, dry_run_backbone, evaluate_backbone
from condgen.training.checkpoint import exactly_once
from condgen.training.trainer import FitConfig, Step

SHARES = {"encoder": 0.25, "prior": 0.13, "decoder": 0.62}
"""Fractions of the run's minutes per stage."""
SHOWN, DRAWN = 8, 1_000
"""Images that a sample sheet shows from their own embeddings, and embeddings drawn to compare with real ones."""


@dataclass(frozen=True)
class ImagesTaskConfig(GeneratorConfig):
    """Options of the training of a generator without captions.

    Args:
        encoder: the encoder whose embeddings are used, instead of training one: a model or run of condgen, or a name
            as for `condgen embed`.
        unconditional: train the decoder alone, without embeddings, to compare with.
        random_flip: mirror every second image while prior and decoder train; its embedding is that of the mirrored
            image.
    """

    encoder: str = ""
    unconditional: bool = False
    random_flip: bool = False
    data: ImageData = field(default_factory=ImageData)
    augment: Augment = field(default_factory=Augment)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    encoder_objective: SelfsupObjective = field(default_factory=SelfsupObjective)
    prior: UnconditionalPriorConfig = field(default_factory=UnconditionalPriorConfig)
    fit_encoder: FitConfig = field(
        default_factory=lambda: FitConfig(
            total_images=1_000_000, batch=256, lr=1e-2, decay_start=0.0, schedule="cosine"
        )
    )
    fit_prior: FitConfig = field(
        default_factory=lambda: FitConfig(total_images=2_000_000, batch=256, lr=2e-3, optimiser="adamw")
    )
    fit_decoder: FitConfig = field(default_factory=lambda: FitConfig(total_images=600_000, batch=32, lr=3e-3))


class ImagesStages(EmbeddingTask):
    """The stages of a run, and the encoder and embeddings that the later ones stand on."""

    encoder_stage, encoder_parts = "encoder", ("encoder",)

    @classmethod
    def fits(cls, config: ImagesTaskConfig) -> dict[str, FitConfig]:
        return {"encoder": config.fit_encoder, "prior": config.fit_prior, "decoder": config.fit_decoder}

    @property
    def stage_names(self) -> list[str]:
        c = self.config
        first = [] if c.unconditional else ["prior"] if c.encoder else ["encoder", "prior"]
        return [*first, "decoder"]

    def share(self, stage: str) -> float:
        return SHARES[stage] / sum(SHARES[name] for name in self.stage_names)

    def is_done(self, stage: str) -> bool:
        return (self.parts / stage / (INDEX if stage == "encoder" else WEIGHTS)).exists()

    def open_data(self) -> LabelledImages:
        return self.config.data.open()

    @cached_property
    def opened(self) -> ImageEncoder:
        """The encoder that the config names, or its copy in the run folder."""
        return self.encoder if self.is_done("encoder") else encoder_of(self.config.encoder)

    @cached_property
    def encoder(self) -> ImageEncoder:
        """The encoder that was trained in this run or given."""
        return load_folder(self.parts / "encoder")

    @cached_property
    def embeds(self) -> Tensor:
        """Unit vectors of the training images, (N, 1, D), or (N, 2, D) with those of the mirrored images."""
        data, encoder = self.data.images, self.encoder
        ways = (False, True) if self.config.random_flip else (False,)

        def compute(rows: slice, device: torch.device) -> Tensor:
            x = to_float(data[rows]).to(device).expand(-1, 3, -1, -1)
            return torch.stack([encoder.embed_image(x.flip(-1) if mirrored else x) for mirrored in ways], 1)

        with self.embedding_time():
            return rows_of(compute, len(data), encoder.net)

    @cached_property
    def normalizer(self) -> EmbeddingNormalizer:
        """The normalizer, fitted to the embeddings if the run has none yet."""
        folder = self.parts / "normaliser"
        if not (folder / WEIGHTS).exists():
            fitted = EmbeddingNormalizer.fit(self.embeds.flatten(0, 1), self.encoder.space)
            with distributed.main_process_first():
                if not distributed.rank():
                    save_part(fitted, folder)
        return load_part(EmbeddingNormalizer, folder)

    @property
    def spec(self) -> CondSpec:
        """The images of the decoder, and the embeddings that it reads; a width of 1 that it never sees without any."""
        shape = (self.data.size, self.data.image_channels)
        if self.config.unconditional:
            return CondSpec(*shape, 1)
        space = self.normalizer.spec
        return CondSpec(*shape, space.dim, space=space.space)


class ImagesTask(ImagesStages):
    """Args: see `Task`."""

    config_class, needs = ImagesTaskConfig, "images"

    def check(self) -> None:
        c, size, channels = self.config, self.data.size, self.data.image_channels
        if c.unconditional and c.encoder:
            raise CondgenError("--unconditional trains without embeddings: leave --encoder out, or --unconditional.")
        if size < 8:
            raise CondgenError(f"Images of {size} x {size} pixels are too small. Enlarge them with --data.size.")
        opened = self.opened if c.encoder else None
        if opened and not reads_size(opened.net, size):
            raise CondgenError(
                f"The encoder {c.encoder} reads {opened.size} x {opened.size} pixels. Give --data.size {opened.size}."
            )
        dim = 8
        space = EmbeddingSpec(dim, "")

        def prior() -> tuple[nn.Module, Batch]:
            training = UnconditionalPriorTraining(UnconditionalPrior(c.prior, space), EmbeddingNormalizer(space))
            return training, {"image_embed": torch.zeros(2, dim)}

        def decoder() -> tuple[nn.Module, Batch]:
            batch = {"image": images(size, channels), "z": torch.zeros(2, dim)}
            return dry_run_decoder(c, CondSpec(size, channels, dim), batch)

        builds = {
            "encoder": lambda: dry_run_backbone(c.backbone, size, c.encoder_objective), "prior": prior,
            "decoder": decoder,
        }  # fmt: skip
        self.builds = {name: builds[name] for name in self.stage_names}
        sections = {"encoder": "backbone"}
        dry_run(c, {sections.get(name, name): build for name, build in self.builds.items()})
        if "encoder" in self.stage_names:
            check_views(self.data, c.augment, c.fit_encoder.batch, "--fit_encoder.batch")
        warn_of_little(self.data.name, self.data.images)

    def set_up(self) -> None:
        if self.config.encoder:
            exactly_once(self.parts / "encoder", self._copy_encoder)

    def _copy_encoder(self, folder: Path) -> None:
        opened = self.opened
        opened.about = {name: opened.about[name] for name in ("name", "data", "reading") if name in opened.about}
        opened.save(folder)

    def stages(self) -> Iterator[Stage]:
        if self.keeps_encoder:
            self.display.say("The encoder stays as it is, because prior and decoder were trained on its embeddings.")
        for name in self.stage_names:
            if not self.skips(name):
                stage = {"encoder": self._encoder_stage, "prior": self._prior_stage, "decoder": self._decoder_stage}
                yield stage[name]()

    def _encoder_stage(self) -> Stage:
        c, process = self.config, distributed.process()
        torch.manual_seed(c.seed)
        module = SimCLRTraining(Backbone(c.backbone, EncoderSpec(self.data.size)), c.encoder_objective)
        batches = ViewBatches(self.data.images, c.fit_encoder.batch, c.seed, c.augment, **process)
        return Stage("encoder", module, batches, self.fit("encoder"), self._save_encoder, self._validate_encoder)

    def _save_encoder(self, trained: nn.Module) -> None:
        """Writes the encoder; removes a normalizer that was fitted to the embeddings of an earlier one."""
        before = self.encoder.space if self.is_done("encoder") else None
        about = self.about(reading=self.config.data.reading())
        ImageEncoder(trained.encoder.backbone, about).save(self.parts / "encoder")
        vars(self).pop("encoder", None)
        if before not in (None, self.encoder.space):
            self.forget_later()

    def _validate_encoder(self, trained: nn.Module, step: Step) -> None:
        scores, sheet = evaluate_backbone(ImageEncoder(trained.encoder.backbone), self.data, None, self.config.seed)
        if scores["spread"] < COLLAPSED:
            self.display.say(COLLAPSE.format("fit_encoder", "encoder_objective"))
        self.report("encoder", step, scores, sheet)

    def _prior_stage(self) -> Stage:
        c, normalizer = self.config, copy.deepcopy(self.normalizer)  # training moves it to the GPU
        embeds = self.embeds
        torch.manual_seed(c.seed)  # after the encoder is loaded, so that initial weights do not depend on it
        module = UnconditionalPriorTraining(UnconditionalPrior(c.prior, normalizer.spec), normalizer)
        batches = EmbeddedBatches("image_embed", embeds, None, c.fit_prior.batch, c.seed, **distributed.process())
        return Stage("prior", module, batches, self.fit("prior"), self._save_prior, self._validate_prior)

    def _save_prior(self, trained: nn.Module) -> None:
        save_part(trained.prior, self.parts / "prior")

    def _validate_prior(self, trained: nn.Module, step: Step) -> None:
        """Reports the distance of drawn embeddings to those of training images."""
        with distributed.on_accelerator(trained.prior):
            drawn = trained.prior.draw([generator(seed) for seed in range(DRAWN)]).cpu()
        real = self.normalizer(self.embeds[:: max(1, len(self.embeds) // (4 * DRAWN)), 0])
        distance = frechet_distance(drawn, real)
        self.report("prior", step, {} if math.isnan(distance) else {"distance of embeddings": distance})

    def _decoder_stage(self) -> Stage:
        c, data, objective = self.config, self.data, self.config.decoder_objective
        if c.unconditional:
            objective, z = replace(objective, drop_all=1.0), torch.zeros(len(data), 1 + c.random_flip, 1)
        else:
            z = self.normalizer(self.embeds)
        spec = self.spec
        torch.manual_seed(c.seed)
        decoder = new_decoder(c, spec, to_float(data.images[:5000]))
        batches = EmbeddedBatches("z", z, data.images, c.fit_decoder.batch, c.seed, **distributed.process())
        module = new_training(replace(c, decoder_objective=objective), decoder)
        return Stage(
            "decoder", module, batches, self.fit("decoder"),
            lambda trained: save_part(trained.decoder, self.parts / "decoder"), self._validate_decoder,
            lambda trained: self._model(trained.decoder),
        )  # fmt: skip

    def _validate_decoder(self, trained: nn.Module, step: Step) -> None:
        self.report("decoder", step, {}, self._sheet(self._model(trained.decoder)))

    def _sheet(self, model: UnconditionalDecoder) -> Sheet:
        """Makes a sheet of generated images; before them, some training images and what the decoder makes of their
        embeddings.
        """
        labels = [f"seed {seed}" for seed in range(4 * SHOWN)]
        with distributed.on_accelerator(*model.modules.values()):
            generated = model.sample(range(len(labels)))
            if not isinstance(model, EmbeddingToImage):
                return to_pil(generated), labels
            real = to_float(self.data.images[:: max(1, len(self.data) // SHOWN)][:SHOWN])
            z = model.normalizer(model.embed_image(real.to(model.device)))
            *_, decoded = model.decoder.sample(model.condition(z, [""] * len(z)), list(map(generator, range(len(z)))))
        labels = ["an image"] * len(real) + ["from its embedding"] * len(real) + labels
        return to_pil(torch.cat([real, decoded.cpu(), generated])), labels

    def _model(self, decoder: nn.Module) -> UnconditionalDecoder:
        about = self.about(reading=self.config.data.reading())
        if self.config.unconditional:
            return UnconditionalDecoder(decoder, about)
        prior = load_part(UnconditionalPrior, self.parts / "prior")
        encoder = self.encoder
        return EmbeddingToImage(encoder.net, self.normalizer, prior, decoder, encoder.tokenizer, about)

    def pipeline(self) -> UnconditionalDecoder:
        return self._model(load_part(DECODERS[self.config.kind].network, self.parts / "decoder"))

    def present(self, folder: Path) -> str:
        write_sheet(folder / "sheet.png", grid(*self._sheet(load_folder(folder)), columns=8, cell=self.cell))
        return f"Try it: condgen sample --model {folder} -n 16"
