"""Embeddings on disk are those the encoder makes, whole or not there, and train what the encoder would have."""

from __future__ import annotations

import io
import json
import os
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from condgen.contracts import CondgenError, CondgenWarning
from condgen.data.batches.base import to_float
from condgen.data.embeddings import compute
from condgen.data.embeddings import store as embeds_module
from condgen.data.embeddings.compute import embed
from condgen.data.embeddings.store import EmbedBatches, Embeds
from condgen.data.sources.captions import load_captions
from condgen.data.sources.rows import open_source
from condgen.data.streaming import stream as stream_module
from condgen.data.streaming.batches import ShardBatches
from condgen.data.streaming.feeds import feed_of
from condgen.data.streaming.stream import Stream, text_number
from condgen.data.synthetic.scenes import scenes
from condgen.distributed import locked
from condgen.pipelines.text_to_image import space_of
from condgen.priors.transformer import EmbeddingNormalizer
from tests.tars import numbered, png, write_shards, write_tar
from tests.test_locks import contents
from tests.tiny import tiny_model

N = 90


@pytest.fixture(autouse=True)
def small_units(monkeypatch):
    monkeypatch.setattr(stream_module, "BLOCK", 8)
    for module in (embeds_module, compute):
        monkeypatch.setattr(module, "UNIT", 8)
    monkeypatch.setattr(compute, "PART", 32)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture
def stream(tmp_path) -> Stream:
    members = [("0.png", png(0, 32)), ("0.txt", b"a red circle\na circle")]
    for i in range(1, N):
        text = f"{i % 7} blue\n{i} things" if i % 3 else f"shade {i}"
        members += [(f"{i:03}.png", png(i, 32)), (f"{i:03}.txt", text.encode())]
    return Stream(open_source(write_tar(tmp_path / "x.tar", members)), 32, split="all")


@torch.inference_mode()
def test_embeddings_are_those_of_the_encoder(model, stream, tmp_path):
    embeds = embed(model.clip, model.tokenizer, stream, tmp_path / "out")
    known = load_captions(tmp_path / "x.tar", 32, split="all")
    image_embed = model.clip.embed_image(to_float(known.images))
    rows = torch.arange(N)
    torch.testing.assert_close(embeds.image(rows), image_embed)
    for column in range(2):
        there = torch.from_numpy(np.flatnonzero(known.captions[:, column] >= 0))
        texts = [known.texts[i] for i in known.captions[there, column]]
        expected = model.clip.embed_text(torch.from_numpy(model.tokenizer.encode(texts)))
        torch.testing.assert_close(embeds.text(there, torch.full_like(there, column)), expected)
    exact = EmbeddingNormalizer.fit(image_embed, "")
    torch.testing.assert_close(embeds.mean, exact.mean)
    torch.testing.assert_close(embeds.sd, exact.sd)
    assert len(embeds) == N and embeds.about.space == space_of(model.clip) and embeds.about.digest == stream.digest
    shuffled = torch.randperm(N)
    assert torch.equal(embeds.image(shuffled), embeds.image(rows)[shuffled])


def test_moments_do_not_hang_on_the_parts(model, stream, tmp_path, monkeypatch):
    one = embed(model.clip, model.tokenizer, stream, tmp_path / "one")
    monkeypatch.setattr(compute, "PART", 8)
    other = embed(model.clip, model.tokenizer, stream, tmp_path / "other")
    torch.testing.assert_close(one.mean, other.mean)
    torch.testing.assert_close(one.sd, other.sd)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_batches_of_embeddings_are_every_image_once_whatever_the_ranks(model, stream, tmp_path, world):
    embeds = embed(model.clip, model.tokenizer, stream, tmp_path / "out")
    whole = EmbedBatches(embeds, 6, seed=3, buffer=24)
    parts = [EmbedBatches(embeds, 6, seed=3, buffer=24, rank=rank, world=world) for rank in range(world)]
    seen = []
    for step in range(30):
        one, united = whole(step), [part(step) for part in parts]
        assert all(torch.equal(torch.cat([part[name] for part in united]), one[name]) for name in one)
        seen += one["row"].tolist()
    assert Counter(seen) == dict.fromkeys(range(N), 2)
    batch, again = whole(17), EmbedBatches(embeds, 6, seed=3, buffer=24)(17)
    assert all(torch.equal(batch[name], again[name]) for name in batch)


def test_a_batch_of_embeddings_is_of_one_image_and_one_of_its_captions(model, stream, tmp_path):
    embeds = embed(model.clip, model.tokenizer, stream, tmp_path / "out")
    captions = [sample.captions for sample in stream.samples(0, N)]
    views = EmbedBatches(embeds, 16, seed=1, buffer=24)
    chosen = set()
    for step in range(12):
        batch = views(step)
        torch.testing.assert_close(batch["image_embed"], embeds.image(batch["row"]))
        for i, row in enumerate(batch["row"].tolist()):
            numbers = [text_number(text) for text in captions[row]]
            assert batch["true_ids"][i].tolist() == numbers + [-1] * (2 - len(numbers))
            text = captions[row][numbers.index(int(batch["text_id"][i]))]
            assert batch["tokens"][i].tolist() == model.tokenizer.encode([text])[0].tolist()
            which = torch.tensor([captions[row].index(text)])
            assert torch.equal(batch["text_embed"][i], embeds.text(batch["row"][i : i + 1], which)[0])
            chosen.add((row, text))
    assert len(chosen) > N


def test_images_and_embeddings_meet_by_their_number(model, stream, tmp_path):
    embeds = embed(model.clip, model.tokenizer, stream, tmp_path / "out")
    views = ShardBatches(stream, model.tokenizer.encode, 6, seed=2, buffer=24)
    views.derive("z", lambda b: embeds.image(b["row"])).derive("t", lambda b: embeds.text(b["row"], b["caption"]))
    with torch.inference_mode():
        for step in (0, 7, 20):
            batch = views(step)
            torch.testing.assert_close(batch["z"], model.clip.embed_image(batch["image"]))
            torch.testing.assert_close(batch["t"], model.clip.embed_text(batch["tokens"]))
    views.close()


def test_few_units_are_held(model, stream, tmp_path, monkeypatch):
    monkeypatch.setattr(embeds_module, "HELD_BYTES", 1)
    embeds = embed(model.clip, model.tokenizer, stream, tmp_path / "out")
    views = EmbedBatches(embeds, 6, seed=3, buffer=40)
    for step in range(15):
        views(step)
        assert len(embeds._held) <= 8


def test_it_goes_on_where_it_was_stopped(model, stream, tmp_path, monkeypatch):
    whole = embed(model.clip, model.tokenizer, stream, tmp_path / "whole")
    made, unit = [], compute._unit

    def stopped(*args):
        made.append(1)
        if len(made) == 6:
            raise KeyboardInterrupt
        return unit(*args)

    monkeypatch.setattr(compute, "_unit", stopped)
    with pytest.raises(KeyboardInterrupt):
        embed(model.clip, model.tokenizer, stream, tmp_path / "out")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["embeds-00000.safetensors"]
    with pytest.raises(CondgenError, match="no finished embeddings"):
        Embeds(tmp_path / "out")
    (tmp_path / "out" / "embeds-00001.safetensors").write_bytes(b"torn")
    again = embed(model.clip, model.tokenizer, stream, tmp_path / "out")
    assert len(made) == 6 + 8  # of twelve units, the four of the finished part were kept
    assert torch.equal(again.image(torch.arange(N)), whole.image(torch.arange(N))) and torch.equal(again.sd, whole.sd)


def test_images_in_memory_are_embedded_too(model, tmp_path):
    data = scenes(40, seed=1)
    embeds = embed(model.clip, model.tokenizer, data, tmp_path / "out")
    with torch.inference_mode():
        torch.testing.assert_close(embeds.image(torch.arange(40)), model.clip.embed_image(to_float(data.images)))


# what is refused


def test_another_encoder_or_other_images_are_refused(model, stream, tmp_path):
    embeds = embed(model.clip, model.tokenizer, stream, tmp_path / "out")
    embeds.check(space_of(model.clip), stream.digest)
    with pytest.raises(CondgenError, match="0123"):
        embeds.check("0123456789abcdef")
    with pytest.raises(CondgenError, match="other images"):
        embeds.check(space_of(model.clip), "0123456789abcdef")
    with pytest.raises(CondgenError, match=r"holds other embeddings.*digest"):
        embed(model.clip, model.tokenizer, scenes(40, seed=1), tmp_path / "out")
    torch.manual_seed(5)
    other = tiny_model()
    with torch.no_grad():
        other.clip.log_scale.add_(0.1)
    with pytest.raises(CondgenError, match=r"holds other embeddings.*space"):
        embed(other.clip, other.tokenizer, stream, tmp_path / "out")
    larger = Stream(stream.source, 64, split="all")
    with pytest.raises(CondgenError, match="32 x 32"):
        embed(model.clip, model.tokenizer, larger, tmp_path / "larger")


@pytest.mark.parametrize("fault", ["missing", "short", "flipped", "manifest", "format"])
def test_damage_is_named(model, stream, tmp_path, fault):
    embed(model.clip, model.tokenizer, stream, tmp_path / "out")
    path, manifest = tmp_path / "out" / "embeds-00001.safetensors", tmp_path / "out" / "manifest.json"
    content = path.read_bytes()
    if fault == "missing":
        path.unlink()
    elif fault == "short":
        path.write_bytes(content[:-1])
    elif fault == "flipped":
        path.write_bytes(b"\xff" * 20 + content[20:])
    elif fault == "manifest":
        manifest.write_text("{")
    else:
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 9}))
    with pytest.raises(CondgenError, match="embeds-00001" if fault in ("missing", "short", "flipped") else "manifest"):
        Embeds(tmp_path / "out").image(torch.arange(N))


def flip(path: Path, place: int) -> None:
    """Changes one byte; the length stays."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("place", [0.3, 0.6, 0.9, 0.9999])
def test_a_byte_that_changed_is_noticed_and_the_part_made_anew(model, stream, tmp_path, place):
    embed(model.clip, model.tokenizer, stream, tmp_path / "out")
    before = contents(tmp_path / "out")
    path = tmp_path / "out" / "embeds-00001.safetensors"
    flip(path, int(place * path.stat().st_size))
    with pytest.raises(CondgenError, match=r"embeds-00001\.safetensors is missing or damaged"):
        Embeds(tmp_path / "out")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        embed(model.clip, model.tokenizer, stream, tmp_path / "out")
    assert any("computed anew: embeds-00001.safetensors is damaged" in str(one.message) for one in caught)
    assert contents(tmp_path / "out") == before


def test_a_number_of_the_manifest_that_changed_is_noticed(model, stream, tmp_path):
    embed(model.clip, model.tokenizer, stream, tmp_path / "out")
    path = tmp_path / "out" / "manifest.json"
    text = path.read_text()
    digit = next(i for i in range(text.index('"mean"'), len(text)) if text[i].isdigit())
    path.write_text(text[:digit] + str(9 - int(text[digit])) + text[digit + 1 :])
    with pytest.raises(CondgenError, match=r"manifest\.json does not describe embeddings"):
        Embeds(tmp_path / "out")
    embed(model.clip, model.tokenizer, stream, tmp_path / "out")
    assert path.read_text() == text


def test_files_without_checksums_are_read_and_made_anew_when_asked(model, stream, tmp_path):
    """As versions before wrote them."""
    embed(model.clip, model.tokenizer, stream, tmp_path / "out")
    wanted = contents(tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    for path in (tmp_path / "out").glob("embeds-*"):
        tags = {k: str(manifest[k]) for k in ("space", "data", "digest", "embed_dim", "context", "width")}
        save_file(load_file(path), path, tags)
    for name in ("content", "reading", "sha256"):
        del manifest[name]
    for file in manifest["files"]:
        file["bytes"] = (tmp_path / "out" / file["file"]).stat().st_size
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(manifest))
    Embeds(tmp_path / "out").check(space_of(model.clip), stream.digest, stream.content)
    with pytest.warns(CondgenWarning, match=r"an earlier version wrote them, without checksums"):
        embed(model.clip, model.tokenizer, stream, tmp_path / "out")
    assert contents(tmp_path / "out") == wanted


def repacked(form: str, number: int | None) -> list[tuple[str, bytes]]:
    """The members of a tar; caption or image `number` is another of the same length."""
    out = []
    for i in range(12):
        text = f"a circle {i}" if (form, number) != ("caption", i) else f"a square {i}"
        image = np.full((32, 32, 3), i + 100 * ((form, number) == ("image", i)), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "PNG", compress_level=0)
        out += [(f"{i:02}.png", buffer.getvalue()), (f"{i:02}.txt", text.encode())]
    return out


@pytest.mark.parametrize("change", ["caption", "image"])
@pytest.mark.parametrize("form", ["tar", "parquet", "folder"])
def test_a_change_of_the_data_is_noticed_whatever_their_form(condgen, tiny_folder, form, change, tmp_path):
    """Contents of the same length, written in place with the old times."""

    def write(home: Path, number: int | None) -> None:
        home.mkdir(exist_ok=True)
        members = repacked(change, number)
        if form == "tar":
            write_tar(home / "x.tar", members)
        elif form == "parquet":
            rows = [{"image": {"bytes": i, "path": n}, "text": t.decode()} for (n, i), (_, t) in batched(members)]
            pq.write_table(pa.Table.from_pylist(rows), home / "x.parquet", compression="none", use_dictionary=False)
        else:
            for name, content in members:
                (home / name).write_bytes(content)
        for file in home.iterdir():
            os.utime(file, (1e9, 1e9))

    write(Path("data"), None)
    argv = ["embed", "tiny", "--data", "data", "--split", "all", "-o"]
    assert condgen(*argv, "out")[0] == 0
    code, _, err = condgen(*argv, "out")
    assert code == 0 and "anew" not in err
    sizes = {file.name: file.stat().st_size for file in Path("data").iterdir()}
    write(Path("data"), 7)
    assert sizes == {file.name: file.stat().st_size for file in Path("data").iterdir()}
    code, _, err = condgen(*argv, "out")
    assert code == 0 and "computed anew: the images or captions of data have changed" in err
    assert condgen(*argv, "fresh")[0] == 0
    assert contents(Path("out")) == contents(Path("fresh"))


def batched(members: list) -> list[tuple]:
    return list(zip(members[::2], members[1::2]))


def test_a_shard_that_changes_while_it_is_read_is_refused(model, stream, tmp_path):
    path = tmp_path / "x.tar"
    path.write_bytes(path.read_bytes())
    os.utime(path, (1e9, 1e9))
    with pytest.raises(CondgenError, match=r"x\.tar has changed since it was opened"):
        embed(model.clip, model.tokenizer, stream, tmp_path / "out")


def test_rows_of_an_object_have_a_content(tmp_path):
    class Rows(list):
        column_names = ("image", "text")

    def content(**changes) -> str:
        rows = Rows({"image": png(i, 32), "text": f"thing {i}"} for i in range(8))
        rows[3] |= changes
        source, feeds = feed_of(rows)
        return Stream(source, 32, feeds=feeds, split="all").content

    assert content() == content()
    assert len({content(), content(text="thing 9"), content(image=png(99, 32))}) == 3


def test_embeddings_are_not_written_by_two_at_once(model, stream, tmp_path):
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out"), pytest.raises(CondgenError, match="already writes into"):
        embed(model.clip, model.tokenizer, stream, tmp_path / "out")


def test_a_full_disk_leaves_no_half_part(model, stream, tmp_path, monkeypatch):
    def full(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(embeds_module, "save_file", full)
    with pytest.raises(CondgenError, match="No space left"):
        embed(model.clip, model.tokenizer, stream, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


# the command


def test_the_command(condgen, tiny_folder):
    write_shards(Path("tars"), 40, 15, size=32)
    argv = ["embed", "tiny", "--data", "tars/*.tar", "--split", "all", "-o", "out"]
    code, out, _ = condgen(*argv)
    assert code == 0 and out.startswith("out  40 images") and len(Embeds("out")) == 40
    before = {p.name: p.stat().st_mtime_ns for p in Path("out").glob("embeds-*")}
    code, out, _ = condgen(*argv, "--json")
    told = json.loads(out)
    assert told["images"] == 40 and told["space"] == Embeds("out").about.space
    assert before == {p.name: p.stat().st_mtime_ns for p in Path("out").glob("embeds-*")}
    assert "image_embed" in load_file("out/embeds-00000.safetensors")


@pytest.mark.parametrize(
    "argv, message",
    [
        (["embed", "tiny", "-o", "out"], "--data"),
        (["embed", "tiny", "--data", "tars"], "-o OUT"),
        (["embed", "tinny", "--data", "tars", "-o", "out"], "Did you mean tiny?"),
        (["embed", "tiny", "--data", "pipe:cat x.tar", "-o", "out"], "https"),
        (["embed", "tiny", "--data", "tars", "-o", "out", "--device", "abacus"], "abacus"),
        (["embed", "tiny", "--data", "tars", "-o", "out", "--split", "nowhere"], "nowhere"),
    ],
)
def test_the_command_refuses(condgen, argv, message):
    write_tar(Path("tars/x.tar"), numbered(0, 8))
    code, out, err = condgen(*argv)
    assert code == 2 and message in err and not out and "Traceback" not in err
