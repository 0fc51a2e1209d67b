"""Every form of captioned images gives the same data; every fault is named, counted, and never read."""

from __future__ import annotations

import csv
import gzip
import io
import json
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rich.progress  # noqa: F401 (binds the clock before a test replaces it)
from PIL import Image

from condgen.contracts import CondgenError, CondgenWarning
from condgen.data import progress
from condgen.data.options import ReadOptions
from condgen.data.sources.captions import load_captions
from condgen.data.sources.rows import hashed_split, named_split
from condgen.data.sources.tables import clean

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
CAPTIONS = {f"{name}.png": [f"a {name} square", f"{name} paint"] for name in COLOURS}


def png(colour: tuple[int, ...] = (0, 0, 0), size: int = 4, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, (size, size), colour).save(file, "PNG")
    return file.getvalue()


def paint(folder: Path, names=COLOURS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.png").write_bytes(png(COLOURS.get(name, (0, 0, 0))))
    return folder


def write_jsonl(folder: Path, rows: list[dict], name: str = "metadata.jsonl") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    return folder


def write_csv(folder: Path, rows: list[list], name: str = "metadata.csv") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def write_parquet(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def many(count: int) -> list[dict]:
    """Rows with the image inside, one shade of grey each."""
    return [
        {"image": {"bytes": png((i % 256,) * 3), "path": f"{i:04}.png"}, "text": f"shade {i}", "even": i % 2 == 0}
        for i in range(count)
    ]


def captions_of(data) -> list[list[str]]:
    return [[data.texts[i] for i in row if i >= 0] for row in data.captions]


def jsonl_lists(at: Path) -> Path:
    return write_jsonl(paint(at), [{"file_name": name, "text": own} for name, own in CAPTIONS.items()])


def jsonl_rows(at: Path) -> Path:
    rows = [{"file_name": name, "text": own[i]} for i in range(2) for name, own in CAPTIONS.items()]
    return write_jsonl(paint(at), rows)


def csv_rows(at: Path) -> Path:
    rows = [[name, text] for name, own in CAPTIONS.items() for text in own]
    return write_csv(paint(at), [["file_name", "text"], *rows])


def csv_lists(at: Path) -> Path:
    return write_csv(paint(at), [["file_name", "text"], *([name, json.dumps(own)] for name, own in CAPTIONS.items())])


def metadata_parquet(at: Path) -> Path:
    rows = [{"file_name": name, "text": own} for name, own in CAPTIONS.items()]
    return write_parquet(paint(at) / "metadata.parquet", rows).parent


def csv_by_its_own_path(at: Path) -> Path:
    rows = [[name, *own] for name, own in CAPTIONS.items()]
    return write_csv(paint(at), [["picture", "caption", "prompt"], *rows], "mine.csv") / "mine.csv"


def sidecars(at: Path) -> Path:
    for name, own in CAPTIONS.items():
        (paint(at) / name).with_suffix(".txt").write_text("\n\n".join(own) + "\n", "utf-8")
    return at


def struct_shards(at: Path) -> Path:
    for i, (name, own) in enumerate(CAPTIONS.items()):
        image = {"bytes": png(COLOURS[name[:-4]]), "path": name}
        write_parquet(at / f"part-{i:05}.parquet", [{"image": image, "captions": own, "caption": own[0]}])
    return at


def bytes_parquet(at: Path) -> Path:
    rows = [{"picture": png(COLOURS[name[:-4]]), "text": own} for name, own in CAPTIONS.items()]
    return write_parquet(at / "one.parquet", rows)


def path_parquet(at: Path) -> Path:
    rows = [{"image": {"bytes": None, "path": name}, "text": own} for name, own in CAPTIONS.items()]
    return write_parquet(paint(at) / "one.parquet", rows)


FORMS = [
    jsonl_lists,
    jsonl_rows,
    csv_rows,
    csv_lists,
    metadata_parquet,
    csv_by_its_own_path,
    sidecars,
    struct_shards,
    bytes_parquet,
    path_parquet,
]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_images_and_captions(form, tmp_path):
    columns = ReadOptions(caption_column="caption, prompt") if form is csv_by_its_own_path else ReadOptions()
    data = load_captions(form(tmp_path / "data"), 4, split="all", options=columns)
    assert data.images.shape == (3, 3, 4, 4) and data.size == 4 and data.images.flags.writeable
    found = {tuple(image[:, 0, 0]): own for image, own in zip(data.images, captions_of(data))}
    assert found == {COLOURS[name[:-4]]: own for name, own in CAPTIONS.items()}
    assert data.name in ("data", "one", "mine")


def test_subfolders_hold_more_of_the_same(tmp_path):
    for folder in ("a", "b/c"):
        sidecars(tmp_path / "sidecars" / folder)
        jsonl_lists(tmp_path / "tables" / folder)
    write_jsonl(tmp_path / "names", [{"file_name": "a/red.png", "text": "red"}])
    paint(tmp_path / "names" / "a", ["red"])
    sizes = [len(load_captions(tmp_path / name, 4, split="all")) for name in ("sidecars", "tables", "names")]
    assert sizes == [6, 6, 1]


@pytest.mark.parametrize("form", [jsonl_lists, sidecars, struct_shards])
def test_reading_twice_gives_the_same_arrays(form, tmp_path):
    folder = form(tmp_path / "data")
    first, second = (load_captions(folder, 4, split="all") for _ in range(2))
    assert np.array_equal(first.images, second.images) and np.array_equal(first.captions, second.captions)
    assert first.texts == second.texts


@pytest.mark.parametrize("form", [jsonl_lists, csv_lists])
def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(form, tmp_path):
    plain = load_captions(form(tmp_path / "plain"), 4, split="all")
    path = next(form(tmp_path / "windows").glob("metadata.*"))
    lines = path.read_text("utf-8-sig").splitlines()
    path.write_bytes(b"\xef\xbb\xbf" + "".join(f"{line}\r\n" for line in lines).encode())
    windows = load_captions(tmp_path / "windows", 4, split="all")
    assert np.array_equal(plain.images, windows.images) and captions_of(plain) == captions_of(windows)
    assert windows.texts == [text for own in CAPTIONS.values() for text in own]


def test_hidden_files_are_left_alone(tmp_path):
    sidecars(tmp_path)
    (tmp_path / "._red.png").write_bytes(b"what a Mac leaves behind")
    paint(tmp_path / ".cache")
    assert len(load_captions(tmp_path, 4, split="all")) == 3


# Splits ---------------------------------------------------------------------------------------------------------------


def test_without_splits_a_fixed_hash_divides_95_to_5(tmp_path):
    path = write_parquet(tmp_path / "train-00000-of-00001.parquet", many(200))
    train, test, every = (load_captions(path, 4, split=split) for split in ("train", "test", "all"))
    assert len(every) == 200 and 4 <= len(test) <= 20
    assert sorted(train.texts + test.texts) == sorted(every.texts)
    assert len(load_captions(write_parquet(tmp_path / "other.parquet", many(200)[::-1]), 4, split="test")) == len(test)
    # The rule is part of the data format: it may never change.
    assert [i for i in range(100) if hashed_split(f"{i:04}.png") == "test"] == [5, 24, 30, 31, 57, 85]
    assert 440 < [hashed_split(str(i)) for i in range(10_000)].count("test") < 560


def test_a_split_column_goes_before_the_names_of_files(tmp_path):
    rows = [row | {"split": split} for row, split in zip(many(4), ["train", "test", "validation", None])]
    path = write_parquet(tmp_path / "test.parquet", rows)
    assert [load_captions(path, 4, split=s).texts for s in ("train", "test", "val", "dev")] == [
        ["shade 0"],
        ["shade 1"],
        ["shade 2"],
        ["shade 2"],
    ]
    assert len(load_captions(path, 4, split="all")) == 4
    with pytest.raises(CondgenError, match=r"no rows in the split 'tset'.*test, train, val"):
        load_captions(path, 4, split="tset")


@pytest.mark.filterwarnings("ignore:.*parts.parquet")
def test_names_of_files_tell_the_split(tmp_path):
    for i, name in enumerate(["train-00000-of-00002", "train-00001-of-00002", "test_iid", "test_comp", "parts"]):
        write_parquet(tmp_path / f"{name}.parquet", [many(5)[i]])
    texts = {split: load_captions(tmp_path, 4, split=split).texts for split in ("train", "test_comp", "test", "all")}
    assert texts["train"] == ["shade 0", "shade 1"] and texts["test_comp"] == ["shade 3"]
    assert sorted(texts["test"]) == ["shade 2", "shade 3"] and len(texts["all"]) == 4
    with pytest.raises(CondgenError, match="test_comp, test_iid, train"):
        load_captions(tmp_path, 4, split="val")
    with pytest.warns(CondgenWarning, match=r"left out parts\.parquet"):
        load_captions(tmp_path, 4, split="train")


def test_a_file_with_a_split_column_needs_no_name(tmp_path):
    write_parquet(tmp_path / "test.parquet", many(1))
    write_parquet(tmp_path / "more.parquet", [row | {"split": "train"} for row in many(2)])
    assert [len(load_captions(tmp_path, 4, split=split)) for split in ("train", "test", "all")] == [2, 1, 3]


@pytest.mark.parametrize("form", [sidecars, jsonl_lists])
def test_names_of_folders_tell_the_split(form, tmp_path):
    for folder in ("train", "val2017"):
        form(tmp_path / folder)
    assert len(load_captions(tmp_path, 4)) == 3
    assert len(load_captions(tmp_path, 4, split="val")) == 3
    assert len(load_captions(tmp_path, 4, split="all")) == 6


@pytest.mark.parametrize("name", ["testament", "trains", "validator", "evaluate"])
def test_a_name_that_only_begins_like_a_split_is_none(name):
    assert named_split(Path(name) / "a.parquet", own=True) == ""


# Columns and filters --------------------------------------------------------------------------------------------------


def test_where_keeps_rows_by_their_columns(tmp_path):
    rows = [row | {"vendor": "ab"[i // 5], "rank": float(i)} for i, row in enumerate(many(10))]
    path = write_parquet(tmp_path / "one.parquet", rows)
    assert len(load_captions(path, 4, split="all", filter="vendor=A, even=true")) == 3
    assert load_captions(path, 4, split="all", filter="rank=7").texts == ["shade 7"]
    with pytest.raises(CondgenError, match=r"no column 'vender'.*even.*vendor.*Did you mean 'vendor'"):
        load_captions(path, 4, filter="vender=a")
    with pytest.raises(CondgenError, match=r"with vendor=c.*filter"):
        load_captions(path, 4, split="all", filter="vendor=c")
    with pytest.raises(CondgenError, match="column=value"):
        load_captions(path, 4, filter="vendor")
    with pytest.raises(CondgenError, match="no columns"):
        load_captions(sidecars(tmp_path / "s"), 4, filter="vendor=a")


def test_columns_can_be_named(tmp_path):
    rows = [{"x": png(), "y": "said", "z": "train", "image": "no", "text": "no", "split": "no"}]
    path = write_parquet(tmp_path / "one.parquet", rows)
    assert load_captions(path, 4, options=ReadOptions("x", "y", split_column="z")).texts == ["said"]
    with pytest.raises(CondgenError, match="no column 'yy'"):
        load_captions(path, 4, options=ReadOptions(caption_column="yy"))


def test_captions_are_cleaned():
    assert clean("  a\t red\n\0square ") == "a red square"
    assert clean("e\u0301t\u00e9 \ud800") == "\u00e9t\u00e9 ?"
    assert clean("so\u00adft \u200bred") == "so\u00adft \u200bred"


# Faults ---------------------------------------------------------------------------------------------------------------


def test_a_few_bad_rows_only_warn(tmp_path):
    rows = [*many(199), {"image": {"bytes": b"", "path": "bad.png"}, "text": "x", "even": False}]
    path = write_parquet(tmp_path / "one.parquet", rows)
    with pytest.warns(CondgenWarning, match=r"1 of 200 rows left out: 1 corrupt image: bad\.png"):
        assert len(load_captions(path, 4, split="all")) == 199
    with pytest.raises(CondgenError, match=r"1 of 200[\s\S]*train: --data\.max_bad_fraction F"):
        load_captions(path, 4, split="all", max_bad_fraction=0)


def test_a_comma_without_quotes_is_a_broken_line(tmp_path):
    paint(tmp_path)
    (tmp_path / "metadata.csv").write_text("file_name,text\nred.png,red, and round\n", "utf-8")
    with pytest.raises(CondgenError, match=r"1 broken metadata line: metadata\.csv:1"):
        load_captions(tmp_path, 4, split="all")


def test_links_inside_the_folder_are_followed(tmp_path):
    paint(tmp_path / "blobs", ["red"])
    folder = write_jsonl(tmp_path / "data", [{"file_name": "a.png", "text": "red"}])
    (folder / "a.png").symlink_to(tmp_path / "blobs" / "red.png")
    assert load_captions(folder, 4, split="all").texts == ["red"]


def test_animations_give_one_warning(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in COLOURS.values()]
    for name in "ab":
        frames[0].save(tmp_path / f"{name}.gif", save_all=True, append_images=frames[1:])
        (tmp_path / f"{name}.txt").write_text("flicker")
    with pytest.warns(CondgenWarning, match="2 animated images") as caught:
        load_captions(tmp_path, 4, split="all")
    assert len(caught) == 1


def refused(path: Path, match: str, **options) -> None:
    with pytest.raises(CondgenError, match=match) as caught:
        load_captions(path, 4, **options)
    assert "Expected a folder with metadata.jsonl" in str(caught.value)


def test_labels_in_the_place_of_captions_are_refused(tmp_path):
    labels = tmp_path / "idx" / "train-labels-idx1-ubyte.gz"
    labels.parent.mkdir()
    labels.write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x02\x03\x04"))
    refused(labels, "looks like labels")
    refused(labels.parent, "looks like labels")
    refused(write_csv(paint(tmp_path / "c"), [["file_name", "label"], ["red.png", "3"]]), "'label' looks like labels")
    refused(tmp_path / "c", r"\(train: --data\.caption_column NAME, data check: --caption-column NAME\)")
    numbers = write_csv(paint(tmp_path / "n", ["red"]), [["file_name", "text"], ["red.png", "3"]])
    refused(
        numbers,
        "'text' looks like labels: it holds only numbers.*train: --data.caption_column text, data check: --caption",
    )
    assert load_captions(numbers, 4, split="all", options=ReadOptions(caption_column="text")).texts == ["3"]
    refused(write_parquet(tmp_path / "i.parquet", [{"image": png(), "caption": 7}]), "looks like labels")
    paint(tmp_path / "classes" / "cat")
    refused(tmp_path / "classes", r"folders \(cat\), which look like labels")


def test_what_cannot_be_read_says_what_was_expected(tmp_path):
    refused(tmp_path / "nowhere", "is not there")
    refused(paint(tmp_path / "bare"), "3 images and no captions")
    refused(write_csv(paint(tmp_path / "named"), [["file_name", "text"]], "captions.csv"), "name it metadata.csv")
    refused(
        write_parquet(tmp_path / "c.parquet", [{"a": "b", "text": "t"}]),
        "columns a, text; name the one.*--data.image_column NAME",
    )
    refused(write_csv(tmp_path / "rowless", [["file_name", "text"]]), "has no rows")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "nothing that can be read")
    for name, content in {"bad.parquet": b"PAR1", "latin.csv": b"file_name,text\na.png,caf\xe9\n"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CondgenError, match=name):
            load_captions(tmp_path / name, 4)
    twice = write_csv(jsonl_lists(tmp_path / "twice"), [["file_name", "text"]])
    with pytest.raises(CondgenError, match="more than one metadata file"):
        load_captions(twice, 4)


def test_work_that_takes_long_shows_a_bar_on_stderr(tmp_path, monkeypatch, capsys):
    clock = iter(range(0, 10_000, 3))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    monkeypatch.setenv("FORCE_COLOR", "1")
    load_captions(write_parquet(tmp_path / "one.parquet", many(5)), 4, split="all")
    out, err = capsys.readouterr()
    assert out == "" and "reading images" in err


# Real data ------------------------------------------------------------------------------------------------------------

needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not on this machine")


@needs_shared
def test_nouns_by_the_names_of_its_files():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CondgenWarning)
        data = load_captions(SHARED / "nouns", 32, split="test_comp")
    assert len(data) == 1500 and data.captions.shape == (1500, 3)
    row = pq.ParquetFile(SHARED / "nouns" / "test_comp.parquet").read_row_group(0).slice(0, 1).to_pylist()[0]
    assert np.array_equal(
        data.images[0], np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")).transpose(2, 0, 1)
    )


@needs_shared
def test_emoji_on_white_by_vendor():
    path = SHARED / "emoji" / "emoji-base.parquet"
    data = load_captions(path, 64, options=ReadOptions(caption_column="captions"), split="test", filter="vendor=noto")
    assert 50 < len(data) < 300 and (data.captions[:, 2] >= 0).all()
    corners = data.images[:, :, 0, 0]
    assert (corners == 255).all(axis=1).mean() > 0.9, "transparent corners must be white, not black"


def test_names_in_the_data_do_not_fill_a_message(tmp_path):
    """Found by fuzzing: a split of thousands of letters."""
    paint(tmp_path, ["red"])
    for record, told in (
        ({"file_name": "red.png", "text": "a", "split": "a" * 9000}, r"Splits there.* a{57}\.\.\.\. Choose"),
        ({f"{i:03}" * 900: "b" for i in range(99)}, "000000.* and 79 more;"),
    ):
        (tmp_path / "metadata.jsonl").write_text(json.dumps(record) + "\n")
        with pytest.raises(CondgenError, match=told) as error:
            load_captions(tmp_path, 4, split="train")
        assert len(str(error.value)) < 2500
