"""The layouts that other tools write, with their warts, are read; what is not read names its cause and what to do."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from condgen.cli.data import uses
from condgen.cli.main import main
from condgen.contracts import CondgenError
from condgen.data.audit.check import check
from condgen.data.audit.report import LINES
from condgen.data.options import CaptionData, ReadOptions
from condgen.data.sources.captions import load_captions
from condgen.data.sources.labels import open_labelled
from condgen.data.sources.open_images import open_any
from condgen.retrieval.gallery import Gallery
from tests.layouts import LAYOUTS, N, image_bytes, put, write_tar

LABELLED = ("imagefolder_classes", "save_to_disk_splits")
LEFT_OUT = {"img2dataset_parquet": {"not downloaded by img2dataset": 4}, "coco": {"image in no table": 3}}
FIVE = ("flickr30k", "flickr30k_token", "flickr8k")
"""Layouts with five captions for each image."""


@pytest.fixture(params=LAYOUTS)
def layout(request, tmp_path) -> tuple[str, Path]:
    if "save_to_disk" in request.param or request.param == "datasets_parquet":
        pytest.importorskip("datasets")
    return request.param, LAYOUTS[request.param](tmp_path / "data")


def test_every_layout_is_read_as_a_whole(layout):
    name, folder = layout
    report = check(folder)
    expected = N + 4 * (name == "coco")  # of val2017
    assert report.bad == {} and report.usable == report.total == expected * (1 + 4 * (name in FIVE))
    assert report.left_out == LEFT_OUT.get(name, {}) and report.ok()
    lines = report.lines()
    assert len(lines) <= LINES and lines[-1].startswith("Ready for training")
    recipe = "labels-diffusion" if name in LABELLED else "captions"
    assert f"condgen train {recipe} --data {folder}" in uses(report)


def test_every_layout_gives_its_images_with_their_captions(layout):
    name, folder = layout
    if name in LABELLED:
        data = open_labelled(folder, 16, split="all")
        numbers = [255 - int(image[1, 8, 8]) for image in data.images]
        classes = 2 if name == "imagefolder_classes" else 3
        assert [round(n / 20) % classes for n in numbers] == data.labels.tolist()
        return
    data = load_captions(folder, 16, split="train" if name == "coco" else "all")
    for image, row in zip(data.images, data.captions):
        number = round((255 - int(image[1, 8, 8])) / 20)
        texts = [data.texts[i] for i in row if i >= 0]
        assert len(texts) == (5 if name in (*FIVE, "coco") else 1)
        words = {word.strip(".;,") for text in texts for word in text.split()}
        assert str(number) in words, f"{texts} at the image {number}"


# Refusals -------------------------------------------------------------------------------------------------------------


def refused(path: Path) -> str:
    with pytest.raises(CondgenError) as caught:
        check(path)
    return str(caught.value)


def jpegs(folder: Path, names=("0.jpg", "1.jpg", "2.jpg")) -> Path:
    for number, name in enumerate(names):
        put(folder / name, image_bytes(number))
    return folder


def samples(names: list[str]) -> list[tuple[str, bytes]]:
    return [(name, image_bytes(0) if name.endswith("jpg") else b"a thing") for name in names]


def test_dots_in_the_names_of_a_shard(tmp_path):
    names = [f"trip 1.{i}.2023.{kind}" for i in range(5) for kind in ("jpg", "txt")]
    text = refused(write_tar(tmp_path / "a.tar", samples(names)))
    assert "dots in the names" in text and "trip 1.0.2023.jpg" in text and "Rename" in text


def test_a_few_dots_in_the_names_of_a_shard_are_counted(tmp_path):
    names = [f"{stem}.{kind}" for stem in ("1", "2", "3.5") for kind in ("jpg", "txt")]
    report = check(write_tar(tmp_path / "a.tar", samples(names)))
    assert report.usable == 2 and report.bad == {"dots in the name": 1}
    assert "first dot" in report.examples["dots in the name"][0]


@pytest.mark.parametrize("order", ["images first", "texts first"])
def test_a_shard_whose_images_and_texts_are_apart(tmp_path, order):
    names = [f"{i}.jpg" for i in range(4)], [f"{i}.txt" for i in range(4)]
    first, second = names if order == "images first" else names[::-1]
    text = refused(write_tar(tmp_path / "a.tar", samples(first + second)))
    assert "do not stand together" in text and "tar --sort=name" in text


def test_a_shard_without_images_names_what_is_in_it(tmp_path):
    assert "npy, txt" in refused(write_tar(tmp_path / "a.tar", [("0.npy", b"x"), ("0.txt", b"y")]))


@pytest.mark.parametrize("suffix", ["zip", "tar.gz", "7z"])
def test_an_archive_is_to_be_unpacked(tmp_path, suffix):
    with zipfile.ZipFile(put(tmp_path / "data" / f"images.{suffix}", b""), "w") as archive:
        archive.writestr("0.jpg", image_bytes(0))
    text = refused(tmp_path / "data")
    assert f"images.{suffix}" in text and "unpack" in text
    beside = jpegs(tmp_path / "data" / "some")
    put(tmp_path / "data" / "metadata.csv", "file_name,text\n" + "\n".join(f"some/{i}.jpg,thing {i}" for i in range(3)))
    assert sum(check(tmp_path / "data").left_out.values()) == 1 and beside.is_dir()


def test_a_packed_shard_names_the_packing(tmp_path):
    assert "packed by gzip" in refused(put(tmp_path / "a.tar", b"\x1f\x8b" + bytes(600)))


@pytest.mark.parametrize(
    "name, content, cause",
    [
        ("train.tsv", "caption\turl\na cat\thttps://example.com/0.jpg\n", r"addresses of images.*img2dataset"),
        ("instances.json", json.dumps({"images": [{}], "annotations": [{"bbox": [0]}]}), r"boxes.*captions_train2017"),
        ("0.cap", "a cat", r"Rename them to 0\.txt"),
        ("0.jpg.txt", "a cat", r"Rename them to 0\.jpg\.txt|Rename them to 0\.txt"),
        ("data.h5", b"\x89HDF", "HDF5"),
        ("table.xlsx", b"PK", "save it as CSV"),
        ("0.json", '{"tags": ["a"]}', r"0\.json beside an image.*0\.txt"),
        ("Train_GCC.tsv", "a cat\thttp://a/b.jpg\na dog\thttp://a/c.jpg\n", "addresses of images, and no header"),
    ],
)
def test_what_lies_beside_images_is_named(tmp_path, name, content, cause):
    put(jpegs(tmp_path / "data") / name, content)
    with pytest.raises(CondgenError, match=f"(?s){cause}"):
        load_captions(tmp_path / "data", 8)


@pytest.mark.parametrize(
    "name, content, cause",
    [
        ("a.zip", b"PK\3\4", "unpack"),
        ("a.tar.gz", b"\x1f\x8b", "unpack"),
        ("a.jpg", image_bytes(0), "a single image. Give the folder"),
        ("a.cr2", b"?", "raw camera files"),
    ],
)
def test_a_file_that_is_no_data_is_named(tmp_path, name, content, cause):
    assert cause in refused(put(tmp_path / name, content))


def test_videos_are_named(tmp_path):
    assert "a video" in refused(put(tmp_path / "data" / "a.MP4", b"?").parent)


def test_the_notes_of_img2dataset_alone_are_no_data(tmp_path):
    folder = LAYOUTS["img2dataset_webdataset"](tmp_path / "data")
    (folder / "00000.tar").unlink()
    assert "notes its downloads" in refused(folder)


def test_a_file_of_annotations_away_from_its_images(tmp_path):
    report = check(LAYOUTS["coco"](tmp_path / "data") / "annotations" / "captions_train2017.json")
    assert not report.ok() and any("give the folder of both" in note for note in report.notes)


def test_boxes_of_yolo_are_no_captions(tmp_path):
    for number in range(3):
        put(jpegs(tmp_path / "data") / f"{number}.txt", "0 0.5 0.5 0.25 0.25\n")
    assert check(tmp_path / "data").notes["captions of numbers only, such as the boxes of YOLO"] == 3


def test_a_folder_of_sd_scripts_without_captions(tmp_path):
    jpegs(tmp_path / "data" / "10_sks dog")
    text = refused(tmp_path / "data")
    assert "'10_sks dog'" in text and ".caption" in text and "'sks dog'" in text


def test_tags_with_commas_need_quotes(tmp_path):
    rows = [f"{i}.jpg,1girl, solo, hat {i}" for i in range(3)]
    put(jpegs(tmp_path / "data") / "metadata.csv", "\n".join(["file_name,text", *rows]))
    report = check(tmp_path / "data")
    assert report.bad["broken metadata line"] == 3 and "texts with commas need quotes" in "".join(report.lines())


@pytest.mark.parametrize("separator", [",", "\t", ";", "|", ", ", "; ", "| "])
def test_the_separator_is_that_of_the_header(tmp_path, separator):
    rows = [["file_name", "text"], *([f"{i}.jpg", f'"a cat, {i}; or | so"'] for i in range(3))]
    table = "\n".join(separator.join(row) for row in rows)
    put(jpegs(tmp_path / "data") / "metadata.csv", table)
    assert load_captions(tmp_path / "data", 8, split="all").texts == [f"a cat, {i}; or | so" for i in range(3)]


def test_what_is_said_of_images_without_labels_or_captions(tmp_path):
    report = check(jpegs(tmp_path / "data"))
    assert report.usable == 3 and "without labels or captions" in report.lines()[0]
    assert "condgen train" in uses(report) and "labels" not in uses(report) and "captions" not in uses(report)


# The report -----------------------------------------------------------------------------------------------------------


def test_a_report_stays_within_its_lines(tmp_path):
    """Hundred classes, and every fault there is."""
    for number in range(100):
        put(tmp_path / "data" / f"class {number}" / "0.jpg", image_bytes(number))
        put(tmp_path / "data" / f"class {number}" / "1.png", image_bytes(number + 1, size=(9 + number % 12, 9)))
    for number, suffix in enumerate(("heic", "cr2", "svg", "psd", "jxl", "zip")):
        put(tmp_path / "data" / "class 0" / f"{number}.{suffix}", b"?")
    put(tmp_path / "data" / "class 1" / "broken.png", b"?")
    put(tmp_path / "data" / "outside.png", image_bytes(3))
    lines = check(tmp_path / "data").lines()
    assert len(lines) <= LINES and all(len(line) <= 220 for line in lines)
    assert "100 values" in lines[1] and any("broken.png" in line for line in lines)


def test_a_refusal_names_the_option_and_the_fraction(tmp_path):
    folder = jpegs(tmp_path / "data")
    put(folder / "metadata.csv", "file_name,text\n" + "\n".join(f"{i}.jpg,thing {i}" for i in range(4)))
    last = check(folder).lines()[-1]
    assert last.startswith("Not ready: 1 of 4 rows") and last.endswith("--data.max_bad_fraction 0.25")
    assert check(folder, max_bad_fraction=0.25).ok()


def test_the_background_of_transparent_images_is_named(tmp_path):
    (tmp_path / "data").mkdir()
    for number in range(3):
        Image.new("RGBA", (4, 4), (9, 9, 9 + number, 0)).save(tmp_path / "data" / f"{number}.png")
    assert any("RGB 255,255,255 (--background" in line for line in check(tmp_path / "data").lines())
    report = check(tmp_path / "data", background=(0, 0, 0))
    assert any("RGB 0,0,0" in line for line in report.lines()) and report.colours == {"grey": 3}


def test_a_background_is_that_of_every_reader_and_of_the_model(tmp_path):
    """Transparent images on black: captions, labels, plain images, searches; and the options that a model stores."""
    for number in range(4):
        file = io.BytesIO()
        Image.new("RGBA", (8, 8), (255, 255, 255, 64 * number)).save(file, "PNG")
        for name in ("plain", "classes/a", "classes/b"):
            put(tmp_path / name / f"{number}.png", file.getvalue())
    names = [f"{i}.png,thing {i}" for i in range(4)]
    put(tmp_path / "plain" / "metadata.csv", "\n".join(["file_name,text", *names]))
    black = ReadOptions(background=(0, 0, 0))
    read = {
        "captions": load_captions(tmp_path / "plain", 8, black, split="all").images,
        "labels": open_labelled(tmp_path / "classes", 8, 3, black, split="all").images[:4],
        "images": open_any(tmp_path / "plain", 8, 3, black, split="all").images,
        "gallery": [image for _, image in Gallery(tmp_path / "plain", black).each(8)],
        "config": CaptionData(path=str(tmp_path / "plain"), size=8, split="all", background=(0, 0, 0)).open().images,
    }
    for reader, images in read.items():
        assert [int(image[0, 0, 0]) for image in images] == [0, 64, 128, 192], reader
    stored = json.loads(json.dumps(CaptionData(background=(0, 0, 0)).reading()))
    assert ReadOptions.stored(stored).background == (0, 0, 0) and ReadOptions.stored({}).background == (255, 255, 255)
    assert Gallery(tmp_path / "plain", black).digest != Gallery(tmp_path / "plain").digest


@pytest.mark.parametrize("wrong", [(0, 0), (0, 0, 256), (0, 0, -1), (0.5, 0, 0), "red", (True, 0, 0)])
def test_a_background_is_three_numbers(wrong):
    with pytest.raises(CondgenError, match="RGB, three whole numbers"):
        ReadOptions(background=wrong)
    assert ReadOptions.stored({"background": list(wrong)}).background == (255, 255, 255)


def test_the_command_names_recipes_writes_thumbnails_and_takes_the_options(tmp_path, capsys):
    folder = tmp_path / "data"
    (folder).mkdir()
    for number in range(3):
        Image.new("RGBA", (8, 8), (9, 9, number, 0)).save(folder / f"{number}.png")
    put(folder / "metadata.csv", "file_name,text\n" + "\n".join(f"{i}.png,thing {i}" for i in range(4)))
    command = ["data", "check", str(folder), "--sheet", str(tmp_path / "sheet.png")]
    assert main(command) == 1 and "--data.max_bad_fraction 0.25" in capsys.readouterr().out
    assert main([*command, "--max-bad-fraction", "0.25", "--background", "black"]) == 0
    out = capsys.readouterr().out
    assert "RGB 0,0,0" in out and f"condgen train captions --data {folder}" in out and "sheet.png" in out
    assert len(out.splitlines()) <= LINES + 2 and Image.open(tmp_path / "sheet.png").width >= 8 * 128
    assert main(["data", "check", str(folder), "--background", "no colour"]) == 2
