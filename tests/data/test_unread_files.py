"""Files that are there are read or counted: every format of Pillow, names in upper case, links, hidden files."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from condgen.cli.translate import image_files
from condgen.contracts import CondgenError, CondgenWarning
from condgen.data.audit.check import check
from condgen.data.formats import registry
from condgen.data.formats.registry import IMAGE_NAMES, SUFFIXES, UNREAD
from condgen.data.sources.captions import load_captions
from condgen.data.sources.images import ImageError, list_files, open_image
from condgen.data.sources.labels import open_labelled
from condgen.data.sources.open_images import open_any
from condgen.data.sources.pairs import SideOptions, open_unpaired
from condgen.retrieval.gallery import Gallery
from condgen.retrieval.search import is_text
from tests.layouts import image_bytes, put, strangers, write_tar

NO_IMAGES = {
    ".h5", ".hdf", ".mpg", ".mpeg", ".grib", ".bufr", ".iim", ".ps",
}  # fmt: skip
"""Suffixes of Pillow that other files than images have."""
EXTRA = {".jfif": "JPEG", ".jpe": "JPEG", ".tif": "TIFF", ".pgm": "PPM", ".pnm": "PPM", ".J2K": "JPEG2000"}
WRITTEN = {
    ".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP", ".gif": "GIF", ".bmp": "BMP", ".ppm": "PPM", ".jp2": "JPEG2000",
    ".tga": "TGA", ".pcx": "PCX", ".dib": "DIB", ".sgi": "SGI", ".dds": "DDS", ".ico": "ICO", ".qoi": "QOI", **EXTRA,
}  # fmt: skip
if registry.AVIF:
    WRITTEN[".avif"] = "AVIF"
Image.init()
WRITTEN = {suffix: form for suffix, form in WRITTEN.items() if form in Image.SAVE}
NAMES = [*WRITTEN, *(suffix.upper() for suffix in (".jpg", ".tif", ".jfif"))]


def encoded(form: str, number: int = 0, size: int = 16) -> bytes:
    file, image = io.BytesIO(), Image.new("RGB", (size, size), (40 * (number % 6), 255 - 40 * (number % 6), 60))
    options = {"sizes": [(size, size)]} if form == "ICO" else {}
    image.save(file, form, **options)
    return file.getvalue()


def collection(folder: Path) -> Path:
    """An image of every suffix that is read."""
    for number, suffix in enumerate(NAMES):
        form = WRITTEN.get(suffix) or WRITTEN[suffix.lower()]
        put(folder / f"{number:02}{suffix}", encoded(form, number))
    return folder


def test_every_suffix_of_pillow_is_read_or_has_a_reason():
    known = {suffix for suffix, form in Image.registered_extensions().items() if form in Image.OPEN}
    assert known - NO_IMAGES <= SUFFIXES | set(UNREAD)
    assert not SUFFIXES & set(UNREAD) and IMAGE_NAMES > SUFFIXES
    assert all(suffix == suffix.lower() and suffix.startswith(".") and why for suffix, why in UNREAD.items())


@pytest.mark.parametrize("suffix", NAMES)
def test_what_is_written_is_opened(tmp_path, suffix):
    form = WRITTEN.get(suffix) or WRITTEN[suffix.lower()]
    image = open_image(put(tmp_path / f"a{suffix}", encoded(form, 1)))
    assert np.abs(np.asarray(image, int) - (40, 215, 60)).max() <= 12
    content = encoded(form, 1)
    assert open_image(content, name=f"a.tar/a{suffix}").size == (16, 16)


# Every reader sees the same files -------------------------------------------------------------------------------------


def folder_of_images(home: Path) -> int:
    collection(home)
    return len(open_any(home, 8, split="all"))


def folders_of_classes(home: Path) -> int:
    for name in ("cat", "dog"):
        collection(home / name)
    return len(open_labelled(home, 8, split="all")) // 2


def texts_beside(home: Path) -> int:
    for file in list(collection(home).iterdir()):
        put(file.with_suffix(".txt"), "a thing")
    return len(load_captions(home, 8, split="all"))


def table_of_files(home: Path) -> int:
    names = sorted(file.name for file in collection(home).iterdir())
    put(home / "metadata.csv", "file_name,text\n" + "\n".join(f"{name},a thing" for name in names))
    return len(load_captions(home, 8, split="all"))


def shard(home: Path) -> int:
    members = []
    for file in sorted(collection(home / "files").iterdir()):
        members += [(file.name, file.read_bytes()), (f"{file.stem}.txt", b"a thing")]
    return len(load_captions(write_tar(home / "a.tar", members), 8, split="all"))


def sides(home: Path) -> int:
    for side in "ab":
        collection(home / side)
    return len(open_unpaired(home, SideOptions(size=8), split="all").a)


def gallery(home: Path) -> int:
    return sum(1 for _ in Gallery(collection(home)).each(8))


def command_line(home: Path) -> int:
    return len(image_files([collection(home)]))


READERS = [
    folder_of_images, folders_of_classes, texts_beside, table_of_files, shard, sides, gallery, command_line,
]  # fmt: skip


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_every_reader_reads_every_format(tmp_path, reader):
    assert reader(tmp_path / "data") == len(NAMES)


def test_every_suffix_that_is_not_read_is_counted_with_its_reason(tmp_path):
    suffixes = [suffix for suffix in UNREAD if suffix != ".tar.gz"]
    for name in ("cat", "dog"):
        put(tmp_path / name / "0.jpg", image_bytes(1))
        for suffix in suffixes:
            put(tmp_path / name / f"1{suffix.upper()}", b"?")
    report = check(tmp_path)
    assert report.usable == 2 and report.ok() and sum(report.left_out.values()) == 2 * len(suffixes)
    for suffix in suffixes:
        assert report.left_out[f"{suffix}: {UNREAD[suffix]}"] == 2
    assert report.lines()[-1] == f"Ready for training, without the {2 * len(suffixes)} left out."
    with pytest.warns(CondgenWarning, match=r"2 not read, for example cat/1\..*save"):
        open_labelled(tmp_path, 8, split="all")


@pytest.mark.parametrize("reader", ["open_any", "sides", "command line"])
def test_training_warns_of_what_it_does_not_read(tmp_path, reader, capsys):
    for side in "ab":
        put(tmp_path / side / "0.jpg", image_bytes(1))
        put(tmp_path / side / "1.CR2", b"?")
    if reader == "command line":
        image_files([tmp_path])
        assert "raw camera files" in "".join(capsys.readouterr())
        return
    with pytest.warns(CondgenWarning, match="raw camera files"):
        if reader == "open_any":
            open_any(tmp_path, 8, split="all")
        else:
            open_unpaired(tmp_path, SideOptions(size=8), split="all")


@pytest.mark.parametrize(
    "name, content, what",
    [
        ("a.heic", b"\0\0\0\x18ftypheic" + bytes(50), "HEIC|cannot be read|not an image"),
        ("a.jpg", b"<!DOCTYPE html><html>", "a web page"),
        ("a.png", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        ("a.svg", b"<svg/>", "drawings without pixels"),
        ("a.psd", b"8BPS", "image editor"),
        ("a.png", b"", "an empty file"),
        ("a.webp", b"PK\3\4", "a zip archive"),
    ],
)
def test_a_single_file_that_is_not_read_says_what_it_is(tmp_path, name, content, what):
    with pytest.raises(ImageError, match=what):
        open_image(put(tmp_path / name, content))


def test_a_query_called_like_an_image_is_an_image(tmp_path):
    for name in ("a.HEIC", "a.svg", "a.avif"):
        assert not is_text(str(put(tmp_path / name, b"?"))), name
        with pytest.raises(CondgenError, match="looks like an image file"):
            is_text(str(tmp_path / f"no-{name}"))


def test_damaged_files_do_not_pass_for_formats_without_a_signature(tmp_path):
    tga = encoded("TGA")
    assert open_image(put(tmp_path / "a.tga", tga)).size == (16, 16)
    with pytest.raises(ImageError):
        open_image(put(tmp_path / "a.png", tga))


# Strangers, hidden files and links ------------------------------------------------------------------------------------


def test_what_systems_leave_behind_changes_nothing(tmp_path):
    for name in ("plain", "strange"):
        for kind in ("cat", "dog"):
            for number in range(4):
                put(tmp_path / name / kind / f"{number}.jpg", image_bytes(number + 4 * (kind == "dog")))
    for place in ("", "cat", "dog"):
        strangers(tmp_path / "strange" / place)
    one, two = (open_labelled(tmp_path / name, 8, split="all") for name in ("plain", "strange"))
    assert (one.images == two.images).all() and (one.targets == two.targets).all()
    report = check(tmp_path / "strange")
    assert report.ok() and report.left_out == {} and report.notes == {registry.HIDDEN_FILE: 6}


def test_hidden_files_in_a_shard_are_no_samples(tmp_path):
    members = []
    for i in range(3):
        for kind, content in (("jpg", image_bytes(i)), ("txt", b"a thing")):
            members += [(f"./._{i}.{kind}", b"\0\5\x16\7"), (f"./{i}.{kind}", content)]
    members += [("__MACOSX/._0.jpg", b"?"), (".DS_Store", b"?")]
    report = check(write_tar(tmp_path / "a.tar", members))
    assert (report.usable, report.bad) == (3, {})


def test_links_to_folders_are_followed_once_and_never_in_a_circle(tmp_path):
    put(tmp_path / "far" / "photos" / "0.jpg", image_bytes(0))
    put(tmp_path / "far" / "photos" / "deep" / "1.jpg", image_bytes(1))
    home = tmp_path / "data"
    put(home / "dog" / "2.jpg", image_bytes(2))
    os.symlink(tmp_path / "far" / "photos", home / "cat")
    os.symlink(home, home / "dog" / "above")
    os.symlink(".", home / "self")
    os.symlink(tmp_path / "far", tmp_path / "far" / "photos" / "deep" / "back")
    os.symlink("nowhere.jpg", home / "dog" / "lost.jpg")
    os.symlink("circle.jpg", home / "dog" / "circle.jpg")
    found = list_files(home)
    names = [file.relative_to(home).as_posix() for file in found.images]
    assert names == ["cat/0.jpg", "cat/deep/1.jpg", "dog/2.jpg"]
    assert [len(names) for why, names in found.unread.items() if "link" in why] == [2]
    assert open_labelled(home, 8, split="all").labels.tolist() == [0, 0, 1]


def test_links_between_many_folders_end(tmp_path):
    count = 7
    for i in range(count):
        put(tmp_path / f"{i}" / f"{i}.jpg", image_bytes(i))
        for k in range(count):
            os.symlink(tmp_path / f"{k}", tmp_path / f"{i}" / f"to {k}")
    images = list_files(tmp_path).images
    assert len(images) <= count * (count * count + 1) and {file.name for file in images} == {
        f"{i}.jpg" for i in range(7)
    }


def test_images_without_a_suffix_are_counted(tmp_path):
    for name in ("cat", "dog"):
        put(tmp_path / name / "0.jpg", image_bytes(0))
        put(tmp_path / name / "image_1", image_bytes(1))
        put(tmp_path / name / "2.jpg_large", image_bytes(2))
    left = check(tmp_path).left_out
    assert list(left.values()) == [4] and "rename" in next(iter(left))
    shutil.rmtree(tmp_path / "dog")
    os.remove(tmp_path / "cat" / "0.jpg")
    with pytest.raises(CondgenError, match="2 images whose names do not end like those of images"):
        check(tmp_path)
