"""A run in one sitting, and the same run stopped in the middle and gone on with."""

from pathlib import Path

import pytest

from condgen.recipes import train
from condgen.training.trainer import Trainer


def two_sittings(recipe: str, config, stage: str, tmp_path: Path, monkeypatch, steps: int = 2) -> tuple[Path, Path]:
    """The models of both; the second run writes a checkpoint after every step, and is stopped after so many."""
    whole = train(recipe, tmp_path / "whole", config)
    step, done = Trainer._step, []

    def stopping(self):
        if len(done) == steps:
            raise KeyboardInterrupt(2)
        done.append(1)
        out = step(self)
        self.save(tmp_path / "halves" / "checkpoints" / stage)
        return out

    monkeypatch.setattr(Trainer, "_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "halves", config)
    monkeypatch.setattr(Trainer, "_step", step)
    return whole, train(recipe, tmp_path / "halves", config)
