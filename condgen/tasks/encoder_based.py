"""A task whose model stands on an encoder: one that it trains, that of another run, or a given one."""

from __future__ import annotations

import shutil
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from condgen.contracts import CondgenError, Encoder
from condgen.encoders.interop.load import is_there, load_pair, open_encoder, reads_size, save_pair
from condgen.encoders.tokenizer import Tokenizer
from condgen.files.weights import fingerprint
from condgen.nn.specs import TextSpec
from condgen.tasks.base import Task, exactly_once


class EncoderBasedTask(Task):
    """Args:
    given: an encoder of your own with its tokenizer, where `config.encoder` says so.
    others: see `Task`.
    """

    def __init__(self, *args, given: tuple[Encoder, Tokenizer] | None = None):
        super().__init__(*args)
        self.given = given
        self.parts = self.root / "parts"

    def encoder_is_done(self) -> bool:
        """Whether there is an encoder to go on from."""
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
        """Copies the encoder that is named, or the encoder and the priors of another run, if not done yet."""
        if self.config.init_from:
            exactly_once(self.parts, self._copy_parts)
        if self.config.encoder and not self.given:
            exactly_once(self.parts, lambda folder: save_pair(*self.opened, folder))

    def _copy_parts(self, folder: Path) -> None:
        source = Path(self.config.init_from) / "parts"
        if not (source / "clip").is_dir():
            raise CondgenError(
                f"{self.config.init_from} is no run with a trained encoder; there is no {source / 'clip'}."
            )
        for part in source.iterdir():
            if part.name != "decoder":
                shutil.copytree(part, folder / part.name)

    @cached_property
    def pair(self) -> tuple[Encoder, Tokenizer]:
        """The encoder that was trained here or that was given, and its tokenizer."""
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
        """What priors and decoder must know of the encoder."""
        return TextSpec(self.clip.embed_dim, self.clip.vocab, self.clip.context, fingerprint(self.clip))
