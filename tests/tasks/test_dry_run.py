"""What a run says of its budget before it starts and at its end, and what time the data cost."""

from __future__ import annotations

import json
import time
import warnings

import pytest
import torch

from condgen.contracts import CondgenWarning
from condgen.recipes import RECIPES, train
from condgen.tasks import dry_run, encoder_based
from condgen.tasks.dry_run import MIN_STEPS, enough_for, measure
from condgen.tasks.text_to_image import TextToImageTask
from condgen.training.trainer import FitConfig
from tests.configs import changed
from tests.tasks.test_text_to_image import small
from tests.training.test_training import Line


class Priced(Line):
    """A step costs 1 s, and every row 0.1 s, on a clock of its own."""

    now = 0.0

    def loss(self, batch, turn):
        Priced.now += 1 + 0.1 * len(batch["x"])
        return super().loss(batch, turn)


@pytest.mark.parametrize("batch", [1, 2, 3, 8, 1000])
def test_the_time_of_a_step_has_a_part_for_every_row(batch, monkeypatch):
    monkeypatch.setattr(dry_run.time, "perf_counter", lambda: Priced.now)
    wanted, before = sum(p.numel() for p in Line().parameters()), torch.get_rng_state()
    seconds, parameters = measure(lambda: (Priced(), {"x": torch.ones(2, 4)}), FitConfig(batch=batch))
    assert seconds == pytest.approx(1 + 0.1 * max(batch, 2))
    assert parameters == wanted and torch.equal(torch.get_rng_state(), before)


def test_what_cannot_be_measured_stops_nothing():
    def build():
        raise RuntimeError("out of memory")

    assert measure(build, FitConfig()) == (0.0, 0)


@pytest.mark.parametrize("share, level", [(0.001, "setup"), (0.05, "impression"), (0.3, "usable"), (1.0, "full")])
def test_the_least_trained_stage_decides(share, level):
    told = enough_for({"clip": 2.0, "decoder": share})
    assert level in told and f"decoder: {100 * share:.3g} %" in told


def test_a_run_says_what_it_is_before_it_starts_and_at_its_end(tmp_path, capsys, monkeypatch):
    """A budget of minutes is compared with measured steps: here one of 0.5 s, of which each stage gets a few."""
    monkeypatch.setattr(dry_run, "measure", lambda build, fit: (0.5, 2_500_000))
    config = small(minutes=0.02)
    with pytest.warns(CondgenWarning) as told:
        train("scenes32", tmp_path / "run", config)
    warned = [str(one.message) for one in told if "nearly untrained" in str(one.message)]
    assert [text.split()[1] for text in warned] == ["clip", "prior", "prior", "decoder"]
    assert all(f"fewer than {MIN_STEPS}" in text and "--minutes" in text and "--data.size" in text for text in warned)
    lines = capsys.readouterr().err.splitlines()
    [start] = [k for k, line in enumerate(lines) if line.startswith("96 images of 32 x 32 pixels, on ")]
    [end] = [k for k, line in enumerate(lines) if line.startswith("Trained ")]
    assert start < end and all(not line.startswith("clip") for line in lines[:start])
    assert "clip of 2.5 million parameters" in lines[start] and "epochs" in lines[start]
    assert "enough for" in lines[start] and "enough for" in lines[end] and "decoder" in lines[end]


def test_a_slow_step_is_said_though_no_time_was_given(tmp_path, monkeypatch):
    monkeypatch.setattr(dry_run, "measure", lambda build, fit: (159.0, 1))
    monkeypatch.setattr(dry_run, "SMALL_RUN", 1)
    with pytest.warns(CondgenWarning, match=r"a step of the clip takes about 159 s \(16 images of 32 x 32 pixels\)"):
        train("scenes32", tmp_path / "run", small(stage="clip"))


def test_small_runs_are_not_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(dry_run, "measure", None)
    with warnings.catch_warnings():
        warnings.simplefilter("error", CondgenWarning)
        train("scenes32", tmp_path / "run", small(stage="clip"))


def test_embeddings_of_the_data_count_into_the_minutes(tmp_path, monkeypatch):
    """Their time is taken from the stages that need them, each of which keeps a tenth; the encoder keeps its part."""
    recipe = RECIPES["scenes32"]

    def minutes(embedding, **changes):
        task = TextToImageTask("scenes32", recipe, tmp_path, changed(recipe.config(), minutes=20.0, **changes))
        task.status["embedding"] = embedding * 60
        return [task.fit(stage).minutes for stage in task.stage_names]

    before, after = minutes(0.0), minutes(3.0)
    assert sum(before) == pytest.approx(20) and sum(after) == pytest.approx(17) and before[0] == after[0]
    assert len({round(b / a, 6) for a, b in zip(before[1:], after[1:])}) == 1
    assert minutes(100.0)[1:] == pytest.approx([0.1 * own for own in before[1:]])
    assert minutes(3.0, stage="decoder") == pytest.approx([17])


def test_the_time_of_embeddings_is_kept_with_the_run(tmp_path, monkeypatch):
    real = encoder_based.rows_of

    def slow(*args, **options):
        time.sleep(0.05)
        return real(*args, **options)

    monkeypatch.setattr(encoder_based, "rows_of", slow)
    train("scenes32", tmp_path / "run", small())
    status = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["exported"] and status["embedding"] > 0.1  # images, and captions for both priors
