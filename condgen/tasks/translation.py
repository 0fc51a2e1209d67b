"""One training run of a translator: images of two kinds to one generator, or to two."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from condgen import distributed
from condgen.contracts import Batch, CondgenError, CondgenWarning
from condgen.data.datasets.pairs import PairBatches, Pairs, Unpaired
from condgen.data.sources.sides import open_sides
from condgen.evaluation.translation import scores_of, sheet_of
from condgen.files.images import grid, png_bytes, write_bytes
from condgen.pipelines.translator import BACKWARD, FORWARD, Translator
from condgen.tasks.base import Sheet, Task
from condgen.tasks.build import translation_of
from condgen.tasks.dry_run import dry_run_translation

MOST_HELD = 200
"""Images of each side held out of training to judge by, at most."""
FEWEST = 500
"""Of fewer images a critic soon knows every one."""


class TranslationTask(Task):
    """Args: see `Task`; config is a `configs.Translating`."""

    stage = "translation"

    def prepare(self) -> None:
        c = self.config
        if len(c.pictures.names) not in (0, 2) or len(set(self.data.sides)) < 2:
            raise CondgenError(f"--pictures.names must be two names that differ, got {list(c.pictures.names)}.")
        dry_run_translation(c, self.data.image_channels)
        if (few := min(len(self.data.a), len(self.data.b))) < FEWEST:
            warnings.warn(
                f"There are {few} images to learn from. A critic soon knows so few by heart, and what is painted "
                "gets worse on others: look at the sheets of what is held out.",
                CondgenWarning,
                stacklevel=2,
            )

    # the data

    def reading(self) -> dict[str, Any]:
        p = self.config.pictures
        own = {name: getattr(p, name) for name in ("origin", "size", "a", "b", "match")} | {"names": list(p.names)}
        return own | {"filter_a": p.where_a, "filter_b": p.where_b, "resize": p.how}

    def _about(self, metrics: dict[str, Any]) -> dict[str, Any]:
        about = super()._about(metrics)
        return about | {"reading": about["reading"] | {"given": bool(self.config.data)}}

    @cached_property
    def _opened(self) -> tuple[Unpaired, Unpaired | None]:
        """Images to train on, and some held out to judge by."""
        c, p = self.config, self.config.pictures
        data = open_sides(c.data, c.way == "paired", p.use, c.seed, p.drawn, **self.reading())
        if c.way == "paired" and not isinstance(data, Pairs):
            raise CondgenError(f"{data.name} have no partners to learn from: choose --way unpaired.")
        return data.parted(12, MOST_HELD, c.seed) or (data, None)

    @property
    def data(self) -> Unpaired:
        return self._opened[0]

    # the training

    def trainable(self) -> nn.Module:
        c, (reads, image_channels) = self.config, self.data.image_channels
        torch.manual_seed(c.seed)
        return translation_of(c, reads, image_channels)

    def views(self) -> Callable[[int], Batch]:
        c, p = self.config, self.config.pictures
        return PairBatches(
            self.data, c.fit_translation.batch, c.seed, p.shift, p.flip, distributed.rank(), distributed.world()
        )

    def model(self, trained: nn.Module, about: dict[str, Any]) -> Translator:
        nets = {name: getattr(trained, name) for name in (FORWARD, BACKWARD) if hasattr(trained, name)}
        return Translator(nets, self.data.sides, about)

    # the judge

    @property
    def chooses(self) -> bool:
        return isinstance(self._opened[1], Pairs)

    def begin(self) -> None:
        """Shows what training looks at: sixteen images of each side, of pairs one above the other."""
        with distributed.first_alone():
            if not distributed.rank():
                kept = [side[:: max(1, len(side) // 16)][:16] for side in (self.data.a, self.data.b)]
                shown = [
                    (x, name) for k in (0, 8) for side, name in zip(kept, self.data.sides) for x in side[k : k + 8]
                ]
                sheet = grid([picture(x) for x, _ in shown], [name for _, name in shown], columns=8, cell=96)
                write_bytes(self.root / "samples" / "sides.png", png_bytes(sheet))

    def judge(self, model: Translator) -> tuple[dict[str, float], Sheet | None]:
        """How near held-out images come to their partners, or what is lost there and back; and a sheet of them."""
        data, held = self._opened
        images, labels = sheet_of(model, held or data)
        return scores_of(model, held) if held else {}, ([picture(x) for x in images], labels)


def picture(image: np.ndarray) -> Image.Image:
    """uint8 (C, S, S) as a PIL image."""
    return Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
