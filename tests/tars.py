"""Shards made in a test: every image and its caption tell the number of their sample."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from PIL import Image


def png(shade: int = 0, size: int = 4) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (size, size), (shade % 256, shade // 256, 7)).save(file, "PNG")
    return file.getvalue()


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return path


def numbered(first: int, count: int, size: int = 4) -> list[tuple[str, bytes]]:
    """Samples whose image and caption tell their number."""
    members = []
    for i in range(first, first + count):
        members += [(f"{i:05}.png", png(i, size)), (f"{i:05}.txt", f"shade {i}".encode())]
    return members


def write_shards(folder: Path, count: int, each: int, size: int = 4) -> Path:
    for number, first in enumerate(range(0, count, each)):
        write_tar(folder / f"s-{number:03}.tar", numbered(first, min(each, count - first), size))
    return folder
