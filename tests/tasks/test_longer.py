"""Runs that are stopped, used meanwhile, finished and trained longer; and the folder that explains itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import condgen
from condgen.cli.main import main
from condgen.contracts import CondgenError, CondgenWarning
from condgen.files.registry import find
from condgen.recipes import RECIPES, train
from condgen.training.trainer import Trainer
from tests.configs import changed
from tests.tasks.test_gan import small as small_gan

CONSTANT = {"decay_start": 1.0, "warmup": 0.0, "batch": 32}
"""With a learning rate that never falls, a longer run begins as a shorter one."""
DECODER = {"channels": (8,), "latent": 4}


def small(recipe: str, images: int, **changes):
    config = small_gan("dcgan") if recipe == "digits-dcgan" else changed(RECIPES[recipe].config(), eval_count=1)
    if hasattr(config, "decoder"):
        fields = {name: value for name, value in DECODER.items() if hasattr(config.decoder, name)}
        config = changed(config, decoder=fields)
    return changed(config, **{"total_images": images, "fit": CONSTANT} | changes)


def weights(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.safetensors")}


@pytest.mark.parametrize("recipe", ["digits-cvae", "digits-cgan", "digits-dcgan", "digits-vae"])
def test_trained_longer_is_the_run_that_was_longer_from_the_start(recipe, tmp_path, capsys):
    whole = train(recipe, tmp_path / "whole", small(recipe, 256))
    short = train(recipe, tmp_path / "run", small(recipe, 96))
    before = weights(short)
    capsys.readouterr()
    with pytest.warns(CondgenWarning, match="total_images: 96 -> 256"):
        assert train(recipe, tmp_path / "run", small(recipe, 256)) == short
    assert "was finished and trains on" in capsys.readouterr().err
    assert weights(short) != before and weights(short) == weights(whole)
    assert train(recipe, tmp_path / "run", small(recipe, 256)) == short  # the same command says that it is done
    told = capsys.readouterr().err
    assert "is finished; the model is in" in told and "trains on" not in told and "images, " not in told


def test_a_shorter_budget_leaves_the_finished_model(tmp_path):
    folder = train("digits-cvae", tmp_path / "run", small("digits-cvae", 96))
    before = weights(folder)
    with pytest.warns(CondgenWarning, match="total_images"):
        train("digits-cvae", tmp_path / "run", small("digits-cvae", 64))
    assert weights(folder) == before


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """A run that was stopped in its fourth step, with a checkpoint after each."""
    step = Trainer._step

    def stopping(self):
        if self.count == 3:
            raise KeyboardInterrupt(2)
        return step(self)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "_step", stopping)
        train("digits-cvae", tmp_path / "run", small("digits-cvae", 256, save_every=0.0))
    return tmp_path / "run"


def test_a_stopped_run_paints_with_every_command(stopped, tmp_path, capsys):
    for argv in (["sample", "--model", stopped, "--label", "3", "-o", tmp_path / "out"], ["info", stopped, "--json"],
                 ["export", stopped], ["export", stopped, "-o", tmp_path / "copy"]):  # fmt: skip
        assert main(list(map(str, argv))) == 0
        told = capsys.readouterr()
        assert "is not finished: this is its last checkpoint (decoder, 96 images" in told.err
    assert (tmp_path / "copy" / "model_index.json").is_file()
    assert main(["export", str(stopped), "-o", str(tmp_path / "copy")]) == 2
    assert "exists" in capsys.readouterr().err


def test_its_model_follows_the_run_and_gives_way_to_the_finished_one(stopped):
    with pytest.warns(CondgenWarning, match="96 images"):
        folder = find(stopped)
    assert folder == stopped / "unfinished"
    newest = stopped / "checkpoints" / "decoder" / "step-0000003" / "ema.safetensors"
    newest.write_bytes(newest.read_bytes() + b"damaged")
    with pytest.warns(CondgenWarning, match="64 images"):  # the newest is damaged, so the one before it
        assert condgen.load(stopped).about["unfinished"]["images"] == 64
    assert newest.exists()  # reading changes nothing: the run may be active
    model = train("digits-cvae", stopped, small("digits-cvae", 256))
    assert find(stopped) == model and not folder.exists()


def test_a_run_without_a_checkpoint_says_what_to_do(stopped):
    for place in (stopped / "checkpoints" / "decoder").iterdir():
        (place / "manifest.json").unlink()
    with pytest.raises(CondgenError, match=r"not finished, and its decoder has no checkpoint yet.*--save_every"):
        find(stopped)


def test_the_run_folder_explains_every_file_in_it(stopped):
    def explained() -> bool:
        text = (stopped / "README.md").read_text(encoding="utf-8")
        return all(f"`{place.name}{'/' * place.is_dir()}`" in text for place in stopped.iterdir()
                   if place.name != "README.md")  # fmt: skip

    assert explained() and f"condgen train digits-cvae -o {stopped}" in (stopped / "README.md").read_text()
    train("digits-cvae", stopped, small("digits-cvae", 256))
    assert explained() and json.loads((stopped / "status.json").read_text()) == {"exported": True}
    files = [place for place in stopped.rglob("*") if place.is_file()]
    assert all(file.stat().st_size and " " not in str(file.relative_to(stopped)) for file in files)
