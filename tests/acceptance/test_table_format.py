"""Adding a format of tables takes one file and one call: this file defines one and uses it on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from condgen.cli.main import main
from condgen.data.formats.registry import TABLES, TableFormat, register_format
from condgen.data.sources.labels import open_labelled

# The format -----------------------------------------------------------------------------------------------------------


def columns(path: Path) -> list[str]:
    """The names in the first line, between semicolons."""
    return path.read_text("utf-8").splitlines()[0].split(";")


def records(path: Path, wanted: list[str]):
    """The other lines; None for one with another number of cells."""
    names = columns(path)
    for line in path.read_text("utf-8").splitlines()[1:]:
        cells = line.split(";")
        yield dict(zip(names, cells)) if len(cells) == len(names) else None


FORMAT = TableFormat(".semicolons", records, columns, lambda path: len(path.read_text("utf-8").splitlines()) - 1)


# Its use --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    digits = open_labelled("digits", split="all")
    lines = ["file_name;label;part"]
    Path("digits").mkdir()
    for i in range(90):
        Image.fromarray(digits.images[i, 0]).save(f"digits/{i}.png")
        lines.append(f"{i}.png;{'even' if digits.labels[i] % 2 == 0 else 'odd'};{'test' if i >= 60 else 'train'}")
    Path("digits/metadata.semicolons").write_text("\n".join(lines), "utf-8")
    register_format(FORMAT)
    yield "digits/metadata.semicolons"
    del TABLES[FORMAT.suffix]


def test_a_format_of_one_file_is_checked_trained_from_and_evaluated_on(folder, capsys):
    assert main(["data", "check", folder, "--split-column", "part", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["values"]["label"]["even"].keys() == {"train", "test"} and report["usable"] == 90
    small = ["--images", "64", "--fit.batch", "16", "--cvae.channels", "[8]"]
    assert main(["train", "labels-cvae", "--data", folder, "--data.split_column", "part", "-o", "run", *small]) == 0
    assert main(["sample", "--model", "run", "--label", "odd", "--json", "-o", "out"]) == 0
    capsys.readouterr()
    asked = ["evaluate", "run", "--data", folder, "--per-label", "8", "--seeds", "1", "--json"]
    assert main(asked) == 0
    assert "accuracy" in json.loads(capsys.readouterr().out)


def test_captions_filters_and_faults_work_as_in_every_table(folder, capsys):
    path = Path(folder)
    path.write_text(path.read_text("utf-8").replace("label", "text") + "\na;b\n", "utf-8")
    assert main(["data", "check", folder, "--filter", "part=test", "--split-column", "part", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["usable"] == 30 and report["captions"]["distinct"] == 2
    assert main(["data", "check", folder, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["bad"] == {"broken metadata line": 1}
