"""Images by name: rows, files, classes and samples of the model, read as in the training."""

import numpy as np
import pytest
import torch
from PIL import Image

from condgen.contracts import CondgenError
from condgen.latent_space.adapters import as_float
from condgen.latent_space.inputs import ImageSource
from tests.latent_space.flat import Brush, Plane


def digits(space=None, **about) -> ImageSource:
    """Digits for a space that was trained on them, so it says."""
    space = space or Plane()
    space.about = {"data": "digits", "reading": about}
    return ImageSource(space)


def test_rows_files_and_samples(tmp_path):
    source = digits()
    Image.fromarray(np.full((9, 5), 255, np.uint8)).save(tmp_path / "white.png")
    found = source.load(["7", str(tmp_path / "white.png"), "seed:3"])
    assert found.shape == (3, 1, 4, 4) and torch.equal(found[0], as_float(source.test.images[7]))
    assert (found[1] == 1).all() and torch.equal(found[2:], source.space.decode(source.space.sample([3])))
    codes = source.load(["seed:3", "seed:4"])
    assert torch.equal(codes, source.space.sample([3, 4])), "codes, where all are drawn"


def test_a_number_is_a_row_unless_a_file_is_called_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save("7.png")
    (tmp_path / "7.png").rename("7")
    assert (digits().load(["7"]) == -1).all() and digits().labels(["7"]) is None
    assert digits().labels(["8"]) == torch.tensor([digits().test.labels[8]])


@pytest.mark.parametrize(
    "word, message",
    [("99999", "There is no image 99999: .* has [0-9]+, from 0"), ("cat", "'cat' is no image.*0, 1, 2"),
     ("-1", "'-1' is no image"), ("seed:x", "'seed:x' is no image"), ("seed:99999999999999999999", "2\\*\\*63")],
)  # fmt: skip
def test_names_that_are_no_image(word, message):
    with pytest.raises(CondgenError, match=message):
        digits().load([word])


def test_sets_are_classes_or_images():
    source = digits()
    threes = as_float(source.train.images[source.train.labels == 3])
    for word in ("3", "label=3"):
        assert torch.equal(source.load_set(word, 5), threes[:5])
    assert torch.equal(source.load_set("11,12", 5), as_float(source.test.images[11:13]))
    assert source.load_set("seed:1,seed:2", 5).shape == (2, 1, 4, 4)
    with pytest.raises(CondgenError, match="is no image"):
        source.load_set("label=eleven", 5)


def test_a_class_that_the_training_left_out_is_anomalous():
    source = digits(exclude_classes="3")
    assert 3 not in source.train.labels and 3 in source.test.labels
    train, test, anomalous = source.anomalies()
    assert len(train) == len(source.train) and len(anomalous) == (source.test.labels == 3).sum()
    assert len(test) + len(anomalous) == len(source.test)
    train, test, anomalous = digits().anomalies("8")
    assert len(train) == (digits().train.labels != 8).sum()
    with pytest.raises(CondgenError, match="Name a class with --anomaly-class"):
        digits().anomalies()
    with pytest.raises(CondgenError, match="eleven"):
        digits().anomalies("eleven")


def test_other_data_is_anomalous_as_a_whole(tmp_path):
    for k in range(20):
        Image.fromarray(np.full((4, 4), 10 * k, np.uint8)).save(tmp_path / f"{k}.png")
    source = digits()
    _, test, anomalous = source.anomalies(path=str(tmp_path))
    assert len(test) == len(source.test) and len(anomalous) == 20 and anomalous.shape[1:] == test.shape[1:]


def test_the_path_of_the_images_is_asked_for():
    space = Plane()
    with pytest.raises(
        CondgenError, match="Plane does not record its training data: give the path of the images with --data"
    ):
        ImageSource(space).load(["1"])
    space.about = {"data": "my images"}
    with pytest.raises(CondgenError, match="trained on my images: give the path of the images with --data"):
        _ = ImageSource(space).train
    assert ImageSource(space).load(["seed:1"]).shape == (1, 3), "what is drawn needs none"


def test_chosen_images_are_rows_or_samples():
    assert digits().choose(3)[0] == "0" and digits().choose(3)[-1] == str(len(digits().test) - 1)
    assert digits(Brush()).choose(3) == ["seed:0", "seed:1", "seed:2"]
