"""What stands on the encoder of a text-to-image run: the encoder itself, and the embeddings of the training data."""

from __future__ import annotations

import re
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from condgen import distributed
from condgen.contracts import Batch, CondgenError, CondgenWarning, Encoder
from condgen.data.batches.base import to_float
from condgen.data.batches.captions import CaptionBatches
from condgen.data.embeddings.compute import embed
from condgen.data.embeddings.store import EmbedBatches, Embeds
from condgen.data.streaming.batches import ShardBatches
from condgen.encoders.clip import CLIP, CLIPConfig
from condgen.encoders.clip_objective import ClipObjective, ClipTraining
from condgen.encoders.interop.load import is_there, load_pair, open_encoder, reads_size, save_pair
from condgen.encoders.tokenizer import Tokenizer
from condgen.files.registry import FRAME, find
from condgen.files.weights import fingerprint, load_part, save_part
from condgen.nn.specs import EncoderSpec, TextSpec
from condgen.priors.transformer import EmbeddingNormalizer
from condgen.tasks.base import Task
from condgen.tasks.distilling import copy_parts
from condgen.tasks.dry_run import images, token_ids
from condgen.text import printable
from condgen.training import checkpoint
from condgen.training.checkpoint import exactly_once

if TYPE_CHECKING:
    from condgen.tasks.text_to_image import TextToImageTask


class EmbeddingTask(Task):
    """A task whose later stages train on embeddings of the data: an encoder that they stand on is not trained on, and
    the time of computing the embeddings counts as theirs.
    """

    encoder_stage: ClassVar[str]
    """Name of the stage that trains the encoder."""
    encoder_parts: ClassVar[tuple[str, ...]]
    """Its folders in `parts`."""

    def __init__(self, *args):
        super().__init__(*args)
        self.parts = self.root / "parts"

    def minutes(self, stage: str) -> float:
        """Embeddings of the data count: their time is taken from the stages that need them, which keep a tenth."""
        given, embedding = super().minutes(stage), self.status.get("embedding", 0.0) / 60
        if stage == self.encoder_stage or not given:
            return given
        shared = self.config.minutes * sum(self.share(name) for name in self._later)
        return given * max(0.1, 1 - embedding / shared)

    def wants_more(self, stage: str) -> bool:
        """Whether a trained stage has seen less than the limits ask for; an encoder that others stand on has not."""
        return super().wants_more(stage) and not (stage == self.encoder_stage and self._encoder_stays)

    @property
    def keeps_encoder(self) -> bool:
        """Whether the limits ask for more training of an encoder that others stand on."""
        trained = self.encoder_stage in self.stage_names and self.is_done(self.encoder_stage)
        return trained and self._encoder_stays and super().wants_more(self.encoder_stage)

    @property
    def _later(self) -> list[str]:
        """The stages that train on embeddings."""
        return [name for name in self.stage_names if name != self.encoder_stage]

    @property
    def _encoder_stays(self) -> bool:
        """Whether later stages have begun on the embeddings of the encoder, and would have to start again."""
        return self.trains_all and any(checkpoint.folder_of(self.root, name).is_dir() for name in self._later)

    def forget_later(self) -> None:
        """Removes everything that was trained on the embeddings of an earlier encoder."""
        self.display.say("The encoder has changed: normalizer, priors and decoder start again.")
        for folder in [*self.parts.iterdir(), *(self.root / "checkpoints").iterdir()]:
            if folder.name not in (self.encoder_stage, *self.encoder_parts):
                shutil.rmtree(folder)
        shutil.rmtree(self.root / "embeds", ignore_errors=True)

    @contextmanager
    def embedding_time(self) -> Iterator[None]:
        """Counts the seconds of the block as part of the run's minutes."""
        began = time.perf_counter()
        yield
        self.status["embedding"] = self.status.get("embedding", 0.0) + distributed.maximum(time.perf_counter() - began)
        self.run.update_status(embedding=self.status["embedding"])


class EncoderBasedTask(EmbeddingTask):
    """Args:
    given: an encoder of your own with its tokenizer, where `config.encoder` says so.
    others: see `Task`.
    """

    encoder_stage, encoder_parts = "clip", ("clip", "tokenizer")

    def __init__(self, *args, given: tuple[Encoder, Tokenizer] | None = None):
        super().__init__(*args)
        self.given = given

    def encoder_is_done(self) -> bool:
        """Whether there is a trained encoder."""
        return bool(self.given) or is_there(self.parts)

    def check_encoder(self) -> None:
        """Opens the encoder that the config names.

        Raises:
            CondgenError: it does not fit the run.
        """
        c = self.config
        if c.init_from or c.stage == "clip":
            other = f"--init_from {c.init_from}" if c.init_from else "--stage clip"
            raise CondgenError(f"--encoder gives a trained encoder, and so does {other}: leave one out.")
        if not self.given and not is_there(self.parts):
            torch.manual_seed(c.seed)  # of an architecture by name
            self.opened = open_encoder(c.encoder)
        net, tokenizer = self.given or (self.pair if is_there(self.parts) else self.opened)
        if not reads_size(net, c.data.size):
            raise CondgenError(
                f"The encoder {c.encoder} reads {net.size} x {net.size} pixels. Give --data.size {net.size}."
            )
        if tokenizer.vocab > net.vocab or tokenizer.context != net.context:
            raise CondgenError(
                f"The tokenizer gives {tokenizer.context} of {tokenizer.vocab} tokens, its encoder reads "
                f"{net.context} of {net.vocab}."
            )

    def take_over(self) -> None:
        """Copies the named encoder, or the encoder and the priors of another run, unless that is done."""
        if self.config.init_from:
            exactly_once(self.parts, self._copy_parts)
        if self.config.encoder and not self.given:
            exactly_once(self.parts, lambda folder: save_pair(*self.opened, folder))

    def _copy_parts(self, folder: Path) -> None:
        begin, stage = self.config.init_from, self.config.stage
        if stage in WHOLE_MODEL:
            return copy_parts(find(begin), folder, WHOLE_MODEL[stage])
        run = Path(begin) / "parts"
        source = run if run.is_dir() else find(begin)
        if not (source / "clip").is_dir():
            raise CondgenError(f"{begin} has no trained encoder; there is no {source / 'clip'}.")
        return copy_parts(source, folder, ("decoder", "distill_", "upsampler_", Path(FRAME).name))

    @cached_property
    def pair(self) -> tuple[Encoder, Tokenizer]:
        """The encoder that was trained in this run or given, and its tokenizer."""
        if not self.encoder_is_done():
            raise CondgenError(f"{self.root} holds no encoder yet. Train it first: --stage clip.")
        return self.given or load_pair(self.parts)

    @cached_property
    def clip(self) -> Encoder:
        return self.pair[0].eval()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        folder = self.parts / "tokenizer"  # trained before the encoder
        return Tokenizer.load(folder) if (folder / "words.json").exists() and not self.given else self.pair[1]

    @cached_property
    def tokens(self) -> np.ndarray:
        return self.tokenizer.encode(self.data.texts)

    @cached_property
    def text_spec(self) -> TextSpec:
        """Sizes of the encoder, for priors and decoder."""
        clip, trims = self.clip, getattr(getattr(self.clip, "spec", None), "trims", False)
        return TextSpec(clip.embed_dim, clip.vocab, clip.context, fingerprint(clip), trims)


def new_clip(config: CLIPConfig, size: int, loss: str, trims: bool = False) -> CLIP:
    """A CLIP with its initial weights; the sigmoid loss adds a bias to the logits. `trims`: see `EncoderSpec`."""
    return CLIP(replace(config, bias=config.bias or loss == "siglip"), EncoderSpec(size, trims))


def dry_run_clip(config: CLIPConfig, size: int, objective: ClipObjective) -> tuple[nn.Module, Batch]:
    """A training and its batch for `dry_run`."""
    ids = torch.zeros(2, 1, dtype=torch.long)
    batch = {"image": images(size), "tokens": token_ids()}
    batch |= {"text_id": ids[:, 0], "true_ids": ids, "label": ids[:, 0]}
    return ClipTraining(new_clip(replace(config, vocab=8, context=4), size, objective.loss), objective), batch


def train_tokenizer(folder: Path, texts: list[str], config: CLIPConfig) -> None:
    """Trains a tokenizer on the captions, if the run has none yet."""
    with distributed.main_process_first():
        if not (folder / "words.json").exists():
            tokenizer = Tokenizer.train(texts, config.context, config.vocab)
            tokenizer.save(folder)
            warn_of_cut(tokenizer, texts)


def warn_of_sides(texts: list[str]) -> None:
    """Warns before images are mirrored whose captions say left or right."""
    if sided := [text for text in texts if re.search(r"\b(left|right)\b", text, re.IGNORECASE)]:
        warnings.warn(
            f"--random_flip mirrors images, and {len(sided):,} of {len(texts):,} captions say left or right, such as "
            f"{printable(sided[0][:60])!r}: of mirrored images these are wrong.",
            CondgenWarning,
            stacklevel=3,
        )


def warn_of_cut(tokenizer: Tokenizer, texts: list[str]) -> None:
    """Warns where captions are longer than the context, with their number; of very many texts it counts the first."""
    texts = texts[:MOST_COUNTED]
    if cut := tokenizer.count_cut(texts):
        text = f"Longer than {tokenizer.context} tokens: {cut:,} of {len(texts):,} captions; their end is not read"
        more = ". --clip.context N reads more of them" if isinstance(tokenizer, Tokenizer) else ""
        warnings.warn(text + more, CondgenWarning, stacklevel=3)


WHOLE_MODEL = {"distill": (), "upsampler": ("upsampler_",)}
"""Stage that begins with a whole model -> beginnings of the names of parts that are left out."""
MOST_COUNTED = 100_000
"""Captions whose tokens are counted, at most."""
MOST_PAIRS = 50_000
"""Embeddings that a prior is calibrated with, at most."""
BAR = "embeddings"
"""Name of their computation on the progress display."""


class Embeddings:
    """Embeddings of images and captions: on disk if they are given or the data are a stream, otherwise in memory.

    Args:
        task: the run, whose encoder is trained.
    """

    def __init__(self, task: TextToImageTask):
        self.task, self.config, self.space = task, task.config, task.text_spec.space

    @cached_property
    def stored(self) -> Embeds | None:
        """Embeddings on disk: given ones, or those of a stream; None for images in memory.

        Raises:
            CondgenError: the embeddings belong to another encoder.
        """
        task = self.task
        if self.config.embeds:
            embeds = Embeds(self.config.embeds)
            embeds.check(self.space)
            return embeds
        if not task.embeds_stream:
            return None
        with task.embedding_time(), distributed.main_process_first(), distributed.on_accelerator(task.clip):
            embeds = embed(
                task.clip, task.tokenizer, task.data, task.root / "embeds",
                lambda share, message: task.display.show(BAR, share, message),
            )  # fmt: skip
        task.display.show(BAR, 1.0, "done")
        return embeds

    @cached_property
    def image_embed(self) -> Tensor:
        """(N, D) embeddings of the training images."""
        data, clip = self.task.data, self.task.clip
        if self.stored is not None:
            self.stored.check(self.space, data.digest, self.task.digest.get("content", ""))
            return self.stored.image(torch.arange(len(data)))
        return self._compute(lambda i, device: clip.embed_image(to_float(data.images[i]).to(device)), len(data), clip)

    @cached_property
    def mirrored_embed(self) -> Tensor:
        """(N, D) embeddings of the training images in memory, mirrored."""
        images, clip = self.task.data.images, self.task.clip
        return self._compute(
            lambda i, device: clip.embed_image(to_float(images[i]).flip(-1).to(device)), len(images), clip
        )

    def z(self) -> Tensor:
        """(N, D), what the decoder reads of the images in memory; (N, 2, D), with the mirror images, if these are used:
        a mirrored image is decoded from its own embedding.
        """
        z = self.normalizer(self.image_embed)
        return torch.stack([z, self.normalizer(self.mirrored_embed)], 1) if self.config.random_flip else z

    @cached_property
    def text_embed(self) -> Tensor:
        """(T, D) embeddings of the captions."""
        clip, tokens = self.task.clip, torch.from_numpy(self.task.tokens)
        return self._compute(lambda i, device: clip.embed_text(tokens[i].to(device)), len(tokens), clip)

    @cached_property
    def regression(self) -> Tensor:
        """(T, D), predictions of the regression prior for the captions."""
        prior, embeds, tokens = self.task.priors["regression"], self.text_embed, torch.from_numpy(self.task.tokens)

        def draw(i: slice, device: torch.device) -> Tensor:
            return prior.draw(embeds[i].to(device), tokens[i].to(device), [], self.normalizer)

        return self._compute(draw, len(embeds), prior, self.normalizer)

    def _compute(self, compute: Callable[[slice, torch.device], Tensor], n: int, *modules: nn.Module) -> Tensor:
        with self.task.embedding_time():
            return rows_of(compute, n, *modules)

    @cached_property
    def normalizer(self) -> EmbeddingNormalizer:
        """The normalizer, fitted to the image embeddings if the run has none yet."""
        folder, stored = self.task.parts / "normaliser", self.stored
        image_embed = self.image_embed if stored is None else None
        with distributed.main_process_first():
            if not (folder / "model.safetensors").exists():
                if stored is None:
                    fitted = EmbeddingNormalizer.fit(image_embed, self.space)
                else:
                    fitted = EmbeddingNormalizer.of(stored.mean, stored.sd, self.space)
                save_part(fitted, folder)
        return load_part(EmbeddingNormalizer, folder)

    def pairs(self) -> Batch:
        """Embeddings of training images and of the first caption of each, spread over the data: `image_embed` and
        `text_embed`, (N, D) each, at most MOST_PAIRS of them.
        """
        count = len(self.image_embed) if self.stored is None else len(self.stored)
        rows = torch.linspace(0, count - 1, min(count, MOST_PAIRS)).long()
        if self.stored is not None:
            return {
                "image_embed": self.stored.image(rows),
                "text_embed": self.stored.text(rows, torch.zeros_like(rows)),
            }
        texts = torch.from_numpy(self.task.data.captions[:, 0])[rows]
        return {"image_embed": self.image_embed[rows], "text_embed": self.text_embed[texts.long()]}

    def prior_batches(self, batch: int) -> CaptionBatches | EmbedBatches:
        """Batches of embeddings and tokens, without images."""
        if self.stored is not None:
            return EmbedBatches(self.stored, batch, self.config.seed, **distributed.process())
        views = self.task.views(batch).without_images()
        return views.cache("image_embed", self.image_embed, "image").cache("text_embed", self.text_embed, "text")

    def decoder_batches(self, batch: int) -> CaptionBatches | ShardBatches:
        """Batches of images with the condition of the decoder, see `DecoderObjective`."""
        objective, normalizer, task = self.config.decoder_objective, self.normalizer, self.task
        from_text = objective.conditioning == "text_embed"
        predicts = not from_text and objective.prior_sample_prob and "regression" in task.priors
        views = task.views(batch, shift=self.config.data.random_shift)
        if isinstance(views, CaptionBatches):
            if from_text:
                return views.cache("z", normalizer(self.text_embed), per="text")
            views.cache("z", self.z(), per="mirrored" if self.config.random_flip else "image")
            return views.cache("guess", self.regression, per="text") if predicts else views
        embeds = self.stored
        embeds.check(self.space, task.data.digest, task.digest.get("content", ""))

        def text_embed(rows: Batch) -> Tensor:
            return embeds.text(rows["row"], rows["caption"])

        if from_text:
            return views.derive("z", lambda rows: normalizer(text_embed(rows)))
        views.derive("z", lambda rows: normalizer(embeds.image(rows["row"])))
        if predicts:
            prior = task.priors["regression"]
            views.derive("guess", lambda rows: prior.draw(text_embed(rows), rows["tokens"], [], normalizer).clone())
        return views


def rows_of(compute: Callable[[slice, torch.device], Tensor], n: int, *modules: nn.Module, size: int = 512) -> Tensor:
    """Computes (n, D) on the CPU in chunks; the processes share the work.

    Args:
        compute: rows and the device that the modules are on -> their values.
    """
    with distributed.on_accelerator(*modules) as device, torch.inference_mode():

        def rows(part: slice) -> Tensor:
            chunks = [slice(i, min(i + size, part.stop)) for i in range(part.start, part.stop, size)]
            return torch.cat([compute(chunk, device).cpu() for chunk in chunks])

        return distributed.share_rows(rows, n).clone()
