"""The card tells how a model was made, whatever a crash left of the record, and gives no machine away."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace

import pytest
import yaml

from condgen.cli.train import read_config
from condgen.files.card import command, write_card, write_run_readme
from condgen.recipes import RECIPES
from tests.tiny import tiny_model

BASE = RECIPES["scenes32"].base


@pytest.mark.parametrize("torn", ['{"stage": "dec', "\0\0", "7", "{}"])
def test_a_torn_line_of_the_metrics_is_passed_over(tmp_path, torn):
    metrics = tmp_path / "metrics.jsonl"
    line = json.dumps({"stage": "clip", "images": 64, "seconds": 90})
    metrics.write_text(f"{torn}\n{line}\n{torn}")
    assert "| clip | 64 | 1.5 |" in write_card(tiny_model(), "scenes32", BASE, BASE, metrics, 9)


@pytest.mark.parametrize("start", ["/home/me/runs/my scenes/", "runs/scenes"])
def test_a_run_that_started_from_another_says_so_without_a_path(tmp_path, start):
    config = replace(BASE, init_from=start, stage="decoder", minutes=3.0)
    card = write_card(tiny_model(), "scenes32", BASE, config, tmp_path / "metrics.jsonl", 9)
    name = start.strip("/").split("/")[-1]
    assert start not in card and f"--init_from {shlex.quote(name)}" in card and f"init_from: {name}" in card
    words = shlex.split(command("scenes32", BASE, config))
    assert words[:5] == ["condgen", "train", "scenes32", "-o", "RUN"]
    assert read_config("scenes32", BASE, [], words[5:]) == replace(config, init_from=name)


def test_a_card_has_no_options_without_effect(tmp_path):
    config = replace(BASE, data=replace(BASE.data, path="/my/data"), encoder="local-dir:/my/encoder")
    card = write_card(tiny_model(), "captions", BASE, config, tmp_path / "metrics.jsonl", 9)
    options = yaml.safe_load(card.partition("```yaml")[2].partition("```")[0])
    assert not {"clip", "fit_clip", "clip_objective", "init_from", "embeds", "minutes"} & options.keys()
    assert not {"scenes", "negatives", "caption_column", "filter"} & options["data"].keys()
    assert all(value not in ("", None, []) for part in (options, *options.values()) for value in _values(part))
    drawn = write_card(tiny_model(), "scenes32", BASE, BASE, tmp_path / "metrics.jsonl", 9)
    assert "scenes: 80000" in drawn and "fit_clip:" in drawn


def _values(part):
    return part.values() if isinstance(part, dict) else ()


def test_the_command_in_a_run_folder_goes_on_with_it(tmp_path):
    run, data = tmp_path / "my runs" / "one", str(tmp_path / "data")
    config = replace(BASE, data=replace(BASE.data, path=data), stage="prior", init_from="runs/scenes", minutes=2.0)
    write_run_readme(run, "scenes32", BASE, config)
    line = next(line for line in (run / "README.md").read_text().splitlines() if line.startswith("    condgen train"))
    words = shlex.split(line)
    assert words[:7] == ["condgen", "train", "scenes32", "-o", str(run), "--data", data]
    assert read_config("scenes32", BASE, [], words[5:]) == config


def test_the_command_of_a_run_of_its_own_names_no_stage():
    assert command("scenes32", BASE, replace(BASE, stage="decoder")) == "condgen train scenes32 -o RUN"
