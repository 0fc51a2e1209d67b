"""What is out of proportion: one huge image, one huge class, 16-bit values that use a part of their range."""

from __future__ import annotations

import csv
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condgen.cli.main import main
from condgen.contracts import MAX_PIXELS, CondgenError
from condgen.data.audit.check import check
from condgen.data.audit.unusual import median_of, too_little, unbalanced, unusual_sizes
from condgen.data.options import CaptionData, ReadOptions, SidesData
from condgen.data.progress import UP_TO, check_depth
from condgen.data.sources.captions import load_captions
from condgen.data.sources.images import REDUCED, ImageError, decode, open_image
from condgen.data.sources.labels import open_labelled
from condgen.data.sources.pairs import SideOptions, open_pairs

pytestmark = pytest.mark.filterwarnings("ignore:.*a single image has", "ignore::PIL.Image.DecompressionBombWarning")
RNG = np.random.default_rng(0)


def table(folder: Path, images: list[Image.Image], suffix: str = "png", labels: str = "ab") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [["file_name", "text", "label"]]
    for i, image in enumerate(images):
        image.save(folder / f"{i}.{suffix}")
        rows.append([f"{i}.{suffix}", f"thing {i}", labels[i % len(labels)]])
    with (folder / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def deep(high: int, n: int = 6) -> list[Image.Image]:
    """16-bit images whose values reach `high`, one of them and no other."""
    images = [RNG.integers(0, high // 3, (8, 8)) for _ in range(n)]
    images[n // 2][0, 0] = high
    return [Image.fromarray(image.astype(np.uint16)) for image in images]


# 16-bit and float values ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("high", [1023, 4095, 16383])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_values_that_use_a_part_of_their_range_are_refused_until_the_range_is_given(tmp_path, high, suffix):
    folder = table(tmp_path / "x", deep(high), suffix)
    for read in (
        lambda **how: load_captions(folder, 8, split="all", **how),
        lambda **how: open_labelled(folder, 8, split="all", **how),
    ):
        with pytest.raises(CondgenError, match=rf"values up to {high} only.*--data\.value_range '\[0, {high}\]'"):
            read()
        images = read(value_range=(0, high)).images
        assert images.max() == 255 and 30 < images.mean() < 60
        assert read(value_range=(0, 65535)).images.max() <= 64
    report = check(folder)
    assert (
        not report.ok() and report.lines()[-1].startswith("Not ready:") and f"--value-range 0,{high}" in report.refused
    )
    assert check(folder, value_range=(0, high)).ok()


def test_the_range_holds_for_the_data_set_and_not_for_an_image(tmp_path):
    """Two images that differ by a factor of brightness keep it."""
    bright = np.full((8, 8), 4095, np.uint16)
    folder = table(tmp_path / "x", [Image.fromarray(bright), Image.fromarray(bright // 4)])
    images = load_captions(folder, 8, split="all", value_range=(0, 4095)).images
    assert [int(image.max()) for image in images] == [255, 64]


def test_data_that_use_their_range_read_as_before(tmp_path):
    folder = table(tmp_path / "x", deep(65535))
    images = load_captions(folder, 8, split="all").images
    expected = [(np.asarray(Image.open(folder / f"{i}.png")).astype(int) + 128) // 257 for i in range(6)]
    assert np.array_equal(images[:, 0], expected)
    mixed = table(tmp_path / "y", [*deep(4095, 2), *deep(65535, 2)])
    assert load_captions(mixed, 8, split="all").images.max() == 255 and check(mixed).ok()


@pytest.mark.parametrize(
    "values, given",
    [(RNG.random((8, 8)).astype(np.float32), (0, 1)), (RNG.normal(size=(8, 8)).astype(np.float32), (-3, 3)),
     (RNG.integers(0, 10**6, (8, 8)).astype(np.int32), (0, 10**6))],
)  # fmt: skip
def test_floats_and_large_numbers_need_a_range(tmp_path, values, given):
    Image.fromarray(values).save(tmp_path / "x.tif")
    with pytest.raises(ImageError, match=r"neither 8 nor 16 bits wide .* to .*--data\.value_range '\[LOW, HIGH\]'"):
        open_image(tmp_path / "x.tif")
    low, high = given
    found = np.asarray(open_image(tmp_path / "x.tif", value_range=given))[..., 0]
    assert np.abs(found - ((values - low) / (high - low)).clip(0, 1) * 255).max() <= 0.5


def test_values_that_are_not_finite_are_refused(tmp_path):
    Image.fromarray(np.array([[0, np.nan]], np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(ImageError, match="NaN or infinite"):
        open_image(tmp_path / "x.tif", value_range=(0, 1))


def test_the_dark_half_of_pairs_is_refused_too(tmp_path):
    for side in "ab":
        table(tmp_path / "x" / side, deep(4095))
        (tmp_path / "x" / side / "metadata.csv").unlink()
    with pytest.raises(CondgenError, match="values up to 4095 only"):
        open_pairs(tmp_path / "x", SideOptions(8), "all")
    pairs = open_pairs(tmp_path / "x", SideOptions(8, value_range=(0, 4095)), "all")
    assert pairs.a.max() == 255


def test_the_range_is_stored_with_the_model_and_checked():
    assert CaptionData(value_range=(0, 4095)).reading()["value_range"] == (0, 4095)
    assert SidesData(value_range=(0, 4095)).reading()["value_range"] == (0, 4095)
    assert ReadOptions.stored({"value_range": [0, 4095]}).value_range == (0, 4095)
    assert ReadOptions.stored({}).value_range == ()
    for wrong in ((1,), (1, 1), (2, 1), (0, float("nan")), (0, 1, 2)):
        with pytest.raises(CondgenError, match="A range of values is its lowest and its highest one"):
            ReadOptions(value_range=wrong)


def test_only_notes_of_all_deep_images_count():
    check_depth("x", {"16-bit": 3, UP_TO[4095]: 2})
    check_depth("x", {})
    with pytest.raises(CondgenError, match="up to 16383"):
        check_depth("x", {"16-bit": 3, UP_TO[4095]: 2, UP_TO[16383]: 1})


def test_data_check_takes_the_range(tmp_path, capsys):
    folder = table(tmp_path / "x", deep(4095))
    assert main(["data", "check", str(folder)]) == 1
    assert main(["data", "check", str(folder), "--value-range", "0,4095"]) == 0
    assert "\nReady for training." in capsys.readouterr().out


# Sizes ----------------------------------------------------------------------------------------------------------------


def test_a_huge_jpeg_is_decoded_at_reduced_size_and_others_are_refused_by_their_header(tmp_path):
    width, height = 10_000, MAX_PIXELS // 10_000 + 100
    huge = Image.new("RGB", (width, height), (200, 30, 90))
    huge.save(tmp_path / "a.jpg", quality=30)
    image, notes = decode(tmp_path / "a.jpg")
    assert image.size == (width // 2, height // 2) and notes == (REDUCED,)
    assert np.abs(np.asarray(image.resize((1, 1)))[0, 0].astype(int) - (200, 30, 90)).max() < 5
    huge.save(tmp_path / "b.jpg", quality=30, progressive=True)
    huge.save(tmp_path / "c.png", compress_level=1)
    for name in ("b.jpg", "c.png"):
        tracemalloc.start()
        with pytest.raises(ImageError, match="the limit is 64 million"):
            decode(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < 10**7
        tracemalloc.stop()


def test_one_large_image_among_small_ones_is_named(tmp_path):
    folder = table(
        tmp_path / "x", [Image.new("RGB", (16, 16), (i, 0, 9)) for i in range(20)] + [Image.new("RGB", (400, 300))]
    )
    (line,) = check(folder).unusual
    assert line.startswith("1 of 21 images are much larger than the median of 16 x 16: 20.png is 400 x 300")


@pytest.mark.parametrize(
    "sizes, said",
    [
        ({(32, 32): 9, (64, 64): 9}, ""), ({(32, 32): 9, (256, 256): 1}, "1 of 10 images are much larger"),
        ({(32, 32): 9, (300, 3): 2}, "2 of 11 images are more than 4 times as long as wide: of x.png, 300 x 3, a "
                                      "square crop keeps 1%"),
        ({}, ""), ({(9, 9): 1}, ""),
    ],
)  # fmt: skip
def test_unusual_sizes(sizes, said):
    lines = unusual_sizes(sizes, dict.fromkeys(sizes, "x.png"))
    assert len(lines) == bool(said) and all(line.startswith(said) for line in lines)


def test_the_median_size_is_that_of_an_image():
    assert median_of({(1, 1): 1, (2, 2): 5, (9, 9): 3}) == (2, 2)


# Classes and captions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "counts, said",
    [
        ({"a": 50_000, "b": 100, "c": 90}, "label is unbalanced: a has 50,000 of 50,190 images (99.6%), 500 times"),
        ({"a": 1000, "b": 10}, "label is unbalanced: a has 1,000"), ({"a": 19, "b": 1}, ""), ({"a": 100}, ""),
        ({"a": 30, "b": 20, "c": 10, "d": 0}, ""), ({}, ""),
    ],
)  # fmt: skip
def test_unbalanced_classes(counts, said):
    lines = unbalanced("label", counts)
    assert len(lines) == bool(said) and all(line.startswith(said) for line in lines)


def test_what_there_is_only_one_of():
    assert "one image: a model can" in too_little(1, 1, {"a": 1}, {})[0]
    assert "9 images, all equal" in too_little(9, 1, {"a": 5, "b": 4}, {})[0]
    assert "all captions are equal" in too_little(9, 9, {"a": 9}, {})[0]
    assert too_little(9, 9, {"a": 6, "b": 3}, {}) == ["6 of 9 images have the caption 'a'"]
    assert too_little(9, 9, {"a": 4, "b": 4}, {}) == []
    assert "label has one value only" in too_little(9, 9, {}, {"label": {"a": 9, "b": 0}})[0]
    assert too_little(9, 9, {}, {"label": {"a": 5, "b": 4}}) == []


def test_data_check_says_it(tmp_path, capsys):
    same = table(tmp_path / "x", [Image.new("RGB", (8, 8), "red")] * 4, labels="a")
    main(["data", "check", str(same)])
    assert "4 images, all equal: a model can reproduce it and nothing else" in capsys.readouterr().out
    main(["data", "check", str(same), "--label-column", "label"])
    assert "label has one value only: it cannot steer a model, and no accuracy is defined." in capsys.readouterr().out


@pytest.mark.parametrize(
    "edges, told", [([8] * 4, True), ([8, 8, 8, 64], True), ([8, 64, 64, 64], False), ([16] * 4, False)]
)
def test_enlarging_most_images_is_said(edges, told, tmp_path, recwarn):
    folder = table(tmp_path / "some", [Image.fromarray(RNG.integers(0, 256, (n, n, 3), np.uint8)) for n in edges])
    load_captions(folder, 16)
    open_labelled(folder, 16, options=ReadOptions(label_column="label"))
    said = [str(one.message) for one in recwarn if "enlarged with smoothing" in str(one.message)]
    assert len(said) == 2 * told and all("an edge of 8 pixels" in text for text in said)
