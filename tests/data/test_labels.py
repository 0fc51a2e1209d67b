"""Labelled images of every form: the right image with the right label, in the right split; faults are named."""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condgen.contracts import CondgenError
from condgen.data.audit.check import check
from condgen.data.formats.arrays import coloured
from condgen.data.sources.labels import open_either, open_labelled
from condgen.data.sources.open_images import open_any
from condgen.retrieval.gallery import Gallery
from condgen.training.run_folder import RunFolder

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not on this machine")


def idx(values: np.ndarray) -> bytes:
    """An idx file, by its definition."""
    head = struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return head + values.astype(np.uint8).tobytes()


def write_idx(folder: Path, images: np.ndarray, labels: np.ndarray, which: str = "train", packed: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
        content = idx(values)
        name = f"{which}-{kind}-ubyte{'.gz' if packed else ''}"
        (folder / name).write_bytes(gzip.compress(content) if packed else content)
    return folder


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


# digits ---------------------------------------------------------------------------------------------------------------


def test_digits_are_all_there_once_and_in_a_fixed_split():
    train, test, every = (open_labelled("digits", split=split) for split in ("train", "test", "all"))
    assert every.images.shape == (1797, 1, 8, 8) and every.name == "digits"
    assert [attribute.values for attribute in every.attributes] == [tuple("0123456789")]
    assert (len(train), len(test)) == (1454, 343)
    counted = np.bincount(test.labels, minlength=10)
    assert counted.min() >= 25 and counted.max() <= 50
    assert sorted(x.tobytes() for part in (train, test) for x in part.images) == sorted(
        x.tobytes() for x in every.images
    )


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    data, own = load_digits(), open_labelled("digits", split="all")
    assert np.array_equal(own.labels, data.target)
    assert np.abs(own.images[:, 0] / (255 / 16) - data.images).max() < 0.05 and own.images.max() == 255


@pytest.mark.parametrize("size", [28, 32, 64])
@pytest.mark.parametrize("colours", [1, 3])
def test_any_size_and_number_of_colours(size, colours):
    data = open_labelled("digits", size, colours, split="test")
    assert data.images.shape == (343, colours, size, size) and data.images.dtype == np.uint8
    small = open_labelled("digits", split="test")
    assert np.corrcoef(data.images.mean((1, 2, 3)), small.images.mean((1, 2, 3)))[0, 1] > 0.99
    assert all((data.images[:, 0] == data.images[:, c]).all() for c in range(colours))


def test_grey_of_colours_is_that_of_pil():
    colours = noise(3, 40, 50)
    pil = np.asarray(Image.fromarray(colours.transpose(1, 2, 0)).convert("L"))
    assert np.array_equal(coloured(colours, 1)[0], pil)
    assert np.array_equal(coloured(coloured(colours, 1), 3), np.stack([pil] * 3))


@pytest.mark.parametrize(
    "asked, message",
    [
        ({"size": -1}, "0, 1 or 3 channels, got -1"),
        ({"image_channels": 2}, "0, 1 or 3 channels, got 0 and 2"),
        ({"resize": "stretch"}, "by 'crop' or 'pad', got 'stretch'"),
    ],
)
def test_what_no_image_can_be_is_refused(asked, message):
    with pytest.raises(CondgenError, match=message):
        open_labelled("digits", **asked)


def test_a_split_that_is_not_there():
    with pytest.raises(CondgenError, match=r"digits has no images in the split 'val'.*hash.*test, train"):
        open_labelled("digits", split="val")


# idx ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("by_file", [False, True])
def test_idx_files(tmp_path, packed, by_file):
    images, labels = noise(30, 6, 6), np.arange(30) % 4
    folder = write_idx(tmp_path / "mine", images[:20], labels[:20], "train", packed)
    write_idx(folder, images[20:], labels[20:], "t10k", packed)
    path = next(folder.glob("train-images*")) if by_file else folder
    train, test, every = (open_labelled(path, split=split) for split in ("train", "test", "all"))
    assert train.name == "mine" and train.attributes[0].values == ("0", "1", "2", "3")
    assert np.array_equal(train.images[:, 0], images[:20]) and np.array_equal(train.labels, labels[:20])
    assert np.array_equal(test.images[:, 0], images[20:]) and np.array_equal(test.labels, labels[20:])
    assert sorted(every.labels) == sorted(labels)
    with pytest.raises(CondgenError, match=r"no images in the split 'val'.*names of files: test, train"):
        open_labelled(path, split="val")


def test_idx_files_without_splits_are_split_by_a_hash(tmp_path):
    folder = write_idx(tmp_path, noise(300, 4, 4), np.arange(300) % 3, "my")
    train, test = open_labelled(folder), open_labelled(folder, split="test")
    assert len(train) + len(test) == 300 and 5 <= len(test) <= 30
    again = open_labelled(folder / "my-images-idx3-ubyte", split="test")
    assert np.array_equal(again.images, test.images)


def test_classes_that_no_image_has_are_left_out_of_both_splits(tmp_path):
    write_idx(tmp_path, noise(4, 4, 4), np.array([2, 2, 7, 7]))
    write_idx(tmp_path, noise(4, 4, 4), np.array([7, 9, 9, 9]), "t10k")
    train, test = open_labelled(tmp_path), open_labelled(tmp_path, split="test")
    assert train.attributes == test.attributes and train.attributes[0].values == ("2", "7", "9")
    assert train.labels.tolist() == [0, 0, 1, 1] and test.labels.tolist() == [1, 2, 2, 2]


def test_names_of_classes_come_from_the_caller_or_a_file(tmp_path):
    write_idx(tmp_path, noise(3, 4, 4), np.array([0, 2, 1]))
    assert open_labelled(tmp_path, class_names=("a", "b", "c")).attributes[0].values == ("a", "b", "c")
    (tmp_path / "classes.txt").write_text("\ufeffcat\n\n dog \nEmu\n", "utf-8")
    data = open_labelled(tmp_path)
    assert [data.attributes[0].format_target(code) for code in data.targets[:, 0]] == ["cat", "Emu", "dog"]
    (tmp_path / "classes.txt").write_text("cat\ncat\n")
    with pytest.raises(CondgenError, match=r"classes\.txt names 'cat' twice"):
        open_labelled(tmp_path)
    (tmp_path / "classes.txt").write_text("cat\n" + "x" * 5000)
    with pytest.raises(CondgenError, match=r"classes\.txt names 'xx.*5000 characters long"):
        open_labelled(tmp_path)
    (tmp_path / "classes.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(CondgenError, match=r"classes\.txt is not UTF-8 text"):
        open_labelled(tmp_path)


def test_a_label_out_of_range_names_its_image(tmp_path):
    write_idx(tmp_path, noise(4, 4, 4), np.array([0, 1, 5, 1]))
    with pytest.raises(CondgenError, match=r"train-images.*: the label of image 2 is 5.*2 classes \(a to b\)"):
        open_labelled(tmp_path, class_names=("a", "b"))


def test_images_that_are_not_square_need_a_size(tmp_path):
    write_idx(tmp_path, noise(2, 4, 6), np.array([0, 1]))
    with pytest.raises(CondgenError, match=r"6 x 4, not square.*--data\.size"):
        open_labelled(tmp_path)
    assert open_labelled(tmp_path, 4).images.shape == (2, 1, 4, 4)
    assert np.array_equal(open_labelled(tmp_path, 4).images[:, 0], noise(2, 4, 6)[:, :, 1:5])
    assert open_labelled(tmp_path, 8, resize="pad").images.shape == (2, 1, 8, 8)


IDX_FAULTS = {
    "cut short": (lambda content: content[:-3], r"should hold 64 bytes after its header, but holds 61"),
    "too long": (lambda content: content + b"more", r"should hold 64 bytes after its header, but holds more"),
    "header only": (lambda content: content[:10], r"is not an idx file of images.*00 00 08 03"),
    "empty": (lambda content: b"", r"got nothing"),
    "floats": (lambda content: b"\0\0\x0d\x03" + content[4:], r"00 00 0d 03"),
    "four dimensions": (lambda content: b"\0\0\x08\x04" + content[4:], r"00 00 08 04"),
    "no images": (lambda content: content[:4] + bytes(4) + content[8:], r"invalid sizes for images: 0 x 4 x 4"),
    "huge": (lambda content: content[:8] + b"\xff" * 8 + content[16:], r"invalid sizes for images: 4 x 4294967295"),
    "more than labels": (lambda content: content[:7] + b"\x05" + content[8:], r"has 5 images.*has 4 labels"),
    "html": (lambda content: b"<html>404</html>", r"is not an idx file"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("fault", IDX_FAULTS)
def test_damaged_idx_files_are_refused_by_name(tmp_path, fault, packed):
    damage, told = IDX_FAULTS[fault]
    write_idx(tmp_path, noise(4, 4, 4), np.array([0, 1, 0, 1]), packed=packed)
    path = next(tmp_path.glob("train-images*"))
    content = damage(idx(noise(4, 4, 4)))
    path.write_bytes(gzip.compress(content) if packed else content)
    for asked in (path, tmp_path):
        with pytest.raises(CondgenError, match=rf"train-images.*{told}"):
            open_labelled(asked)


GZIP_FAULTS = {
    "cut": lambda content: content[:-9],
    "cut early": lambda content: content[:40],
    "bytes changed": lambda content: content[:30] + b"\xff\xff" + content[32:],
    "checksum": lambda content: content[:-6] + b"xx" + content[-4:],
    "more behind": lambda content: content + b"more",
    "empty": lambda content: b"",
}


@pytest.mark.parametrize("damage", GZIP_FAULTS.values(), ids=GZIP_FAULTS)
def test_a_damaged_gzip_is_refused_by_name(tmp_path, damage):
    write_idx(tmp_path, noise(9, 9, 9), np.arange(9), packed=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CondgenError, match=r"train-images-idx3-ubyte\.gz .*(Copy it again|is not an idx file)"):
        open_labelled(tmp_path)


def test_a_gzip_that_would_fill_the_memory_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    write_idx(tmp_path, noise(4, 4, 4), np.zeros(4), packed=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(struct.pack(">4B3I", 0, 0, 8, 3, 4, 8000, 8000) + bytes(10_000_000)))
    with pytest.raises(CondgenError, match=r"truncated|should hold 256,000,000 bytes"):
        open_labelled(tmp_path)  # within the limit: read, and found to be short
    path.write_bytes(gzip.compress(struct.pack(">4B3I", 0, 0, 8, 3, 9_000_000, 28, 28) + bytes(10_000_000)))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(
        gzip.compress(struct.pack(">4BI", 0, 0, 8, 1, 9_000_000) + bytes(9_000_000))
    )
    monkeypatch.setattr(np, "empty", None)  # whoever takes the memory, fails the test
    monkeypatch.setattr("condgen.data.formats.idx.MAX_UNPACKED", 2**20)
    with pytest.raises(CondgenError, match=r"would unpack to .*made to exhaust the memory"):
        open_labelled(tmp_path)


def test_what_is_missing_beside_an_idx_file_is_named(tmp_path):
    write_idx(tmp_path, noise(4, 4, 4), np.zeros(4))
    labels = tmp_path / "train-labels-idx1-ubyte"
    content = labels.read_bytes()
    labels.unlink()
    with pytest.raises(CondgenError, match=r"no labels beside it. Expected train-labels-idx1-ubyte or .*\.gz"):
        open_labelled(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").unlink()
    labels.write_bytes(content)
    with pytest.raises(CondgenError, match="labels but no images"):
        open_labelled(tmp_path)


def test_several_sets_in_one_folder_are_not_mixed(tmp_path):
    for which, size in (("emnist-letters-train", 4), ("emnist-letters-test", 4), ("emnist-digits-train", 6)):
        write_idx(tmp_path, noise(4, size, size), np.arange(4), which)
    with pytest.raises(CondgenError, match=r"several sets of idx files \(emnist-"):
        open_labelled(tmp_path)
    assert open_labelled(tmp_path / "emnist-letters-train-images-idx3-ubyte", split="test").size == 4
    assert open_labelled(tmp_path / "emnist-digits-train-images-idx3-ubyte").size == 6


def test_what_is_not_there_or_no_data(tmp_path):
    with pytest.raises(CondgenError, match=r"nowhere is not there. Expected a folder for every class"):
        open_labelled(tmp_path / "nowhere")
    with pytest.raises(CondgenError, match="no labelled images in a known format"):
        open_labelled(tmp_path)


# Real data ------------------------------------------------------------------------------------------------------------


@needs_shared
def test_fashion_mnist_is_known_by_its_labels():
    data = open_labelled(SHARED / "fashion-mnist", split="test")
    assert data.images.shape == (10_000, 1, 28, 28) and np.bincount(data.labels).tolist() == [1000] * 10
    assert data.attributes[0].values[0] == "T-shirt/top" and data.attributes[0].values[9] == "Ankle boot"
    packed = (SHARED / "fashion-mnist" / "t10k-images-idx3-ubyte.gz").read_bytes()
    assert hashlib.sha256(gzip.decompress(packed)[16:]).digest() == hashlib.sha256(data.images.tobytes()).digest()


@needs_shared
def test_mnist_has_numbers_for_names():
    data = open_labelled(SHARED / "mnist", 32, 3, split="test")
    assert data.images.shape == (10_000, 3, 32, 32) and data.attributes[0].values == tuple("0123456789")
    assert data.labels[:5].tolist() == [7, 2, 1, 0, 4]


# names that are also paths


def folder_called(name: str, captions: bool) -> Path:
    for kind in ("cat", "dog"):
        (Path(name) / kind).mkdir(parents=True)
        for i in range(12):
            Image.new("RGB", (16, 16), (i, 2 * i, 100)).save(Path(name) / kind / f"{i}.png")
            if captions:
                (Path(name) / kind / f"{i}.txt").write_text("a cat")
    return Path(name)


@pytest.mark.parametrize("captions", [False, True], ids=["labels", "captions"])
@pytest.mark.parametrize("name", ["digits", "scenes"])
def test_a_path_with_the_name_of_data_of_ours_is_refused_with_both_ways(name, captions, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ways = [open_labelled, open_any, open_either, Gallery, check]
    before = len(open_labelled(name, split="all", size=16))
    folder = folder_called(name, captions)
    for way in ways:
        with pytest.raises(CondgenError, match=rf"\./{name} for the path, or builtin:{name} for the other"):
            way(name)
    for path in (f"./{name}", folder, tmp_path / name, f"{name}/"):
        assert len(open_labelled(path, split="all")) == 24
    assert len(open_labelled(f"builtin:{name}", split="all", size=16)) == before
    assert open_labelled(f"builtin:{name}", size=16).name == name


def test_an_empty_folder_or_a_run_of_that_name_is_no_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("digits").mkdir()
    assert len(open_labelled("digits", split="all")) == 1797
    RunFolder(Path("digits"), {"recipe": "digits-vae"}, data={"memory": "1"})
    Image.new("L", (8, 8)).save("digits/samples/a.png")
    assert len(open_labelled("digits", split="all")) == 1797
