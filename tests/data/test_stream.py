"""Streamed batches are a law of the seed: whatever the process, the thread, the place to begin, the form."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from condgen.contracts import CondgenError
from condgen.data.batches.base import BlockOrder
from condgen.data.sources.captions import load_captions
from condgen.data.sources.rows import hashed_split, open_source
from condgen.data.streaming import batches as batches_module
from condgen.data.streaming import stream as stream_module
from condgen.data.streaming.batches import ShardBatches
from condgen.data.streaming.feeds import feed_of
from condgen.data.streaming.stream import Stream, text_number
from tests.tars import numbered, png, write_shards, write_tar

N = 90


def encode(texts: list[str]) -> np.ndarray:
    """The number in a caption as its only token."""
    return np.array([[int(text.split()[-1])] for text in texts], np.int64)


def open_stream(path: Path | str, **more) -> Stream:
    return Stream(open_source(path), 4, **{"split": "all"} | more)


def shades(batch) -> list[int]:
    """The number of every image, read from its pixels."""
    pixels = ((batch["image"] + 1) * 127.5).round().long()
    return (pixels[:, 0, 0, 0] + 256 * pixels[:, 1, 0, 0]).tolist()


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(stream_module, "BLOCK", 8)


@pytest.fixture
def views_of(request):
    """Builds views and closes them again."""
    opened = []

    def build(stream, batch=6, seed=3, buffer=24, **more):
        opened.append(ShardBatches(stream, encode, batch, seed, buffer=buffer, **more))
        return opened[-1]

    yield build
    for views in opened:
        views.close()


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_shards(tmp_path / "tars", N, 20)


# the order


@pytest.mark.parametrize(
    "counts, buffer", [([8] * 12, 24), ([1, 30, 0, 7, 8, 8, 3, 100], 16), ([5], 1000), ([1] * 9, 1)]
)
def test_an_epoch_of_windows_is_every_sample_once(counts, buffer):
    order, starts = BlockOrder(np.array(counts), buffer, 1), np.cumsum(counts) - counts
    for epoch in range(3):
        seen, k = [], epoch * order.total
        while k < (epoch + 1) * order.total:
            window = order.window(k)
            assert window.first == k and order.window(window.last - 1).first == k  # from anywhere in it
            assert len(window) < buffer + max(counts)
            own = np.concatenate([starts[b] + np.arange(counts[b]) for b in window.blocks])
            seen += own[window.places].tolist()
            k = window.last
        assert sorted(seen) == list(range(order.total))


def test_orders_differ_by_epoch_and_seed():
    one, other = BlockOrder(np.full(12, 8), 24, 1), BlockOrder(np.full(12, 8), 24, 2)
    assert not np.array_equal(one.window(0).blocks, one.window(96).blocks)
    assert not np.array_equal(one.window(0).places, one.window(96).places)
    assert not np.array_equal(one.window(0).places, other.window(0).places)


# the batches


def test_an_epoch_shows_every_image_once_with_its_own_caption(folder, views_of):
    views = views_of(open_stream(folder))
    for epoch in range(2):
        seen = []
        for step in range(epoch * 15, epoch * 15 + 15):
            batch = views(step)
            assert batch["tokens"][:, 0].tolist() == shades(batch) == batch["row"].tolist()
            assert batch["text_id"].tolist() == [text_number(f"shade {i}") for i in shades(batch)]
            seen += shades(batch)
        assert sorted(seen) == list(range(N))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_the_parts_of_processes_are_the_batch_of_one(folder, views_of, world):
    """And so none is lost and none comes twice, over the border of epochs too."""
    stream = open_stream(folder)
    whole = views_of(stream, shift=1)
    parts = [views_of(stream, rank=rank, world=world, shift=1) for rank in range(world)]
    seen = []
    for step in range(30):
        one, united = whole(step), [part(step) for part in parts]
        for name, value in one.items():
            assert torch.equal(torch.cat([part[name] for part in united]), value), name
        seen += [row for part in united for row in part["row"].tolist()]
    assert Counter(seen) == dict.fromkeys(range(N), 2)
    with pytest.raises(CondgenError, match="multiple of 4"):
        views_of(stream, world=4)


def test_training_goes_on_anywhere_with_the_same_batches(folder, views_of):
    stream = open_stream(folder)
    views = views_of(stream, threads=1)
    straight = [views(step) for step in range(40)]
    for begin in (7, 14, 15, 31):
        again = views_of(open_stream(folder), threads=3)
        for step in range(begin, begin + 5):
            batch = again(step)
            assert batch.keys() == straight[step].keys()
            assert all(torch.equal(batch[name], straight[step][name]) for name in batch), (begin, step)
    backwards = views_of(stream)
    for step in (39, 3, 20, 3):
        assert torch.equal(backwards(step)["image"], straight[step]["image"])


def test_windows_mix_shards(folder, views_of):
    """A window draws from all over the data, not from one shard after the other."""
    assert len({shade // 20 for shade in shades(views_of(open_stream(folder), batch=24)(0))}) > 1


def test_no_more_than_two_windows_are_held(folder, views_of, monkeypatch):
    alive = []
    monkeypatch.setattr(batches_module, "_Held", type("Watched", (batches_module._Held,), {
        "__init__": lambda self, *a: (alive.append(1), batches_module._Held.__mro__[1].__init__(self, *a))[1],
        "__del__": lambda self: alive.pop(),
    }))  # fmt: skip
    views = views_of(open_stream(folder))
    for step in range(40):
        views(step)
        assert len(alive) <= 2
    views.close()
    assert not alive and not [t for t in threading.enumerate() if t.name.startswith("shards")]


def test_every_caption_gets_its_turn_and_all_are_reported(tmp_path, views_of):
    members = []
    for i in range(6):
        members += [(f"{i}.png", png(i)), (f"{i}.txt", b"a 1\nb 2\nc 3"[: 3 + 4 * (i % 3)])]
    views, chosen = views_of(open_stream(write_tar(tmp_path / "x.tar", members))), Counter()
    for step in range(60):
        batch = views(step)
        assert batch["true_ids"].shape == (6, 3)
        for shade, text, true, which in zip(shades(batch), batch["text_id"], batch["true_ids"], batch["caption"]):
            assert true[which] == text and (true >= 0).sum() == 1 + shade % 3
            chosen[shade, int(which)] += 1
    assert set(chosen) == {(i, j) for i in range(6) for j in range(1 + i % 3)}


def test_derived_values_are_part_of_the_batch(folder, views_of):
    views = views_of(open_stream(folder)).derive("twice", lambda batch: 2 * batch["row"])
    batch = views(4)
    assert torch.equal(batch["twice"], 2 * batch["row"])


# the forms


def write_parquet(folder: Path, kind: str, group: int = 20) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, first in enumerate(range(0, N, 45)):
        rows = []
        for i in range(first, first + 45):
            if kind == "files":
                (folder / f"{i:05}.png").write_bytes(png(i))
            cell = {"struct": {"bytes": png(i), "path": f"{i:05}.png"}, "bytes": png(i), "files": f"{i:05}.png"}[kind]
            rows.append({"image": cell, "text": f"shade {i}", "odd": i % 2 == 1})
        pq.write_table(pa.Table.from_pylist(rows), folder / f"p-{number}.parquet", row_group_size=group)
    return folder


@pytest.mark.parametrize("kind", ["struct", "bytes", "files"])
@pytest.mark.parametrize("group", [5, 20, 45])
def test_parquet_streams_as_it_loads(tmp_path, views_of, kind, group):
    folder = write_parquet(tmp_path / "p", kind, group)
    for split in ("train", "test", "all"):
        whole, stream = load_captions(folder, 4, split=split), open_stream(folder, split=split)
        assert len(whole) == len(stream)
        read = [sample for number in range(len(stream.blocks)) for sample in stream.read(number)]
        assert [sample.number for sample in read] == list(range(len(stream)))
        assert all((sample.image == whole.images[i]).all() for i, sample in enumerate(read))
        assert [sample.captions[0] for sample in read] == [whole.texts[i] for i in whole.captions[:, 0]]
    views = views_of(open_stream(folder))
    seen = [shade for step in range(15) for shade in shades(views(step))]
    assert sorted(seen) == list(range(N))


def test_shards_stream_as_they_load(tmp_path):
    folder = write_shards(tmp_path / "tars", 200, 33)
    for split in ("train", "test"):
        whole, stream = load_captions(folder, 4, split=split), open_stream(folder, split=split)
        expected = [hashed_split(f"s-{i // 33:03}.tar/{i:05}.png") for i in range(200)].count(split)
        assert len(whole) == len(stream) == expected > 0
        read = [sample for number in range(len(stream.blocks)) for sample in stream.read(number)]
        assert all((sample.image == whole.images[i]).all() for i, sample in enumerate(read))


@pytest.mark.parametrize("write", [write_shards, write_parquet])
def test_blocks_of_large_images_have_few_rows(tmp_path, monkeypatch, write):
    folder = write_shards(tmp_path, N, 45) if write is write_shards else write_parquet(tmp_path, "bytes", 45)
    whole = open_stream(folder)
    monkeypatch.setattr("condgen.data.streaming.feeds.BLOCK_BYTES", 500)
    stream = open_stream(folder)
    assert len(stream) == len(whole) == N and len(stream.blocks) > len(whole.blocks)
    one, other = ([s.image.tobytes() for s in data.samples(0, N)] for data in (stream, whole))
    assert one == other


class Rows:
    """The least that a dataset can be."""

    column_names = ("image", "text")

    def __len__(self):
        return N

    def __getitem__(self, i):
        return {"image": png(i), "text": f"shade {i}"}


def hub_dataset():
    datasets = pytest.importorskip("datasets")
    rows = {
        "image": [{"bytes": png(i), "path": f"{i}.png"} for i in range(N)],
        "text": [f"shade {i}" for i in range(N)],
    }
    return datasets.Dataset.from_dict(rows, datasets.Features(image=datasets.Image(), text=datasets.Value("string")))


@pytest.mark.parametrize("make", [Rows, hub_dataset])
def test_datasets_stream(make, views_of):
    source, feeds = feed_of(make(), name="mine")
    stream = Stream(source, 4, feeds=feeds, split="all")
    views = views_of(stream)
    seen = []
    for step in range(15):
        batch = views(step)
        assert batch["tokens"][:, 0].tolist() == shades(batch)
        seen += shades(batch)
    assert sorted(seen) == list(range(N)) and stream.name == "mine"
    with pytest.raises(CondgenError, match="streaming=True"):
        feed_of(iter([]))


# what goes wrong


def with_bad(tmp_path, bad: set[int]) -> Path:
    members = [(n, b"no image" if n.endswith("png") and int(n[:5]) in bad else c) for n, c in numbered(0, N)]
    return write_tar(tmp_path / "x.tar", members)


def test_an_image_that_cannot_be_decoded_is_replaced_by_its_neighbour(tmp_path, views_of):
    stream = open_stream(with_bad(tmp_path, {0, 1, 30, 89}), max_bad_fraction=0.05)
    parts = [views_of(stream, rank=rank, world=2) for rank in (0, 1)]
    seen = Counter(s for step in range(15) for part in parts for s in shades(part(step)))
    assert seen == Counter([i for i in range(N) if i not in (0, 1, 30, 89)] + [2, 2, 29, 88])
    with pytest.raises(CondgenError, match=r"x\.tar/.*corrupt image.*max_bad"):
        views = views_of(open_stream(tmp_path / "x.tar", max_bad_fraction=0.02))
        for step in range(15):
            views(step)


def test_a_block_without_an_image_is_refused(tmp_path, views_of):
    stream = open_stream(with_bad(tmp_path, set(range(8, 16))), max_bad_fraction=0.5)
    views = views_of(stream)
    with pytest.raises(CondgenError, match="none of 8 consecutive images can be decoded"):
        for step in range(15):
            views(step)


def test_rows_without_captions_count_before_training(tmp_path):
    path = write_tar(tmp_path / "x.tar", [*numbered(0, 9), ("bare.png", png())])
    with pytest.raises(CondgenError, match="1 no caption"):
        open_stream(path)
    with pytest.warns(UserWarning, match="1 of 10 rows left out"):
        assert len(open_stream(path, max_bad_fraction=0.2)) == 9


def test_shards_that_change_or_vanish_are_named(folder, views_of):
    views = views_of(open_stream(folder))
    for path in sorted(folder.glob("*.tar")):
        path.unlink()
    with pytest.raises(CondgenError, match=r"s-\d+\.tar no longer exists"):
        for step in range(15):
            views(step)
    views = views_of(open_stream_of_more(folder))
    with pytest.raises(CondgenError, match=r"s-\d+\.tar"):
        for step in range(15):
            views(step)


def open_stream_of_more(folder: Path) -> Stream:
    """A stream whose shards lose rows after it was opened."""
    write_shards(folder, 40, 8)
    stream = open_stream(folder)
    for path in folder.glob("*.tar"):
        write_tar(path, numbered(0, 2))
    return stream


def test_single_files_are_not_streamed(tmp_path):
    (tmp_path / "1.png").write_bytes(png())
    (tmp_path / "1.txt").write_text("one")
    with pytest.raises(CondgenError, match="pack them into shards"):
        open_stream(tmp_path)


def test_the_digest_names_the_data_and_how_it_is_read(folder):
    stream = open_stream(folder)
    assert stream.digest == open_stream(folder).digest
    others = [
        open_stream(folder, split="train"),
        open_stream(folder, resize="pad"),
        Stream(open_source(folder), 8, split="all"),
    ]
    assert len({stream.digest, *(other.digest for other in others)}) == 4
    write_tar(folder / "s-000.tar", numbered(0, 19))
    assert open_stream(folder).digest != stream.digest


def test_kept_texts_are_bounded_and_do_not_hang_on_the_order(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(stream_module, "KEPT_TEXTS", 10)
    one = open_stream(folder).texts
    members = [pair for i in reversed(range(N)) for pair in numbered(i, 1)]
    other = open_stream(
        write_tar(tmp_path / "backwards.tar", [*members, ("twice.png", png()), ("twice.txt", b"shade 3")])
    )
    assert len(set(one)) == 10 and one == other.texts
