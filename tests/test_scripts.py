"""The scripts that measure: each runs on little, writes what it promises, and goes on where it stopped."""

import json
import sys

import pytest
from PIL import Image

import condgen
from scripts import beta_sweep, novelty


def runs(script, monkeypatch, *words) -> None:
    monkeypatch.setattr(sys, "argv", [script.__name__, *map(str, words)])
    script.main()


@pytest.fixture
def nothing_trained(monkeypatch):
    """Call it, and from then on training is an error."""

    def refuse(*args, **named):
        raise AssertionError("trained again")

    def begin():
        monkeypatch.setattr(beta_sweep, "train", refuse)
        monkeypatch.setattr(condgen, "train", refuse)

    return begin


@pytest.mark.slow
def test_the_sweep_of_beta_runs_and_resumes(tmp_path, monkeypatch, nothing_trained):
    words = [tmp_path, "--seeds", 1, "--images", 512, "--size", 16, "--judged", 300, "--betas", 1, 8]
    runs(beta_sweep, monkeypatch, *words, "--capacities", 5)
    results = json.loads((tmp_path / "results.json").read_text())
    assert [*results] == ["PCA", "beta 1", "beta 8", "capacity 5"]
    assert all({"mse", *beta_sweep.SHOWN} <= set(seeds["0"]) for seeds in results.values())
    assert all(0 <= seeds["0"][name] <= 1 for seeds in results.values() for name in beta_sweep.SHOWN)
    assert results["PCA"]["0"]["mse"] < results["beta 8"]["0"]["mse"]  # which has hardly begun
    assert "beta 8" in (tmp_path / "results.md").read_text()
    assert Image.open(tmp_path / "results.png").width > 1000 and list((tmp_path / "beta-1").glob("*.png"))
    del results["beta 8"]
    (tmp_path / "results.json").write_text(json.dumps(results))
    nothing_trained()
    with pytest.raises(AssertionError, match="trained again"):
        runs(beta_sweep, monkeypatch, *words, "--capacities", 5)  # what is missing, and only that
    runs(beta_sweep, monkeypatch, *words[:-1], "--capacities", 5)


@pytest.mark.slow
def test_novelty_runs_and_resumes(tmp_path, monkeypatch, nothing_trained):
    words = [tmp_path, "--data", "digits", "--minutes", 0.02]
    runs(novelty, monkeypatch, *words, "--classes", "0,1", "--kinds", "AE")
    told = json.loads((tmp_path / "novelty.json").read_text())
    assert set(told["by_kind"]) == {"AE"} and set(told["by_kind"]["AE"]) == {"0", "1"}
    assert set(told["AUROC"]) == {"0", "1", "mean"}
    for name, score in told["AUROC"]["mean"].items():
        assert score == pytest.approx((told["AUROC"]["0"][name] + told["AUROC"]["1"][name]) / 2)
    assert told["AUROC"]["0"]["nearest training picture"] > 0.9  # needs no training
    assert "## AUROC" in (tmp_path / "novelty.md").read_text() and Image.open(tmp_path / "novelty.png").width > 1000
    assert len(list((tmp_path / "sheets").iterdir())) == 2
    nothing_trained()
    runs(novelty, monkeypatch, *words, "--classes", "1", "--kinds", "AE")
    with pytest.raises(AssertionError, match="trained again"):
        runs(novelty, monkeypatch, *words, "--classes", "2", "--kinds", "AE")
