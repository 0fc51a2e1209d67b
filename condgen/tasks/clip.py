"""One run of contrastive training: captioned or labelled images to a CLIP."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from condgen import distributed
from condgen.contracts import Batch, CondgenError, Encoder
from condgen.data.batches.captions import CaptionBatches, to_float
from condgen.data.batches.order import held_out
from condgen.data.datasets.captions import CaptionedImages
from condgen.data.datasets.labels import captioned
from condgen.data.sources.labels import open_either, open_labelled
from condgen.data.sources.rows import Columns, Source
from condgen.data.streaming.stream import ShardBatches, Stream, open_captioned
from condgen.data.templates import class_captions, templates_of
from condgen.encoders.clip import CLIP
from condgen.encoders.clip_objective import ClipTraining
from condgen.encoders.interop.freeze import freeze
from condgen.encoders.interop.load import is_there, load_pair, open_encoder, reads_size, save_pair, with_text
from condgen.encoders.tokenizer import Tokenizer
from condgen.files.registry import find
from condgen.metrics.probes import accuracy, class_embeddings, zero_shot
from condgen.metrics.retrieval import retrieval
from condgen.nn.specs import EncoderSpec
from condgen.pipelines.base import to_pil
from condgen.pipelines.encoder import TextImageEncoder, init_image_tower
from condgen.tasks.base import Sheet, Task
from condgen.tasks.dry_run import dry_run_clip

MOST_HELD = 5000
"""Images held out of training to choose the best state by, at most."""
MOST_RETRIEVED = 1000
"""Images among which captions look for theirs while training."""


class ClipTask(Task):
    """Args: see `Task`; config is a `configs.Contrastive`."""

    stage = "clip"

    def prepare(self) -> None:
        dry_run_clip(self.config)
        self.found = self._brought()
        if self.config.clip_objective.positives == "label" and getattr(self.data, "labels", None) is None:
            raise CondgenError(f"{self.data.name} has no labels: choose --clip_objective.positives text or pair.")
        _ = self.held_out

    # the data

    def reading(self) -> dict[str, Any]:
        own = self.config.pictures.reading()
        classes = getattr(self.data, "classes", ())
        return own | ({"label_column": self.config.label, "templates": list(self.templates)} if classes else {})

    @cached_property
    def templates(self) -> tuple[str, ...]:
        """What is said of a class, of labelled images."""
        return tuple(self.config.templates) or templates_of(self.config.data)

    def open_split(self, split: str) -> CaptionedImages | Stream:
        """Captioned images as they are; labelled ones with sentences about their class."""
        c, p = self.config, self.config.pictures
        columns = Columns(p.image, p.text, p.split, c.label)
        labelled = c.label or c.templates or not isinstance(open_either(c.data, columns, p.where), Source)
        if not labelled:
            return open_captioned(
                c.data, p.size, stream=p.stream, columns=columns, split=split, resize=p.how, max_bad_fraction=p.max_bad,
                filter=p.where,
            )  # fmt: skip
        data = open_labelled(
            c.data, p.size, 3, split=split, image_column=p.image, label_column=c.label, split_column=p.split,
            resize=p.how, max_bad_fraction=p.max_bad, filter=p.where,
        )  # fmt: skip
        return captioned(data, self.templates)

    @cached_property
    def _opened(self) -> tuple[CaptionedImages | Stream, CaptionedImages | None]:
        """Images to train on, and those held out: of the split that is named, else some of the first."""
        data, val = self.open_split(self.config.pictures.use), self.config.val
        if val:
            held = self.open_split(val)
            if isinstance(held, Stream):
                raise CondgenError(
                    f"The split {val} is too large to be read into memory. Name a smaller one with --val."
                )
            return data, held
        if isinstance(data, Stream):
            return data, None
        parts = held_out(len(data), 20, MOST_HELD, self.config.seed)
        return (data.rows(parts[0]), data.rows(parts[1])) if parts else (data, None)

    @property
    def data(self) -> CaptionedImages | Stream:
        return self._opened[0]

    @property
    def held_out(self) -> CaptionedImages | None:
        """Images to choose the best state by."""
        return self._opened[1]

    # the training

    @property
    def start(self) -> Path:
        """Where the towers are kept that were brought along."""
        return self.root / "parts" / "start"

    def _brought(self) -> tuple[Encoder, Tokenizer] | None:
        """The encoder that the config names, opened; None where it is new or here already.

        Raises:
            CondgenError: there is none of that name, or it cannot learn in this way from these images.
        """
        c = self.config
        if is_there(self.start) or not (c.encoder or c.text or c.start):
            return None
        torch.manual_seed(c.seed)
        net, tokenizer = open_encoder(c.encoder) if c.encoder else (self._new(1, 1), None)
        if c.start:
            self._started(net)
        if c.text:
            net, tokenizer = with_text(net, c.text, c.clip.context, bias=c.clip_objective.loss == "siglip")
            self._say_no(net)
        elif not c.encoder:
            return None  # its tokenizer is still to come
        if not reads_size(net, c.pictures.size):
            raise CondgenError(f"The encoder reads {net.size} pixels: give --pictures.size {net.size}.")
        ClipTraining(net, c.clip_objective)
        return net, tokenizer

    def begin(self) -> None:
        if self.config.encoder or self.config.text:
            with distributed.first_alone():
                if not is_there(self.start):
                    aside = self.root / "parts" / "start.tmp"
                    shutil.rmtree(aside, ignore_errors=True)
                    save_pair(*self.found, aside)
                    aside.rename(self.start)
            self.found, self.tokenizer = None, load_pair(self.start)[1]
            return
        folder = self.root / "parts" / "tokenizer"
        with distributed.first_alone():
            if not (folder / "words.json").exists():
                Tokenizer.train(self.data.used_texts, self.config.clip.context, self.config.clip.vocab).save(folder)
        self.tokenizer = Tokenizer.load(folder)

    def trainable(self) -> ClipTraining:
        c = self.config
        torch.manual_seed(c.seed)
        if c.encoder or c.text:
            clip, _ = load_pair(self.start)
        else:
            clip = self._new(self.tokenizer.vocab, self.tokenizer.context)
            self._say_no(clip)
            if c.start and not (self.root / "checkpoints" / self.stage).exists():
                self._started(clip)
        return ClipTraining(freeze(clip, c.freeze), c.clip_objective)

    def _new(self, vocab: int, context: int) -> CLIP:
        """An encoder of the shape that the config asks for."""
        config = self.config.clip
        bias = config.bias or self.config.clip_objective.loss == "siglip"
        config = replace(config, vocab=vocab, context=context, bias=bias)
        return CLIP(config, EncoderSpec(self.config.pictures.size))

    def _started(self, clip: Encoder) -> None:
        """Gives the image tower the weights of a backbone that learned from images alone."""
        if self.config.encoder:
            raise CondgenError("--encoder brings its image tower along, which --start would write over. Give one.")
        init_image_tower(clip, find(self.config.start))

    def _say_no(self, clip: Encoder) -> None:
        """Of a sigmoid loss: one pair in a batch's row belongs together, and the first loss is that of saying so."""
        if self.config.clip_objective.loss == "siglip":
            with torch.no_grad():
                clip.log_scale.fill_(math.log(10))
                clip.bias.fill_(-math.log(max(self.config.fit_clip.batch - 1, 1)))

    def views(self) -> Callable[[int], Batch]:
        c, own = self.config, (distributed.rank(), distributed.world())
        batch, p = c.fit_clip.batch, c.pictures
        if not isinstance(self.data, Stream):
            tokens = self.tokenizer.encode(self.data.texts)
            return CaptionBatches(
                self.data, tokens, batch, c.seed, c.clip_objective.negatives, p.shift, *own, flip=c.flip
            )
        views = ShardBatches(self.data, self.tokenizer.encode, batch, c.seed, p.shift, p.buffer, *own)
        self.reading_on.callback(views.close)
        return views

    def train(self) -> Path:
        with ExitStack() as self.reading_on:  # the threads that read a stream
            return super().train()

    def model(self, trained: ClipTraining, about: dict[str, Any]) -> TextImageEncoder:
        return TextImageEncoder(trained.clip, self.tokenizer, about)

    # the judge

    def judge(self, model: TextImageEncoder) -> tuple[dict[str, float], Sheet | None]:
        held = self.held_out
        if held is None:
            return {}, None
        if held.labels is not None:
            return self._zero_shot(model, held)
        n = min(MOST_RETRIEVED, len(held))
        images, keys = model.embed_image(to_float(held.images[:n])), torch.from_numpy(held.captions[:n])
        firsts = keys[:, :1]
        text = model.embed_text([held.texts[i] for i in firsts[:, 0]])
        scores = {
            "text to image R@1": retrieval(text, images, firsts, keys, at=(1,))["R@1"],
            "image to text R@1": retrieval(images, text, keys, firsts, at=(1,))["R@1"],
        }
        found = (images[:64] @ text.T).argmax(1)
        right = (keys[:64] == firsts[found]).any(1).tolist()
        labels = [held.texts[i] for i in firsts[found, 0]]
        return {"R@1": sum(scores.values()) / 2} | scores, _sheet(held, labels, right)

    def _zero_shot(self, model: TextImageEncoder, held: CaptionedImages) -> tuple[dict[str, float], Sheet]:
        """The share of images that lie closest to the mean of the sentences about their class."""
        captions = class_captions(held.classes, self.templates)
        text = model.embed_text([sentence for own in captions for sentence in own]).unflatten(0, (len(captions), -1))
        found = zero_shot(model.embed_image(to_float(held.images)), class_embeddings(text))
        right = (found == torch.from_numpy(held.labels))[:64].tolist()
        names = [held.classes[k] for k in found[:64]]
        return {"zero-shot": accuracy(found, torch.from_numpy(held.labels))}, _sheet(held, names, right)


def _sheet(held: CaptionedImages, labels: list[str], right: list[bool]) -> Sheet:
    """Images with the text that was found for them."""
    told = [text if ok else f"(wrong) {text}" for text, ok in zip(labels, right)]
    return to_pil(to_float(held.images[: len(told)])), told
