"""`check` on labelled images: the balance of classes, faults, gaps, duplicates, and the sheet."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condgen.contracts import CondgenError
from condgen.data.audit.check import check
from condgen.data.audit.report import CaptionReport, LabelReport
from condgen.data.options import ReadOptions
from condgen.data.sources.labels import open_labelled
from tests.data.test_label_rows import SHARED, as_csv, as_parquet, needs_shared, png, red, write, zoo
from tests.data.test_labels import noise, write_idx


def test_classes_are_counted_in_every_split(tmp_path):
    zoo(tmp_path, above=("train/", "test/"), each=3)
    write(tmp_path, {"train/hen/a.png": red(200), "test/fox/a.png": red(201), "test/fox/b.png": red(202)})
    (tmp_path / "train" / "gnu").mkdir()
    report = check(tmp_path)
    assert isinstance(report, LabelReport) and report.form == "classes" and report.ok()
    assert report.values == {
        "label": {**{name: {"test": 3, "train": 3} for name in ("cat", "dog", "emu")}, "fox": {"test": 2},
                  "hen": {"train": 1}}
    }  # fmt: skip
    assert report.empty == {"label": ["gnu"]} and report.single == {"label": ["hen"]}
    assert report.untrained == {"label": ["fox"]} and report.splits == {"test": 11, "train": 10}
    text = "\n".join(report.lines())
    for part in (f"cat  {'#' * 30}  6", f"fox  {'#' * 10}", "no image has the label gnu", "Ready for training.",
                 "only one image has the label hen", "no image of train has the label fox"):  # fmt: skip
        assert part in text
    assert check(tmp_path, split="train").total == 10


def test_faults_are_counted_as_the_loader_counts_them(tmp_path):
    rows = [{"label": i % 3, "age": None if i == 5 else i / 7} for i in range(20)]
    rows += [{"label": None, "age": 1.5}, {"label": 9, "age": 1.5}]
    path = as_parquet(tmp_path / "x.parquet", rows, {"label": ["a", "b", "c", "d"]})
    report = check(path, ReadOptions(attribute_columns=("age",)))
    assert report.bad == {"no label": 1, "unusable label": 1} and not report.ok()
    assert report.examples["unusable label"] == ["21.png (label: '9', out of range)"]
    assert (report.total, report.usable) == (22, 20) and report.unknown == {"age": 1}
    assert report.empty == {"label": ["d"]} and set(report.numbers["age"]) == {"mean", "sd", "low", "high"}
    with pytest.raises(CondgenError, match="2 of 22 rows"):
        open_labelled(path, split="all")
    assert "unknown: age of 1 images" in "\n".join(report.lines())


def test_sizes_colours_and_duplicates(tmp_path):
    write(tmp_path, {"a/1.png": red(1), "a/2.png": red(1), "b/3.png": red(1), "b/4.png": png(7, "L", (8, 4))})
    report = check(tmp_path)
    assert report.sizes == {"4 x 4": 3, "8 x 4": 1} and report.colours == {"colour": 3, "grey": 1}
    assert report.notes == {"duplicate image": 1, "duplicate image with different labels": 1}
    assert report.examples["duplicate image with different labels"] == ["b/3.png = a/1.png"]
    assert any("--data.size 32" in line for line in report.lines())
    assert any("--data.image_channels 1" in line for line in report.lines())


def test_arrays_are_looked_at_too(tmp_path):
    folder = write_idx(tmp_path, noise(30, 6, 6), np.arange(30) % 3)
    report = check(folder)
    assert report.form == "idx" and report.total == report.usable == 30 and report.sizes == {"6 x 6": 30}
    assert {value: sum(own.values()) for value, own in report.values["label"].items()} == {"0": 10, "1": 10, "2": 10}
    assert check("digits").splits == {"train": 1454, "test": 343}
    assert report.splits == {
        split: len(open_labelled(folder, split=split)) for split in report.splits
    }  # the loader agrees
    with pytest.raises(CondgenError, match="no images in the split 'val'"):
        check(folder, split="val")


def test_the_sheet_shows_every_class(tmp_path):
    write(tmp_path / "zoo", {f"{name}/{i}.png": png(shade) for name, shade in (("a", 10), ("b", 99)) for i in range(9)})
    check(tmp_path / "zoo", sheet=tmp_path / "new" / "sheet.png")
    shown = np.asarray(Image.open(tmp_path / "new" / "sheet.png"))
    for shade in (10, 99):
        assert (shown == shade).all(2).sum() >= 8 * 62 * 62, "eight images of the class"


def test_the_sheet_of_captioned_images_shows_some_of_them(tmp_path):
    folder = as_csv(tmp_path / "own", [["file_name", "text"], *([f"{i}.png", f"number {i}"] for i in range(200))])
    check(folder, sheet=tmp_path / "x.png")
    shown = Image.open(tmp_path / "x.png")
    assert shown.width >= 8 * 128 and 6 * 128 <= shown.height < 9 * 128, "48 of the 200 images"


def test_the_sheet_of_attributes_has_a_row_for_every_value(tmp_path):
    rows = [{"wet": i % 2, "town": "uvw"[i % 3], "age": i + 0.5} for i in range(12)]
    path = as_parquet(tmp_path / "x.parquet", rows)
    report = check(path, ReadOptions(attribute_columns=("wet", "town", "age")), sheet=tmp_path / "s.png")
    assert set(report.values) == {"wet", "town"} and set(report.numbers) == {"age"}
    assert Image.open(tmp_path / "s.png").height > 5 * 64


def captioned(folder: Path) -> Path:
    return as_csv(folder, [["file_name", "text", "label"], *([f"{i}.png", f"said {i}", i % 2] for i in range(4))])


def test_captions_go_before_labels_unless_these_are_named(tmp_path):
    report = check(captioned(tmp_path))
    assert isinstance(report, CaptionReport) and report.labels == ["label"]
    assert "  there are labels too: --label-column label checks these" in report.lines()
    named = check(tmp_path, ReadOptions(label_column="label"))
    assert isinstance(named, LabelReport) and list(named.values["label"]) == ["0", "1"]
    assert isinstance(check(tmp_path, ReadOptions(caption_column="label")), CaptionReport)


def test_many_values_are_shown_in_part(tmp_path):
    rows = [{"label": f"v{i % 60:02}"} for i in range(150)]
    lines = check(as_parquet(tmp_path / "x.parquet", rows)).lines()
    assert sum("#" in line for line in lines) == 14 and any("46 more" in line for line in lines)


def test_names_from_the_data_cannot_steer_a_terminal(tmp_path):
    write(tmp_path, {f"\x1b[2J{name}/\x1b.png": red(i) for i, name in enumerate("ab")} | {"a/bad\x1b.png": b""})
    report = check(tmp_path)
    assert all(line.isprintable() for line in report.lines()) and json.dumps(report.as_dict())


def test_what_holds_neither_says_what_was_expected(tmp_path):
    with pytest.raises(CondgenError, match=r"nothing that can be read as captioned images|no captions"):
        check(tmp_path)
    with pytest.raises(CondgenError, match="none of them is known to hold captions"):
        check(as_parquet(tmp_path / "x.parquet", [{"a": 1.5}]))
    one = check(write(tmp_path / "one", {"cat/a.png": red(1)}))
    assert one.values == {} and one.examples["one folder only, so there are no classes"] == ["cat"]


@needs_shared
def test_fashion_mnist_is_balanced():
    report = check(SHARED / "fashion-mnist")
    assert report.values["label"]["Sneaker"] == {"train": 6000, "test": 1000} and report.ok()
    assert report.colours == {"grey": 70_000} and report.bad == {}
