import json
import shutil

import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from condgen.contracts import CondgenError, CondgenWarning
from condgen.training import checkpoint
from condgen.training.run_folder import Display, RunFolder, drive
from condgen.training.trainer import FitConfig, PowerEma, Trainer


class Line(nn.Module):
    """The smallest Trainable: noisy regression, so that exact resume needs the random numbers too."""

    turns = ("line",)

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.map = nn.Linear(4, 4)

    def parameters_of(self, turn):
        return self.parameters()

    def loss(self, batch, turn):
        x = batch["x"] + 0.1 * torch.randn_like(batch["x"])
        return {"loss": (self.map(x) - batch["x"].flip(1)).square().mean()}


class TwoTurns(Line):
    turns = ("a", "b")

    def __init__(self):
        super().__init__()
        self.other = nn.Linear(4, 4)

    def parameters_of(self, turn):
        return (self.map if turn == "a" else self.other).parameters()

    def loss(self, batch, turn):
        x = batch["x"] + 0.1 * torch.randn_like(batch["x"])
        sign = 1 if turn == "a" else -1
        return {"loss": sign * (self.map(x) - self.other(x)).tanh().square().mean()}


def draw(step):
    return {"x": torch.randn(8, 4, generator=torch.Generator().manual_seed(step))}


def fit_of(kind=Line, **more):
    return Trainer(kind(), draw, FitConfig(**({"total_images": 800, "batch": 8, "lr": 1e-2} | more)), seed=5)


def run(fit, steps):
    for step in fit:
        if step.count == steps:
            return step
    return step


def test_turns_touch_only_their_own():
    fit = fit_of(TwoTurns, weight_decay=0.0)
    before = {k: v.clone() for k, v in fit.model.state_dict().items()}
    fit.optimisers = {"a": fit.optimisers["a"]}
    run(fit, 1)
    after = fit.model.state_dict()
    assert torch.equal(before["other.weight"], after["other.weight"])
    assert not torch.equal(before["map.weight"], after["map.weight"])


def test_learning_rate_rises_stays_and_falls():
    fit = fit_of(total_images=8000, warmup=0.1, decay_start=0.5, lr=1.0)
    seen = []
    for step in fit:
        seen.append((step.progress, step.lr))
    assert seen[10][1] < 0.2 and seen[-1][1] == pytest.approx(0, abs=1e-6)
    assert all(lr == 1 for p, lr in seen if 0.1 < p < 0.5)
    falling = [lr for p, lr in seen if p > 0.5]
    assert falling == sorted(falling, reverse=True)


def test_it_learns_and_stops_at_the_limit():
    fit = fit_of(total_images=4000)
    steps = list(fit)
    assert steps[-1].images == 4000 and steps[-1].progress == 1
    assert steps[-1].losses["loss/line"] < steps[0].losses["loss/line"] / 3


def test_minutes_bound_a_run():
    fit = fit_of(total_images=10**9, minutes=0.02)
    steps = list(fit)
    assert steps[-1].progress == 1 and 1.1 < steps[-1].seconds < 3


def test_power_mean_covers_a_fixed_share_of_the_run():
    """The mean of weights w_i = i is (gamma + 1) / (gamma + 2) n in the limit, whatever n."""
    for n in (100, 1000):
        module = nn.Linear(1, 1)
        ema = PowerEma(module, gamma=12)
        for i in range(1, n + 1):
            with torch.no_grad():
                module.weight.fill_(float(i))
            ema.update(module, i)
        assert ema.mean["weight"].item() / n == pytest.approx(13 / 14, abs=0.01)


def test_first_mean_is_the_weights_themselves():
    module = nn.Linear(2, 2)
    ema = PowerEma(module)
    with torch.no_grad():
        module.weight.add_(1)
    ema.update(module, 1)
    torch.testing.assert_close(ema.mean["weight"], module.weight.detach())


@pytest.fixture
def saved(tmp_path):
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, step, {"model": {"w": torch.full((2,), float(step))}}, {}, {"count": step})
    return tmp_path


def test_old_checkpoints_are_pruned_and_nothing_is_left_aside(saved):
    assert sorted(p.name for p in saved.iterdir()) == ["step-0000002", "step-0000003"]


@pytest.mark.parametrize("harm", ["truncate", "remove", "manifest", "list", "flip"])
def test_a_damaged_checkpoint_is_passed_over(saved, harm):
    folder = saved / "step-0000003"
    file = folder / ("manifest.json" if harm in ("manifest", "list") else "model.safetensors")
    data = file.read_bytes()
    if harm == "remove":
        file.unlink()
    elif harm == "list":
        file.write_text("[1]")
    elif harm == "flip":
        file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    else:
        file.write_bytes(data[: len(data) // 2])
    place, damaged = checkpoint.newest(saved)
    assert place is not None and place.name == "step-0000002"
    assert damaged == [saved / "damaged-step-0000003"] and damaged[0].is_dir() and not folder.exists()
    assert checkpoint.newest(saved) == (place, [])
    tensors, _, state = checkpoint.load(place)
    assert tensors["model"]["w"].tolist() == [2, 2] and state["count"] == 2


def damage(root):
    for file in root.glob("step-*/manifest.json"):
        file.unlink()


def test_what_was_just_written_is_never_pruned(saved):
    """Where all are damaged and training begins again, its lower steps live."""
    damage(saved)
    assert checkpoint.newest(saved)[0] is None
    assert checkpoint.save(saved, 1, {}, {}, {"count": 1}) == checkpoint.newest(saved)[0]
    for step in (7, 8):  # nobody asked for the newest in between
        checkpoint.save(saved, step, {}, {}, {})
    checkpoint.save(saved, 2, {}, {}, {})
    assert sorted(p.name for p in saved.glob("step-*")) == ["step-0000002", "step-0000008"]


def test_few_damaged_checkpoints_are_kept(tmp_path):
    for step in range(1, 6):
        checkpoint.save(tmp_path, step, {}, {}, {})
        damage(tmp_path)
        checkpoint.newest(tmp_path)
    checkpoint.save(tmp_path, 6, {}, {}, {})
    names = ["damaged-step-0000004", "damaged-step-0000005", "step-0000006"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names


@pytest.mark.parametrize("error", [OSError(28, "disk full"), SafetensorError("disk full"), RuntimeError("disk full")])
def test_a_full_disk_leaves_the_earlier_checkpoints(saved, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(checkpoint, "save_file", fail)
    told = r"step-0000004 could not be written \((disk full|torch .*); [\d,]+ bytes were free"
    with pytest.raises(CondgenError, match=told):
        checkpoint.save(saved, 4, {"model": {}}, {}, {})
    assert sorted(p.name for p in saved.iterdir()) == ["step-0000002", "step-0000003"]


def test_a_checkpoint_half_written_is_not_seen(saved):
    (saved / "tmp-0000009").mkdir()
    (saved / "tmp-0000009" / "model.safetensors").write_bytes(b"half")
    assert checkpoint.newest(saved)[0].name == "step-0000003"


def test_a_checkpoint_of_another_shape_is_named(tmp_path):
    fit = fit_of()
    run(fit, 2)
    fit.save(tmp_path)
    other = fit_of(TwoTurns)
    with pytest.raises(CondgenError, match="another architecture"):
        other.resume(tmp_path)


def test_drive_logs_saves_and_yields_at_milestones(tmp_path):
    folder = RunFolder(tmp_path / "run", {"seed": 0})
    with Display(["line"]) as display:
        shares = [round(step.progress, 1) for step in drive(fit_of(), folder, "line", display, [0.3, 0.6])]
    assert shares == [0.3, 0.6, 1.0]
    lines = [json.loads(line) for line in (folder.root / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["stage"] == "line" and lines[-1]["images"] == 800 and "loss/line" in lines[-1]
    assert list((folder.root / "checkpoints" / "line").glob("step-*"))
    assert list((folder.root / "tensorboard").iterdir())


def test_drive_says_what_it_goes_on_from(tmp_path, capsys):
    folder = RunFolder(tmp_path / "run", {})
    place = folder.root / "checkpoints" / "line"
    fit = fit_of()
    for steps in (20, 40):
        run(fit, steps)
        fit.save(place)

    def progress():
        with Display(["line"]) as display:
            list(drive(fit_of(), folder, "line", display))
        return capsys.readouterr().err

    (place / "step-0000040" / "manifest.json").unlink()
    err = progress()
    assert "damaged-step-0000040; resuming from the one before" in err
    for other in place.glob("damaged-*"):
        shutil.rmtree(other)
    damage(place)
    err = progress()
    assert err.count("this stage starts again") == 2 and "resuming" not in err
    assert checkpoint.newest(place)[0].name == "step-0000100"


def test_foreign_text_is_said_letter_by_letter(capsys):
    with Display(["[/b]"]) as display:
        display.say("try 'a [/b] [red]cat[/red] :smile:'")
    assert "try 'a [/b] [red]cat[/red] :smile:'" in capsys.readouterr().err


def test_bars_show_foreign_text(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Display(["[/b]"]) as display:
        display.show("[/b]", 0.5, "[/i]")
    err = capsys.readouterr().err
    assert "[/b]" in err and "[/i]" in err


def test_an_interrupt_finishes_the_step_and_saves(tmp_path):
    import os
    import signal

    class Interrupted(Line):
        def loss(self, batch, turn):
            if self.count == 5:
                os.kill(os.getpid(), signal.SIGTERM)
            self.count += 1
            return super().loss(batch, turn)

        count = 0

    folder = RunFolder(tmp_path / "run", {})
    with Display(["line"]) as display, pytest.raises(KeyboardInterrupt) as stop:
        list(drive(fit_of(Interrupted), folder, "line", display))
    assert stop.value.args == (signal.SIGTERM,)
    again = fit_of()
    again.resume(folder.root / "checkpoints" / "line")
    assert again.count == 6


def test_a_run_folder_refuses_another_run(tmp_path):
    RunFolder(tmp_path / "run", {"decoder": {"width": 8}, "minutes": 1})
    with pytest.warns(CondgenWarning, match="minutes: 1 -> 2"):
        RunFolder(tmp_path / "run", {"decoder": {"width": 8}, "minutes": 2})
    with pytest.raises(CondgenError, match=r"decoder\.width: 8 -> 16"):
        RunFolder(tmp_path / "run", {"decoder": {"width": 16}, "minutes": 2})


def test_a_folder_of_other_things_is_left_as_it_was(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(CondgenError, match="not empty"):
        RunFolder(tmp_path / "mine", {})
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_run_keeps_its_optimiser_and_its_mean(tmp_path):
    """Its checkpoints hold their state and that of no other."""
    config = {"fit_clip": {"optimiser": "muon", "ema_gamma": 12.0, "lr": 1e-3}}
    RunFolder(tmp_path, config)
    before = (tmp_path / "config.yaml").read_bytes()
    for change in ({"optimiser": "adamw"}, {"ema_gamma": 0.0}):
        with pytest.raises(CondgenError, match=rf"fit_clip\.{next(iter(change))}: "):
            RunFolder(tmp_path, {"fit_clip": config["fit_clip"] | change})
    assert (tmp_path / "config.yaml").read_bytes() == before
    with pytest.warns(CondgenWarning, match=r"fit_clip\.lr"):
        RunFolder(tmp_path, {"fit_clip": config["fit_clip"] | {"lr": 2e-3}})


@pytest.mark.parametrize("content", [b"seed: [1", b"", b"seed", b"- 1", b"a: \xff", b"\0\0\0", b"seed: 0\n? [1]"])
def test_a_broken_config_is_named(tmp_path, content):
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(CondgenError, match=r"config\.yaml .*another output folder"):
        RunFolder(tmp_path, {"seed": 0})
    assert (tmp_path / "config.yaml").read_bytes() == content


def test_a_config_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    RunFolder(tmp_path / "run", {"minutes": 1})

    def crash(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("condgen.training.run_folder.os.replace", crash)
    with pytest.raises(KeyboardInterrupt), pytest.warns(CondgenWarning):
        RunFolder(tmp_path / "run", {"minutes": 2})
    with pytest.raises(KeyboardInterrupt):
        RunFolder(tmp_path / "other", {})
    monkeypatch.undo()
    assert (tmp_path / "run" / "config.yaml").read_text() == "minutes: 1\n"
    RunFolder(tmp_path / "other", {})  # what a crash left is no reason to refuse
    assert sorted(p.name for p in (tmp_path / "other").iterdir()) == ["config.yaml", "samples"]
