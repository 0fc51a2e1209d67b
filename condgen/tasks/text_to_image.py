"""One training run of the whole corridor: data, encoder, priors, decoder, model, each kept on disk when done."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from condgen import distributed
from condgen.contracts import Batch, CondgenError, Encoder
from condgen.data.batches.captions import CaptionBatches, to_float
from condgen.data.datasets.captions import CaptionedImages
from condgen.data.embeddings.compute import digest_of, embed
from condgen.data.embeddings.store import EmbedBatches, Embeds
from condgen.data.streaming.stream import ShardBatches, Stream, open_captioned
from condgen.decoders import DECODERS
from condgen.encoders.clip import CLIP
from condgen.encoders.clip_objective import ClipTraining
from condgen.encoders.interop.load import is_there, load_pair, open_encoder, reads_size, save_pair
from condgen.encoders.tokenizer import Tokenizer
from condgen.files.images import grid, png_bytes, write_bytes
from condgen.files.weights import fingerprint, load_part, save_part
from condgen.nn.embedding_normalizer import EmbeddingNormalizer
from condgen.nn.specs import CondSpec, EncoderSpec, TextSpec
from condgen.pipelines.base import to_pil
from condgen.pipelines.text_to_image import TextToImage
from condgen.priors import PRIORS
from condgen.priors.transformer import PriorConfig
from condgen.tasks.build import new_decoder, part_of, training_of
from condgen.tasks.dry_run import dry_run
from condgen.training import fsdp
from condgen.training.run_folder import Display, RunFolder, drive, milestones, wants_more
from condgen.training.trainer import FitConfig, Trainer

EMBEDDING = "embeddings"
"""What the display calls the work between the stages."""


class TextToImageTask:
    """Args:
    name, recipe: which recipe, and its line of the table.
    root: the run's folder.
    config: a `configs.Corridor`.
    given: an encoder of one's own with its tokenizer, where the config says so.
    """

    def __init__(
        self, name: str, recipe, root: Path, config, bound: Callable[[str, FitConfig, int], FitConfig],
        given: tuple[Encoder, Tokenizer] | None = None,
    ):  # fmt: skip
        self.name, self.recipe, self.root, self.config, self.bound = name, recipe, root, config, bound
        self.given, self.found = given, None
        self.parts = root / "parts"
        self.exported = root / "exported"  # an empty file, there while `model/` holds the parts as they are
        self.reading = ExitStack()  # the threads that read a stream for the stage at work

    def train(self) -> Path:
        """All stages that are not done yet; gives the model's folder (or the run's, when one stage was asked for).

        Several processes, where a launcher has started them, train as one: each takes its part of every batch, and the
        first alone writes.
        """
        dry_run(self.config)
        self._check_encoder()
        fsdp.asked()  # what is refused there is refused before anything is written
        distributed.join()
        for stage in ("clip", "prior", "decoder"):  # now, not when its turn comes
            distributed.split(getattr(self.config, f"fit_{stage}").batch, distributed.rank(), distributed.world())
        wanted = self.config.stage
        digest = {}
        if not (self.config.embeds and wanted == "prior"):  # priors need no images then
            way = "stream" if isinstance(self.data, Stream) else "memory"
            digest = {
                way: digest_of(self.data)
            }  # before anything is written: unusable data must leave no folder behind
        stages = ("clip", "prior", "decoder") if wanted == "all" else (wanted,)
        if self.config.encoder:
            stages = tuple(stage for stage in stages if stage != "clip")
        names = [n for s in stages for n in ([f"prior {k}" for k in self.config.prior.kinds] if s == "prior" else [s])]
        if wanted == "all" and self._is_there("decoder") and (short := [n for n in names if self._wants_more(n)]):
            raise CondgenError(
                f"{self.root} is finished, and the bounds given now ask for more of {short[0]}. Train a stage on with "
                "--stage clip, prior or decoder, or choose another folder."
            )
        self.run = RunFolder(self.root, {"recipe": self.name} | asdict(self.config), self.config.save_every, digest)
        with distributed.first_alone():
            self._take_over()
            self._take_encoder()
        if self.config.embeds and wanted != "clip":
            self._check_embeds()
        with Display([*names, EMBEDDING] if self._embeds_itself() else names) as self.display, self.reading:
            for stage in stages:
                getattr(self, f"train_{stage}")()
        if wanted not in ("all", "decoder"):
            return self.root
        model = self.root / "model"  # not written anew without need: what it was judged by stays in its card
        with distributed.first_alone():
            if not distributed.rank() and not (model.exists() and self.exported.exists()):
                self.export()
        return model

    def _take_over(self) -> None:
        """Copies the encoder and the priors of another run, where one is named and they are not here yet."""
        if not self.config.start or self.parts.exists():
            return
        source = Path(self.config.start) / "parts"
        if not (source / "clip").is_dir():
            raise CondgenError(f"{self.config.start} is no run with a trained encoder; there is no {source / 'clip'}.")
        aside = self.root / "parts.tmp"
        shutil.rmtree(aside, ignore_errors=True)
        for part in source.iterdir():
            if part.name != "decoder":
                shutil.copytree(part, aside / part.name)
        aside.rename(self.parts)

    def _check_encoder(self) -> None:
        """Refuses what an encoder from elsewhere leaves nothing to do for, and opens it before anything is written."""
        if not self.config.encoder:
            return
        if self.config.start or self.config.stage == "clip":
            other = f"--start {self.config.start}" if self.config.start else "--stage clip"
            raise CondgenError(f"--encoder brings a trained encoder along, and so does {other}: leave one out.")
        if not self.given and not is_there(self.parts):
            torch.manual_seed(self.config.seed)  # of an architecture by name
            self.found = open_encoder(self.config.encoder)
        net, tokenizer = self.given or self.found or self._pair
        if not reads_size(net, self.config.pictures.size):
            raise CondgenError(
                f"The encoder {self.config.encoder} reads {net.size} x {net.size} pixels. Give "
                f"--pictures.size {net.size}."
            )
        if tokenizer.vocab > net.vocab or tokenizer.context != net.context:
            raise CondgenError(
                f"The tokenizer gives {tokenizer.context} of {tokenizer.vocab} tokens, the encoder beside it reads "
                f"{net.context} of {net.vocab}."
            )

    def _take_encoder(self) -> None:
        """Copies the encoder that is named, where it is not here yet."""
        if not self.config.encoder or self.given or is_there(self.parts):
            return
        aside = self.root / "parts.tmp"
        shutil.rmtree(aside, ignore_errors=True)
        save_pair(*self.found, aside)
        aside.rename(self.parts)
        self.found = None

    @cached_property
    def _pair(self) -> tuple[Encoder, Tokenizer]:
        """The encoder that was trained here, or that was brought along, and its tokenizer."""
        if not self._is_there("clip"):
            raise CondgenError(f"{self.root} holds no encoder yet. Train it first: --stage clip.")
        return self.given or load_pair(self.parts)

    # the data

    @cached_property
    def data(self) -> CaptionedImages | Stream:
        c, p = self.config, self.config.pictures
        if not c.data:
            from condgen.data.synthetic.scenes import scenes

            return scenes(p.scenes, c.seed, p.size, negatives=p.negatives)
        from condgen.data.sources.rows import Columns

        stream = "shards" if c.embeds and p.stream == "auto" else p.stream  # embeddings of shards are those of a stream
        return open_captioned(
            c.data, p.size, stream=stream, columns=Columns(p.image, p.text, p.split), split=p.use, resize=p.how,
            max_bad_fraction=p.max_bad, filter=p.where,
        )  # fmt: skip

    @cached_property
    def tokenizer(self) -> Tokenizer:
        own = self.parts / "tokenizer"  # of an encoder trained here it is there first
        return Tokenizer.load(own) if (own / "words.json").exists() and not self.given else self._pair[1]

    def _train_tokenizer(self) -> None:
        folder = self.parts / "tokenizer"
        with distributed.first_alone():
            if not (folder / "words.json").exists():
                Tokenizer.train(self.data.used_texts, self.config.clip.context, self.config.clip.vocab).save(folder)

    @cached_property
    def tokens(self) -> np.ndarray:
        return self.tokenizer.encode(self.data.texts)

    def views(self, batch: int, negatives: int = 0, shift: int = 0) -> CaptionBatches | ShardBatches:
        """Batches for one stage; those of the stage before read no more."""
        seed, own = self.config.seed, (distributed.rank(), distributed.world())
        if not isinstance(self.data, Stream):
            return CaptionBatches(self.data, self.tokens, batch, seed, negatives, shift, *own)
        self.reading.close()
        views = ShardBatches(self.data, self.tokenizer.encode, batch, seed, shift, self.config.pictures.buffer, *own)
        self.reading.callback(views.close)
        return views

    # the encoder

    def train_clip(self) -> None:
        if self._is_done("clip"):
            return
        self._train_tokenizer()
        torch.manual_seed(self.config.seed)  # here, so that the first weights do not hang on what ran before
        config = replace(self.config.clip, vocab=self.tokenizer.vocab, context=self.tokenizer.context)
        clip = CLIP(config, EncoderSpec(self.config.pictures.size))
        objective = self.config.clip_objective
        fit = Trainer(
            ClipTraining(clip, objective),
            self.views(self.config.fit_clip.batch, negatives=objective.negatives),
            self._fit("clip"),
            self.config.seed,
        )
        for _ in drive(fit, self.run, "clip", self.display):
            pass
        trained, place = self._finish(fit).clip, self.parts / "clip"
        with distributed.first_alone():
            if not distributed.rank():
                before = fingerprint(load_pair(self.parts)[0]) if self._is_there("clip") else None
                save_part(trained, place)
                if before not in (None, fingerprint(self.clip)):
                    self._forget_the_old_space()

    def _fit(self, stage: str) -> FitConfig:
        """The bounds of a stage; the priors share the time of theirs."""
        kind = stage.split()[0]
        siblings = len(self.config.prior.kinds) if kind == "prior" else 1
        return self.bound(kind, getattr(self.config, f"fit_{kind}"), siblings)

    def _finish(self, fit: Trainer):
        """The model with the weights to use, on the CPU with all its parts."""
        self.exported.unlink(missing_ok=True)
        return fit.snapshot()

    def _keep(self, part: torch.nn.Module, name: str) -> None:
        """Writes a trained part, which all processes find there afterwards."""
        with distributed.first_alone():
            if not distributed.rank():
                save_part(part, self.parts / name)

    def _forget_the_old_space(self) -> None:
        """Takes away what was trained on an encoder that is no more."""
        self.display.say("The encoder is another one now: normaliser, priors and decoder begin anew.")
        for folder in self.parts.iterdir():
            if folder.name not in ("clip", "tokenizer"):
                shutil.rmtree(folder)
        for folder in (self.root / "checkpoints").iterdir():
            if folder.name != "clip":
                shutil.rmtree(folder)
        shutil.rmtree(self.root / "embeds", ignore_errors=True)

    def _is_done(self, stage: str) -> bool:
        """Whether a stage has nothing to do; one that is asked for by name always looks for itself."""
        if self.config.stage == "all" and self._is_there(stage) and not self._wants_more(stage):
            self.display.show(stage, 1.0, "done")
            return True
        return False

    def _is_there(self, stage: str) -> bool:
        if stage == "clip":
            return bool(self.given) or is_there(self.parts)
        return (self.parts / stage.replace(" ", "_") / "model.safetensors").exists()

    def _wants_more(self, stage: str) -> bool:
        """Whether a trained stage is short of the bounds that are given now; of a stage taken over nothing is known."""
        return wants_more(self.root, stage, self._fit(stage))

    @cached_property
    def clip(self) -> Encoder:
        return self._pair[0].eval()

    @cached_property
    def text_spec(self) -> TextSpec:
        """What the other parts must know of the encoder."""
        c = self.clip
        return TextSpec(c.embed_dim, c.vocab, c.context, fingerprint(c))

    def _embeds_itself(self) -> bool:
        """Whether embeddings are made and kept on the way, because the images do not fit into memory."""
        if self.config.embeds or self.config.stage == "clip":
            return False
        return isinstance(self.data, Stream)

    def _check_embeds(self) -> None:
        """Refuses embeddings of another encoder now, and not after hours of training one."""
        if self.config.stage == "all" and (not self._is_there("clip") or self._wants_more("clip")):
            raise CondgenError(
                f"{self.config.embeds} holds embeddings of an encoder, and this run would only now train one. Start "
                "from the run that has it (--start RUN), or leave --embeds out."
            )
        _ = self.embeds

    @cached_property
    def embeds(self) -> Embeds | None:
        """Embeddings on disk: those that are given, or those of a stream; None for images in memory.

        Raises:
            CondgenError: they are those of another encoder.
        """
        if self.config.embeds:
            embeds = Embeds(self.config.embeds)
            embeds.check(self.text_spec.space)
            return embeds
        if not self._embeds_itself():
            return None

        def progress(share: float, what: str) -> None:
            self.display.show(EMBEDDING, share, what)

        with distributed.first_alone():
            made = embed(self.clip, self.tokenizer, self.data, self.root / "embeds", progress)
        progress(1.0, "done")
        return made

    @cached_property
    def image_embed(self) -> Tensor:
        """(N, D) embeddings of the training images."""
        if self.embeds is not None:
            self.embeds.check(self.text_spec.space, digest_of(self.data))
            return self.embeds.image(torch.arange(len(self.data)))
        return _in_chunks(lambda i: self.clip.embed_image(to_float(self.data.images[i])), len(self.data))

    @cached_property
    def text_embed(self) -> Tensor:
        """(T, D) embeddings of the texts."""
        return _in_chunks(lambda i: self.clip.embed_text(torch.from_numpy(self.tokens[i])), len(self.tokens))

    @cached_property
    def normalizer(self) -> EmbeddingNormalizer:
        return load_part(EmbeddingNormalizer, self.parts / "normaliser")

    def _fit_normaliser(self) -> None:
        folder, space, given = self.parts / "normaliser", self.text_spec.space, self.embeds
        image_embed = self.image_embed if given is None else None
        with distributed.first_alone():
            if not (folder / "model.safetensors").exists():
                known = given is not None
                made = (
                    EmbeddingNormalizer.of(given.mean, given.sd, space)
                    if known
                    else EmbeddingNormalizer.fit(image_embed, space)
                )
                save_part(made, folder)

    # the priors

    def train_prior(self) -> None:
        for kind in self.config.prior.kinds:
            if not self._is_done(f"prior {kind}"):
                self._train_one_prior(kind)

    def _train_one_prior(self, kind: str) -> None:
        torch.manual_seed(self.config.seed)
        prior = PRIORS[kind].network(part_of(PriorConfig, self.config.prior), self.text_spec)
        self._fit_normaliser()
        fit = Trainer(
            PRIORS[kind].training(prior, self.normalizer),
            self._prior_views(),
            self._fit(f"prior {kind}"),
            self.config.seed,
        )
        for _ in drive(fit, self.run, f"prior {kind}", self.display):
            pass
        self._keep(self._finish(fit).prior, f"prior_{kind}")

    def _prior_views(self) -> CaptionBatches | EmbedBatches:
        batch = self.config.fit_prior.batch
        if self.embeds is not None:
            return EmbedBatches(
                self.embeds, batch, self.config.seed, rank=distributed.rank(), world=distributed.world()
            )
        views = self.views(batch).without_images()
        return views.cache("image_embed", self.image_embed, "image").cache("text_embed", self.text_embed, "text")

    @cached_property
    def priors(self) -> dict[str, torch.nn.Module]:
        there = [kind for kind in self.config.prior.kinds if (self.parts / f"prior_{kind}" / "config.json").exists()]
        return {kind: load_part(PRIORS[kind].network, self.parts / f"prior_{kind}") for kind in there}

    @cached_property
    def guess(self) -> Tensor:
        """(T, D) what one pass of regression makes of the texts; it needs no random numbers."""
        prior, embed, tokens = self.priors["regression"], self.text_embed, torch.from_numpy(self.tokens)
        return _in_chunks(lambda i: prior.draw(embed[i], tokens[i], [], self.normalizer), len(embed))

    # the decoder

    def train_decoder(self) -> None:
        if self._is_done("decoder"):
            return
        self._fit_normaliser()
        some = to_float(self.data.some(512) if isinstance(self.data, Stream) else self.data.images[:5000])
        torch.manual_seed(self.config.seed)  # here, so that the first weights do not hang on what ran before
        decoder = new_decoder(self.config, CondSpec(self.config.pictures.size, **asdict(self.text_spec)), some)
        views = self._decoder_views()
        fit = Trainer(training_of(self.config, decoder), views, self._fit("decoder"), self.config.seed)
        for step in drive(fit, self.run, "decoder", self.display, milestones(self.config.watch)):
            self._watch(fit, step)
        self._keep(self._finish(fit).decoder, "decoder")

    def _decoder_views(self) -> CaptionBatches | ShardBatches:
        """Images with what the decoder is told of them, see `DecoderObjective`."""
        objective = self.config.decoder_objective
        guessed = (
            objective.conditioning == "image_embed" and objective.prior_sample_prob and "regression" in self.priors
        )
        views = self.views(self.config.fit_decoder.batch, shift=self.config.pictures.shift)
        if isinstance(views, CaptionBatches):
            if objective.conditioning == "text_embed":
                return views.cache("z", self.normalizer(self.text_embed), per="text")
            views.cache("z", self.normalizer(self.image_embed), per="image")
            return views.cache("guess", self.guess, per="text") if guessed else views
        embeds, normalizer = self.embeds, self.normalizer
        embeds.check(self.text_spec.space, self.data.digest)

        def of_text(batch: Batch) -> Tensor:
            return embeds.text(batch["row"], batch["caption"])

        if objective.conditioning == "text_embed":
            return views.derive("z", lambda batch: normalizer(of_text(batch)))
        views.derive("z", lambda batch: normalizer(embeds.image(batch["row"])))
        if guessed:
            prior = self.priors["regression"]
            views.derive("guess", lambda batch: prior.draw(of_text(batch), batch["tokens"], [], normalizer).clone())
        return views

    def _watch(self, fit: Trainer, step) -> None:
        """Paints a sheet and measures, with the running mean of the weights."""
        model = self._model(fit.snapshot().decoder)
        with torch.random.fork_rng(devices=[]):
            if not distributed.rank():
                place = self.root / "samples" / f"decoder-{step.images:09d}.png"
                write_bytes(place, png_bytes(sheet(model, self.prompts)))
            if not self.config.data:
                from condgen.evaluation.scenes import scene_eval

                for side in ("seen", "held_out"):
                    scores, _ = scene_eval(model, side == "held_out", prompts=12, images_per_prompt=1)
                    told = {f"{side}/{k}": v for k, v in scores.items()}
                    self.run.log("decoder", step.images, told | {"seconds": step.seconds})
                    self.display.say(f"{step.images:,} images, {side}: " + _told(scores))

    @property
    def prompts(self) -> list[str]:
        """What the sample sheets show: the recipe's examples, then captions of the training data."""
        data = self.data
        own = data.texts[:64] if isinstance(data, Stream) else [data.texts[i] for i in data.captions[:64, 0]]
        return list(dict.fromkeys([*self.recipe.examples, *own]))[:24]

    # the model

    def _model(self, decoder: torch.nn.Module) -> TextToImage:
        about = {
            "name": self.name if self.name != "captions" else self.root.resolve().name,
            "recipe": self.name,
            "data": self.data.name,
            "size": self.config.pictures.size,
            "examples": self.prompts[:8],
        }
        if self.config.data:
            about["reading"] = self.config.pictures.reading()
        # a decoder that was told texts paints texts: no prior stands between
        priors = self.priors if self.config.decoder_objective.conditioning == "image_embed" else {}
        return TextToImage(self.clip, self.tokenizer, self.normalizer, priors, decoder, about)

    def export(self) -> Path:
        """Writes `model/`: the parts as they are, with 16-bit weights, and a card."""
        from condgen.files.card import write_card

        folder = self.root / "model"
        model = self._model(load_part(DECODERS[self.config.kind].network, self.parts / "decoder"))
        card = write_card(model, self.name, self.recipe.base, self.config, self.root / "metrics.jsonl", len(self.data))
        model.save(folder, card)
        write_bytes(folder / "sheet.png", png_bytes(sheet(TextToImage.load(folder, self.given), self.prompts)))
        self.exported.touch()
        self.display.say(f"The model is {folder}. Try it: condgen generate {self.prompts[0]!r} --model {folder}")
        return folder


def sheet(model: TextToImage, prompts: list[str], seed: int = 0):
    """A labelled sheet, one image a prompt."""
    *_, last = model.generate_batch(prompts, [seed + i for i in range(len(prompts))])
    return grid(to_pil(last.images), prompts, columns=8, cell=128)


def _told(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in scores.items())


@torch.inference_mode()
def _in_chunks(embed: Callable[[slice], Tensor], n: int, size: int = 512) -> Tensor:
    """(n, D), in chunks, the processes sharing the work."""

    def rows(own: slice) -> Tensor:
        return torch.cat([embed(slice(i, min(i + size, own.stop))) for i in range(own.start, own.stop, size)])

    return distributed.shared_out(rows, n).clone()
