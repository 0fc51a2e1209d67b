"""Which models are found: own runs below runs/, exports in the working folder, and runs that are not finished."""

from __future__ import annotations

import json
import shutil

import pytest

from condgen.cli.main import main
from condgen.files.registry import found, named, unfinished_runs
from tests.tiny import tiny_labels


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny_labels().save("runs/mine/model")
    (tmp_path / "runs" / "begun").mkdir()
    (tmp_path / "runs" / "begun" / "config.yaml").write_text("recipe: digits-cvae\n")
    return tmp_path


def test_own_runs_are_listed(place, capsys):
    assert str(found()["mine"]) == "runs/mine/model" and [run.name for run in unfinished_runs()] == ["begun"]
    assert main(["list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert "mine" in {row["name"] for row in listed["models"]} and listed["unfinished"] == ["runs/begun"]
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["begun", "runs/begun"] for line in lines)


@pytest.mark.parametrize("export", ["mine", "models/other", "exports/model"])
def test_replay_finds_the_weights_wherever_they_were_exported(place, export, capsys):
    """By their id, although the name of the model in the image is that of another model."""
    assert main(["sample", "--model", "runs/mine", "--label", "Trouser", "-o", "out"]) == 0
    shutil.copytree("runs/mine/model", export)
    shutil.rmtree("runs/mine")
    other = tiny_labels(image_channels=3)
    other.save("runs/shoes/model")
    [image] = place.glob("out/*.png")
    capsys.readouterr()
    assert main(["replay", str(image), "-o", "again"]) == 0
    assert "byte for byte" in capsys.readouterr().out
    assert len(named("shoes")) == 2
