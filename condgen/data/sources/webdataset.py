"""Reads webdataset shards: .tar files whose members of one name form a sample, `0001.jpg` + `0001.txt` + `0001.json`.

A sample becomes a record like a row of any other table: `image`; `txt`, the lines of the text (`.txt`, `.text` or
`.caption`), each a caption; `cls`, the class in a `.cls`; and the fields of the JSON. Other members (.pickle, .pyd,
.npy ...), hidden files (._a.png), links and devices are skipped, and nothing is ever unpacked to disk or unpickled.

The members of a sample stand together, and its name ends at the first dot, as in the library webdataset.

Only plain files and https are opened. Samples are read one at a time.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import tarfile
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from condgen.contracts import CondgenError, CondgenWarning, listed
from condgen.data.formats.registry import FAULT, HIDDEN, IMAGE_NAMES, TableFormat, register_format
from condgen.files.weights import file_hash

IMAGES = tuple(dict.fromkeys(["jpg", "jpeg", "png", "webp", *" ".join(sorted(IMAGE_NAMES)).replace(".", "").split()]))
"""Suffixes of images, those first that are preferred in a sample of several."""
TEXTS = ("txt", "text", "caption")
KINDS = frozenset((*IMAGES, *TEXTS, "json", "cls"))
"""Suffixes of the members that are read."""
MAX_IMAGE = 64_000_000
MAX_TEXT = 1_000_000
"""Maximum size of a member in bytes; larger ones are not read, and count as missing."""
MAX_DOWNLOAD = 8_000_000_000
"""Maximum size of a downloaded shard in bytes."""
MAX_SHARDS = 100_000
PACKED = {
    b"\x1f\x8b": ("gzip", "tar -xzf"),
    b"BZh": ("bzip2", "tar -xjf"),
    b"\xfd7zXZ": ("xz", "tar -xJf"),
    b"\x28\xb5\x2f\xfd": ("zstd", "tar --zstd -xf"),
    b"PK\x03\x04": ("zip", "unzip"),
}
"""How packed files begin -> the name of the packing, and the command that unpacks them."""
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):", re.I)
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


# Names ----------------------------------------------------------------------------------------------------------------


def shard_files(spec: str) -> list[Path] | None:
    """Expands a pattern to files; None for an ordinary path.

    Args:
        spec: `data/shard-{0000..0123}.tar`, `data/*.tar`, or either (a range, no star) after https://.

    Raises:
        CondgenError: the scheme is not https, a file of the range is missing, or the pattern matches no file.
    """
    if os.path.exists(os.path.expanduser(spec)):
        return None
    scheme = _SCHEME.match(spec)
    if scheme and len(scheme[1]) > 1:  # a single letter is a drive
        if not spec.lower().startswith("https://"):
            raise CondgenError(
                f"{spec[:80]!r} cannot be read: only https:// is supported for remote files, and commands "
                f"({scheme[1]}:) are never run. Download the shards, and give their folder."
            )
        return [fetch(url, cache_folder()) for url in _spread(spec)]
    spec = os.path.expanduser(spec)
    if _RANGE.search(spec):
        files = [Path(name) for name in _spread(spec)]
        if missing := [file for file in files if not file.is_file()]:
            raise CondgenError(f"{missing[0]} is missing ({len(missing)} of the {len(files)} files of {spec} are).")
        return files
    if glob.has_magic(spec):
        files = sorted(Path(name) for name in glob.glob(spec, recursive=True) if os.path.isfile(name))
        if not files:
            raise CondgenError(f"{spec} matches no file. Put it in quotes, and check the folder.")
        return files
    return None


def _spread(spec: str) -> list[str]:
    """`a-{08..10}.tar` -> a-08.tar, a-09.tar, a-10.tar; several ranges in one name multiply."""
    found = _RANGE.search(spec)
    if not found:
        return [spec]
    low, high = int(found[1]), int(found[2])
    if not 0 <= high - low < MAX_SHARDS:
        raise CondgenError(f"{spec}: the range {found[0]} must rise, and by less than {MAX_SHARDS:,}.")
    heads = [f"{spec[: found.start()]}{n:0{len(found[1])}}" for n in range(low, high + 1)]
    tails = _spread(spec[found.end() :])
    if len(heads) * len(tails) > MAX_SHARDS:
        raise CondgenError(f"{spec} names more than {MAX_SHARDS:,} files.")
    return [head + tail for head in heads for tail in tails]


def cache_folder(of: str = "shards") -> Path:
    """The cache folder for a kind of data, in `$CONDGEN_CACHE`, `$XDG_CACHE_HOME/condgen` or `~/.cache/condgen`."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("CONDGEN_CACHE") or Path(home) / "condgen") / of


def fetch(url: str, folder: Path) -> Path:
    """Downloads a file atomically and returns its path; later calls find it there.

    Shards are downloaded rather than streamed, because training reads them in a different order every epoch.

    Raises:
        CondgenError: the server does not send the file, or it is larger than MAX_DOWNLOAD or truncated.
    """
    import http.client
    import urllib.error
    import urllib.request

    name = re.sub(r"[^\w.-]", "_", url.split("?")[0].rsplit("/", 1)[-1])[-80:]
    place = folder / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{name}"
    mark = place.with_name(f"{place.name}.sha256")
    if place.is_file():
        if not mark.is_file() or mark.read_text("utf-8").split()[:1] == [file_hash(place)]:  # earlier versions: none
            return place
        warnings.warn(f"{place} is damaged and is fetched anew.", CondgenWarning, stacklevel=2)
    aside = place.with_name(f"{place.name}.{os.getpid()}.tmp")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(url, timeout=60) as answer, open(aside, "wb") as file:
            if not answer.geturl().lower().startswith("https://"):
                raise CondgenError(f"{url} leads to {answer.geturl()[:80]}, which is not https and is not opened.")
            _copy(answer, file, url)
        mark.unlink(missing_ok=True)  # of the file that is replaced
        checksum = file_hash(aside)
        os.replace(aside, place)
        mark.write_text(f"{checksum}  {place.name}\n", encoding="utf-8")
    except (OSError, urllib.error.URLError, http.client.HTTPException, ValueError) as error:
        raise CondgenError(f"{url} cannot be fetched ({error}). Check the address, or download it yourself.") from None
    finally:
        aside.unlink(missing_ok=True)
    return place


def _copy(answer, file: BinaryIO, url: str) -> None:
    promised, read = answer.headers.get("Content-Length"), 0
    while chunk := answer.read(1 << 20):
        read += len(chunk)
        if read > MAX_DOWNLOAD:
            raise CondgenError(f"{url} is larger than {MAX_DOWNLOAD:,} bytes. Split it into smaller shards.")
        file.write(chunk)
    if promised is not None and promised.isdigit() and read != int(promised):
        raise CondgenError(f"{url} is truncated: received {read:,} of {promised} bytes. Try again.")


# Samples --------------------------------------------------------------------------------------------------------------


def samples(
    path: Path, wanted: Collection[str] = (), start: int = 0, images: bool = True
) -> Iterator[tuple[int, dict | None]]:
    """Reads the samples of a shard one at a time.

    Args:
        path: an uncompressed .tar.
        wanted: the fields to keep; empty keeps all.
        start: where to begin, a place that was yielded before.
        images: whether to read the bytes of the images; otherwise they are empty.

    Yields:
        (place of the sample in the file, record); the record is None if its JSON is invalid.

    Raises:
        CondgenError: the file is missing, truncated, damaged, or not an uncompressed .tar; the message names it.
    """
    with _readable(path), open(path, "rb") as file:
        file.seek(start)
        with tarfile.open(fileobj=file, mode="r:") as tar:
            key, place, parts, order = None, start, {}, _Order(path)
            for member in _members(tar, path):
                own, kind = _split(member.name)
                if own != key or kind in parts:
                    if key is not None:
                        yield place, _record(order.checked(key, parts), wanted)
                    key, place, parts = own, member.offset, {}
                if kind in KINDS and member.isreg() and not member.issparse():
                    limit = MAX_IMAGE if kind in IMAGES else MAX_TEXT
                    skip = member.size > limit or (kind in IMAGES and not images)
                    content = b"" if skip else _content(file, member, path)
                    parts[kind] = (f"{path.name}/{member.name}", content)
                elif "." in kind and kind.rpartition(".")[2] in KINDS:
                    parts.setdefault(DOTS, (f"{path.name}/{member.name}", b""))
            if key is not None:
                yield place, _record(order.checked(key, parts), wanted)
            _check_end(file, tar.offset, path)


DOTS = "."
"""Key in the parts of a sample under which the first member with several dots in its name stands."""


class _Order:
    """Finds shards whose images and texts are apart: incomplete samples of one name that complete each other."""

    def __init__(self, path: Path):
        self.path, self.incomplete = path, {}

    def checked(self, key: str, parts: dict[str, tuple[str, bytes]]) -> dict[str, tuple[str, bytes]]:
        """Returns the parts of a sample.

        Raises:
            CondgenError: an earlier sample of the same name holds what this one lacks.
        """
        image = any(kind in parts for kind in IMAGES)
        text = any(kind in parts for kind in (*TEXTS, "json", "cls"))
        if image != text and self.incomplete.setdefault(hash(key), image) != image:
            name = next(own for kind, (own, _) in parts.items() if kind != DOTS)
            raise CondgenError(
                f"{self.path}: the image and the text of a sample do not stand together ({name} is apart from the "
                "other members of its name). Sort the members: unpack the shard, and pack it with "
                "tar --sort=name -cf SHARD.tar -C FOLDER ."
            )
        return parts


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turns errors inside a shard into a `CondgenError` that names it."""
    try:
        yield
    except FileNotFoundError:
        raise CondgenError(f"{path} no longer exists. Restore it, or open the folder again.") from None
    except OSError as error:
        raise CondgenError(f"{path} cannot be read ({error.strerror or error}).") from None
    except (tarfile.TarError, ValueError, OverflowError, EOFError, RecursionError, MemoryError) as error:
        raise _damaged(path, str(error) or type(error).__name__) from None


def _damaged(path: Path, what: str) -> CondgenError:
    head = b""
    with suppress(OSError), open(path, "rb") as file:
        head = file.read(6)
    for start, (name, command) in PACKED.items():
        if head.startswith(start):
            return CondgenError(f"{path} is not a plain .tar but packed by {name}. Unpack it first: {command} {path}")
    return CondgenError(f"{path} is not a complete, uncompressed .tar ({what}). Copy it again, or decompress it.")


def _members(tar: tarfile.TarFile, path: Path) -> Iterator[tarfile.TarInfo]:
    while (member := tar.next()) is not None:
        tar.members = []  # the library keeps all headers, which would fill the memory
        if member.size < 0 or tar.offset < member.offset_data:
            raise _damaged(path, "a size below zero")  # would loop forever
        if member.isfile() and not any(part.startswith(HIDDEN) and part != "." for part in member.name.split("/")):
            yield member


def _split(name: str) -> tuple[str, str]:
    """Splits `a/0001.seg.png` into (`a/0001`, `seg.png`): the suffix begins at the first dot of the file name."""
    folder, slash, own = name.rpartition("/")
    stem, _, kind = own.partition(".")
    return folder + slash + stem, kind.lower()


def _content(file: BinaryIO, member: tarfile.TarInfo, path: Path) -> bytes:
    file.seek(member.offset_data)
    content = file.read(member.size)
    if len(content) < member.size:
        raise _damaged(path, "unexpected end of data")
    return content


def _record(parts: dict[str, tuple[str, bytes]], wanted: Collection[str]) -> dict | None:
    record: dict = {}
    if "json" in parts:
        try:
            record = json.loads(parts["json"][1])
        except (ValueError, RecursionError):
            return None
        if not isinstance(record, dict):
            return None
    for kind in TEXTS:
        if kind in parts:
            record["txt"] = parts[kind][1].decode("utf-8-sig", "replace").splitlines()
            break
    if "cls" in parts:
        record["cls"] = parts["cls"][1].decode("utf-8-sig", "replace").strip()
    for kind in IMAGES:
        if kind in parts:
            record["image"] = dict(zip(("path", "bytes"), parts[kind]))
            break
    else:
        if DOTS in parts:
            record[FAULT] = f"dots in the name: {parts[DOTS][0]}; the name of a sample ends at the first dot"
        elif parts:
            record[FAULT] = f"missing file: no image in the sample of {next(iter(parts.values()))[0]}"
    return {name: record[name] for name in (FAULT, *wanted) if name in record} if wanted else record


def _check_end(file: BinaryIO, place: int, path: Path) -> None:
    """Checks that a .tar ends with zeros; without them it is truncated, or a header in the middle is damaged."""
    file.seek(place)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise _damaged(path, f"no end mark at byte {place:,}")
    while rest := file.read(1 << 20):
        if rest.strip(b"\0"):
            raise _damaged(path, f"more data after the end mark at byte {place:,}")


def _records(path: Path, columns: list[str]) -> Iterator[dict | None]:
    yield from (record for _, record in samples(path, columns, images="image" in columns))


def _columns(path: Path) -> list[str]:
    """The fields of the first hundred samples.

    Raises:
        CondgenError: none of them has an image, a text or a field.
    """
    some = [record or {} for _, record in islice(samples(path, images=False), 100)]
    names = [name for name in dict.fromkeys(name for record in some for name in record) if name != FAULT]
    if "image" in names or not some:
        return names
    if dots := [record[FAULT] for record in some if "dots" in record.get(FAULT, "")]:
        example = dots[0].partition(": ")[2].partition(";")[0]
        raise CondgenError(
            f"{path} has dots in the names of its samples ({example}). In webdataset the name of a sample ends at the "
            "first dot, so images and texts do not find each other. Rename the files (replace the dots by _), and "
            "pack them again."
        )
    with _readable(path), tarfile.open(path, "r:") as tar:
        kinds = sorted({_split(member.name)[1] or "(no suffix)" for member in islice(_members(tar, path), 300)})
    raise CondgenError(
        f"{path} has no images: the suffixes of its members are {listed(kinds)}. Expected webdataset samples, an image "
        "(.jpg, .png ...) and a .txt, .json or .cls of the same name."
    )


register_format(TableFormat(".tar", _records, _columns, lambda path: 0, holds_images=True))
