"""Registry of data formats: each is one module with one call of `register_format`, and then every command reads it.

A `TableFormat` reads the rows of one kind of file, such as `.csv`, with captions, labels or attributes. A
`LabelledFormat` opens labelled images that are not a table, such as MNIST's idx files or the word `digits`.

The suffixes of images are listed here too. `walk` finds the files of a folder, and counts those that are named
like images and are not read.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from condgen.contracts import CondgenError
from condgen.files.registry import is_stranger
from condgen.text import printable

if TYPE_CHECKING:
    from condgen.data.formats.arrays import Arrays
    from condgen.data.options import ReadOptions
    from condgen.data.sources.label_rows import LabelledRows


HEIF = importlib.util.find_spec("pillow_heif") is not None
"""Whether the package that reads HEIC photos is installed."""
AVIF = importlib.util.find_spec("PIL._avif") is not None
"""Whether this Pillow reads AVIF (11.3 and newer do)."""
BY_SUFFIX = {".tga": "TGA", ".pcx": "PCX", ".dib": "DIB"}
"""Formats without a signature of their own, so that damaged files could pass for them: read by their suffix only."""
SUFFIXES = frozenset(
    [
        ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".pbm",
        ".pgm", ".ppm", ".pnm", ".pfm", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".qoi", ".sgi", ".rgb",
        ".rgba", ".bw", ".dds", ".ico",
    ]
    + list(BY_SUFFIX)
    + [".avif", ".avifs"] * AVIF
    + [".heic", ".heif", ".hif"] * HEIF
)  # fmt: skip
"""Suffixes of the files that are read as images."""
_UNREAD = {
    "HEIC photos need the package pillow-heif (pip install pillow-heif); or save them as JPEG": ".heic .heif .hif",
    "AVIF needs Pillow 11.3 or newer (pip install -U pillow); or save them as PNG": ".avif .avifs",
    "raw camera files are not read; export them as JPEG or PNG": (
        ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .iiq .kdc .mef .mos .nef .nrw .orf .pef .raf .raw .rw2 .rwl .sr2 .srf "
        ".srw .x3f"
    ),
    "drawings without pixels are not read; export them as PNG": ".ai .cdr .emf .eps .svg .svgz .wmf",
    "files of an image editor are not read; export them as PNG": ".afphoto .kra .ora .pdn .psb .psd .procreate .xcf",
    "this format is not read; save them as PNG": (
        ".blp .bpg .cur .dcm .dcx .exr .fit .fits .flc .flif .fli .ftc .ftu .gbr .hdr .icb .icns .im .jxl .jxr .ktx "
        ".ktx2 .msp .pcd .pxr .ras .vda .vst .wdp .xbm .xpm"
    ),
    "archives are not opened; unpack them": ".zip .rar .7z .tgz .tar.gz .tar.bz2 .tar.xz .tar.zst",
}
UNREAD = {suffix: why for why, group in _UNREAD.items() for suffix in group.split() if suffix not in SUFFIXES}
"""Suffix of images that are not read, and of archives -> why, and what to do."""
IMAGE_NAMES = SUFFIXES | {suffix for suffix, why in UNREAD.items() if "archives" not in why}
"""Suffixes of files that are named like images, whether they are read or not."""
HIDDEN = (".", "__MACOSX")
"""How the names of hidden files and folders begin, and that of the folder that macOS adds to archives."""
HIDDEN_FILE = "hidden file, ignored (macOS writes ._a.jpg beside a.jpg)"


# Formats --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TableFormat:
    """A kind of file that holds rows.

    Args:
        suffix: suffix of its files, such as `.csv`.
        records: (path, columns) -> the rows as dicts, None for a row that cannot be read, or {FAULT: the reason}; may
            leave out other columns.
        column_names: path -> the names of the columns.
        row_count: path -> approximate number of rows; 0 if that requires reading all of them.
        holds_images: whether a file contains its images ("a shard"); otherwise it names image files beside it.
        accepts: path -> whether a file of this suffix is such a table, for suffixes that other files have too.
    """

    suffix: str
    records: Callable[[Path, list[str]], Iterable[dict | None]]
    column_names: Callable[[Path], list[str]]
    row_count: Callable[[Path], int]
    holds_images: bool = False
    accepts: Callable[[Path], bool] = lambda path: True


@dataclass(frozen=True)
class LabelledFormat:
    """A format of labelled images, given by a path or a word.

    Args:
        name: name in messages.
        matches: (path or word, options) -> whether the data is of this format.
        open: (path or word, options, size) -> the images, not read yet; `size` is for images that are drawn.
        takes: the fields of `ReadOptions.selected` that it supports.
        attributes: path or word -> the names of all attributes, for data that by default has only its class.
    """

    name: str
    matches: Callable[[str, ReadOptions], bool]
    open: Callable[[str, ReadOptions, int], Arrays | LabelledRows]
    takes: tuple[str, ...] = ()
    attributes: Callable[[str], tuple[str, ...]] = lambda word: ()


FAULT = "__fault__"
"""Key of a record that cannot be used: the reason, and details after a colon."""


BUILTIN = "builtin:"
"""Prefix of the names of data that condgen comes with, where a folder has the same name."""


class AmbiguousName(CondgenError):
    """A word that is a path and the name of data that condgen comes with."""


def is_builtin(word: str, name: str) -> bool:
    """Whether a word names data that condgen comes with: its name, or `builtin:NAME`.

    Raises:
        AmbiguousName: a file, or a folder with files, has the same name.
    """
    if word != name:
        return word == BUILTIN + name
    from condgen.data.sources.images import is_output  # which imports this module

    path = Path(name)
    if path.is_file() or (path.is_dir() and not is_output(path) and _holds_files(path)):
        raise AmbiguousName(
            f"{name} is a path here, and the name of data that condgen comes with. Give ./{name} for the path, or "
            f"{BUILTIN}{name} for the other."
        )
    return True


def _holds_files(folder: Path) -> bool:
    return any(not is_stranger(name) for _, _, names in os.walk(folder) for name in names)


TABLES: dict[str, TableFormat] = {}
_LABELLED: list[LabelledFormat] = []


def register_format(*formats: TableFormat | LabelledFormat) -> None:
    """Registers formats; labelled formats that are registered later are tried first."""
    for one in formats:
        if isinstance(one, TableFormat):
            TABLES[one.suffix] = one
        else:
            _LABELLED.insert(0, one)


def labelled_formats() -> Iterator[LabelledFormat]:
    """Yields the formats of labelled images in the order in which they are tried."""
    yield from _LABELLED


def is_table(file: Path) -> bool:
    """Whether a file is a table, by its suffix."""
    return (form := TABLES.get(file.suffix.lower())) is not None and form.accepts(file)


def tables_among(files: Iterable[Path], path: Path) -> list[Path]:
    """The tables among the files of a folder, or the file `path` itself.

    Many other things are called .json: only metadata.json is a table, unless another metadata file is beside it.
    """
    tables = [file for file in files if is_table(file)]
    homes = {file.parent for file in tables if file.stem == "metadata" and file.suffix.lower() != ".json"}
    return [
        file
        for file in tables
        if file.suffix.lower() != ".json" or file == path or (file.stem == "metadata" and file.parent not in homes)
    ]


def is_shard(file: Path) -> bool:
    """Whether a file is a table that contains its images."""
    return (form := TABLES.get(file.suffix.lower())) is not None and form.holds_images and form.accepts(file)


# Files ----------------------------------------------------------------------------------------------------------------


@dataclass
class Listing:
    """The files below a folder.

    Args:
        files: all files in a fixed order, except hidden ones.
        unread: why files that are named like images, archives, links and folders are not read -> their names.
    """

    folder: Path
    files: list[Path] = field(default_factory=list)
    unread: dict[str, list[str]] = field(default_factory=dict)

    @property
    def images(self) -> list[Path]:
        """The files that are read as images, by their suffix."""
        return [file for file in self.files if file.suffix.lower() in SUFFIXES]

    def leave(self, file: Path, why: str) -> None:
        """Counts a file that is not read."""
        self.unread.setdefault(why, []).append(file.relative_to(self.folder).as_posix())


def walk(folder: Path, skip: Callable[[Path, list[str], list[str]], bool] = lambda *_: False) -> Listing:
    """Lists all files below a folder, also those behind links to files and folders.

    Every link to a folder is followed once, and not at all if it leads back to a folder above it.

    Args:
        skip: (a folder, the names of its folders, those of its files) -> whether to leave it out.
    """
    found, followed = Listing(folder), set()
    waiting = [(folder, False, (_identity(folder),))]
    while waiting:
        home, hidden, above = waiting.pop()
        try:
            entries = sorted(os.scandir(home), key=lambda entry: entry.name)
        except OSError as error:
            found.leave(home, f"the folder cannot be opened ({error.strerror})")
            continue
        names: tuple[list[str], list[str]] = ([], [])
        for entry in entries:
            names[not _is(entry, "is_dir")].append(entry.name)
        if not hidden and skip(home, *names):
            continue
        for entry in entries:
            path, secret = home / entry.name, hidden or entry.name.startswith(HIDDEN)
            if _is(entry, "is_dir"):
                own = _identity(path)
                if entry.is_symlink():
                    link = (above[-1], entry.name)
                    if secret or own in above or link in followed:
                        continue
                    followed.add(link)
                if own not in above and entry.name != ".git":
                    waiting.append((path, secret, (*above, own)))
            elif secret:
                if suffix_of(path) in IMAGE_NAMES:
                    found.leave(path, HIDDEN_FILE)
            elif _is(entry, "is_file"):
                found.files.append(path)
                if why := UNREAD.get(suffix_of(path)):
                    found.leave(path, f"{suffix_of(path)}: {why}")
            elif entry.is_symlink() and suffix_of(path) in IMAGE_NAMES:
                found.leave(path, "the link leads to no file; restore the file or remove the link")
    found.files.sort()
    return found


def _is(entry: os.DirEntry, what: str) -> bool:
    try:
        return getattr(entry, what)()
    except OSError:  # a link in a circle
        return False


def _identity(folder: Path) -> tuple[int, int]:
    about = os.stat(folder)
    return about.st_dev, about.st_ino


def unread_lines(unread: dict[str, list[str]], most: int = 3) -> list[str]:
    """One line for every reason in `Listing.unread` but hidden files, with a few names."""
    return [
        f"{len(names)} not read, for example {', '.join(map(printable, sorted(names)[:most]))} ({why})"
        for why, names in sorted(unread.items(), key=lambda item: -len(item[1]))
        if why != HIDDEN_FILE
    ]


def suffix_of(name: str | os.PathLike[str]) -> str:
    """The suffix of a file name in lower case, of an archive with both its parts (`.tar.gz`)."""
    own = PurePath(name)
    return "".join(own.suffixes[-2:]).lower() if own.stem.lower().endswith(".tar") else own.suffix.lower()
