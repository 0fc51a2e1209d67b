"""Rows in memory (`datasets.Dataset` and the like) are data like a folder; folders of condgen keep their labels."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from condgen.contracts import CondgenError
from condgen.data.audit.check import check
from condgen.data.export import Contents, writing
from condgen.data.sources.captions import load_captions
from condgen.data.sources.labels import open_labelled
from condgen.data.sources.objects import as_path
from condgen.data.sources.open_images import open_any
from condgen.retrieval.gallery import Gallery
from tests.layouts import N, image_bytes, put


class Rows:
    """Rows with nothing but what is needed of them."""

    column_names = ("image", "text")

    def __len__(self):
        return N

    def __getitem__(self, i):
        return {"image": Image.new("RGB", (8, 8), (i, 2 * i, 3 * i)), "text": f"thing {i}"}


def test_an_object_with_rows_is_read_once():
    rows = Rows()
    data = load_captions(rows, 8, split="all")
    assert len(data) == N and data.images[5, :, 0, 0].tolist() == [5, 10, 15] and data.texts[5] == "thing 5"
    assert as_path(rows) == as_path(rows) and as_path("some/path") == "some/path"
    assert check(rows).usable == N and len(open_any(rows, 8, split="all")) == N
    assert sum(1 for _ in Gallery(rows).each(8)) == N


@pytest.mark.parametrize("wrong", [7, None, [1, 2], {}, {"train": 3}, iter("a")])
def test_other_objects_are_refused(wrong):
    with pytest.raises(CondgenError, match="Data are a path, or rows"):
        open_labelled(wrong)


def test_a_dataset_and_its_splits_are_read_with_their_classes(tmp_path):
    datasets = pytest.importorskip("datasets")
    names = [str(put(tmp_path / f"{i}.png", image_bytes(i, "PNG", (8, 8)))) for i in range(N)]
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["emu", "cat", "dog"])}
    rows = {"image": names, "label": [i % 3 for i in range(N)]}
    whole = datasets.Dataset.from_dict(rows, features=datasets.Features(kinds))
    data = open_labelled(whole, split="all")
    assert data.attributes[0].values == ("emu", "cat", "dog") and data.labels.tolist() == rows["label"]
    parts = whole.train_test_split(4, seed=0)
    assert [len(open_labelled(parts, split=split)) for split in ("train", "test")] == [N - 4, 4]
    assert check(parts).values["label"]["emu"].keys() == {"train", "test"}
    with pytest.raises(CondgenError, match="streaming=True"):
        open_labelled(whole.to_iterable_dataset())


def test_folders_of_classes_that_condgen_wrote_keep_their_labels(tmp_path):
    """ImageFolder numbers folders by name; ours are numbered by label, and the numbers stand beside them."""
    names = ("T-shirt/top", "Bag", "10", "9", "ankle boot")
    contents = Contents(names, (2,) * len(names), (1, 4, 4), {"model": "m"})
    with writing(tmp_path / "set", "folder", contents) as put_images:
        for label in range(len(names)):
            put_images(np.full((2, 1, 4, 4), 40 * label, np.uint8), label, 0)
    data = open_labelled(tmp_path / "set", split="all")
    assert data.attributes[0].values == names
    assert data.images[:, 0, 0, 0].tolist() == [40 * label for label in data.labels]
    about = json.loads((tmp_path / "set" / "about.json").read_text())
    folders = sorted(folder.name for folder in (tmp_path / "set").iterdir() if folder.is_dir())
    assert about["class_to_idx"].keys() == set(folders)
    for folder, label in about["class_to_idx"].items():
        shades = {int(np.asarray(Image.open(file))[0, 0]) for file in (tmp_path / "set" / folder).iterdir()}
        assert shades == {40 * label}


@pytest.mark.parametrize("about", ["{", "[]", '{"folders": ["a"], "names": ["x", "y"]}', '{"folders": 1, "names": 2}'])
def test_another_about_json_changes_nothing(tmp_path, about):
    for number, name in enumerate(("a", "b")):
        put(tmp_path / name / "0.jpg", image_bytes(number))
    put(tmp_path / "about.json", about)
    assert open_labelled(tmp_path, 8, split="all").attributes[0].values == ("a", "b")
