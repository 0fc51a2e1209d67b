"""dSprites by a small file of its layout: the right images with the right factors, and nothing else is opened."""

import zipfile
from itertools import product

import numpy as np
import pytest

from condgen.contracts import CondgenError
from condgen.data.sources.labels import open_labelled

LEVELS = (1, 3, 2, 4, 5, 6)
EVERY = ("shape", "scale", "orientation", "x", "y")


@pytest.fixture(scope="module")
def targets():
    return np.array(list(product(*map(range, LEVELS))))


@pytest.fixture(scope="module")
def images(targets):
    """The number of the combination as bits of the first pixels."""
    bits = (np.arange(len(targets))[:, None] >> np.arange(16)) & 1
    return np.pad(bits.reshape(-1, 4, 4), ((0, 0), (0, 4), (0, 4))).astype(np.uint8)


@pytest.fixture
def file(tmp_path, images, targets):
    path = tmp_path / "dsprites.npz"
    about = np.array({"date": "April 2017"}, dtype=object)  # the published file has such a pickle
    np.savez_compressed(path, metadata=about, imgs=images, latents_classes=targets, latents_values=targets * 0.5)
    return path


def number_of(image):
    return int((image[0, :4, :4].flatten() > 0) @ (1 << np.arange(16)))


def test_every_image_has_its_factors_and_is_in_one_split(file, targets):
    seen = []
    for split in ("train", "test"):
        data = open_labelled(file, split=split, attribute_columns=EVERY)
        assert data.images.shape[1:] == (1, 8, 8) and [factor.name for factor in data.attributes] == list(EVERY)
        numbers = [number_of(image) for image in data.images]
        assert (data.targets == targets[numbers, 1:]).all() and set(np.unique(data.images)) == {0, 255}
        seen.append(set(numbers))
    assert not seen[0] & seen[1] and len(seen[0] | seen[1]) == len(targets)
    assert len(seen[1]) == round(0.05 * len(targets))


def test_the_class_is_the_shape_by_name_and_images_are_resized(file):
    data = open_labelled(file, 16, 3, split="test")
    assert data.images.shape[1:] == (3, 16, 16)
    assert [(factor.name, factor.values) for factor in data.attributes] == [("label", ("square", "ellipse", "heart"))]


def test_other_factors_go_by_number(tmp_path, images, targets):
    np.savez(tmp_path / "own.npz", imgs=images, latents_classes=targets[:, 4:].astype(np.int32))
    data = open_labelled(tmp_path / "own.npz", attribute_columns=("factor 0", "factor 1"))
    assert [factor.cardinality for factor in data.attributes] == [5, 6]


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"imgs": np.zeros((3, 4, 4), np.uint8)}, "no array latents_classes"),
        ({"latents_classes": np.eye(3, dtype=int)}, "no array imgs"),
        ({"imgs": np.zeros((3, 4, 5), np.uint8), "latents_classes": np.eye(3, dtype=int)}, "uint8 .N, S, S"),
        ({"imgs": np.zeros((3, 4, 4)), "latents_classes": np.eye(3, dtype=int)}, "expected uint8"),
        ({"imgs": np.zeros((4, 4, 4), np.uint8), "latents_classes": np.eye(3, dtype=int)}, r"integers \(4, K\)"),
        ({"imgs": np.zeros((3, 4, 4), np.uint8), "latents_classes": np.eye(3)}, "integers"),
        ({"imgs": np.zeros((3, 4, 4), np.uint8), "latents_classes": np.ones((3, 2), int)}, "none of the factors"),
        ({"imgs": np.full((3, 4, 4), 2, np.uint8), "latents_classes": np.eye(3, dtype=int)}, "0 or 1, one is 2"),
    ],
)  # fmt: skip
def test_other_files_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(CondgenError, match=message):
        open_labelled(tmp_path / "own.npz")


def test_no_pickle_is_opened(tmp_path, targets):
    class Evil:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was opened",))

    objects = np.empty((len(targets), 4, 4), dtype=object)
    objects[:] = Evil()
    np.savez(tmp_path / "own.npz", imgs=objects, latents_classes=targets)
    with pytest.raises(CondgenError, match="objects"):
        open_labelled(tmp_path / "own.npz")


def test_damage_is_reported_plainly(file, tmp_path):
    whole = file.read_bytes()
    for name, content in (("cut", whole[: len(whole) // 2]), ("text", b"no archive"), ("empty", b"")):
        (tmp_path / f"{name}.npz").write_bytes(content)
        with pytest.raises(CondgenError, match=f"{name}.npz"):
            open_labelled(tmp_path / f"{name}.npz")


def test_a_head_that_promises_too_much_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "own.npz", "w") as archive:
        head = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000, 64, 64), }".ljust(117) + b"\n"
        archive.writestr("imgs.npy", b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head)
    with pytest.raises(CondgenError, match="4,096,000,000,000 bytes, but there are 0"):
        open_labelled(tmp_path / "own.npz")


@pytest.mark.parametrize(
    "asked, message",
    [({"attribute_columns": ("colour",)}, "no factor 'colour'"), ({"filter": "x=1"}, "filter cannot be chosen")],
)
def test_what_cannot_be_chosen_is_refused(file, asked, message):
    with pytest.raises(CondgenError, match=message):
        open_labelled(file, **asked)
