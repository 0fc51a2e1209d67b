"""Captions of many images in one file, as other tools write them: COCO, Karpathy, sd-scripts (kohya) and Flickr.

    {"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}      COCO's captions_train2017.json
    {"images": [{"filename", "split", "sentences": [{"raw"}]}]}                       Karpathy's dataset_flickr30k.json
    {"folder/a": {"caption": "...", "tags": "..."}}                                   sd-scripts' meta_cap.json
    {"a.jpg": "a caption"}, {"a.jpg": ["a caption", "another"]}, [{"image", "caption"}]  plain JSON
    a.jpg#0 <tab> a caption                                                            Flickr's results.token
    image,caption                                                                      captions.txt with a header

Every record has `file_name` and `text`. A `.json` counts as such a file if no image of the same name lies beside it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from condgen.contracts import CondgenError
from condgen.data.formats.delimited import csv_columns, csv_records, encoding_of, json_records, line_count
from condgen.data.formats.registry import SUFFIXES, TableFormat, register_format

NOT_DATA = ("about", "config", "dataset_dict", "dataset_info", "model_index", "package", "report", "run", "state")
"""Names of .json files that hold no captions: those of condgen, of `datasets` and of models."""
DETECTIONS = (
    "holds boxes or classes of objects (COCO's instances), no captions. Use the file of captions "
    "(captions_train2017.json), or folders of classes"
)


def _is_json_table(path: Path) -> bool:
    """Whether a .json may hold the captions of several images."""
    name = path.stem.lower()
    if name in NOT_DATA or name.endswith("_stats") or _image_beside(path):
        return False
    try:
        with path.open("rb") as file:
            return file.read(200).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")
    except OSError:
        return False


def _image_beside(path: Path) -> bool:
    return any(path.with_suffix(suffix).is_file() for suffix in (".jpg", ".png", ".webp", ".jpeg"))


def _json(path: Path) -> list[dict | None]:
    about = path.stat()
    return _parsed(path, about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=2)  # a file is asked for its columns, its number of rows and its rows
def _parsed(path: Path, size: int, changed: int) -> list[dict | None]:
    return list(_rows_of(path))


def _rows_of(path: Path) -> Iterator[dict | None]:
    content: Any = None
    with suppress(ValueError):  # one object a line
        content = json.loads(path.read_text(encoding_of(path)))
    if isinstance(content, dict) and isinstance(content.get("images"), list):
        yield from _coco(path, content)
    elif isinstance(content, dict) and content and _are_names(content):
        names = _names_beside(path)
        for name, own in content.items():
            if isinstance(own, dict):
                text = own.get("caption") or own.get("tags") or own.get("text")
                yield {"file_name": names.get(name, name), "text": text, **own}
            else:
                yield {"file_name": names.get(name, name), "text": own}
    else:
        yield from json_records(path, [])


def _are_names(content: dict) -> bool:
    """Whether the keys of an object name images, each with its caption, captions, or sd-scripts' caption and tags."""
    if all(isinstance(own, dict) for own in content.values()):
        return all(own.keys() & {"caption", "tags"} for own in content.values())
    return all(Path(name).suffix.lower() in SUFFIXES for name in content)


def _coco(path: Path, content: dict) -> Iterator[dict | None]:
    annotations = content.get("annotations")
    captions: dict[object, list[str]] = {}
    for one in annotations if isinstance(annotations, list) else ():
        if isinstance(one, dict) and "caption" in one:
            captions.setdefault(one.get("image_id"), []).append(one["caption"])
    if annotations and not captions:
        raise CondgenError(f"{path} {DETECTIONS}.")
    for image in content["images"]:
        if not isinstance(image, dict):
            yield None
            continue
        name = image.get("file_name") or "/".join(filter(None, (image.get("filepath"), image.get("filename"))))
        sentences = image.get("sentences")
        raw = [one.get("raw") for one in sentences if isinstance(one, dict)] if isinstance(sentences, list) else None
        row = {"file_name": name, "text": captions.get(image.get("id"), []) if raw is None else raw}
        yield row | ({"split": image["split"]} if "split" in image else {})


def _names_beside(path: Path) -> dict[str, str]:
    """Names without suffix -> the images beside the file, since sd-scripts writes names without suffix."""
    with os.scandir(path.parent) as entries:
        files = [Path(entry.name) for entry in entries]
    return {file.stem: file.name for file in files if file.suffix.lower() in SUFFIXES}


def _json_records(path: Path, columns: list[str]) -> Iterator[dict | None]:
    yield from _json(path)


def _json_columns(path: Path) -> list[str]:
    return list(dict.fromkeys(name for row in islice(_json(path), 1000) for name in row or ()))


# Texts ----------------------------------------------------------------------------------------------------------------


def _is_text_table(path: Path) -> bool:
    """Whether a .txt holds the captions of several images: captions.txt with a header, or Flickr's token.txt."""
    name = path.name.lower()
    if not (name.endswith(".token.txt") or name.startswith(("captions", "results"))) or _image_beside(path):
        return False
    try:
        return len(_text_columns(path)) > 1
    except (OSError, ValueError):
        return False


def _is_token(path: Path) -> bool:
    """Whether the first line is `a.jpg#0`, a tab and a caption."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return "#" in file.readline(1000).partition("\t")[0]


def _text_records(path: Path, columns: list[str]) -> Iterator[dict | None]:
    if not _is_token(path):
        yield from csv_records(path, columns)
        return
    with path.open(encoding="utf-8-sig") as file:
        for line in file:
            if line.strip():
                name, tab, text = line.rstrip("\n").partition("\t")
                yield {"file_name": name.rpartition("#")[0], "text": text} if tab and "#" in name else None


def _text_columns(path: Path) -> list[str]:
    return ["file_name", "text"] if _is_token(path) else csv_columns(path)


register_format(
    TableFormat(".json", _json_records, _json_columns, lambda path: len(_json(path)), accepts=_is_json_table),
    TableFormat(".token", _text_records, _text_columns, line_count),
    TableFormat(".txt", _text_records, _text_columns, line_count, accepts=_is_text_table),
)
