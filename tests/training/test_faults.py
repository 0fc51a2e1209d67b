"""Losses that are not finite, trackers that fail, signals, kills and full disks: what a run survives, what it says."""

from __future__ import annotations

import json
import math
import resource
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from condgen.contracts import CondgenError, CondgenWarning
from condgen.training import checkpoint
from condgen.training.run_folder import Display, RunFolder, _append, drive
from condgen.training.trainer import MAX_CONSECUTIVE_SKIPS, FitConfig, Trainer
from scripts.chaos import Runs
from tests.training.test_training import Line, TwoTurns, draw, fit_of

ROOT = Path(__file__).resolve().parents[2]


def faulty(kind, bad, turn=None, how="loss"):
    """A Trainable of a kind whose steps `bad` are not finite, in one turn or in all; steps are counted from 1."""

    class Faulty(kind):
        calls = 0

        def loss(self, batch, own):
            parts = super().loss(batch, own)
            self.calls += own == self.turns[0]
            if self.calls not in bad or turn not in (None, own):
                return parts
            if how == "loss":
                return {"loss": parts["loss"] * math.nan}
            return {"loss": parts["loss"] + (0 * next(self.parameters_of(own))).sqrt().sum()}  # finite, its slope not

    return Faulty


def state_of(fit):
    """Weights and optimiser state, copied."""
    own = [*fit.model.state_dict().values()]
    for some in fit.optimisers.values():
        own += [v for o in some for state in o.state_dict()["state"].values() for v in state.values()]
    return [torch.as_tensor(value).clone() for value in own]


@pytest.mark.parametrize("how", ["loss", "gradient"])
@pytest.mark.parametrize("kind", [Line, TwoTurns])
def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(kind, how):
    fit = fit_of(faulty(kind, {4, 5, 9}, how=how))
    states, skipped = [], []
    for step in fit:
        states.append(state_of(fit))
        skipped.append(step.skipped)
        if step.count == 12:
            break
    assert skipped == [0, 0, 0, 1, 2, 2, 2, 2, 3, 3, 3, 3]
    for number, (before, after) in enumerate(pairwise(states), 2):
        same = all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
        assert same == (number in (4, 5, 9)), number
    assert all(value.isfinite().all() for value in states[-1])


def test_a_turn_that_is_left_out_leaves_the_other_alone():
    """Turn b fails in step 2: a steps, b does not, and the step counts once."""
    fit = fit_of(faulty(TwoTurns, {2}, turn="b"), weight_decay=0.0)
    states = []
    for step in fit:
        states.append({name: value.clone() for name, value in fit.model.state_dict().items()})
        if step.count == 2:
            break
    assert not torch.equal(states[0]["map.weight"], states[1]["map.weight"])
    assert torch.equal(states[0]["other.weight"], states[1]["other.weight"])
    assert step.skipped == 1 and "loss/a" in step.losses and "loss/b" not in step.losses
    assert all(p.grad is None or p.grad.isfinite().all() for p in fit.model.parameters())


@pytest.mark.parametrize("turn", ["a", "b"])
def test_one_bad_turn_is_enough_to_stop(turn):
    with pytest.raises(CondgenError, match=f"loss of {turn} .* {MAX_CONSECUTIVE_SKIPS} times in a row"):
        list(fit_of(faulty(TwoTurns, range(3, 1000), turn=turn)))


def test_only_failures_in_a_row_stop_a_run():
    """Nine, one good, nine, and so on is no reason; ten are. Of the run as a whole more than half must be good."""
    rare = {k for k in range(1, 40) if k % MAX_CONSECUTIVE_SKIPS}
    steps = list(fit_of(faulty(Line, rare), total_images=8 * 100))
    assert steps[-1].count == 100 and steps[-1].skipped == 36
    with pytest.raises(CondgenError, match=f"in step {MAX_CONSECUTIVE_SKIPS + 3}"):
        list(fit_of(faulty(Line, range(4, 4 + MAX_CONSECUTIVE_SKIPS)), total_images=8 * 100))
    with pytest.raises(CondgenError, match="Of 100 steps 67 were skipped"):
        list(fit_of(faulty(Line, {k for k in range(101) if k % 3}), total_images=8 * 100))


def test_statistics_of_a_bad_batch_are_forgotten():
    class Normed(Line):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(4)

        def loss(self, batch, turn):
            return {"loss": (self.map(self.norm(batch["x"])) - batch["x"]).square().mean()}

    def poisoned(step):
        return {"x": draw(step)["x"] * (math.inf if step == 3 else 1)}

    fit = Trainer(Normed(), poisoned, FitConfig(total_images=80, batch=8, ema_gamma=12))
    assert list(fit)[-1].skipped == 1
    assert all(value.isfinite().all() for value in [*fit.model.state_dict().values(), *fit.trained().values()])


def test_a_run_that_stops_names_its_checkpoint_and_keeps_the_batch(tmp_path):
    """Given again it stops again, later; the one file of the stage is then of that step."""
    folder = RunFolder(tmp_path / "run", {}, save_every=0.0)

    def stop(bad):
        with Display(["a line"]) as display, pytest.raises(CondgenError) as error:
            list(drive(fit_of(faulty(Line, bad)), folder, "a line", display))
        return str(error.value)

    first = 4 + MAX_CONSECUTIVE_SKIPS
    told = stop(range(5, 100))
    faults, places = folder.root / "faults", checkpoint.folder_of(folder.root, "a line")
    assert [p.name for p in faults.iterdir()] == [f"a_line-step-{first:07d}.safetensors"]
    assert str(faults / f"a_line-step-{first:07d}.safetensors") in told and "--fit_STAGE.lr" in told
    assert str(places / "step-0000004") in told and checkpoint.newest(places)[0].name == "step-0000004"
    kept = load_file(next(faults.iterdir()))
    assert torch.equal(kept["x"], draw(first - 1)["x"])  # steps count from 1, batches from 0
    assert "step-0000009" in stop(range(6, 100))  # it went on from step 4, and counts from there
    assert [p.name for p in faults.iterdir()] == [f"a_line-step-{9 + MAX_CONSECUTIVE_SKIPS:07d}.safetensors"]


def test_a_run_that_stops_at_once_says_that_there_is_no_checkpoint(tmp_path):
    folder = RunFolder(tmp_path / "run", {})
    (tmp_path / "run" / "faults").write_text("in the way")
    with Display(["line"]) as display, pytest.raises(CondgenError, match=r"could not be written .* No checkpoint"):
        list(drive(fit_of(faulty(Line, range(100))), folder, "line", display))


def test_weights_that_are_not_finite_are_no_checkpoint(tmp_path):
    """An update may spoil the weights after a loss that was fine: what was good before must stay the newest."""

    class Exploding(Line):
        calls = 0

        def loss(self, batch, turn):
            self.calls += 1
            return super().loss(batch, turn)

    fit = fit_of(Exploding)
    folder = RunFolder(tmp_path / "run", {}, save_every=0.0)
    step = fit.optimisers["line"][0].step

    def explode(*given):
        step(*given)
        if fit.model.calls == 7:
            with torch.no_grad():
                fit.model.map.weight.fill_(math.inf)

    fit.optimisers["line"][0].step = explode
    with Display(["line"]) as display, pytest.raises(CondgenError, match="step-0000006"):
        list(drive(fit, folder, "line", display))
    assert checkpoint.newest(folder.root / "checkpoints" / "line")[0].name == "step-0000006"


# trackers


def test_metrics_and_curves_that_fail_stop_nothing(tmp_path):
    folder = RunFolder(tmp_path / "run", {})
    (folder.root / "metrics.jsonl").mkdir()
    (folder.root / "tensorboard").write_text("in the way")
    with Display(["line"]) as display, pytest.warns(CondgenWarning) as told:
        steps = list(drive(fit_of(), folder, "line", display, [0.2, 0.5]))
        folder.log("line", 900, {"loss": 1.0})
    assert steps[-1].progress == 1 and checkpoint.newest(folder.root / "checkpoints" / "line")[0]
    messages = [str(w.message).partition(" is off")[0] for w in told if w.category is CondgenWarning]
    assert sorted(messages) == [str(folder.root / "metrics.jsonl"), "Tensorboard"]


def test_a_line_of_metrics_is_whole_or_not_there(tmp_path):
    path = tmp_path / "metrics.jsonl"
    _append(path, json.dumps({"images": 1}) + "\n")
    before, (soft, hard) = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 5, hard))
    try:
        for _ in range(2):
            with pytest.raises(OSError):
                _append(path, json.dumps({"images": 2}) + "\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    _append(path, json.dumps({"images": 3}) + "\n")
    assert [json.loads(line)["images"] for line in path.read_text().splitlines()] == [1, 3]


# signals, kills and full disks, in processes of their own


def until(there, process, seconds=600):
    """Waits for something to be true while a process lives."""
    deadline = time.monotonic() + seconds
    while not there():
        assert process.poll() is None and time.monotonic() < deadline, process.poll()
        time.sleep(0.02)


def test_a_learning_rate_far_too_high_ends_with_one_line(tmp_path):
    life = Runs(tmp_path).start(tmp_path / "run", "--fit_clip.lr", "1e18")
    _, told = life.communicate(timeout=300)
    last = told.splitlines()[-1]
    assert life.returncode == 2 and last.startswith("condgen: error: The loss of clip") and "Traceback" not in told
    (batch,) = (tmp_path / "run" / "faults").iterdir()
    assert str(batch) in last and load_file(batch)["image"].shape == (8, 3, 32, 32)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_and_saves(tmp_path, number):
    """No checkpoint is due for an hour, so the one that is there was written for the signal."""
    path = tmp_path / "run"
    life = Runs(tmp_path, steps=10**6).start(path, "--save_every", "3600")
    until((path / "metrics.jsonl").exists, life)
    assert not list(path.glob("checkpoints/*/step-*"))
    life.send_signal(number)
    _, told = life.communicate(timeout=300)
    assert life.returncode == 128 + number and told.splitlines()[-1] == "stopped; the same command goes on"
    assert "Traceback" not in told
    place, damaged = checkpoint.newest(path / "checkpoints" / "clip")
    assert place is not None and not damaged and checkpoint.read_state(place)["count"] > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_leaves_at_once(tmp_path, number):
    """Step 4 takes an hour; the first signal waits for it, the second does not."""
    code = (
        "import sys, time; from pathlib import Path\n"
        "from condgen.cli.main import main; from condgen.data.batches import captions as views\n"
        "draw = views.CaptionBatches.__call__\n"
        "def slow(self, step):\n"
        "    if step == 3:\n"
        "        Path('slow').touch(); time.sleep(3600)\n"
        "    return draw(self, step)\n"
        "views.CaptionBatches.__call__ = slow; sys.exit(main(sys.argv[1:]))"
    )
    life = Runs(tmp_path).start(tmp_path / "run", code=("-c", code))
    until((tmp_path / "slow").exists, life)
    life.send_signal(number)
    with pytest.raises(subprocess.TimeoutExpired):
        life.communicate(timeout=1)
    life.send_signal(number)
    _, told = life.communicate(timeout=300)
    assert life.returncode == 128 + number and "Traceback" not in told
    assert checkpoint.newest(tmp_path / "run" / "checkpoints" / "clip")[0].name == "step-0000003"


def test_kills_and_full_disks_are_survived():
    """The campaigns of the reliability page, short; what they promise is checked there."""
    command = [sys.executable, "scripts/chaos.py", "--kills", "2", "--kinds", "text,gan", "--disks", "2",
               "--steps", "5", "--json"]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)
    assert report["kill -9"]["of these after which the run continued"] == 2
    assert report["full disk"]["one clear line and no traceback"] == report["full disk"]["of these too small"] >= 1
