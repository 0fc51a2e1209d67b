"""Folders of classes and tables with labels or attributes: what becomes of every cell, and which faults are named."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from condgen.contracts import CondgenError, CondgenWarning
from condgen.data.export import Contents, writing
from condgen.data.sources.columns import Column, cell_value
from condgen.data.sources.labels import open_labelled

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not on this machine")
pytestmark = pytest.mark.filterwarnings("ignore:.*a single image has")


def png(colour: object = 0, mode: str = "RGB", size: tuple[int, int] = (4, 4)) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, (colour,) * 3 if mode == "RGB" and isinstance(colour, int) else colour).save(file, "PNG")
    return file.getvalue()


def red(shade: int) -> bytes:
    return png((shade, 0, 9))


def write(folder: Path, images: dict[str, bytes]) -> Path:
    for name, content in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def zoo(folder: Path, above: tuple[str, ...] = ("",), each: int = 20) -> Path:
    """Three classes whose shades of red tell which image is which."""
    names = [f"{top}{name}/{i:03}.png" for top in above for name in ("cat", "dog", "emu") for i in range(each)]
    return write(folder, {name: red(10 + i) for i, name in enumerate(names)})


def as_csv(folder: Path, rows: list[list], name: str = "metadata.csv") -> Path:
    images = {row[0]: red(i) for i, row in enumerate(rows[1:]) if row and not (folder / row[0]).exists()}
    write(folder, images)
    with (folder / name).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def as_parquet(path: Path, rows: list[dict], names: dict[str, list[str]] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"image": {"bytes": red(i % 256), "path": f"{i}.png"}} | row for i, row in enumerate(rows)]
    table = pa.Table.from_pylist(rows)
    if names:
        features = {name: {"names": own, "_type": "ClassLabel"} for name, own in names.items()}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path)
    return path


def values_of(data, attribute: int = 0) -> list[str]:
    return [data.attributes[attribute].format_target(code) for code in data.targets[:, attribute]]


# Folders of classes ---------------------------------------------------------------------------------------------------


def test_folders_are_classes_and_a_hash_of_the_name_splits(tmp_path):
    train, test, every = (open_labelled(zoo(tmp_path / "zoo", each=60), split=s) for s in ("train", "test", "all"))
    assert every.attributes[0].values == ("cat", "dog", "emu") and every.name == "zoo"
    assert every.images.shape == (180, 3, 4, 4)
    for data in (train, test, every):
        shades = data.images[:, 0, 0, 0].astype(int) - 10
        assert (data.labels == shades // 60).all()
    assert len(train) + len(test) == 180 and 3 <= len(test) <= 20
    both = np.concatenate([train.images, test.images])[:, 0, 0, 0]
    assert sorted(both.tolist()) == list(range(10, 190))


def test_folders_of_splits_may_lie_above_those_of_classes(tmp_path):
    zoo(tmp_path, above=("train/", "test/", "validation/"))
    shades = {"train": 10, "test": 70, "val": 130}
    for split, first in shades.items():
        data = open_labelled(tmp_path, split=split)
        assert (data.images[:, 0, 0, 0] == first + np.arange(60)).all() and data.attributes[0].values[2] == "emu"
    with pytest.raises(CondgenError, match=r"no rows in the split 'dev2'"):
        open_labelled(tmp_path, split="dev2")


def test_a_lone_train_folder_is_split_by_the_hash(tmp_path):
    zoo(tmp_path, above=("train/",))
    assert open_labelled(tmp_path).attributes[0].values == ("cat", "dog", "emu")
    assert len(open_labelled(tmp_path)) + len(open_labelled(tmp_path, split="test")) == 60


def test_classes_may_be_called_as_splits_are(tmp_path):
    write(tmp_path, {f"{name}/{i}.png": red(i) for name in ("test_tube", "beaker", "training-shoe") for i in range(9)})
    assert open_labelled(tmp_path, split="all").attributes[0].values == ("beaker", "test_tube", "training-shoe")
    write(tmp_path / "more", {f"{top}/test_tube/{i}.png": red(i) for top in ("train", "test") for i in range(3)})
    write(tmp_path / "more", {f"{top}/beaker/{i}.png": red(i) for top in ("train", "test") for i in range(3)})
    assert len(open_labelled(tmp_path / "more")) == len(open_labelled(tmp_path / "more", split="test")) == 6


def test_names_of_folders_are_kept_and_numbers_come_in_their_order(tmp_path):
    write(tmp_path, {f"{name}/sub/{i}.png": red(i) for name in ("10", "9", "01", "a b") for i in range(3)})
    assert open_labelled(tmp_path, split="all").attributes[0].values == ("01", "9", "10", "a b")


def test_an_empty_class_is_left_out_and_one_without_training_is_named(tmp_path):
    zoo(tmp_path, above=("train/", "test/"), each=2)
    (tmp_path / "train" / "fox").mkdir()
    write(tmp_path, {"test/gnu/a.png": red(1), "train/hen/a.png": red(2)})
    with pytest.warns(CondgenWarning, match=r"no image has the label gnu; a single image has the label hen\."):
        data = open_labelled(tmp_path)
    assert data.attributes[0].values == ("cat", "dog", "emu", "gnu", "hen")
    assert data.attributes == open_labelled(tmp_path, split="test").attributes


def test_one_class_is_no_data_with_labels(tmp_path):
    write(tmp_path, {"cat/a.png": red(1)})
    with pytest.raises(CondgenError, match=r"images of one class only \(cat\)\. Expected one folder for every class"):
        open_labelled(tmp_path)
    with pytest.raises(CondgenError, match="no folders with images"):
        open_labelled(write(tmp_path / "flat", {"a.png": red(1)}))


def test_faults_of_files_are_counted_and_too_many_are_refused(tmp_path):
    zoo(tmp_path, each=100)
    write(tmp_path, {"cat/bad.png": b"<html>", "stray.png": red(1)})
    with pytest.warns(CondgenWarning, match=r"2 of 302 rows left out: 1 corrupt image: cat/bad\.png.*1 image out"):
        assert len(open_labelled(tmp_path, split="all")) == 300
    write(tmp_path, {f"cat/{i}.jpg": b"" for i in range(5)})
    with pytest.raises(CondgenError, match=r"7 of 307 rows cannot be used[\s\S]*6 corrupt image"):
        open_labelled(tmp_path, split="all")


# Sizes and channels ------------------------------------------------------------


def test_mixed_sizes_need_a_size(tmp_path):
    write(tmp_path, {"a/1.png": red(1), "a/2.png": red(2), "b/3.png": png((3, 0, 0), size=(8, 8))})
    with pytest.raises(CondgenError, match=r"a/1\.png is 4 x 4, b/3\.png is 8 x 8\. .*--data\.size 32"):
        open_labelled(tmp_path, split="all")
    data = open_labelled(tmp_path, 6, split="all")
    assert data.images.shape == (3, 3, 6, 6) and data.images[:, 0, 3, 3].tolist() == [1, 2, 3]


def test_images_that_are_not_square_need_a_size(tmp_path):
    write(tmp_path, {f"{name}/1.png": png((9, 0, 0), size=(8, 4)) for name in "ab"})
    with pytest.raises(CondgenError, match=r"a/1\.png is 8 x 4, not square\. .*--data\.size"):
        open_labelled(tmp_path, split="all")
    assert open_labelled(tmp_path, 4, resize="pad", split="all").images[0, 1, 0, 0] == 255


@pytest.mark.parametrize("first", ["a", "z"], ids=["grey first", "colour first"])
def test_grey_images_among_colour_ones_are_converted_and_counted(tmp_path, first):
    write(tmp_path, {f"{first}/{i}.png": png(50 + i, "L") for i in range(3)})
    write(tmp_path, {f"m/{i}.png": png((200, 100, i)) for i in range(4)})
    with pytest.warns(CondgenWarning, match=rf"3 of 7 images are grey and are converted to RGB.*{first}/0\.png"):
        data = open_labelled(tmp_path, split="all")
    assert data.image_channels == 3 and sorted(data.images[:, 0, 0, 0].tolist()) == [50, 51, 52, 200, 200, 200, 200]
    shown = data.images[data.labels == data.attributes[0].encode(first)]
    assert (shown == shown[:, :1]).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error", CondgenWarning)
        assert open_labelled(tmp_path, image_channels=3, split="all").image_channels == 3
        grey = open_labelled(tmp_path, image_channels=1, split="all")
    assert grey.image_channels == 1 and sorted(grey.images[:, 0, 0, 0].tolist()) == [50, 51, 52, 118, 119, 119, 119]


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "LA", "I;16", "P"])
def test_images_that_are_all_grey_have_one_channel(tmp_path, mode):
    colour = {"RGB": (255,) * 3, "LA": (255, 255), "I;16": 65535, "1": 1}.get(mode, 255)
    image = Image.new("L", (4, 4), 255).convert("P") if mode == "P" else Image.new(mode, (4, 4), colour)
    file = io.BytesIO()
    image.save(file, "PNG")
    data = open_labelled(write(tmp_path, {"a/1.png": file.getvalue(), "b/1.png": png(9, "L")}), split="all")
    assert data.images.shape == (2, 1, 4, 4) and data.images[:, 0, 0, 0].tolist() == [255, 9]
    assert data.images.flags.writeable


@pytest.mark.parametrize("size", [28, 32, 64])
@pytest.mark.parametrize("image_channels", [0, 1, 3])
def test_any_size(tmp_path, size, image_channels):
    data = open_labelled(zoo(tmp_path, each=3), size, image_channels, split="all")
    assert data.images.shape == (9, image_channels or 3, size, size)


# Tables ---------------------------------------------------------------------------------------------------------------


def test_a_table_tells_label_and_attributes(tmp_path):
    rows = [["file_name", "label", "smiling", "age", "town", "split"]]
    rows += [[f"{i}.png", ["cat", "dog"][i % 2], i % 2, 20.5 + i, ["Bonn", "Ulm"][i // 3], "train"] for i in range(6)]
    rows += [["x.png", "emu", 1, 99.5, "Bonn", "test"]]
    asked = {"attribute_columns": ("smiling", "age", "town")}
    for form in (as_csv(tmp_path / "meta", rows), as_csv(tmp_path / "own", rows, "mine.csv")):
        train, test = (open_labelled(form, split=split, **asked) for split in ("train", "test"))
        label, smiling, age, town = train.attributes
        assert train.attributes == test.attributes and [f.name for f in train.attributes] == [
            "label",
            "smiling",
            "age",
            "town",
        ]
        assert label.values == ("cat", "dog", "emu") and town.values == ("Bonn", "Ulm") and smiling.values == ("0", "1")
        assert (age.mean, age.low, age.high) == (pytest.approx(23), 20.5, 25.5), "of train alone"
        assert age.sd == pytest.approx(np.std(np.arange(6)))
        assert values_of(train) == ["cat", "dog"] * 3 and values_of(test) == ["emu"] and values_of(test, 2) == ["99.5"]
        assert train.images[:, 0, 0, 0].tolist() == list(range(6))
        assert abs(train.targets[:, 2].mean()) < 1e-6 and train.targets[:, 2].std() == pytest.approx(1)
    only = open_labelled(tmp_path / "meta")
    assert [attribute.name for attribute in only.attributes] == ["label"], (
        "attributes are guessed only where there is no label"
    )


def test_a_lone_table_beside_images_is_taken_and_of_two_none(tmp_path):
    rows = [["image", "class"], *([f"pictures/{i}.png", "ab"[i % 2]] for i in range(6))]
    as_csv(tmp_path, rows, "labels.csv")
    assert open_labelled(tmp_path, split="all").attributes[0].values == ("a", "b")
    as_csv(tmp_path, rows, "test.csv")
    with pytest.raises(CondgenError, match=r"several tables of labels \(labels\.csv, test\.csv\)"):
        open_labelled(tmp_path)


def test_values_have_names(tmp_path):
    rows = [{"label": i % 3, "label_name": ["cat", "dog", "emu"][i % 3]} for i in range(6)]
    assert values_of(open_labelled(as_parquet(tmp_path / "1.parquet", rows), split="all")) == ["cat", "dog", "emu"] * 2
    rows = [{"label": i % 2 * 2} for i in range(6)]
    path = as_parquet(tmp_path / "2.parquet", rows, {"label": ["a", "b", "c"]})
    data = open_labelled(path, split="all")
    assert data.attributes[0].values == ("a", "c") and values_of(data) == ["a", "c"] * 3
    path = as_parquet(tmp_path / "3" / "3.parquet", rows)
    assert open_labelled(path, split="all").attributes[0].values == ("0", "2")
    assert open_labelled(path, split="all", class_names=("x", "y", "z")).attributes[0].values == ("x", "z")
    (path.parent / "class_names.txt").write_text("one\ntwo\nthree\n")
    assert open_labelled(path, split="all").attributes[0].values == ("one", "three")
    clash = [{"label": 1, "label_name": "cat"}, {"label": 1, "label_name": "dog"}]
    with pytest.raises(CondgenError, match=r"4\.parquet:2: label 1 is called 'dog', and 'cat' elsewhere"):
        open_labelled(as_parquet(tmp_path / "4.parquet", clash))
    clash = [{"label": 1, "label_name": "cat"}, {"label": 2, "label_name": "cat"}]
    with pytest.raises(CondgenError, match="names 'cat' twice"):
        open_labelled(as_parquet(tmp_path / "5.parquet", clash))


def test_labels_out_of_range_and_absent_labels_are_bad_rows(tmp_path):
    rows = [{"label": i % 3} for i in range(300)] + [{"label": 7}, {"label": -1}, {"label": None}]
    path = as_parquet(tmp_path / "x.parquet", rows, {"label": ["a", "b", "c"]})
    with pytest.warns(CondgenWarning, match=r"3 of 303 rows left out: 2 unusable label: 300\.png \(label: '7', out of"):
        data = open_labelled(path, split="all")
    assert len(data) == 300 and data.attributes[0].values == ("a", "b", "c") and not np.isnan(data.targets).any()
    with pytest.raises(CondgenError, match=r"3 of 303 rows cannot be used[\s\S]*1 no label: 302\.png"):
        open_labelled(path, split="all", max_bad_fraction=0)


def test_gaps_in_attributes_are_unknown_and_reported(tmp_path):
    rows = [{"label": "ab"[i % 2], "age": None if i == 3 else i / 2, "wet": None if i < 2 else i % 2} for i in range(8)]
    path = as_parquet(tmp_path / "x.parquet", rows)
    with pytest.warns(CondgenWarning, match=r"age is unknown for 1 of 8 images; wet is unknown for 2 of 8"):
        data = open_labelled(path, split="all", attribute_columns=("age", "wet"))
    assert np.isnan(data.targets).sum(0).tolist() == [0, 1, 2] and values_of(data, 1)[3] == "unknown"
    assert data.attributes[2].values == ("0", "1")


@pytest.mark.parametrize("gap", ["", "  ", "NaN", "NA", "n/a", "null"])
def test_gaps_in_text(tmp_path, gap):
    rows = [["file_name", "label", "age"], *([f"{i}.png", i % 2, gap if i == 1 else i + 0.5] for i in range(6))]
    with pytest.warns(CondgenWarning, match="age is unknown for 1 of 6"):
        data = open_labelled(as_csv(tmp_path, rows), split="all", attribute_columns=("age",))
    assert data.attributes[1].mean == pytest.approx(np.mean([0.5, 2.5, 3.5, 4.5, 5.5]))


def test_the_faults_of_columns(tmp_path):
    def refused(match: str, rows: list[dict], **asked) -> None:
        path = as_parquet(tmp_path / "x.parquet", rows)
        with pytest.raises(CondgenError, match=match):
            open_labelled(path, split="all", **asked)

    refused(
        r"'label' holds fractions \(0\.5 at x\.parquet:1\), which are not classes", [{"label": 0.5}, {"label": 1.0}]
    )
    refused("'label' has no value for any image", [{"label": None}] * 3)
    refused(r"'label' has no value.*first fault: x\.parquet:1: a list", [{"label": [1]}] * 3)
    refused(r"'label' has 40 different texts in 40 rows.*captions", [{"label": f"cat {i}"} for i in range(40)])
    ages = [{"label": i % 2, "age": "old" if i == 7 else str(i)} for i in range(80)]
    refused(
        r"'age' holds numbers, and 'old' at x\.parquet:8\. Leave cells of unknown values empty",
        ages,
        attribute_columns=("age",),
    )
    refused("no column 'agge'.*Did you mean 'age'", ages, attribute_columns=("agge",))
    refused("no column 'klass'", ages, label_column="klass")
    refused(r"has the columns image, caption; name the one of the label \(train: --data\.label_column NAME, data check",
            [{"caption": "a cat"}])  # fmt: skip
    refused(
        "numbers that are too large",
        [{"label": i % 2, "n": (i - 25) * 1e306} for i in range(50)],
        attribute_columns=("n",),
    )


def test_attributes_are_guessed_where_there_is_no_label(tmp_path):
    rows = [
        {"smiling": i % 2 == 0, "age": i / 3, "town": "uv"[i % 2], "id": i, "boxes": [1, 2], "text": f"image {i}"}
        for i in range(60)
    ]
    with pytest.warns(CondgenWarning, match=r"taken as attributes: smiling, age, town; ignored: boxes\."):
        data = open_labelled(as_parquet(tmp_path / "x.parquet", rows), split="all")
    assert [attribute.name for attribute in data.attributes] == ["smiling", "age", "town"]
    assert [attribute.cardinality for attribute in data.attributes] == [2, 0, 2] and values_of(data, 0)[:2] == [
        "1",
        "0",
    ]
    with pytest.raises(KeyError):
        data.labels  # noqa: B018


def test_where_keeps_rows_and_their_values(tmp_path):
    rows = [{"label": "abc"[i % 3], "kind": i % 2} for i in range(12)]
    path = as_parquet(tmp_path / "x.parquet", [row for row in rows if (row["label"], row["kind"]) != ("c", 1)])
    assert open_labelled(path, split="all", filter="kind=1").attributes[0].values == ("a", "b")
    for source in (zoo(tmp_path / "zoo"), "digits"):
        with pytest.raises(CondgenError, match="filter cannot be chosen"):
            open_labelled(source, filter="kind=1")
        with pytest.raises(CondgenError, match="label_column cannot be chosen"):
            open_labelled(source, label_column="kind")
    with pytest.raises(CondgenError, match="a folder of classes, where class_names cannot be chosen"):
        open_labelled(tmp_path / "zoo", class_names=("a", "b"))


def test_one_file_has_one_row(tmp_path):
    rows = [["file_name", "label"], *([f"{i}.png", "ab"[i % 2]] for i in range(200)), ["0.png", "b"], ["1.png", "b"]]
    with pytest.warns(CondgenWarning, match=r"1 of 202 rows left out: 1 same file with other labels: 0\.png"):
        assert len(open_labelled(as_csv(tmp_path, rows), split="all")) == 200


def test_shards_with_unlike_columns_are_refused(tmp_path):
    as_parquet(tmp_path / "train-0.parquet", [{"label": 1}, {"label": 2}])
    as_parquet(tmp_path / "train-1.parquet", [{"class": 1}, {"class": 2}])
    with pytest.raises(CondgenError, match=r"train-1\.parquet has the labels class, but .*train-0\.parquet has label"):
        open_labelled(tmp_path)


# Cells ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cell, value",
    [
        (3, "3"), (3.0, "3"), ("3", "3"), (" 03 ", "3"), (True, "1"), (False, "0"), (-1, "-1"), (0.25, "0.25"),
        ("0.25", "0.25"), ("a  b", "a b"), ("Straße", "Straße"), ("e\u0301", "\u00e9"), ("none", "none"),
        (None, None), ("", None), (math.nan, None), (math.inf, None), ("NaN", None), ("1_000", "1_000"), ("inf", "inf"),
    ],
)  # fmt: skip
def test_what_cells_say(cell, value):
    assert cell_value(cell) == value


@pytest.mark.parametrize("cell", [[1], {"a": 1}, b"a", "x" * 101, 10**400])
def test_what_no_cell_may_be(cell):
    with pytest.raises(ValueError):
        cell_value(cell)


@pytest.mark.parametrize(
    "cells, values",
    [
        ([0, 1, 1], ("0", "1")), ([-1, 1], ("-1", "1")), (["10", "9"], ("9", "10")), (["True", "false"], ("0", "1")),
        ([True, False], ("0", "1")), (["XL", "2", "1"], ("1", "2", "XL")), (range(32), tuple(map(str, range(32)))),
        (range(33), ()), ([0.5, 1.5], ()), (["b", "a"], ("a", "b")),
    ],
)  # fmt: skip
def test_what_columns_are(cells, values):
    column = Column("x")
    for cell in cells:
        column.add(cell, None, "here", True)
    coder = column.coder((), "data")
    assert coder.attribute.values == values
    for cell in cells:
        if values:
            assert coder.attribute.format_target(coder.encode(cell)) == values[int(coder.encode(cell))]
        else:
            assert float(coder.attribute.format_target(coder.encode(cell))) == pytest.approx(float(cell), rel=1e-3)


def test_an_integer_label_of_many_values_has_classes():
    column = Column("label", label=True)
    for i in range(1000):
        column.add(i, None, "here", True)
    assert column.coder((), "data").attribute.cardinality == 1000


# CIFAR's batches ------------------------------------------------------------------------------------------------------

CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def batch(images: np.ndarray, *labels: np.ndarray) -> bytes:
    """Records as CIFAR's page tells: labels, then the red, the green and the blue plane."""
    return b"".join(bytes(int(own[i]) for own in labels) + images[i].tobytes() for i in range(len(images)))


def cifar(folder: Path, count: int = 6) -> tuple[Path, np.ndarray]:
    images = np.random.default_rng(0).integers(0, 256, (2 * count, 3, 32, 32), np.uint8)
    labels = np.arange(2 * count) % 10
    files = {"data_batch_1.bin": slice(count // 2), "data_batch_2.bin": slice(count // 2, count)}
    files["test_batch.bin"] = slice(count, None)
    write(folder, {name: batch(images[own], labels[own]) for name, own in files.items()})
    return folder, images


def test_binary_batches(tmp_path):
    folder, images = cifar(tmp_path / "cifar-10-batches-bin")
    train, test = open_labelled(folder), open_labelled(folder, split="test")
    assert np.array_equal(train.images, images[:6]) and np.array_equal(test.images, images[6:])
    assert values_of(train) == list("012345") and values_of(test) == list("678901")
    (folder / "batches.meta.txt").write_text("\n".join(CIFAR) + "\n\n")
    assert values_of(open_labelled(folder)) == list(CIFAR[:6])
    assert values_of(open_labelled(folder / "data_batch_2.bin"))[0] == "cat"
    assert open_labelled(folder, class_names=tuple("abcdefghij")).attributes[0].values == tuple("abcdefghij")


def test_the_binary_batches_of_cifar_100_have_two_labels(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 3, 32, 32), np.uint8)
    coarse, fine = np.arange(40) % 20, np.arange(40) + 60
    write(
        tmp_path,
        {"train.bin": batch(images[:30], coarse, fine), "test.bin": batch(images[30:], coarse[30:], fine[30:])},
    )
    (tmp_path / "fine_label_names.txt").write_text("\n".join(f"thing {i}" for i in range(100)))
    data = open_labelled(tmp_path)
    assert [attribute.name for attribute in data.attributes] == ["coarse", "label"] and np.array_equal(
        data.images, images[:30]
    )
    assert values_of(data, 1)[:2] == ["thing 60", "thing 61"] and values_of(data, 0)[:2] == ["0", "1"]


def test_damaged_batches_are_refused_by_name(tmp_path):
    folder, images = cifar(tmp_path)
    whole = (folder / "data_batch_2.bin").read_bytes()
    for content in (whole[:-1], whole + b"x", b"", whole[: len(whole) // 2 + 9]):
        (folder / "data_batch_2.bin").write_bytes(content)
        with pytest.raises(CondgenError, match=rf"data_batch_2\.bin has {len(content):,} bytes, not a whole number"):
            open_labelled(folder)
    (folder / "data_batch_2.bin").write_bytes(batch(images[:2], np.array([1, 10])))
    with pytest.raises(CondgenError, match=r"data_batch_2\.bin: the label of image 1 is 10, but there are 10 "):
        open_labelled(folder)
    (folder / "data_batch_2.bin").write_bytes(batch(images[:2], np.array([1, 2]), np.array([1, 2])))
    with pytest.raises(CondgenError, match="CIFAR-10 and of CIFAR-100"):
        open_labelled(folder)


def test_pickled_batches_are_refused_unread(tmp_path):
    import pickle

    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    write(tmp_path / "py", {"data_batch_1": pickle.dumps(Trap(), 2), "batches.meta": b"x"})
    for path in (tmp_path / "py", tmp_path / "py" / "data_batch_1"):
        with pytest.raises(CondgenError, match=r"data_batch_1 is a pickle.*not loaded.*binary version.*or parquet"):
            open_labelled(path)
    assert not (tmp_path / "sprung").exists()


# Words that need the network ------------------------------------------------------------------------------------------


def test_torchvision_is_asked_by_name(monkeypatch):
    class MNIST:
        classes = ("0 - zero", "1 - one")

        def __init__(self, root: str, train: bool, download: bool):
            assert download and root
            self.data = np.full((4 if train else 2, 28, 28), 7, np.uint8)
            self.targets = [0, 1, 0, 1][: len(self.data)]

    class CIFAR10(MNIST):
        def __init__(self, *args, **kwargs):
            raise RuntimeError("Error downloading")

    module = types.ModuleType("torchvision")
    module.datasets = types.SimpleNamespace(MNIST=MNIST, CIFAR10=CIFAR10)
    monkeypatch.setitem(sys.modules, "torchvision", module)
    data = open_labelled("torchvision:mnist", split="test")
    assert data.images.shape == (2, 1, 28, 28) and values_of(data) == ["0 - zero", "1 - one"] and data.name == "MNIST"
    with pytest.raises(CondgenError, match=r"torchvision:CIFAR10 cannot be fetched \(Error down.*needs the network"):
        open_labelled("torchvision:CIFAR10")
    with pytest.raises(CondgenError, match="MNIST, FashionMNIST"):
        open_labelled("torchvision:ImageNet")
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(CondgenError, match="pip install torchvision"):
        open_labelled("torchvision:MNIST")


def test_the_hub_gives_parquet_files_or_a_plain_error(monkeypatch, tmp_path):
    import huggingface_hub

    as_parquet(tmp_path / "train-0.parquet", [{"label": i % 2} for i in range(4)], {"label": ["no", "yes"]})

    def snapshot(name, revision=None, **kwargs):
        if name != "who/what":
            raise OSError("offline")
        return str(tmp_path if revision else tmp_path / "nothing")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert values_of(open_labelled("hub:who/what", split="all")) == ["no", "yes"] * 2
    with pytest.raises(CondgenError, match=r"hub:who/else cannot be fetched \(offline\).*needs the network"):
        open_labelled("hub:who/else")


# Real data ------------------------------------------------------------------------------------------------------------


@needs_shared
@pytest.mark.filterwarnings("ignore:.*are grey")
def test_cifar_as_parquet():
    data = open_labelled(SHARED / "cifar10", split="test")
    assert data.images.shape == (10_000, 3, 32, 32) and data.attributes[0].values == CIFAR
    assert np.bincount(data.labels).tolist() == [1000] * 10


@needs_shared
@pytest.mark.filterwarnings("ignore:.*parts.parquet")
def test_nouns_by_their_parts():
    parts = ("background", "body", "accessory", "head", "glasses")
    data = open_labelled(SHARED / "nouns", attribute_columns=parts, split="test_comp")
    assert [attribute.cardinality for attribute in data.attributes] == [2, 30, 143, 253, 23]
    row = pq.ParquetFile(SHARED / "nouns" / "test_comp.parquet").read().slice(7, 1).to_pylist()[0]
    assert [values_of(data, i)[7] for i in range(5)] == [row[f"{part}_name"] for part in parts]
    assert data.images.shape == (1500, 3, 32, 32) and not np.isnan(data.targets).any()


def test_folders_of_generated_labels_read_back_under_the_labels_own_names(tmp_path):
    """In their own order too: names of folders are safe for file systems, which those of labels need not be."""
    names = ("z", "T-shirt/top", "T-shirt_top", "10", "9", "a: b?", "con", "trailing.", "猫")
    counts = (2,) * len(names)
    with writing(tmp_path / "set", "folder", Contents(names, counts, (1, 8, 8), {})) as put:
        for label in range(len(names)):
            put(np.full((2, 1, 8, 8), 20 * label, np.uint8), label, 0)
    data = open_labelled(tmp_path / "set", split="all")
    assert data.attributes[0].values == names
    assert (data.images[:, 0, 0, 0] == 20 * data.labels).all() and len(data) == 2 * len(names)
    shutil.rmtree(tmp_path / "set" / "9")
    assert open_labelled(tmp_path / "set", split="all").attributes[0].values == tuple(n for n in names if n != "9")
    (tmp_path / "set" / "about.json").write_text('{"names": 7}')  # of another program
    assert "T-shirt_top" in open_labelled(tmp_path / "set", split="all").attributes[0].values
