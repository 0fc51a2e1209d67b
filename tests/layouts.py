"""Data sets in the layouts that other tools write, with the warts that such data sets have: `LAYOUTS`, by name.

Every layout holds N images of distinct colours, N at least 10, with captions or classes.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.tars import write_tar

N = 12


def image_bytes(number: int, form: str = "JPEG", size: tuple[int, int] = (24, 16)) -> bytes:
    """An image whose colour tells its number."""
    file = io.BytesIO()
    Image.new("RGB", size, (20 * (number % 12), 255 - 20 * (number % 12), 90)).save(file, form)
    return file.getvalue()


def put(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def strangers(folder: Path) -> None:
    """What macOS, Windows and archives leave in folders."""
    put(folder / ".DS_Store", b"\0\0\0\1Bud1")
    put(folder / "Thumbs.db", b"\xd0\xcf\x11\xe0")
    put(folder / "desktop.ini", "[.ShellClassInfo]")
    put(folder / "__MACOSX" / "._0.jpg", b"\0\5\x16\7")
    put(folder / "._0.jpg", b"\0\5\x16\7")


# kohya's sd-scripts ---------------------------------------------------------------------------------------------------


def kohya(home: Path, suffix: str = ".txt") -> Path:
    """Folders of repeats and concept, with captions beside the images: tags, separated by commas; latents cached."""
    for number in range(N):
        folder = home / ("10_sks dog" if number % 2 else "1_dog")
        put(folder / f"photo {number}.v1.JPG", image_bytes(number))
        put(folder / f"photo {number}.v1{suffix}", f"sks dog, solo, outdoors, number {number}\n")
        put(folder / f"photo {number}.v1_sdxl.npz", b"PK\3\4")
    strangers(home / "1_dog")
    return home


def kohya_caption(home: Path) -> Path:
    return kohya(home, ".caption")


def kohya_json(home: Path) -> Path:
    """The metadata of merge_captions_to_metadata.py, whose names have no suffix."""
    for number in range(N):
        put(home / f"{number}.webp", image_bytes(number, "WEBP"))
    about = {str(i): {"caption": f"a dog, number {i}", "tags": "1dog, solo"} for i in range(N)}
    put(home / "meta_cap.json", json.dumps(about))
    return home


# img2dataset ----------------------------------------------------------------------------------------------------------


def _downloads(home: Path, images: bool = False) -> None:
    rows = []
    for i in range(N + 4):
        failed = i >= N
        row = {"url": f"https://example.com/{i}.jpg", "caption": f"thing {i}", "key": f"{i:09}"}
        row |= {"status": "failed_to_download" if failed else "success", "error_message": "404" if failed else None}
        row |= {"width": None if failed else 24, "height": None if failed else 16, "exif": "{}"}
        rows.append(row | ({"jpg": None if failed else image_bytes(i)} if images else {}))
    home.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), home / "00000.parquet")
    put(home / "00000_stats.json", json.dumps({"count": N + 4, "successes": N}))


def img2dataset_files(home: Path) -> Path:
    """--output_format files: an image, a text and a JSON each; the table tells of failed downloads too."""
    for i in range(N):
        put(home / "00000" / f"{i:09}.jpg", image_bytes(i))
        put(home / "00000" / f"{i:09}.txt", f"thing {i}")
        put(
            home / "00000" / f"{i:09}.json",
            json.dumps({"key": f"{i:09}", "caption": f"thing {i}", "status": "success"}),
        )
    _downloads(home)
    return home


def img2dataset_webdataset(home: Path) -> Path:
    members = []
    for i in range(N):
        about = {"key": f"{i:09}", "caption": f"thing {i}", "url": "https://x", "status": "success"}
        members += [(f"{i:09}.jpg", image_bytes(i)), (f"{i:09}.json", json.dumps(about).encode())]
        members += [(f"{i:09}.txt", f"thing {i}".encode())]
    write_tar(home / "00000.tar", members)
    _downloads(home)
    return home


def img2dataset_parquet(home: Path) -> Path:
    """--output_format parquet: the rows of failed downloads have no image."""
    _downloads(home, images=True)
    return home


# COCO and Flickr ------------------------------------------------------------------------------------------------------


def coco(home: Path) -> Path:
    """Images of two splits, captions and boxes beside them; some images have no caption."""
    for split, count in (("train2017", N), ("val2017", 4), ("test2017", 3)):
        for i in range(count):
            put(home / split / f"{i:012}.jpg", image_bytes(i))
    for split, count in (("train2017", N), ("val2017", 4)):
        images = [{"id": 7 * i, "file_name": f"{i:012}.jpg", "height": 16, "width": 24} for i in range(count)]
        captions = [{"id": i, "image_id": 7 * (i % count), "caption": f"A thing {i}.\n"} for i in range(5 * count)]
        about = {"info": {}, "licenses": [], "images": images, "annotations": captions}
        put(home / "annotations" / f"captions_{split}.json", json.dumps(about))
        boxes = [{"image_id": 0, "category_id": 1, "bbox": [0, 0, 4, 4]}]
        about |= {"annotations": boxes, "categories": [{"id": 1, "name": "dog"}]}
        put(home / "annotations" / f"instances_{split}.json", json.dumps(about))
    return home


def coco_flat(home: Path) -> Path:
    for i in range(N):
        put(home / f"{i}.jpg", image_bytes(i))
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in range(N)]
    annotations = [{"image_id": i, "caption": f"a cat {i}"} for i in range(N)]
    put(home / "captions.json", json.dumps({"images": images, "annotations": annotations}))
    return home


def karpathy(home: Path) -> Path:
    rows = [
        {
            "filename": f"{i}.jpg",
            "split": "train" if i % 4 else "test",
            "sentences": [{"raw": f"a cat {i}", "tokens": []}],
        }
        for i in range(N)
    ]
    for i in range(N):
        put(home / "images" / f"{i}.jpg", image_bytes(i))
    put(home / "dataset_flickr30k.json", json.dumps({"images": rows, "dataset": "flickr30k"}))
    return home


def with_five_captions(folder: Path, form: str) -> list[str]:
    """Writes the images, and returns five lines for each; `form` has places for the image and the caption."""
    for i in range(N):
        put(folder / f"{i}.jpg", image_bytes(i))
    return [form.format(i=i, k=k) for i in range(N) for k in range(5)]


def flickr30k(home: Path) -> Path:
    """Kaggle's copy: bars with spaces as separators, five captions an image, and a line without its number."""
    lines = ["image_name| comment_number| comment"]
    lines += with_five_captions(home / "flickr30k_images", "{i}.jpg| {k}|  Two men , {i} , talk {k} .")
    put(home / "results.csv", "\n".join(lines))
    return home


def flickr30k_token(home: Path) -> Path:
    lines = with_five_captions(home / "flickr30k-images", "{i}.jpg#{k}\tTwo men , {i} , talk {k} .")
    put(home / "results_20130124.token", "\n".join(lines))
    return home


def flickr8k(home: Path) -> Path:
    lines = ["image,caption"]
    lines += with_five_captions(home / "Images", '{i}.jpg,"Two men , {i} , talk {k} ."')
    put(home / "captions.txt", "\n".join(lines))
    return home


# imagefolder of datasets ----------------------------------------------------------------------------------------------


def imagefolder(home: Path) -> Path:
    """A table in each folder of a split."""
    for i in range(N):
        split = "train" if i % 4 else "test"
        put(home / split / f"{i}.png", image_bytes(i, "PNG"))
    for split in ("train", "test"):
        own = [i for i in range(N) if (i % 4 > 0) == (split == "train")]
        rows = [json.dumps({"file_name": f"{i}.png", "text": f"thing {i}", "extra": i}) for i in own]
        put(home / split / "metadata.jsonl", "\n".join(rows))
    strangers(home)
    return home


def imagefolder_csv(home: Path) -> Path:
    """One table; written by a spreadsheet: a byte order mark, semicolons, Windows line ends."""
    for i in range(N):
        put(home / "images" / f"{i}.png", image_bytes(i, "PNG"))
    rows = ["file_name;text", *(f'images/{i}.png;"thing; {i}"' for i in range(N))]
    put(home / "metadata.csv", "\ufeff" + "\r\n".join(rows))
    return home


def imagefolder_classes(home: Path) -> Path:
    for i in range(N):
        name = ("cat", "dog")[i % 2]
        put(home / ("train" if i < 8 else "test") / name / f"{i}.jpg", image_bytes(i))
    strangers(home / "train" / "cat")
    return home


# open_clip ------------------------------------------------------------------------------------------------------------


def open_clip_csv(home: Path) -> Path:
    """--csv-separator is a tab, the columns are filepath and title, and the paths are absolute."""
    for i in range(N):
        put(home / "images" / f"{i}.jpg", image_bytes(i))
    with (home / "train.csv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(["filepath", "title"])
        writer.writerows([str((home / "images" / f"{i}.jpg").absolute()), f"thing, {i}"] for i in range(N))
    return home


def open_clip_webdataset(home: Path) -> Path:
    """As a Mac packs it: with ./ and ._ names, and a class beside the text."""
    members = []
    for i in range(N):
        for suffix, content in (("jpg", image_bytes(i)), ("txt", f"thing {i}".encode()), ("cls", str(i % 3).encode())):
            members += [(f"./._{i:05}.{suffix}", b"\0\5\x16\7"), (f"./{i:05}.{suffix}", content)]
    write_tar(home / "00000.tar", members)
    return home


# datasets -------------------------------------------------------------------------------------------------------------


def _dataset(labels: bool = False):
    import datasets

    rows = {"image": [{"bytes": image_bytes(i, "PNG"), "path": f"{i}.png"} for i in range(N)]}
    rows |= {"label": [i % 3 for i in range(N)]} if labels else {"text": [f"thing {i}" for i in range(N)]}
    kinds = {"image": datasets.Image()}
    kinds |= (
        {"label": datasets.ClassLabel(names=["cat", "dog", "emu"])} if labels else {"text": datasets.Value("string")}
    )
    return datasets.Dataset.from_dict(rows, features=datasets.Features(kinds))


def save_to_disk(home: Path) -> Path:
    """A dataset on disk, with a cache of a map beside it."""
    _dataset().save_to_disk(str(home))
    put(home / "cache-0123456789abcdef.arrow", b"\xff\xff\xff\xff")
    return home


def save_to_disk_splits(home: Path) -> Path:
    _dataset(labels=True).train_test_split(4, seed=0).save_to_disk(str(home))
    return home


def datasets_parquet(home: Path) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    _dataset().to_parquet(str(home / "train-00000-of-00001.parquet"))
    return home


def datasets_jsonl(home: Path) -> Path:
    """to_json without the images, beside a folder of them."""
    for i in range(N):
        put(home / "images" / f"{i}.png", image_bytes(i, "PNG"))
    rows = [json.dumps({"image": f"images/{i}.png", "text": f"thing {i}"}) for i in range(N)]
    put(home / "train.jsonl", "\n".join(rows) + "\n")
    return home


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    make.__name__: make
    for make in (
        *(kohya, kohya_caption, kohya_json),
        *(img2dataset_files, img2dataset_webdataset, img2dataset_parquet),
        *(coco, coco_flat, karpathy, flickr30k, flickr30k_token, flickr8k),
        *(imagefolder, imagefolder_csv, imagefolder_classes),
        *(open_clip_csv, open_clip_webdataset),
        *(save_to_disk, save_to_disk_splits, datasets_parquet, datasets_jsonl),
    )
}
