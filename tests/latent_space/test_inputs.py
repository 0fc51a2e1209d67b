"""Images by words: rows, files, classes and what the model draws, read as in the training."""

import numpy as np
import pytest
import torch
from PIL import Image

from condgen.contracts import CondgenError
from condgen.latent_space.adapters import as_float, drawn
from condgen.latent_space.inputs import Pictures
from tests.latent_space.flat import Brush, Plane


def digits(space=None, **about) -> Pictures:
    """Digits for a space that was trained on them, so it says."""
    space = space or Plane()
    space.about = {"data": "digits", "pictures": about}
    return Pictures(space)


def test_rows_files_and_draws(tmp_path):
    pictures = digits()
    Image.fromarray(np.full((9, 5), 255, np.uint8)).save(tmp_path / "white.png")
    found = pictures.named(["7", str(tmp_path / "white.png"), "seed:3"])
    assert found.shape == (3, 1, 4, 4) and torch.equal(found[0], as_float(pictures.held.images[7]))
    assert (found[1] == 1).all() and torch.equal(found[2:], pictures.space.decode(drawn(pictures.space, [3])))
    codes = pictures.named(["seed:3", "seed:4"])
    assert torch.equal(codes, drawn(pictures.space, [3, 4])), "codes, where all are drawn"


def test_a_number_is_a_row_unless_a_file_is_called_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save("7.png")
    (tmp_path / "7.png").rename("7")
    assert (digits().named(["7"]) == -1).all() and digits().labels_of(["7"]) is None
    assert digits().labels_of(["8"]) == torch.tensor([digits().held.labels[8]])


@pytest.mark.parametrize(
    "word, message",
    [("99999", "There is no image 99999: .* has [0-9]+, from 0"), ("cat", "'cat' is no image.*0, 1, 2"),
     ("-1", "'-1' is no image"), ("seed:x", "'seed:x' is no image"), ("seed:99999999999999999999", "2\\*\\*63")],
)  # fmt: skip
def test_what_is_no_picture(word, message):
    with pytest.raises(CondgenError, match=message):
        digits().named([word])


def test_sets_are_classes_or_pictures():
    pictures = digits()
    threes = as_float(pictures.known.images[pictures.known.labels == 3])
    for word in ("3", "label=3"):
        assert torch.equal(pictures.set_of(word, 5), threes[:5])
    assert torch.equal(pictures.set_of("11,12", 5), as_float(pictures.held.images[11:13]))
    assert pictures.set_of("seed:1,seed:2", 5).shape == (2, 1, 4, 4)
    with pytest.raises(CondgenError, match="is no image"):
        pictures.set_of("label=eleven", 5)


def test_a_class_that_the_training_left_out_is_odd():
    pictures = digits(exclude_classes="3")
    assert 3 not in pictures.known.labels and 3 in pictures.held.labels
    known, held, odd = pictures.odd()
    assert len(known) == len(pictures.known) and len(odd) == (pictures.held.labels == 3).sum()
    assert len(held) + len(odd) == len(pictures.held)
    known, held, odd = digits().odd("8")
    assert len(known) == (digits().known.labels != 8).sum()
    with pytest.raises(CondgenError, match="Name a class with --odd"):
        digits().odd()
    with pytest.raises(CondgenError, match="eleven"):
        digits().odd("eleven")


def test_other_data_is_odd_as_a_whole(tmp_path):
    for k in range(20):
        Image.fromarray(np.full((4, 4), 10 * k, np.uint8)).save(tmp_path / f"{k}.png")
    pictures = digits()
    _, held, odd = pictures.odd(path=str(tmp_path))
    assert len(held) == len(pictures.held) and len(odd) == 20 and odd.shape[1:] == held.shape[1:]


def test_where_the_pictures_are_is_asked_for():
    space = Plane()
    with pytest.raises(CondgenError, match="Plane does not say what it was trained on: say with --data"):
        Pictures(space).named(["1"])
    space.about = {"data": "my images"}
    with pytest.raises(CondgenError, match="trained on my images: say with --data where"):
        _ = Pictures(space).known
    assert Pictures(space).named(["seed:1"]).shape == (1, 3), "what is drawn needs none"


def test_some_are_rows_or_draws():
    assert digits().some(3)[0] == "0" and digits().some(3)[-1] == str(len(digits().held) - 1)
    assert digits(Brush()).some(3) == ["seed:0", "seed:1", "seed:2"]
