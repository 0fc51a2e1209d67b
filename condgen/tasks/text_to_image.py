"""Trains text-to-image models in stages: encoder, priors, decoder."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from condgen import distributed
from condgen.contracts import Batch, CondgenError
from condgen.data.batches.base import to_float
from condgen.data.batches.captions import CaptionBatches
from condgen.data.datasets.captions import CaptionedImages
from condgen.data.options import CaptionData
from condgen.data.streaming.batches import ShardBatches
from condgen.data.streaming.stream import Stream
from condgen.decoders import DECODERS
from condgen.decoders.upsampler import UpsamplerConfig, UpsamplerObjective
from condgen.encoders.clip import CLIPConfig
from condgen.encoders.clip_objective import ClipObjective, ClipTraining
from condgen.encoders.interop.load import load_pair
from condgen.files.images import grid, write_sheet
from condgen.files.weights import fingerprint, load_part, save_part
from condgen.nn.specs import CondSpec, TextSpec
from condgen.pipelines.base import to_pil
from condgen.pipelines.text_to_image import TextToImage
from condgen.priors import PRIORS
from condgen.tasks.base import Sheet, Stage
from condgen.tasks.distilling import (
    SHARE,
    DistilledConfig,
    check,
    check_alone,
    decoder_part,
    distill_stage,
    dry_run_distillation,
    save_decoder,
    stages_of,
    text_to_image_of,
)
from condgen.tasks.dry_run import dry_run, images, token_ids, warn_of_little
from condgen.tasks.encoder_based import (
    BAR,
    Embeddings,
    EncoderBasedTask,
    dry_run_clip,
    new_clip,
    train_tokenizer,
    warn_of_sides,
)
from condgen.tasks.generator import (
    PriorsConfig,
    dry_run_decoder,
    dry_run_prior,
    new_decoder,
    new_prior,
    new_training,
)
from condgen.text import read_prompts
from condgen.training.trainer import FitConfig, Step

SHARES = {"clip": 0.12, "prior": 0.15, "decoder": 0.73, "distill": SHARE, "upsampler": 0.4}
"""Fractions of the run's minutes per kind of stage, divided by the sum of those that the run has."""


@dataclass(frozen=True)
class TextToImageTaskConfig(DistilledConfig):
    """Options of the training of a text-to-image model.

    Args:
        stage: train only this stage; it then gets all `minutes`.
        init_from: a model or another run to copy encoder and priors from; for the stages `distill` and `upsampler` all
            its parts are kept.
        encoder: the encoder to train priors and decoder on, instead of training one: a model or run of condgen, a
            folder of open_clip or transformers, local-dir:PATH, transformers:PATH or hf-hub:OWNER/NAME.
        embeds: folder that `condgen embed` wrote with this encoder; priors and decoder train from it.
        random_flip: mirror every second image while encoder and decoder train, which makes captions that say left or
            right wrong, and writing in images.
        prompts: prompts of the sample sheets, instead of captions of the data: a text file with one per line, or the
            prompts themselves, separated by semicolons.
        upsample: sizes in pixels to enlarge images to, e.g. `64,128`; each is a stage after the decoder.
    """

    stage: Literal["all", "clip", "prior", "decoder", "distill", "upsampler"] = "all"
    init_from: str = ""
    encoder: str = ""
    embeds: str = ""
    random_flip: bool = False
    prompts: str = ""
    upsample: str = ""
    data: CaptionData = field(default_factory=CaptionData)
    clip: CLIPConfig = field(default_factory=CLIPConfig)
    clip_objective: ClipObjective = field(default_factory=ClipObjective)
    prior: PriorsConfig = field(default_factory=PriorsConfig)
    fit_clip: FitConfig = field(
        default_factory=lambda: FitConfig(total_images=150_000, batch=64, lr=1e-3, weight_decay=0.05, beta_2=0.98)
    )
    fit_prior: FitConfig = field(default_factory=lambda: FitConfig(total_images=150_000, batch=256, lr=1e-3))
    fit_decoder: FitConfig = field(default_factory=lambda: FitConfig(total_images=600_000, batch=32, lr=3e-3))
    upsampler: UpsamplerConfig = field(default_factory=UpsamplerConfig)
    upsampler_objective: UpsamplerObjective = field(default_factory=UpsamplerObjective)
    fit_upsampler: FitConfig = field(default_factory=lambda: FitConfig(total_images=300_000, batch=64, lr=2e-3))


class TextToImageStages(EncoderBasedTask):
    """The data and the stages of a run: which there are, their shares of its time, and whether they are done."""

    def open_data(self) -> CaptionedImages | Stream:
        c, d = self.config, self.config.data
        if d.path:
            return d.open(shards=bool(c.embeds))  # stored embeddings of shards belong to a stream
        from condgen.data.synthetic.compositions import captioned_scenes

        return captioned_scenes(d.scenes, c.seed, d.size, negatives=d.negatives, templates=d.templates)

    @cached_property
    def prompts(self) -> list[str]:
        """Prompts of the sample sheets: those of the config, or the recipe's examples and captions of the data."""
        data = self.data
        if self.config.prompts:
            return read_prompts(self.config.prompts)
        captions = data.texts[:64] if isinstance(data, Stream) else [data.texts[i] for i in data.captions[:64, 0]]
        return list(dict.fromkeys([*self.recipe.examples, *captions]))[:24]

    @property
    def stage_names(self) -> list[str]:
        c = self.config
        names = ["clip"] * (not c.encoder) + [f"prior {kind}" for kind in c.prior.kinds] + ["decoder"]
        names += stages_of(c)
        names += [f"upsampler {size.strip()}" for size in c.upsample.split(",") if size.strip()]
        return names if self.trains_all else [name for name in names if name.split()[0] == c.stage]

    @property
    def bars(self) -> list[str]:
        return [*self.stage_names, BAR] if self.embeds_stream else self.stage_names

    @property
    def trains_all(self) -> bool:
        return self.config.stage == "all"

    @property
    def exports(self) -> bool:
        return self.config.stage in ("all", "decoder", "distill", "upsampler")

    @property
    def digest(self) -> dict[str, str]:
        if self.config.embeds and self.config.stage == "prior":  # priors then need no images
            return {}
        data = self.data
        return {"stream": data.digest, "content": data.content} if isinstance(data, Stream) else {"memory": data.digest}

    def share(self, stage: str) -> float:
        kinds = [name.split()[0] for name in self.stage_names]
        kind = stage.split()[0]
        return SHARES[kind] / sum(SHARES[other] for other in dict.fromkeys(kinds)) / max(1, kinds.count(kind))

    def is_done(self, stage: str) -> bool:
        if stage == "clip":
            return self.encoder_is_done()
        return (self.parts / stage.replace(" ", "_") / "model.safetensors").exists()


class TextToImageTask(TextToImageStages):
    """Args: see `EncoderBasedTask`."""

    config_class, needs, cell = TextToImageTaskConfig, "captioned images", 128

    @classmethod
    def fits(cls, config: TextToImageTaskConfig) -> dict[str, FitConfig]:
        return {kind: getattr(config, f"fit_{kind}") for kind in SHARES}

    def check(self) -> None:
        c = self.config
        unknown = [kind for kind in c.prior.kinds if kind not in PRIORS]
        if unknown or not c.prior.kinds:
            problem = f"no prior {unknown[0]!r} to train" if unknown else "no prior to train in an empty list"
            raise CondgenError(f"--prior.kinds: there is {problem}; choose from {', '.join(PRIORS)}.")
        spec = TextSpec(c.clip.embed_dim, 8, 4)

        full = CondSpec(c.data.size, **asdict(spec))

        def decoder(stage: str = "") -> tuple[nn.Module, Batch]:
            batch = {"image": images(c.data.size), "z": torch.zeros(2, spec.embed_dim), "tokens": token_ids()}
            return dry_run_distillation(c, stage, full, batch) if stage else dry_run_decoder(c, full, batch)

        clip = {} if c.encoder else {"clip": lambda: dry_run_clip(c.clip, c.data.size, c.clip_objective)}
        priors = {f"prior {kind}": partial(dry_run_prior, kind, c.prior, spec) for kind in c.prior.kinds}
        self.builds = clip | priors | {"decoder": decoder}
        if c.stage == "distill":
            check_alone(self)
        if c.distill:
            check(c)
            self.builds |= {name: partial(decoder, name) for name in stages_of(c)}
        if c.upsample or c.stage == "upsampler":
            from condgen.tasks import upsampling

            upsampling.check(self)
            self.builds["upsampler"] = lambda: upsampling.dry_run_upsampler(c, spec.embed_dim)
        dry_run(c, self.builds)
        if c.prompts:
            read_prompts(c.prompts)
        if c.encoder:
            self.check_encoder()
        if c.data.path and not isinstance(self.data, Stream):
            warn_of_little(self.data.name, self.data.images, self.data.used_texts)

    def set_up(self) -> None:
        c = self.config
        self.take_over()
        if c.random_flip and c.stage != "prior":
            warn_of_sides(self.data.used_texts)
        if c.embeds and c.stage != "clip":
            if self.trains_all and (not self.is_done("clip") or self.wants_more("clip")):
                raise CondgenError(
                    f"{c.embeds} holds embeddings of an encoder, and this run would only now train one. Start from "
                    "the run that has it (--init_from RUN), or leave --embeds out."
                )
            _ = self.embeddings.stored  # refuse those of another encoder before training

    @property
    def embeds_stream(self) -> bool:
        """Whether the run stores embeddings on disk, because the images do not fit into memory."""
        return not self.config.embeds and self.config.stage != "clip" and isinstance(self.data, Stream)

    @cached_property
    def embeddings(self) -> Embeddings:
        return Embeddings(self)

    @cached_property
    def priors(self) -> dict[str, nn.Module]:
        """The trained priors."""
        kinds = [kind for kind in self.config.prior.kinds if (self.parts / f"prior_{kind}" / "config.json").exists()]
        return {kind: load_part(PRIORS[kind].network, self.parts / f"prior_{kind}") for kind in kinds}

    def views(self, batch: int, negatives: int = 0, shift: int = 0) -> CaptionBatches | ShardBatches:
        """Batches for one stage; closes those of the stage before."""
        options = {"shift": shift, "flip": self.config.random_flip} | distributed.process()
        seed = self.config.seed
        if not isinstance(self.data, Stream):
            return CaptionBatches(self.data, self.tokens, batch, seed, negatives, **options)
        self.open_files.close()
        views = ShardBatches(self.data, self.tokenizer.encode, batch, seed, self.config.data.buffer, **options)
        self.open_files.callback(views.close)
        return views

    def stages(self) -> Iterator[Stage]:
        if self.keeps_encoder:
            self.display.say(
                "The encoder stays as it is, because priors and decoder were trained on its embeddings; "
                "--stage clip trains it on, and the others then start again."
            )
        stages = {"clip": self._clip_stage, "prior": self._prior_stage, "decoder": self._decoder_stage}
        stages |= {"distill": self._distill_stage, "upsampler": self._upsampler_stage}
        for name in self.stage_names:
            if not self.skips(name):
                yield stages[name.split()[0]](name)

    def _clip_stage(self, name: str) -> Stage:
        c = self.config
        train_tokenizer(self.parts / "tokenizer", self.data.used_texts, c.clip)
        torch.manual_seed(c.seed)  # seeded here, so that initial weights do not depend on earlier stages
        shape = replace(c.clip, vocab=self.tokenizer.vocab, context=self.tokenizer.context)
        clip = new_clip(shape, c.data.size, c.clip_objective.loss, self.tokenizer.splits_characters)
        module = ClipTraining(clip, c.clip_objective)
        batches = self.views(c.fit_clip.batch, negatives=c.clip_objective.negatives)
        return Stage(name, module, batches, self.fit(name), self._save_clip)

    def _save_clip(self, trained: nn.Module) -> None:
        """Writes the encoder; removes everything that was trained on the embeddings of an earlier one."""
        before = fingerprint(load_pair(self.parts)[0]) if self.is_done("clip") else None
        save_part(trained.clip, self.parts / "clip")
        if before not in (None, fingerprint(self.clip)):
            self.forget_later()

    def _prior_stage(self, name: str) -> Stage:
        kind, c, spec = name.split()[1], self.config, self.text_spec  # its encoder is loaded before the seed is set
        embeds = self.embeddings.pairs() if PRIORS[kind].calibrate else None
        torch.manual_seed(c.seed)
        prior = new_prior(kind, c.prior, spec, embeds)
        normalizer = copy.deepcopy(self.embeddings.normalizer)  # training moves it to the GPU
        module = PRIORS[kind].training(prior, normalizer)
        batches = self.embeddings.prior_batches(c.fit_prior.batch)
        return Stage(
            name,
            module,
            batches,
            self.fit(name),
            lambda trained: save_part(trained.prior, self.parts / f"prior_{kind}"),
        )

    def _decoder_stage(self, name: str) -> Stage:
        c = self.config
        _ = self.embeddings.normalizer  # fitted before the seed is set
        some = to_float(self.data.some(512) if isinstance(self.data, Stream) else self.data.images[:5000])
        torch.manual_seed(c.seed)
        decoder = new_decoder(c, CondSpec(c.data.size, **asdict(self.text_spec)), some)
        batches = self.embeddings.decoder_batches(c.fit_decoder.batch)

        def save(trained: nn.Module) -> None:
            save_decoder(self, name, trained.decoder)

        def validate(trained: nn.Module, step: Step) -> None:
            self._validate(name, self.model_of(trained.decoder), step)

        module, fit = new_training(c, decoder, getattr(self.clip, "image", None)), self.fit(name)
        return Stage(name, module, batches, fit, save, validate, lambda trained: self.model_of(trained.decoder))

    def _distill_stage(self, name: str) -> Stage:
        batches = self.embeddings.decoder_batches(self.config.fit_distill.batch)
        return distill_stage(self, name, batches, self.model_of, self._validate)

    def _upsampler_stage(self, name: str) -> Stage:
        from condgen.tasks.upsampling import upsampler_stage

        return upsampler_stage(self, name)

    def _validate(self, stage: str, model: TextToImage, step: Step) -> None:
        """Writes a sample sheet; for scenes, whose captions can be checked, also scores."""
        with distributed.on_accelerator(*model.modules.values()):
            scores = {}
            if not self.config.data.path:
                from condgen.evaluation.scenes import scene_scores

                scores = scene_scores(model)
                if self.config.data.templates == 2:
                    from condgen.evaluation.compositions import composition_scores

                    scores |= composition_scores(model)
            samples = sheet(model, self.prompts)
        self.report(stage, step, scores, samples)

    def model_of(self, decoder: nn.Module) -> TextToImage:
        c = self.config
        if c.stage == "distill" and c.init_from:
            return text_to_image_of(self, decoder)
        about = self.about(size=c.data.size, examples=self.prompts[:8])
        if self.name != "captions":
            about["name"] = self.name
        if c.data.path:
            about["reading"] = c.data.reading()
        # a decoder that was trained on text embeddings needs no prior
        priors = self.priors if c.decoder_objective.conditioning == "image_embed" else {}
        return TextToImage(self.clip, self.tokenizer, self.embeddings.normalizer, priors, decoder, about)

    def pipeline(self) -> TextToImage:
        if self.config.upsample:
            from condgen.tasks.upsampling import model_of

            return model_of(self)
        return self.model_of(load_part(DECODERS[self.config.kind].network, decoder_part(self)))

    def present(self, folder: Path) -> str:
        if self.config.stage == "upsampler" and self.config.init_from:
            from condgen.tasks.upsampling import keep_bytes

            keep_bytes(self, folder)
        images, labels = sheet(TextToImage.load(folder, encoder=self.given), self.prompts)
        write_sheet(folder / "sheet.png", grid(images, labels, columns=8, cell=self.cell))
        return f"Try it: condgen generate {self.prompts[0]!r} --model {folder}"


def sheet(model: TextToImage, prompts: list[str], seed: int = 0, **options: int) -> Sheet:
    """Makes a sheet of one image per prompt; `options` are those of `generate_batch`."""
    *_, last = model.generate_batch(prompts, [seed + i for i in range(len(prompts))], **options)
    return to_pil(last.images), prompts
