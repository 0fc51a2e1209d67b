"""Images of two kinds: found as people have them, drawn where none are needed, and shown in a fixed order."""

from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from condgen.contracts import CondgenError
from condgen.data.batches.base import to_uint8
from condgen.data.batches.pairs import PairBatches
from condgen.data.datasets.pairs import Pairs, Unpaired
from condgen.data.sources.pairs import SideOptions, open_pairs, open_unpaired
from condgen.data.sources.sides import DRAWN, open_sides
from condgen.data.synthetic.detector import detect
from condgen.data.synthetic.pairs import day_and_night, edges, grey, squares_and_circles
from condgen.files.images import png_bytes


def patch(number: int, width: int = 8, colour: bool = True) -> Image.Image:
    """An image with its number as its colour."""
    return Image.new("RGB", (width, 8), (number, 0 if colour else number, number))


def write(folder: Path, numbers: dict[str, int], **how) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, number in numbers.items():
        patch(number, **how).save(folder / name)


def numbers(images: np.ndarray) -> list[int]:
    return images[:, 0, 0, 0].tolist()


def hashed(n: int) -> dict[str, int]:
    return {f"{k}.png": k for k in range(n)}


# files


def test_partners_are_found_by_name_whatever_the_suffix(tmp_path):
    write(tmp_path / "a", {f"{k}.png": k for k in range(60)})
    write(tmp_path / "b", {f"{k}.bmp": k + 100 for k in range(60)}, colour=False)
    parts = [open_pairs(tmp_path, SideOptions(8), split) for split in ("train", "test")]
    for pairs in parts:
        assert [b - a for a, b in zip(numbers(pairs.a), numbers(pairs.b))] == [100] * len(pairs)
        assert (
            pairs.image_channels == (3, 1) and pairs.name == tmp_path.name
        )  # a side without image_channels has one channel
    assert sorted(numbers(np.concatenate([p.a for p in parts]))) == list(range(60))
    assert numbers(open_pairs(tmp_path, SideOptions(8), "all").a) == sorted(range(60), key=str)


def test_sides_without_partners_have_lengths_of_their_own_and_as_many_channels(tmp_path):
    write(tmp_path / "trainA", {f"{k}.png": k for k in range(7)})
    write(tmp_path / "trainB", {f"x{k}.png": k for k in range(4)}, colour=False)
    write(tmp_path / "testA", {"t.png": 70})
    write(tmp_path / "testB", {"u.png": 80})
    train, test = (open_unpaired(tmp_path, SideOptions(8), split) for split in ("train", "test"))
    assert (len(train.a), len(train.b), len(train)) == (7, 4, 11) and train.image_channels == (3, 3)
    assert (numbers(test.a), numbers(test.b)) == ([70], [80])
    with pytest.raises(CondgenError, match=r"8 of 8 images of side a have no partner.*test/t, train/0"):
        open_pairs(tmp_path, SideOptions(8))


@pytest.mark.parametrize("above", [True, False])
def test_folders_of_splits_lie_above_or_below(above, tmp_path):
    for side, more in (("a", 0), ("b", 100)):
        for split, k in (("train", 1), ("val", 2), ("test", 3)):
            write(tmp_path / (f"{split}/{side}" if above else f"{side}/{split}"), {"x.png": k + more})
    for split, k in (("train", 1), ("val", 2), ("test", 3)):
        pairs = open_pairs(tmp_path, SideOptions(8), split)
        assert (numbers(pairs.a), numbers(pairs.b)) == ([k], [k + 100])


def test_side_by_side_the_left_half_is_a(tmp_path):
    for split, k in (("train", 1), ("test", 2)):
        (tmp_path / split).mkdir()
        both = Image.new("RGB", (16, 8), (k, 0, 0))
        both.paste((k + 100, 0, 0), (8, 0, 16, 8))
        both.save(tmp_path / split / "x.png")
    pairs = open_pairs(tmp_path, SideOptions(8), "test")
    assert (numbers(pairs.a), numbers(pairs.b)) == ([2], [102]) and pairs.size == 8
    patch(3, width=12).save(tmp_path / "test" / "y.png")
    with pytest.raises(CondgenError, match=r"y\.png is 12 x 8, not twice as wide"):
        open_pairs(tmp_path, SideOptions(8), "test")


def table(path: Path, rows: list[tuple[str, str, str, int]], alpha: bool = False) -> None:
    """Rows of key, vendor, split and number."""

    def image(number: int) -> bytes:
        return png_bytes(Image.new("RGBA", (8, 8), (number, 0, 0, 0)) if alpha else patch(number))

    columns = {name: [row[k] for row in rows] for k, name in enumerate(("base", "vendor", "split"))}
    columns["image"] = [{"bytes": image(row[3]), "path": ""} for row in rows]
    pq.write_table(pa.table(columns), path)


def test_tables_are_joined_on_a_column_after_their_filters(tmp_path):
    table(tmp_path / "lines.parquet", [(f"u{k}", v, "train" if k < 4 else "test", k) for v in "xy" for k in range(6)])
    table(tmp_path / "colour.parquet", [(f"u{k}", "z", "train", k + 100) for k in reversed(range(5))])
    asked = SideOptions(8, "lines.parquet", "colour.parquet", "vendor=x", "vendor=z", "base")
    train, test = (open_pairs(tmp_path, asked, split) for split in ("train", "test"))
    assert (numbers(train.a), numbers(train.b)) == ([0, 1, 2, 3], [100, 101, 102, 103])
    assert (numbers(test.a), numbers(test.b)) == ([4], [104])  # u5 has no partner, which tables may lack
    heaps = open_unpaired(tmp_path, SideOptions(8, "lines.parquet", "lines.parquet", "vendor=x", "vendor=y"), "test")
    assert numbers(heaps.a) == numbers(heaps.b) == [4, 5]
    with pytest.raises(CondgenError, match="two rows whose base is 'u0'"):
        open_pairs(tmp_path, SideOptions(8, "lines.parquet", "colour.parquet", "", "vendor=z", "base"))
    for wrong, told in (
        (SideOptions(8, "lines.parquet", "colour.parquet", "vendor=w", "", "base"), "no rows with vendor=w"),
        (SideOptions(8, "lines.parquet", "colour.parquet", "vendor=x", "vender=z", "base"), "vender"),
        (SideOptions(8, "lines.parquet", "colour.parquet", "vendor=x", "", "bass"), "bass.*Did you mean 'base'"),
        (SideOptions(8, "lines.parquet", "other.parquet", "vendor=x", "", "base"), "other.parquet is not there"),
    ):
        with pytest.raises(CondgenError, match=told):
            open_pairs(tmp_path, wrong)


def test_what_is_transparent_is_white(tmp_path):
    table(tmp_path / "a.parquet", [("u", "x", "train", 9)], alpha=True)
    pairs = open_pairs(tmp_path, SideOptions(8, "a.parquet", "a.parquet", match="base"))
    assert (pairs.a == 255).all()


def test_what_is_missing_or_unfit_is_named(tmp_path):
    write(tmp_path / "a", {"x.png": 1, "y.png": 2, "z.png": 3})
    write(tmp_path / "b", {"x.png": 1})
    with pytest.raises(CondgenError, match=r"2 of 3 images of side a have no partner.*y, z"):
        open_pairs(tmp_path, SideOptions(8))
    write(tmp_path / "b", {"y.png": 1, "z.png": 1})
    write(tmp_path / "b", {"w.png": 1})
    with pytest.raises(CondgenError, match=r"1 of 4 images of side b have no partner.*w"):
        open_pairs(tmp_path, SideOptions(8))
    with pytest.raises(CondgenError, match="no images in the split 'exam'"):
        open_unpaired(tmp_path, SideOptions(8), "exam")
    (tmp_path / "b" / "w.bmp").write_bytes((tmp_path / "b" / "w.png").read_bytes())
    with pytest.raises(CondgenError, match="the same name, up to the suffix"):
        open_unpaired(tmp_path, SideOptions(8))
    (tmp_path / "b" / "w.bmp").unlink()
    (tmp_path / "b" / "w.png").write_bytes(b"no image")
    with pytest.raises(CondgenError, match=r"w\.png is not an image"):
        open_unpaired(tmp_path, SideOptions(8), "all")
    with pytest.raises(CondgenError, match="no folder c"):
        open_pairs(tmp_path, SideOptions(8, "a", "c"))
    for empty in ("nowhere", "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(CondgenError, match="Expected folders a/ and b/"):
            open_pairs(tmp_path / empty, SideOptions(8))


# drawn


def test_squares_and_circles_are_what_they_are_called_and_have_all_colours_and_numbers():
    sides = squares_and_circles(120, 3, 32)
    for images, shape in zip(sides, ("square", "circle")):
        seen = detect(images)
        assert np.mean([thing.shape == shape for things in seen for thing in things]) > 0.99
        assert {thing.colour for things in seen for thing in things} >= {"red", "green", "blue", "yellow", "pink"}
        assert {len(things) for things in seen} == {1, 2, 3, 4}


def test_scenes_are_drawn_the_same_way_again_and_otherwise_for_a_test():
    for origin, sides in DRAWN.items():
        drawn = [open_sides("", origin != "shapes", split, 1, 9, origin=origin) for split in ("train", "train", "test")]
        assert all(isinstance(one, Unpaired) and one.sides == sides and one.size == 32 for one in drawn)
        assert (drawn[0].a == drawn[1].a).all() and (drawn[0].b == drawn[1].b).all()
        assert not (drawn[0].a == drawn[2].a).all()
        assert isinstance(drawn[0], Pairs) == (origin != "shapes")
    with pytest.raises(CondgenError, match="are drawn"):
        open_sides("somewhere", True, origin="night")
    with pytest.raises(CondgenError, match="--data"):
        open_sides("", True)


def test_by_night_it_is_dark_and_what_is_said_by_day_says_all_of_it():
    day, night = day_and_night(40, 5, 32)
    assert night.mean() < 0.5 * day.mean()
    again = day_and_night(40, 5, 64)
    assert again[0].shape == (40, 3, 64, 64)


def test_edges_are_dark_where_brightness_changes_and_nowhere_else():
    images = np.full((2, 3, 16, 16), 255, np.uint8)
    images[0, :, :, 8:] = 0
    found = edges(images)
    assert found.shape == (2, 1, 16, 16) and (found[1] == 255).all()
    assert (found[0, 0, :, 7:9] == 0).all() and (found[0, 0, :, [0, 3, 6, 9, 12]] == 255).all()
    faint = images.copy()
    faint[0, :, :, 8:] = 191  # a quarter of the way to black
    assert abs(edges(faint)[0, 0, 4, 8] - 127) <= 1
    assert (edges(images.swapaxes(2, 3)) == found.swapaxes(2, 3)).all()


def test_grey_is_that_of_pil():
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 8, 8), np.uint8)
    for ours, image in zip(grey(images), images):
        theirs = np.asarray(Image.fromarray(image.transpose(1, 2, 0)).convert("L"), int)
        assert np.abs(ours[0] - theirs).max() <= 1


# views


def counted(n: int, m: int, kind=Unpaired) -> Unpaired:
    """Images of which every pixel is their number, but for a corner."""
    a, b = (np.arange(k, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 8, 8), np.uint8) for k in (n, m))
    return kind(a, b)


def test_every_image_of_a_side_comes_once_in_its_epoch():
    views = PairBatches(counted(12, 8), 4, seed=3)
    seen = [[numbers(to_uint8(views(k)[side])) for k in range(6)] for side in "ab"]
    assert sorted(chain(*seen[0][:3])) == list(range(12)) and sorted(chain(*seen[0][3:])) == list(range(12))
    assert sorted(chain(*seen[1][:2])) == list(range(8)) and seen[1][:2] != seen[1][2:4]


def test_pairs_stay_together_and_heaps_do_not():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (16, 3, 8, 8), np.uint8)
    together = PairBatches(Pairs(images, 255 - images), 8, 1, shift=2, flip=True)(0)
    torch.testing.assert_close(together["a"], -together["b"])
    apart = PairBatches(Unpaired(images, images), 16, 1)(0)
    assert not torch.equal(apart["a"], apart["b"])
    assert ((apart["dice"] >= 0) & (apart["dice"] < 1)).all() and apart["dice"].shape == (16, 4)


@pytest.mark.parametrize("kind", [Pairs, Unpaired])
def test_the_parts_of_several_processes_are_the_batch_of_one(kind):
    data = kind(*np.random.default_rng(0).integers(0, 256, (2, 10, 1, 8, 8), np.uint8))
    for step in (0, 7):
        whole = PairBatches(data, 6, 2, shift=1, flip=True)(step)
        parts = [PairBatches(data, 6, 2, shift=1, flip=True, rank=rank, world=3)(step) for rank in range(3)]
        for name, value in whole.items():
            assert torch.equal(value, torch.cat([part[name] for part in parts]))


def test_what_is_held_out_is_not_trained_on():
    pairs = counted(48, 48, Pairs)
    kept, held = pairs.parted(12, 3, 0)
    assert isinstance(held, Pairs) and len(held) == 3 and numbers(held.a) == numbers(held.b)
    assert sorted(numbers(kept.a) + numbers(held.a)) == list(range(48))
    kept, held = counted(48, 24).parted(12, 100, 0)
    assert (len(held.a), len(held.b), len(kept.a), len(kept.b)) == (4, 2, 44, 22)
    assert counted(48, 12).parted(12, 100, 0) is None


def test_images_of_other_kinds_are_no_sides():
    with pytest.raises(ValueError, match="uint8"):
        Unpaired(np.zeros((2, 3, 8, 8), np.uint8), np.zeros((2, 3, 9, 9), np.uint8))
    with pytest.raises(ValueError, match="as many"):
        counted(3, 4, Pairs)
