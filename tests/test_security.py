"""What a stranger's file cannot do: run code, write where it should not, fill the memory. Checked from outside, by the
audit events of the interpreter where they tell.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from condgen.contracts import CondgenError
from condgen.data.audit.check import check
from condgen.data.formats import parquet
from condgen.data.sources.captions import load_captions
from condgen.files.images import GeneratedImage
from condgen.files.weights import file_hash
from condgen.pipelines.text_to_image import TextToImage
from condgen.training import checkpoint
from tests.test_errors import edit, refused

_ears: list[list[tuple[str, tuple]]] = []
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGING = {
    "os.mkdir": 1,
    "os.remove": 1,
    "os.rmdir": 1,
    "os.truncate": 1,
    "os.rename": 2,
    "os.link": 2,
    "os.symlink": 2,
}
"""Events that change a file system, and how many of their arguments are paths."""


@contextmanager
def overheard() -> Iterator[list[tuple[str, tuple]]]:
    """The audit events of the interpreter meanwhile: files opened, pickles that look up a class, commands started."""

    def hear(event: str, args: tuple) -> None:
        for ear in _ears:
            ear.append((event, args))

    if not hasattr(overheard, "hooked"):  # a hook stays for good
        sys.addaudithook(hear)
        overheard.hooked = True
    _ears.append(events := [])
    try:
        yield events
    finally:
        _ears.remove(events)


def written(events: list[tuple[str, tuple]]) -> set[Path]:
    """Every file or folder that was made, changed, renamed or removed."""
    places: list = []
    for event, args in events:
        if event == "open":
            places += [args[0]] if isinstance(args[2], int) and args[2] & WRITING else []
        elif event in CHANGING:
            places += args[: CHANGING[event]]
    return {Path(os.fsdecode(place)).absolute() for place in places if not isinstance(place, int)}


class Trap:
    """What a pickle can be: a command that runs when it is loaded."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path):
    """A folder that is there once a trap has run."""
    place = tmp_path / "sprung"
    pickle.loads(pickle.dumps(Trap(place)))
    assert place.is_dir(), "the trap itself must work"
    place.rmdir()
    return place


# no code from files


def traps(mark: Path) -> dict[str, bytes]:
    """The forms in which torch and Python write pickles."""
    zipped, old = io.BytesIO(), io.BytesIO()
    torch.save(Trap(mark), zipped)
    torch.save(Trap(mark), old, _use_new_zipfile_serialization=False)
    return {"pickle": pickle.dumps(Trap(mark)), "torch": zipped.getvalue(), "old torch": old.getvalue()}


@pytest.mark.parametrize("kind", ["pickle", "torch", "old torch"])
def test_a_pickle_in_a_model_is_never_run(condgen, broken, mark, kind):
    content = traps(mark)[kind]
    for name in ("pytorch_model.bin", "model.pt", "model.pkl", "custom.py"):  # beside the weights: nobody looks at them
        for place in (broken, broken / "decoder"):
            (place / name).write_bytes(content)
    assert condgen("generate", "a red circle", "--model", broken)[0] == 0 and not mark.exists()
    for name in ("decoder/model.safetensors", "clip/config.json", "tokenizer/tokenizer.json", "tokenizer/words.json",
                 "model_index.json"):  # fmt: skip
        kept = (broken / name).read_bytes()
        (broken / name).write_bytes(content)
        refused(condgen("generate", "a red circle", "--model", broken), name)
        (broken / name).write_bytes(kept)
        (broken / "decoder" / "pytorch_model.bin").write_bytes(content)
    (broken / "decoder" / "model.safetensors").unlink()  # nor when the weights are gone
    refused(condgen("generate", "a red circle", "--model", broken), "model.safetensors is missing")
    assert not mark.exists()


def test_a_model_is_loaded_without_a_pickle_or_a_command(tiny_folder):
    next(TextToImage.load(tiny_folder).generate("a red circle", steps=1))  # imports, which may do as they like
    with overheard() as events:
        next(TextToImage.load(tiny_folder).generate("a red circle", steps=1))
    forbidden = {"pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect"}
    assert not {event for event, _ in events} & forbidden and not written(events)
    assert any(event == "open" for event, _ in events), "the ear must hear"


def test_code_named_in_a_config_is_not_imported(condgen, broken, mark):
    Path("evil.py").write_text(f"import os; os.mkdir({str(mark)!r})")
    for path in ("decoder/config.json", "model_index.json"):
        kept = (broken / path).read_bytes()
        edit(broken / path, **{"class": "evil.Model", "_class_name": "evil.Model", "auto_map": {"": "evil.Model"}})
        refused(condgen("generate", "a red circle", "--model", broken), path)
        (broken / path).write_bytes(kept)
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["pickle", "torch", "old torch"])
def test_a_pickle_in_a_checkpoint_is_never_run(tmp_path, mark, kind):
    """Even one whose hash is right: the manifest tells of damage, not of malice."""
    place = checkpoint.save(tmp_path / "c", 3, {"model": {"w": torch.zeros(2)}}, {}, {"count": 3})
    for name in ("optimisers.pt", "model.safetensors"):
        (place / name).write_bytes(traps(mark)[kind])
        hashes = {file.name: file_hash(file) for file in place.iterdir() if file.name != checkpoint.MANIFEST}
        (place / checkpoint.MANIFEST).write_text(json.dumps(hashes))
        assert checkpoint.newest(tmp_path / "c") == (place, [])
        with pytest.raises(CondgenError, match=r"step-0000003 is not a checkpoint of condgen") as caught:
            checkpoint.load(place)
        assert not mark.exists() and "weights_only" not in str(caught.value)


def test_a_pickle_in_a_table_is_never_run(tmp_path, mark):
    """Arrow files may name a Python class, pickled, for their columns (CVE-2023-47248)."""
    content = pickle.dumps(Trap(mark))
    told = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": content}
    fields = [pa.field("image", pa.binary(), metadata=told), pa.field("text", pa.string(), metadata=told)]
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG")
    table = pa.table([[file.getvalue()], ["a black square"]], schema=pa.schema(fields))
    pq.write_table(table, tmp_path / "one.parquet")
    assert load_captions(tmp_path / "one.parquet", 4, split="all").texts == ["a black square"] and not mark.exists()
    rows = [{"image": content, "text": "a"}, {"image": file.getvalue(), "text": content}]
    pq.write_table(pa.Table.from_pylist([rows[0]]), tmp_path / "two.parquet")
    with pytest.raises(CondgenError, match="corrupt image"):
        load_captions(tmp_path / "two.parquet", 4, split="all")
    assert not mark.exists()


def test_a_config_of_a_run_makes_no_objects(condgen, mark):
    Path("evil.yaml").write_text(f"seed: !!python/object/apply:os.mkdir [{str(mark)!r}]")
    refused(condgen("train", "scenes32", "-o", "run", "--config", "evil.yaml"), "evil.yaml is not YAML")
    Path("run").mkdir()
    Path("run/config.yaml").write_bytes(Path("evil.yaml").read_bytes())
    refused(condgen("train", "scenes32", "-o", "run", "--pictures.scenes", "16"), "config.yaml is not YAML")
    assert not mark.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"normalizer": {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""}},
        {"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Removed", "invert": False}},
        {"pre_tokenizer": None},
        {"truncation": {"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0}},
        {"model": {"type": "WordLevel", "vocab": {"<pad>": 0, "<unknown>": 1, "<end>": 2}, "unk_token": "<unknown>"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_tokenizer_that_does_more_than_ours_is_refused(condgen, broken, change):
    """An expression in it could run for ever."""
    edit(broken / "tokenizer" / "tokenizer.json", **change)
    refused(condgen("generate", "a red circle", "--model", broken), "tokenizer.json is no tokenizer of condgen")


def test_a_token_that_points_past_the_table_is_refused(condgen, broken):
    path = broken / "tokenizer" / "tokenizer.json"
    model = json.loads(path.read_text())["model"]
    edit(path, model=model | {"vocab": model["vocab"] | {"far": 10**9}})
    refused(condgen("generate", "a red circle", "--model", broken), "tokenizer.json is no tokenizer of condgen")


def test_lists_in_lists_in_lists_are_refused(condgen, broken):
    deep = "[" * 100_000
    Path("deep.yaml").write_text(deep)
    refused(condgen("train", "scenes32", "-o", "run", "--config", "deep.yaml"), "deep.yaml is not YAML")
    for name in ("model_index.json", "decoder/config.json", "tokenizer/words.json", "tokenizer/tokenizer.json"):
        kept = (broken / name).read_bytes()
        (broken / name).write_text(deep)
        refused(condgen("info", broken), name)
        (broken / name).write_bytes(kept)


# no path but the folder that was asked for


PROMPTS = [
    "../../evil",
    "/tmp/evil",
    "..\\..\\evil",
    "~/evil",
    "a/b",
    "evil\n../x",
    "$(touch evil)",
    "%2e%2e%2fevil",
    "..",
]


def test_generation_writes_into_its_folder_alone(condgen, tmp_path):
    """Every file and folder that is touched, as the interpreter tells, lies in the output folder."""
    condgen("generate", "a red circle", "--model", "tiny", "-o", "warm")
    with overheard() as events:
        code, out, _ = condgen("generate", *PROMPTS, "--model", "tiny", "--steps", 1, "-o", "out/here", "--json")
        generated = [json.loads(line)["path"] for line in out.splitlines()]
        assert condgen("replay", generated[0], "-o", "out/again")[0] == 0
    inside = tmp_path / "out"
    assert code == 0 and len(generated) == len(PROMPTS)
    assert {place for place in written(events) if inside not in (place, *place.parents)} <= {Path(os.devnull)}
    assert {path.resolve() for path in map(Path, generated)} <= written(events) | set(inside.rglob("*"))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prompt=st.text(alphabet=st.one_of(st.sampled_from("/\\.:~-%\0\n \u202e"), st.characters()), max_size=400),
       seed=st.integers(0, 2**63 - 1))  # fmt: skip
def test_no_prompt_is_a_path(tmp_path, prompt, seed):
    recipe = {"prompt": prompt, "seed": seed, "prior": "none", "size": 8, "model": "../m", "model_id": "../0"}
    with overheard() as events:
        path = GeneratedImage(Image.new("RGB", (8, 8)), recipe, 0.0, 0.0).save(tmp_path / "out")
    inside = {tmp_path / "out", *(tmp_path / "out").iterdir()}
    assert path.parent == tmp_path / "out" and path.name.isascii() and len(path.name) < 120
    assert {place for place in written(events) if place.parent != tmp_path / "out"} <= inside
    assert sorted(tmp_path.iterdir()) == [tmp_path / "out"]


OUTSIDE = ["../secret.png", "a/../../secret.png", "..\\secret.png", "C:\\secret.png", "/etc/passwd", "\\\\host\\x.png"]


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet", "struct"])
def test_what_lies_outside_the_data_is_not_read(tmp_path, form):
    """`..`, absolute paths and drives in a table are faults of their rows, and the files they name are not opened."""
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    home = tmp_path / "data"
    home.mkdir()
    Image.new("RGB", (4, 4), "red").save(home / "a.png")
    names = [*OUTSIDE, str(tmp_path / "secret.png"), "a.png"]
    rows = [{"file_name": {"path": name, "bytes": None} if form == "struct" else name, "text": "x"} for name in names]
    if form in ("parquet", "struct"):
        pq.write_table(pa.Table.from_pylist(rows), home / "metadata.parquet")
    elif form == "jsonl":
        (home / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    else:
        (home / "metadata.csv").write_text("file_name,text\n" + "".join(f"{name},x\n" for name in names))
    with overheard() as events:
        report = check(home)
    assert report.bad == {"outside the folder": len(names) - 1} and report.usable == 1
    opened = {Path(os.fsdecode(args[0])) for event, args in events if event == "open" and not isinstance(args[0], int)}
    assert not {tmp_path / "secret.png", Path("/etc/passwd")} & {path.resolve() for path in opened}
    assert home / "a.png" in opened and not written(events)


# no bombs


def test_a_table_that_unpacks_to_very_much_is_refused_by_its_header(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "MAX_UNPACKED", 2**22)  # a small bomb will do
    rows = [{"image": b"\0" * 500_000, "text": "x"} for _ in range(20)]
    path = tmp_path / "bomb.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd", use_dictionary=False)
    assert path.stat().st_size < 50_000
    read_batches = pq.ParquetFile.iter_batches

    def only_texts(self, *args, columns=None, **more):
        assert columns == ["text"], "whoever unpacks the images, fails the test"
        return read_batches(self, *args, columns=columns, **more)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", only_texts)
    for read in (check, lambda at: load_captions(at, 4, split="all")):
        with pytest.raises(CondgenError, match=r"bomb\.parquet: [\d,]+ bytes of the column image would unpack to 10,"):
            read(path)


def test_tables_that_shrink_as_tables_do_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "MAX_UNPACKED", 100_000)  # so that the ratio decides
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(file, "PNG")
    rows = [{"image": file.getvalue(), "text": "the same caption again and again"} for _ in range(50)]
    for packing in ("snappy", "zstd", "none"):
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet", compression=packing, use_dictionary=False)
        assert check(tmp_path / "x.parquet").usable == 50


def test_a_header_that_promises_more_than_the_file_takes_no_memory(condgen, broken):
    """The length of the header, and tensors of terabytes: told apart by the size of the file alone."""
    weights = broken / "decoder" / "model.safetensors"
    content = weights.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + size])
    name = next(n for n in header if n != "__metadata__")
    header[name] = {"dtype": "F32", "shape": [2**20, 2**20], "data_offsets": [0, 2**42]}
    told = json.dumps(header).encode()
    for damaged in (struct.pack("<Q", 2**62) + content[8:], struct.pack("<Q", len(told)) + told + content[8 + size :]):
        weights.write_bytes(damaged)
        refused(condgen("generate", "a red circle", "--model", broken), str(weights), "damaged")


# names and texts of strangers on a terminal


def test_a_foreign_model_cannot_steer_the_terminal(condgen, broken):
    evil = "\x1b[2J\x1b]0;owned\x07\ud800\u202e"
    edit(broken / "model_index.json", name=evil, recipe=evil, data=evil, metrics={evil: evil})
    for told in (condgen("info", broken), condgen("generate", "a red circle", "--model", broken)):
        assert told[0] == 0 and all(line.isprintable() for stream in told[1:] for line in stream.splitlines())
    edit(broken / "decoder" / "config.json", **{evil: 1})
    _, out, err = condgen("info", broken)
    assert not out and all(line.isprintable() for line in err.splitlines())
