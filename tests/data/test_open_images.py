"""Images in any form, with their classes where they have some."""

import json

import numpy as np
import pytest
from PIL import Image

from condgen.contracts import CondgenError
from condgen.data.sources.open_images import open_any


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(30):
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    return tmp_path


def test_labels_are_kept():
    data = open_any("digits", split="all")
    assert len(data) == 1797 and len(set(data.labels.tolist())) == 10


def test_a_folder_of_nothing_but_images(folder):
    data = open_any(folder, split="all")
    assert data.images.shape == (30, 3, 9, 9) and data.attributes == () and data.targets.shape == (30, 0)
    with Image.open(folder / "0.png") as image:
        assert (data.images[0].transpose(1, 2, 0) == np.asarray(image)).all()
    assert open_any(folder, 8, 1, split="all").images.shape == (30, 1, 8, 8)
    for i in range(30):
        home = folder / ("train" if i < 20 else "test")
        home.mkdir(exist_ok=True)
        (folder / f"{i}.png").rename(home / f"{i}.png")
    assert [len(open_any(folder, split=split)) for split in ("train", "test", "all")] == [20, 10, 30]


def test_captions_tell_which_images_there_are(folder):
    rows = [{"file_name": f"{i % 20}.png", "text": f"caption {i}", "split": "train"} for i in range(30)]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for i in range(20, 30):
        (folder / f"{i}.png").unlink()
    data = open_any(folder)
    assert len(data) == 20 and data.attributes == ()  # some have two captions


def test_what_holds_no_images_is_refused(tmp_path):
    with pytest.raises(CondgenError, match="Expected"):
        open_any(tmp_path)
    with pytest.raises(CondgenError, match="is not there"):
        open_any(tmp_path / "nowhere")


def test_a_label_that_is_named_must_be_there(folder):
    with pytest.raises(CondgenError):
        open_any(folder, label_column="class")


def test_a_class_can_be_left_out():
    whole, rest = open_any("digits", split="all"), open_any("digits", split="all", exclude_classes="3")
    assert set(whole.labels) - set(rest.labels) == {3} and rest.attributes == whole.attributes
    assert len(rest) == (whole.labels != 3).sum()
    with pytest.raises(CondgenError, match="no value 'three'"):
        open_any("digits", exclude_classes="three")


def test_what_has_no_classes_has_none_to_leave_out(folder):
    with pytest.raises(CondgenError, match="no classes"):
        open_any(folder, split="all", exclude_classes="cat")
