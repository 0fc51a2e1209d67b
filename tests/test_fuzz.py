"""Whatever bytes lie in a file: it is read, or refused with an error of ours; never another error, a hang or a crash.

A few inputs run with the other tests. The long campaigns, one process each:

    CONDGEN_FUZZ=10000 pytest -q -s tests/test_fuzz.py -k images
    CONDGEN_FUZZ=10000 pytest -q -s tests/test_fuzz.py -k tables
    CONDGEN_FUZZ=10000 pytest -q -s tests/test_fuzz.py -k labels
    CONDGEN_FUZZ=10000 pytest -q -s tests/test_fuzz.py -k shards
    CONDGEN_FUZZ=10000 pytest -q -s tests/test_fuzz.py -k models

Inputs are sound files that were damaged: bytes flipped, cut, doubled, spliced in from other files, numbers replaced by
absurd ones, checksums mended so that a decoder comes to see the damage, JSON changed as a tree. Some are damaged
slightly and behind their header, so that much is read of them. An input that takes longer than LIMIT seconds ends the
campaign; one that is stuck outside Python, or waits, ends the process.
"""

from __future__ import annotations

import csv
import faulthandler
import gzip
import io
import json
import os
import re
import resource
import signal
import struct
import tarfile
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from condgen.cli.info import facts_of, lines_of
from condgen.cli.listing import model_lines, model_row
from condgen.contracts import CondgenError
from condgen.data.audit.check import check
from condgen.data.audit.report import LabelReport
from condgen.data.options import DEFAULTS, ReadOptions
from condgen.data.sources.captions import load_captions
from condgen.data.sources.images import MAX_PIXELS, ImageError, fit, open_image
from condgen.data.sources.labels import open_labelled
from condgen.data.sources.rows import open_source
from condgen.data.streaming.stream import Stream
from condgen.files.images import read_recipe
from condgen.files.registry import about
from tests.tars import numbered

INPUTS = int(os.environ.get("CONDGEN_FUZZ") or 0)
LIMIT = 20
"""Seconds of computing that one input may take; a machine may have other things to do too."""

pytestmark = pytest.mark.filterwarnings("ignore")


def campaign(few: int):
    """The settings of a campaign: `few` inputs, always the same ones, or as many new ones as were asked for."""
    return settings(
        max_examples=INPUTS or few, derandomize=not INPUTS, database=None, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(request):
    """Counts what became of the inputs; printed at the end, with the most memory that was ever in use."""
    counts: dict[str, Counter] = {}
    yield lambda name, what: counts.setdefault(name, Counter()).update([what])
    for name, own in counts.items():
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"\n{name}: {own.total()} inputs, {dict(own.most_common())}; {memory:.0f} MB at most")


class Hang(BaseException):
    """No `except Exception` catches it."""


@contextmanager
def in_time() -> Iterator[None]:
    def stop(*_):
        raise Hang(f"an input took longer than {LIMIT} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, LIMIT)
    faulthandler.dump_traceback_later(30 * LIMIT, exit=True)  # by the clock, for who waits does not compute
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        faulthandler.cancel_dump_traceback_later()


# damage

NUMBERS = [b"0", b"-1", b"1e999", b"NaN", b"-Infinity", b"99999999999999999999", b"1.5", b"true", b"null", b'""', b"[]",
           b"4294967296", b"9" * 400]  # fmt: skip
SPLINTERS = [b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"[" * 3000, b'{"a":' * 3000, b'"', b"\\ud800", b",,,,", b"\r",
             b"\n\n", b"..", b"\x1b[2J", "\u202e\U0001f993".encode(), b"\x80\x80", b"PAR1", b"IEND"]  # fmt: skip
KINDS = ("flip", "set", "cut", "drop", "double", "insert", "number", "head", "splice", "zero", "word")
SHARE = st.floats(0, 1, exclude_max=True)
DAMAGE = st.lists(st.tuples(st.sampled_from(KINDS), SHARE, st.integers(0, 2**32 - 1)), min_size=1, max_size=6)
SLIGHT = st.lists(
    st.tuples(st.sampled_from(["flip", "set"]), st.floats(0.3, 1, exclude_max=True), st.integers(0, 2**32 - 1)),
    min_size=1, max_size=2,
)  # fmt: skip


def damaged(content: bytes, damage: list[tuple[str, float, int]], others: list[bytes]) -> bytes:
    """Content with some damage done to it, one thing after the other."""
    for kind, place, value in damage:
        at, length = int(place * len(content)), value % 64 + 1
        if kind == "head":  # the first bytes tell sizes and kinds
            kind, at = "set", int(place * min(64, len(content)))
        if kind == "flip" and content:
            content = content[:at] + bytes([content[at] ^ (1 << value % 8)]) + content[at + 1 :]
        elif kind == "set" and content:
            content = content[:at] + bytes([value % 256]) + content[at + 1 :]
        elif kind == "word":
            content = content[:at] + struct.pack("<I" if value % 2 else ">I", value) + content[at + 4 :]
        elif kind == "zero":
            content = content[:at] + bytes(len(content[at : at + length])) + content[at + length :]
        elif kind == "cut":
            content = content[:at]
        elif kind == "drop":
            content = content[:at] + content[at + length :]
        elif kind == "double":
            content = content[: at + length] + content[at : at + length * (1 + value % 50)] + content[at + length :]
        elif kind == "insert":
            content = content[:at] + SPLINTERS[value % len(SPLINTERS)] + content[at:]
        elif kind == "number" and (found := list(re.finditer(rb"\d+", content[:200_000]))):
            one = found[int(place * len(found))]
            content = content[: one.start()] + NUMBERS[value % len(NUMBERS)] + content[one.end() :]
        elif kind == "splice":
            other = others[value % len(others)]
            content = content[:at] + other[int(place * len(other)) :]
    return content


# images


def sound_pictures() -> list[bytes]:
    """Small files of every format and mode that is read, and some that are not."""
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (11, 13, 3), np.uint8))
    grey16 = Image.fromarray(rng.integers(0, 2**16, (7, 5)).astype(np.uint16))
    frames = {"save_all": True, "append_images": [rgb.rotate(90), rgb.rotate(180)]}
    exif = Image.Exif()
    exif[0x0112] = 6
    text = PngImagePlugin.PngInfo()
    text.add_itxt("condgen", json.dumps({"prompt": "a", "seed": 1, "prior": "none", "model": "m", "model_id": "0"}))
    text.add_text("zip", "a" * 500, zip=True)
    asked = [
        ("PNG", rgb, {"pnginfo": text, "exif": exif, "icc_profile": b"x" * 200}), ("PNG", rgb, frames),
        ("PNG", rgb.convert("RGBA"), {}), ("PNG", rgb.convert("P"), {"transparency": 3}), ("PNG", rgb.convert("1"), {}),
        ("PNG", rgb.convert("LA"), {}), ("PNG", grey16, {}),
        ("JPEG", rgb, {"exif": exif}), ("JPEG", rgb.convert("CMYK"), {}),
        ("JPEG", rgb.convert("L"), {"progressive": True}),
        ("MPO", rgb, frames), ("WEBP", rgb, {}), ("WEBP", rgb.convert("RGBA"), {"lossless": True, "exif": exif}),
        ("WEBP", rgb, frames), ("GIF", rgb, frames), ("GIF", rgb.convert("P"), {"transparency": 1}),
        ("BMP", rgb, {}), ("BMP", rgb.convert("P"), {}), ("BMP", rgb.convert("1"), {}),
        ("TIFF", rgb, {}), ("TIFF", grey16, {}), ("TIFF", Image.new("F", (5, 5)), {}), ("TIFF", rgb, frames),
        ("TIFF", rgb.convert("CMYK"), {}), ("TIFF", rgb.convert("1"), {"compression": "group4"}),
        *(("TIFF", rgb, {"compression": how}) for how in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits")),
        ("PPM", rgb, {}), ("ICO", rgb, {}),
    ]  # fmt: skip
    files = []
    for form, picture, options in asked:
        file = io.BytesIO()
        more = [frame.copy() for frame in options.get("append_images", ())]  # copies: saving leaves its settings behind
        picture.copy().save(file, form, **options | ({"append_images": more} if more else {}))
        files.append(file.getvalue())
    return [*files, b"", b"<html>404</html>", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"]


PICTURES = sound_pictures()


def chunks_of(png: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """Length as it is told, kind with content, checksum."""
    found, at = [], 8
    while at + 12 <= len(png):
        end = at + 8 + int.from_bytes(png[at : at + 4], "big")
        found.append((png[at : at + 4], png[at + 4 : end], png[end : end + 4]))
        at = end + 4
    return found


def mended(content: bytes) -> bytes:
    """A PNG whose checksums are right, whatever was done to its chunks."""
    if not content.startswith(PICTURES[0][:8]):
        return content
    parts = [(length, inner, struct.pack(">I", zlib.crc32(inner))) for length, inner, _ in chunks_of(content)]
    return content[:8] + b"".join(piece for part in parts for piece in part)


def repainted(content: bytes, damage) -> bytes:
    """A sound PNG with damage to its rows of pixels, and sound as a file again; others are damaged as they are."""
    if not content.startswith(PICTURES[0][:8]) or content not in PICTURES:
        return damaged(content, damage, PICTURES)
    parts = [inner for _, inner, _ in chunks_of(content)]
    rows = zlib.decompress(b"".join(inner[4:] for inner in parts if inner[:4] == b"IDAT"))
    first = next(i for i, inner in enumerate(parts) if inner[:4] == b"IDAT")
    rest = [inner for inner in parts[first:] if inner[:4] != b"IDAT"]
    packed = b"IDAT" + zlib.compress(damaged(rows, damage, PICTURES))
    whole = [struct.pack(">I", len(inner) - 4) + inner + bytes(4) for inner in (*parts[:first], packed, *rest)]
    return mended(content[:8] + b"".join(whole))


@campaign(250)
@given(
    st.one_of(*[st.sampled_from(PICTURES)] * 9, st.binary(max_size=300)),
    st.one_of(
        st.tuples(st.just(False), DAMAGE), st.tuples(st.just(False), SLIGHT), st.tuples(st.just(True), SLIGHT),
    ),
    st.booleans(),
)  # fmt: skip
def test_images(outcomes, tmp_path_factory, content, how, mend):
    pixels, damage = how
    content = repainted(content, damage) if pixels else damaged(content, damage, PICTURES)
    content = mended(content) if mend else content
    with in_time():
        try:
            picture = open_image(content, name="x")
            assert picture.mode == "RGB" and 0 < picture.width * picture.height <= MAX_PIXELS
            assert fit(picture, 8).shape == (3, 8, 8)
            outcomes("pictures", "read")
        except ImageError as error:
            assert error.reason and str(error).startswith("x ") and len(str(error)) < 500
            outcomes("pictures", error.reason)
        path = tmp_path_factory.getbasetemp() / "x.png"
        path.write_bytes(content)
        try:
            assert "prompt" in read_recipe(path)
        except CondgenError as error:
            assert str(path) in str(error)


# tables

SMALL = PICTURES[2]
CELLS = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30), st.just("a.png"), st.just("b.png"),
        st.just("a.png"), st.sampled_from(["../a.png", "a.png\0", "a" * 5000, "/", ".", "train", "test", "5", "<pad>"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=9), inner, max_size=3)),
    max_leaves=5,
)  # fmt: skip
NAMES = st.sampled_from(["file_name", "text", "image", "split", "captions", "label", "path", "", "\ud800", "a b"])
RECORDS = st.lists(st.dictionaries(NAMES, CELLS, max_size=5), max_size=6)
SOUND_RECORDS = [{"file_name": "a.png", "text": "one", "split": "train"}, {"file_name": "b.png", "text": ["two", "2"]}]
ENCODINGS = st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1", "utf-7", "cp037"])
COLUMNS = {
    "text": ["one", None, ""], "long": [2**62, None, -1], "float": [float("nan"), float("inf"), None],
    "bool": [True, None, False], "bytes": [SMALL, None, b""], "strings": [["a", None], None, []],
    "picture": [{"bytes": SMALL, "path": "a.png"}, None, {"bytes": None, "path": "b.png"}],
    "dates": [date(1, 1, 1), None, date(9999, 12, 31)], "decimal": [Decimal("1.5"), None, Decimal("-9")],
    "null": [None] * 3, "names": ["a.png", "b.png", "../a.png"], "deep": [[[["a"]]], None, [[]]],
    "splits": ["train", "test", None],
}  # fmt: skip
TABLES = st.lists(st.tuples(NAMES, st.sampled_from(sorted(COLUMNS))), max_size=5)


def as_jsonl(records: list[dict]) -> bytes:
    return "\n".join(json.dumps(record) for record in records).encode()


def as_csv(records: list[dict], encoding: str) -> bytes:
    names = list(dict.fromkeys(name for record in records for name in record))
    file = io.StringIO(newline="")
    csv.writer(file).writerows([names, *([record.get(name) for name in names] for record in records)])
    return file.getvalue().encode(encoding, "replace")


def as_parquet(columns: list[tuple[str, str]], packing: str) -> bytes:
    names = [name.encode("utf-8", "replace").decode() for name, _ in columns]
    table = pa.Table.from_arrays([pa.array(COLUMNS[kind]) for _, kind in columns], names=names)
    file = io.BytesIO()
    pq.write_table(table, file, compression=packing, row_group_size=2)
    return file.getvalue()


USUAL = [("image", "picture"), ("text", "text"), ("split", "splits")]
SOUND_TABLES = [
    as_jsonl(SOUND_RECORDS), as_csv(SOUND_RECORDS, "utf-8"), b"an image\nanother line\n",
    *(as_parquet(columns, packing) for packing in ("snappy", "zstd", "gzip", "none")
      for columns in (USUAL, [("file_name", "names"), ("text", "strings")])),
]  # fmt: skip
FILES = st.one_of(
    st.tuples(st.just("metadata.jsonl"), RECORDS.map(as_jsonl)),
    st.tuples(st.just("metadata.csv"), st.builds(as_csv, RECORDS, ENCODINGS)),
    st.tuples(st.just("a.txt"), st.builds(str.encode, st.text(max_size=80), ENCODINGS, st.just("replace"))),
    st.tuples(
        st.sampled_from(["train.parquet", "metadata.parquet"]),
        st.builds(as_parquet, TABLES, st.sampled_from(["snappy", "zstd", "gzip", "none"])),
    ),
    st.tuples(st.just("metadata.jsonl"), st.just(SOUND_TABLES[0])),
    st.tuples(st.just("metadata.csv"), st.just(SOUND_TABLES[1])),
    st.tuples(st.sampled_from(["train.parquet", "metadata.parquet"]), st.sampled_from(SOUND_TABLES[3:])),
    st.tuples(st.sampled_from(["metadata.jsonl", "metadata.csv", "a.txt", "x.parquet"]), st.binary(max_size=200)),
)
HOW = st.fixed_dictionaries(
    {"split": st.sampled_from(["all", "all", "train", "test", "\ud800"])},
    optional={
        "options": st.builds(ReadOptions, NAMES, NAMES, split_column=st.sampled_from(["", "split"])),
        "filter": st.sampled_from(["split=train", "text=1e999", "=", "a b=nan", ","]),
    },
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(SMALL)
    return folder


@contextmanager
def refusals() -> Iterator[None]:
    """Errors of ours may be raised, and tell something."""
    try:
        yield
    except CondgenError as error:
        assert 20 < len(str(error)) < 5000


def loaded(place: Path, labelled: bool, split: str = "all", options: ReadOptions = DEFAULTS, filter: str = ""):
    """What training would read."""
    if not labelled:
        return load_captions(place, 4, max_bad_fraction=1, split=split, options=options, filter=filter)
    named = {"image_column": options.image_column, "split_column": options.split_column, "filter": filter}
    return open_labelled(place, 4, max_bad_fraction=1, split=split, **named)


def agree(report, data) -> None:
    """The loader takes what the check counts as usable."""
    if report is not None:
        assert json.dumps(report.as_dict()) and all(line.isprintable() for line in report.lines())
    assert (data is not None) == (report is not None and report.usable > 0), "the loader agrees with the check"
    if isinstance(report, LabelReport) and data is not None:
        assert len(data) == report.usable and {factor.name for factor in data.attributes} >= set(report.values)
    elif data is not None:
        assert len(data) == report.images > 0 and all(data.texts)


@campaign(150)
@given(FILES, st.one_of(st.just([]), DAMAGE), HOW)
def test_tables(outcomes, home, file, damage, how):
    name, content = file
    path = home / name
    path.write_bytes(damaged(content, damage, SOUND_TABLES))
    told = {}
    try:
        with in_time():
            with refusals():
                told["check"] = check(home, **how)
            report = told.get("check")
            with refusals():
                told["load"] = loaded(home, isinstance(report, LabelReport), **how)
        data = told.get("load")
        agree(report, data)
        outcomes("tables", "read" if data is not None else "no usable row" if report is not None else "refused")
    finally:
        path.unlink()


# labels


def sound_labels() -> dict[str, bytes]:
    """Pairs of idx files, CIFAR's batches, a table and the names of classes, a few images each."""
    rng = np.random.default_rng(0)
    pictures, labels = rng.integers(0, 256, (6, 4, 4), np.uint8).tobytes(), bytes(range(6))
    images = struct.pack(">4B3I", 0, 0, 8, 3, 6, 4, 4) + pictures
    classes = struct.pack(">4BI", 0, 0, 8, 1, 6) + labels
    batch = b"".join(bytes([i]) + rng.integers(0, 256, 3072, np.uint8).tobytes() for i in range(6))
    rows = [{"file_name": f"{name}.png", "label": name, "age": 0.5} for name in "ab"]
    return {
        "train-images-idx3-ubyte": images, "train-labels-idx1-ubyte": classes,
        "train-images-idx3-ubyte.gz": gzip.compress(images), "train-labels-idx1-ubyte.gz": gzip.compress(classes),
        "data_batch_1.bin": batch, "classes.txt": b"one\ntwo\n", "metadata.csv": as_csv(rows, "utf-8"),
        "metadata.jsonl": as_jsonl(rows),
    }  # fmt: skip


LABELLED = sound_labels()
TOGETHER = [
    ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"],
    ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"],
    ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte", "classes.txt"], ["data_batch_1.bin"],
    ["data_batch_1.bin", "classes.txt"], ["metadata.csv"], ["metadata.jsonl"],
]  # fmt: skip


@campaign(150)
@given(st.sampled_from(TOGETHER), st.integers(0, 2), st.one_of(st.just([]), DAMAGE, DAMAGE), st.booleans())
def test_labels(outcomes, home, names, which, damage, inside):
    """Damage to one of the files that belong together; of packed ones also to what is packed."""
    hurt = names[which % len(names)]
    others = list(LABELLED.values())
    try:
        for name in names:
            content = LABELLED[name]
            if name == hurt and inside and name.endswith(".gz"):
                content = gzip.compress(damaged(gzip.decompress(content), damage, others))
            elif name == hurt:
                content = damaged(content, damage, others)
            (home / name).write_bytes(content)
        told = {}
        with in_time():
            with refusals():
                told["check"] = check(home)
            report = told.get("check")
            with refusals():
                told["load"] = loaded(home, not hasattr(report, "captions"))
        data = told.get("load")
        # what has no label is trained on by guessed attributes, with a warning; the check wants them named
        if report is not None or data is None or "label" in {factor.name for factor in data.attributes}:
            agree(report, data)
        outcomes("labels", "read" if "load" in told else "no usable row" if report is not None else "refused")
    finally:
        for name in names:
            (home / name).unlink(missing_ok=True)


# shards


def as_tar(members: list[tuple[str, bytes]], form: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for name, content in members:
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    return file.getvalue()


def sound_shards() -> list[bytes]:
    """Small shards of every kind of member, in every dialect, short ones among them, for most of a tar is padding."""
    told = json.dumps({"caption": ["one", "two"], "split": "train"}).encode()
    several = [("a/1.jpg", PICTURES[7]), ("a/1.json", told), ("a/1.cls", b"3"), ("b.webp", PICTURES[11]),
               ("b.txt", b"one\n\ntwo"), ("c.tif", PICTURES[20]), ("c.caption", b"x"), ("d.png", SMALL)]  # fmt: skip
    odd = [(f"{'long' * 60}.png", SMALL), (f"{'long' * 60}.txt", b"x"), ("\u00fc.png", SMALL), ("\u00fc.txt", b"y")]
    forms = (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)
    shards = [as_tar(members, form) for members in (numbered(0, 1), numbered(0, 4), several, odd) for form in forms]
    return [*shards, as_tar(several, tarfile.USTAR_FORMAT), as_tar([], tarfile.PAX_FORMAT)]


SHARDS = sound_shards()


def mended_tar(content: bytes) -> bytes:
    """A tar whose headers have the checksums of what is in them, as far as one leads to the next."""
    blocks, at = bytearray(content), 0
    while at + 512 <= len(blocks) and any(header := blocks[at : at + 512]):
        header[148:156] = b" " * 8
        blocks[at + 148 : at + 156] = b"%06o\0 " % sum(header)
        size = bytes(header[124:136]).strip(b" \0")
        if not re.fullmatch(rb"[0-7]+", size):
            break
        at += 512 + -(-int(size, 8) // 512) * 512
    return bytes(blocks)


@campaign(150)
@given(st.sampled_from(SHARDS), st.one_of(DAMAGE, SLIGHT), st.booleans())
def test_shards(outcomes, tmp_path_factory, content, damage, mend):
    content = damaged(content, damage, SHARDS)
    path = tmp_path_factory.getbasetemp() / "x.tar"
    path.write_bytes(mended_tar(content) if mend else content)
    told = {}

    def streamed() -> int:
        stream = Stream(open_source(path), 4, split="all", max_bad_fraction=1)
        return sum(sample.image.shape == (3, 4, 4) and all(sample.captions) for sample in stream.samples(0, 99))

    with in_time():
        for what, read in (("check", lambda: check(path, split="all")), ("stream", streamed),
                           ("load", lambda: load_captions(path, 4, split="all", max_bad_fraction=1))):  # fmt: skip
            try:
                told[what] = read()
            except CondgenError as error:
                assert 20 < len(str(error)) < 5000 and "x.tar" in str(error), what
    report, data, pictures = (told.get(what) for what in ("check", "load", "stream"))
    assert (data is not None) == (report is not None and report.usable > 0), "the loader agrees with the check"
    assert data is None or (data.images.shape == (len(data), 3, 4, 4) and len(data) == report.images)
    assert pictures is None or report is not None, "what streams can be checked"
    outcomes("shards", "read" if data is not None else "no usable row" if report is not None else "refused")


# models

NASTY = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9), st.just({}), st.just([[[]]]),
    st.sampled_from([10**9, -1, 2**63, 10**400, 1e308, 0, "", "../x", "\ud800", "\0"]),
    st.lists(st.integers(0, 99), max_size=3),
)  # fmt: skip


def places_in(tree, path=()) -> list[tuple]:
    """The path of every node of a JSON tree."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree[:50]) if isinstance(tree, list) else ()
    return [path, *(place for key, value in inner for place in places_in(value, (*path, key)))]


def changed(tree, place: float, how: int, value):
    """A JSON tree with one node replaced, removed, doubled or given a stranger."""
    places = places_in(tree)
    *above, key = places[int(place * len(places))] or (None,)
    if key is None:
        return value
    node = tree
    for step in above:
        node = node[step]
    if how % 4 == 0:
        del node[key]
    elif how % 4 == 1 and isinstance(node, list):
        node.insert(key, node[key])
    elif how % 4 == 2 and isinstance(node, dict):
        node[str(value)[:20]] = value
    else:
        node[key] = value
    return tree


def with_header(content: bytes, place: float, how: int, value) -> bytes:
    """A safetensors file with a change in its header, whose length is right."""
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    names = sorted(header) if isinstance(header, dict) else []
    own = header[names[int(place * len(names))]] if names else {}  # earlier changes may have left nothing
    own = own if isinstance(own, dict) else {}
    if how % 5 == 0 and "dtype" in own:
        own["dtype"] = ["F64", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "F8_E8M0", "F4", "C64", "X"][how % 11]
    elif how % 5 == 1 and "shape" in own:
        own["shape"] = [*own["shape"], 1] if how % 2 else own["shape"][::-1]
    elif how % 5 == 2 and "data_offsets" in own:
        own["data_offsets"][how % 2] += how % 64 - 32
    else:
        header = changed(header, place, how, value)
    told = json.dumps(header).encode()
    return struct.pack("<Q", len(told)) + told + content[8 + size :]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """A folder of a model, and what belongs into it."""
    from tests.tiny import tiny_model

    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_model().save(folder)
    return folder, {file: file.read_bytes() for file in sorted(folder.rglob("*.*"))}


CHANGE = st.tuples(
    st.sampled_from(["tree", "tree", "header", "bytes", "swap", "gone", "folder"]),
    SHARE, st.integers(0, 2**32 - 1), NASTY, DAMAGE,
)  # fmt: skip


@campaign(120)
@given(SHARE, st.lists(CHANGE, min_size=1, max_size=3))
def test_models(outcomes, model_folder, which, changes):
    folder, sound = model_folder
    files = list(sound)
    path = files[int(which * len(files))]
    content = sound[path]
    for kind, place, how, value, damage in changes:
        try:
            if kind == "tree" and path.suffix == ".json":
                content = json.dumps(changed(json.loads(content), place, how, value)).encode()
            elif kind in ("tree", "header") and path.suffix == ".safetensors":
                content = with_header(content, place, how, value)
            elif kind == "swap":
                content = sound[files[how % len(files)]]
            elif kind == "bytes":
                content = damaged(content, damage, list(sound.values()))
        except (
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            struct.error,
            RecursionError,
        ):  # too damaged already
            content = damaged(content, damage, list(sound.values()))
    path.write_bytes(content)
    if changes[0][0] in ("gone", "folder"):
        path.unlink()
        if changes[0][0] == "folder":
            path.mkdir()
    try:
        with in_time(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcomes("models", _painted(folder))
            with suppress(CondgenError):
                assert all(line.isprintable() for line in lines_of(facts_of(folder)))
            assert model_lines([model_row("tiny", folder, about(folder))])
    finally:
        if path.is_dir():
            path.rmdir()
        path.write_bytes(sound[path])


def _painted(folder: Path) -> str:
    from condgen.pipelines.text_to_image import TextToImage

    try:
        model = TextToImage.load(folder)
    except CondgenError as error:
        assert 20 < len(str(error)) < 2000
        return "refused"
    try:
        generated = next(model.generate("a red circle above a zebra \u2603", steps=1))
    except CondgenError:
        return "loaded, options refused"
    assert generated.image.size == (model.size, model.size) and generated.png()
    return "loaded and painted"
