"""Trains a CLIP on captioned or labelled images, from scratch or from an existing encoder."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from condgen import distributed
from condgen.contracts import Batch, CondgenError, Encoder, limited
from condgen.data.batches.base import held_out, to_float
from condgen.data.batches.captions import CaptionBatches
from condgen.data.datasets.captions import CaptionedImages
from condgen.data.datasets.labels import captioned
from condgen.data.options import CaptionData
from condgen.data.sources.labels import open_either, open_labelled
from condgen.data.sources.rows import Source
from condgen.data.streaming.batches import ShardBatches
from condgen.data.streaming.stream import Stream
from condgen.data.templates import class_captions, templates_of
from condgen.encoders.clip import CLIPConfig
from condgen.encoders.clip_objective import ClipObjective, ClipTraining
from condgen.encoders.interop.freeze import freeze
from condgen.encoders.interop.load import is_there, load_pair, open_encoder, reads_size, save_pair, with_text
from condgen.encoders.tokenizer import Tokenizer
from condgen.files.registry import find
from condgen.metrics.probes import accuracy, class_embeddings, zero_shot
from condgen.metrics.retrieval import retrieval
from condgen.pipelines.base import to_pil
from condgen.pipelines.encoder import TextImageEncoder, init_image_tower
from condgen.tasks.base import Scores, Sheet, SingleStageTask, TaskConfig
from condgen.tasks.dry_run import check_contrast, dry_run
from condgen.tasks.encoder_based import dry_run_clip, new_clip, train_tokenizer, warn_of_cut, warn_of_sides
from condgen.training.checkpoint import exactly_once
from condgen.training.trainer import FitConfig

MAX_HELD_OUT = 5000
"""Most images held out for validation."""
MAX_RETRIEVED = 1000
"""Maximum number of images among which captions are retrieved in validation."""


@dataclass(frozen=True)
class ClipTaskConfig(TaskConfig):
    """Options of contrastive training of images and text.

    Args:
        label_column: column of the class, to train on classes although there are captions.
        templates: sentences about a class, such as 'a photo of a {}'; empty uses condgen's own.
        encoder: the encoder to train on, instead of new towers with the options `clip`: a model or run of condgen, a
            folder of open_clip or transformers, local-dir:PATH, transformers:PATH, hf-hub:OWNER/NAME, or
            open_clip:ARCHITECTURE for new weights.
        text_tower: transformers:PATH, a text model such as BERT to put beside the image tower; `clip.context` limits
            its tokens.
        init_from: model or run of `condgen train selfsup`, whose backbone the image tower starts from.
        freeze: the tower whose weights stay fixed.
        validation_split: split to select the best state with; empty holds out 5 % of the training images, at most
            5,000. A stream holds out nothing unless a split is named.
        random_flip: mirror every second image, which makes captions that say left or right wrong.
    """

    eval_count: int = limited(10, low=0)
    label_column: str = ""
    templates: tuple[str, ...] = ()
    encoder: str = ""
    text_tower: str = ""
    init_from: str = ""
    freeze: Literal["none", "image", "text"] = "none"
    validation_split: str = ""
    random_flip: bool = False
    data: CaptionData = field(default_factory=CaptionData)
    clip: CLIPConfig = field(default_factory=CLIPConfig)
    clip_objective: ClipObjective = field(default_factory=ClipObjective)
    fit: FitConfig = field(default_factory=FitConfig)


class ClipTask(SingleStageTask):
    """Args: see `Task`."""

    config_class, needs, stage = ClipTaskConfig, "images with captions or labels", "clip"

    def __init__(self, *args):
        super().__init__(*args)
        self.start = self.root / "parts" / "start"  # the given towers
        self.given: tuple[Encoder, Tokenizer] | None = None

    def check(self) -> None:
        c = self.config
        build = {"clip": lambda: dry_run_clip(c.clip, c.data.size, c.clip_objective)}
        self.builds = {} if c.encoder else build
        dry_run(c, self.builds)
        self.given = self._open_given()
        if c.clip_objective.positives == "label" and getattr(self.data, "labels", None) is None:
            raise CondgenError(f"{self.data.name} has no labels: choose --clip_objective.positives text or pair.")
        if not isinstance(self.data, Stream):
            labels = self.data.labels
            texts = self.data.used_texts if labels is None else [self.data.classes[k] for k in np.unique(labels)]
            check_contrast(self.data.name, self.data.images, texts)

    @cached_property
    def templates(self) -> tuple[str, ...]:
        """Sentences about a class, for labelled images."""
        return tuple(self.config.templates) or templates_of(self.config.data.path)

    def open_split(self, split: str) -> CaptionedImages | Stream:
        """Opens a split: captioned images as they are, labelled ones with sentences about their class."""
        c, d = self.config, self.config.data
        options = d.options(label_column=c.label_column)
        if not c.label_column and not c.templates and isinstance(open_either(d.path, options), Source):
            return d.open(split)
        return captioned(open_labelled(d.path, d.size, 3, options.but(caption_column=""), split=split), self.templates)

    @cached_property
    def splits(self) -> tuple[CaptionedImages | Stream, CaptionedImages | None]:
        """Returns images to train on, and held-out ones: the named split, or a part of the training images."""
        data, split = self.open_split(self.config.data.split), self.config.validation_split
        if split:
            held = self.open_split(split)
            if isinstance(held, Stream):
                raise CondgenError(
                    f"The split {split} is too large to be read into memory. Name a smaller one with "
                    "--validation_split."
                )
            return data, held
        if isinstance(data, Stream):
            return data, None
        parts = held_out(len(data), 20, MAX_HELD_OUT, self.config.seed)
        return (data.rows(parts[0]), data.rows(parts[1])) if parts else (data, None)

    def open_data(self) -> CaptionedImages | Stream:
        return self.splits[0]

    def _open_given(self) -> tuple[Encoder, Tokenizer] | None:
        """Opens the encoder that the config names; None if it is new or already in the run folder.

        Raises:
            CondgenError: it does not exist, or does not fit the options or the images.
        """
        c = self.config
        if is_there(self.start) or not (c.encoder or c.text_tower or c.init_from):
            return None
        torch.manual_seed(c.seed)
        if c.encoder:
            net, tokenizer = open_encoder(c.encoder)
        else:
            net, tokenizer = new_clip(replace(c.clip, vocab=1, context=1), c.data.size, c.clip_objective.loss), None
        if c.init_from:
            self._init_image_tower(net)
        if c.text_tower:
            net, tokenizer = with_text(net, c.text_tower, c.clip.context, bias=c.clip_objective.loss == "siglip")
            self._init_bias(net)
        elif not c.encoder:
            return None  # the tokenizer is trained later
        if not reads_size(net, c.data.size):
            raise CondgenError(f"The encoder reads {net.size} pixels: give --data.size {net.size}.")
        ClipTraining(net, c.clip_objective)
        return net, tokenizer

    def set_up(self) -> None:
        if self.config.random_flip:
            warn_of_sides(self.data.used_texts)
        if self.config.encoder or self.config.text_tower:
            exactly_once(self.start, lambda folder: save_pair(*self.given, folder))
            self.given, self.tokenizer = None, load_pair(self.start)[1]
            warn_of_cut(self.tokenizer, self.data.used_texts)
            return
        folder = self.root / "parts" / "tokenizer"
        train_tokenizer(folder, self.data.used_texts, self.config.clip)
        self.tokenizer = Tokenizer.load(folder)

    def module(self) -> ClipTraining:
        c = self.config
        torch.manual_seed(c.seed)
        if c.encoder or c.text_tower:
            clip, _ = load_pair(self.start)
        else:
            shape = replace(c.clip, vocab=self.tokenizer.vocab, context=self.tokenizer.context)
            clip = new_clip(shape, c.data.size, c.clip_objective.loss, self.tokenizer.splits_characters)
            self._init_bias(clip)
            if c.init_from and not (self.root / "checkpoints" / self.stage).exists():
                self._init_image_tower(clip)
        return ClipTraining(freeze(clip, c.freeze), c.clip_objective)

    def _init_image_tower(self, clip: Encoder) -> None:
        """Initialises the image tower with the weights of a self-supervised backbone."""
        if self.config.encoder:
            raise CondgenError("--encoder has an image tower, which --init_from would overwrite. Give only one.")
        init_image_tower(clip, find(self.config.init_from))

    def _init_bias(self, clip: Encoder) -> None:
        """Initialises the bias of the sigmoid loss from the fraction of matching pairs in a batch (SigLIP)."""
        if self.config.clip_objective.loss == "siglip":
            with torch.no_grad():
                clip.log_scale.fill_(math.log(10))
                clip.bias.fill_(-math.log(max(self.config.fit.batch - 1, 1)))

    def batches(self) -> Callable[[int], Batch]:
        c, d, process = self.config, self.config.data, distributed.process()
        if not isinstance(self.data, Stream):
            tokens, negatives = self.tokenizer.encode(self.data.texts), c.clip_objective.negatives
            return CaptionBatches(
                self.data, tokens, c.fit.batch, c.seed, negatives, shift=d.random_shift, flip=c.random_flip, **process
            )
        encode = self.tokenizer.encode
        options = {"shift": d.random_shift, "flip": c.random_flip} | process
        views = ShardBatches(self.data, encode, c.fit.batch, c.seed, d.buffer, **options)
        self.open_files.callback(views.close)
        return views

    def model(self, trained: nn.Module, about: dict[str, Any]) -> TextImageEncoder:
        return TextImageEncoder(trained.clip, self.tokenizer, about)

    def about(self, **more: Any) -> dict[str, Any]:
        reading = self.config.data.reading()
        if getattr(self.data, "classes", ()):
            reading |= {"label_column": self.config.label_column, "templates": list(self.templates)}
        return super().about(reading=reading, **more)

    def evaluate(self, model: TextImageEncoder) -> tuple[Scores, Sheet | None]:
        """Returns the zero-shot accuracy on labelled images, or retrieval scores on captioned ones."""
        held = self.splits[1]
        if held is None:
            return {}, None
        if held.labels is not None:
            return self._zero_shot(model, held)
        n = min(MAX_RETRIEVED, len(held))
        embeds, keys = model.embed_image(to_float(held.images[:n])), torch.from_numpy(held.captions[:n])
        firsts = keys[:, :1]
        text = model.embed_text([held.texts[i] for i in firsts[:, 0]])
        scores = {
            "text to image R@1": retrieval(text, embeds, firsts, keys, at=(1,))["R@1"],
            "image to text R@1": retrieval(embeds, text, keys, firsts, at=(1,))["R@1"],
        }
        nearest = (embeds[:64] @ text.T).argmax(1)
        right = (keys[:64] == firsts[nearest]).any(1).tolist()
        labels = [held.texts[i] for i in firsts[nearest, 0]]
        return {"R@1": sum(scores.values()) / 2} | scores, _sheet(held, labels, right)

    def _zero_shot(self, model: TextImageEncoder, held: CaptionedImages) -> tuple[Scores, Sheet]:
        """The fraction of images that are closest to the mean embedding of the sentences about their class."""
        captions = class_captions(held.classes, self.templates)
        text = model.embed_text([sentence for group in captions for sentence in group]).unflatten(
            0, (len(captions), -1)
        )
        predicted = zero_shot(model.embed_image(to_float(held.images)), class_embeddings(text))
        right = (predicted == torch.from_numpy(held.labels))[:64].tolist()
        names = [held.classes[k] for k in predicted[:64]]
        one = len(np.unique(held.labels)) < 2  # any encoder would be right
        scores = {} if one else {"zero-shot": accuracy(predicted, torch.from_numpy(held.labels))}
        return scores, _sheet(held, names, right)


def _sheet(held: CaptionedImages, labels: list[str], right: list[bool]) -> Sheet:
    """Makes a sheet of images with the text that was retrieved for them."""
    marked = [text if ok else f"(wrong) {text}" for text, ok in zip(labels, right)]
    return to_pil(to_float(held.images[: len(marked)])), marked
