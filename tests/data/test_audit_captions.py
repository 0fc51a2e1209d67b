"""`check` finds every fault once, agrees with the loader, and says what is odd but usable."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from condgen.contracts import CondgenError, CondgenWarning
from condgen.data.audit.check import check
from condgen.data.options import ReadOptions
from condgen.data.sources.captions import REPEATED, load_captions

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
GOOD = {"red.png": (255, 0, 0), "green.png": (0, 255, 0), "blue.png": (0, 0, 255)}


def png(colour: tuple[int, ...] = (0, 0, 0), mode: str = "RGB", size: tuple[int, int] = (4, 4)) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, colour).save(file, "PNG")
    return file.getvalue()


def write(folder: Path, images: dict[str, bytes], rows: list[dict]) -> Path:
    for name, content in images.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows), "utf-8")
    return folder


def row(name: object, text: object = "something", **more) -> dict:
    return {"file_name": name, "text": text, **more}


def bomb() -> bytes:
    """A whole PNG, but for a header that promises 30000 x 30000 pixels."""
    content = bytearray(png())
    content[16:24] = struct.pack(">II", 30000, 30000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


def faulty(at: Path) -> tuple[Path, dict[str, int]]:
    """A folder with every fault that a row can have beside three good rows and a repeated one, and how often each is
    there.
    """
    (at.parent / "secret.png").write_bytes(png())
    images = {name: png(colour) for name, colour in GOOD.items()}
    images |= {"alone.png": png(), "stray.png": png(), "half.png": png()[:40], "huge.png": bomb()}
    outside = ("../secret.png", str(at.parent / "secret.png"), "a/../../secret.png", "..\\secret.png", "C:\\a.png")
    rows = [row(name, f"a {name[:-4]} square") for name in GOOD]
    rows += [row(name) for name in ("none.png", "half.png", "huge.png", *outside, None, 7, "nul\0.png", "a" * 300)]
    rows += [row("alone.png", text) for text in (" \n", None, [], [None, ""], "\u200b", "<pad>")] + [
        row("red.png", "a red square")
    ]
    folder = write(at, images, rows)
    with (folder / "metadata.jsonl").open("a") as file:
        file.write('\n{"file_name": "red.png", \n[1]\n' + "[" * 100_000 + "\n")
    expected = {"missing file": 5, "no caption": 6, "outside the folder": len(outside), "broken metadata line": 3}
    ones = ("corrupt image", "too large image", "image absent from metadata")
    return folder, expected | dict.fromkeys(ones, 1)


@pytest.fixture
def report_of_faults(tmp_path):
    folder, expected = faulty(tmp_path / "data")
    return check(folder), expected


def test_every_fault_is_counted_under_its_reason(report_of_faults):
    report, expected = report_of_faults
    assert report.bad == expected
    assert (report.usable, report.images, report.total) == (4, 3, 4 + sum(expected.values()))
    assert report.notes.pop(REPEATED) == 1 and report.examples[REPEATED] == ["red.png"]
    assert report.examples["image absent from metadata"] == ["stray.png"]
    assert report.examples["too large image"][0].startswith("huge.png (")
    assert not report.ok() and report.ok(max_bad_fraction=0.9)


def test_the_loader_agrees_with_the_check(tmp_path):
    folder, expected = faulty(tmp_path / "data")
    bad = sum(expected.values())
    with pytest.raises(CondgenError) as caught:
        load_captions(folder, 4, split="all")
    assert f"{bad} of {bad + 4} rows" in str(caught.value) and f"condgen data check {folder}" in str(caught.value)
    for reason, count in expected.items():
        assert f"{count} {reason}: " in str(caught.value)
    with pytest.warns(CondgenWarning, match=f"{bad} of {bad + 4} rows left out"):
        assert len(load_captions(folder, 4, split="all", max_bad_fraction=0.9)) == 3


def test_examples_stop_at_ten(tmp_path):
    report = check(write(tmp_path, {"a.png": png()}, [row(f"{i}.png") for i in range(25)] + [row("a.png")]))
    assert report.bad == {"missing file": 25} and len(report.examples["missing file"]) == 10
    assert any(line.endswith("2.png ...") for line in report.lines())


def test_names_from_the_data_cannot_steer_a_terminal(tmp_path):
    report = check(write(tmp_path, {"a.png": png()}, [row("a.png", split="\x1b\ud800"), row("\x1b[2J\ud800.png")]))
    assert report.examples["missing file"] == ["?[2J?.png"]
    assert all(line.isprintable() for line in report.lines()) and "by a column: ??: 1" in "".join(report.lines())


def test_what_is_odd_is_a_note_and_stays_usable(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in GOOD.values()]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    Image.new("CMYK", (4, 4), (255, 0, 0, 0)).save(tmp_path / "cmyk.jpg")
    Image.fromarray(np.full((4, 4), 30999, np.uint16)).save(tmp_path / "deep.png")
    images = {"clear.png": png((1, 2, 3, 4), "RGBA"), "bit.png": png(1, "1"), "one.png": png(), "two.png": png()}
    names = ["moving.gif", "cmyk.jpg", "deep.png", *images]
    report = check(write(tmp_path, images, [row(name) for name in names]))
    assert report.bad == {} and report.usable == report.total == 7 and report.ok()
    assert report.notes.pop("palette") == 1
    assert report.notes == dict.fromkeys(["animated", "CMYK", "16-bit", "alpha", "1-bit", "duplicate image"], 1)
    assert report.examples["duplicate image"] == ["two.png = one.png"]


def test_same_bytes_in_another_shape_are_no_duplicate(tmp_path):
    images = {"wide.png": png(size=(8, 2)), "high.png": png(size=(2, 8))}
    report = check(write(tmp_path, images, [row(name) for name in images]))
    assert report.notes == {} and report.sizes == {"8 x 2": 1, "2 x 8": 1}


def test_statistics_of_captions_and_splits(tmp_path):
    images = {name: png(colour) for name, colour in GOOD.items()}
    rows = [
        row("red.png", ["red", "a red square"], split="train"),
        row("green.png", "a square", split="test"),
        row("blue.png", "a square", split=""),
        row("blue.png", "one more said of the blue one", split=""),
    ]
    report = check(write(tmp_path, images, rows))
    assert report.captions == {"count": 5, "distinct": 4, "words_min": 1, "words_median": 2, "words_max": 7}
    assert report.splits == {"(none)": 2, "train": 1, "test": 1} and report.split_rule == "a column"
    assert (report.usable, report.images) == (4, 3)
    assert check(tmp_path, split="test").total == 1
    assert check(tmp_path, filter="split=train").total == 1


def test_sidecars(tmp_path):
    for name, text in {
        "a": b"a red square\n\nred\n",
        "empty": b"\n",
        "latin": b"caf\xe9",
        "nothing": "\u200b\n\u00ad".encode(),
        "lone": b"x",
        "no": None,
    }.items():
        if name != "lone":
            (tmp_path / f"{name}.png").write_bytes(png())
        if text is not None:
            (tmp_path / f"{name}.txt").write_bytes(text)
    report = check(tmp_path)
    assert report.form == "sidecars" and report.usable == 1 and report.bad == {"no caption": 4}
    assert report.examples["no caption"][2] == "no.png (no no.txt beside it)"
    assert report.examples["text without an image"] == ["lone.txt"]
    with pytest.raises(CondgenError, match="no columns"):
        check(tmp_path, ReadOptions(caption_column="text"))


def test_the_report_is_json_and_text(report_of_faults):
    report, expected = report_of_faults
    again = json.loads(json.dumps(report.as_dict()))
    assert again["bad"] == expected and again["columns"] == ["image file_name, captions text, split (none)"]
    text = "\n".join(report.lines())
    for part in (*expected, "4 of 26 rows usable", "4 x 4: 3", "Not ready"):
        assert part in text


def test_a_check_does_not_hold_the_images(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(96):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (128, 128, 3), np.uint8)).save(file, "BMP")
        rows.append({"image": file.getvalue(), "text": str(f"noise {i}")})
    path = tmp_path / "one.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=16)
    del rows
    check(path)  # imports
    tracemalloc.start()
    report = check(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report.usable == 96 and peak < 96 * 128 * 128 * 3 / 2


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data sets are not on this machine")
def test_emoji_are_ready():
    report = check(SHARED / "emoji" / "emoji-base.parquet", filter="vendor=fxemoji")
    assert report.ok() and report.total == 831 and report.bad == {}
    assert report.notes["alpha"] > 800 and report.sizes == {"64 x 64": 831}
    assert report.columns == ["image image, captions captions, split split"]


def test_captions_out_of_scale_are_counted(tmp_path):
    """One of 8,000 words among short ones: it does not set the context, and is counted."""
    files = {f"{i}.png": png((i, 0, 0)) for i in range(30)}
    page = " ".join(f"word{k % 500}" for k in range(8000))
    rows = [row(name, page if i == 7 else f"a thing of kind {i}") for i, name in enumerate(files)]
    report = check(write(tmp_path / "data", files, rows))
    assert report.captions["words_max"] == 8000 and (report.context, report.cut) == (77, 1)
    assert any("longer than 77 tokens: 1 of 30 distinct captions" in line for line in report.lines())
    rows = [row(name, f"a thing of kind {i}") for i, name in enumerate(files)]
    short = check(write(tmp_path / "short", files, rows))
    assert short.cut == 0 and not any("tokens" in line for line in short.lines())


def test_words_of_writing_without_spaces_are_counted(tmp_path):
    report = check(write(tmp_path / "data", {"a.png": png()}, [row("a.png", "红色的猫在桌子上")]))
    assert report.captions["words_max"] == 8
