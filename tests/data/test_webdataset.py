"""Shards say what files say; what is no image, text or JSON is never read; every fault names its file."""

from __future__ import annotations

import io
import json
import pickle
import tarfile

import pytest

from condgen.contracts import CondgenError, CondgenWarning
from condgen.data.audit.check import check
from condgen.data.options import ReadOptions
from condgen.data.sources import webdataset
from condgen.data.sources.captions import load_captions
from condgen.data.sources.rows import hashed_split
from condgen.data.sources.webdataset import fetch, samples, shard_files
from tests.tars import numbered, png, write_shards, write_tar

# what is read


def test_a_sample_is_an_image_with_its_texts(tmp_path):
    members = [
        ("a/1.png", png(1)), ("a/1.txt", b"one\n\ntwo\n"),
        ("a/2.json", json.dumps({"caption": ["three"], "split": "test"}).encode()), ("a/2.jpg", png(2)),
        ("a/3.cls", b"7"), ("a/3.webp", png(3)), ("a/3.TXT", "\ufefffour".encode()),
    ]  # fmt: skip
    found = [record for _, record in samples(write_tar(tmp_path / "x.tar", members))]
    assert [r["image"]["path"] for r in found] == ["x.tar/a/1.png", "x.tar/a/2.jpg", "x.tar/a/3.webp"]
    assert [r["image"]["bytes"] for r in found] == [png(1), png(2), png(3)]
    assert [r.get("txt") for r in found] == [["one", "", "two"], None, ["four"]]
    assert found[1]["caption"] == ["three"] and found[1]["split"] == "test"


def test_reading_can_begin_at_any_sample(tmp_path):
    path = write_tar(tmp_path / "x.tar", [*numbered(0, 30), (f"{'long' * 60}.png", png(5)), ("z.txt", b"end")])
    everything = list(samples(path))
    assert len(everything) == 32
    for i, (place, _) in enumerate(everything):
        assert list(samples(path, start=place)) == everything[i:]
    assert [p for p, _ in samples(path, images=False)] == [p for p, _ in everything]


def test_only_images_text_and_json_are_read(tmp_path, monkeypatch):
    class Bomb:
        def __reduce__(self):
            return (exec, ("raise SystemExit('a pickle was opened')",))

    monkeypatch.setattr(pickle, "loads", None)
    bomb, read = pickle.dumps(Bomb()), []
    content = webdataset._content
    monkeypatch.setattr(webdataset, "_content", lambda f, m, p: read.append(m.name) or content(f, m, p))
    kinds = ("pickle", "pkl", "pyd", "pth", "pt", "npy", "cbor", "exe", "seg.png", "")
    members = [("1.png", png()), *[(f"1.{kind}", bomb) for kind in kinds], ("1.txt", b"one")]
    path = write_tar(tmp_path / "x.tar", members)
    with tarfile.open(path, "a") as tar:
        for kind, name in ((tarfile.SYMTYPE, "2.png"), (tarfile.LNKTYPE, "2.txt"), (tarfile.FIFOTYPE, "2.json")):
            about = tarfile.TarInfo(name)
            about.type, about.linkname = kind, "/etc/passwd"
            tar.addfile(about)
    found = [record for _, record in samples(path)]
    assert set(read) == {"1.png", "1.txt"} and found[0]["image"]["bytes"] == png() and not any(found[1:])


def test_members_that_are_too_large_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(webdataset, "MAX_TEXT", 10)
    monkeypatch.setattr(webdataset, "MAX_IMAGE", 100)
    members = [("1.png", b"x" * 101), ("1.txt", b"y" * 11), ("2.png", b"x" * 100), ("2.json", b'{"text": "zzz"}')]
    first, second = (record for _, record in samples(write_tar(tmp_path / "x.tar", members)))
    assert first["image"]["bytes"] == b"" and first["txt"] == [] and second is None  # not cut, and then believed


def test_shards_load_as_the_same_files_beside_each_other(tmp_path):
    beside = tmp_path / "files"
    beside.mkdir()
    for name, content in numbered(0, 20):
        (beside / name).write_bytes(content)
    write_shards(tmp_path / "tars", 20, 7)
    one, two = (load_captions(tmp_path / name, 4, split="all") for name in ("files", "tars"))
    assert (one.images == two.images).all() and one.texts == two.texts and (one.captions == two.captions).all()


def test_folder_file_pattern_and_range_are_the_same(tmp_path, monkeypatch):
    folder = write_shards(tmp_path / "tars", 20, 7)
    whole = load_captions(folder, 4, split="all")
    for spec in (folder / "*.tar", folder / "s-{000..002}.tar", folder / "s-00[012].tar"):
        assert (load_captions(str(spec), 4, split="all").images == whole.images).all()
    monkeypatch.chdir(folder)
    assert len(load_captions("s-{000..001}.tar", 4, split="all")) == 14
    assert len(load_captions("s-000.tar", 4, split="all")) == 7


def test_splits_come_from_names_or_else_from_a_hash(tmp_path):
    folder = write_shards(tmp_path / "tars", 200, 50)
    expected = [hashed_split(f"s-{i // 50:03}.tar/{i:05}.png") for i in range(200)]
    assert len(load_captions(folder, 4, split="test")) == expected.count("test") > 0
    write_tar(tmp_path / "named" / "train-0.tar", numbered(0, 5))
    write_tar(tmp_path / "named" / "val-0.tar", numbered(5, 3))
    assert [len(load_captions(tmp_path / "named", 4, split=s)) for s in ("train", "val", "all")] == [5, 3, 8]


def test_columns_of_the_json_can_be_chosen_and_filtered(tmp_path):
    members = []
    for i in range(6):
        about = {"caption": f"plain {i}", "long": [f"long {i}", f"longer {i}"], "even": i % 2 == 0}
        members += [(f"{i}.png", png(i)), (f"{i}.json", json.dumps(about).encode())]
    path = write_tar(tmp_path / "x.tar", members)
    assert load_captions(path, 4, split="all").texts == [f"plain {i}" for i in range(6)]
    chosen = load_captions(path, 4, split="all", options=ReadOptions(caption_column="long"), filter="even=true")
    assert chosen.texts == [f"{word} {i}" for i in (0, 2, 4) for word in ("long", "longer")]
    with pytest.raises(CondgenError, match="Did you mean 'long'"):
        load_captions(path, 4, options=ReadOptions(caption_column="lon"))


def test_tables_beside_the_shards_are_no_data(tmp_path):
    """As img2dataset leaves them: 00000.tar, 00000.parquet about its making, 00000_stats.json."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = write_shards(tmp_path / "tars", 6, 6)
    pq.write_table(pa.table({"url": ["u"], "caption": ["c"]}), folder / "s-000.parquet")
    (folder / "s-000_stats.json").write_text("{}")
    assert len(load_captions(folder, 4, split="all")) == 6


def test_check_counts_what_is_wrong(tmp_path):
    members = [*numbered(0, 5), ("bad.png", b"<html>"), ("bad.txt", b"x"), ("none.png", png()), ("lost.txt", b"x")]
    members += [("broken.png", png()), ("broken.json", b"{"), ("deep.png", png()), ("deep.json", b"[" * 100_000)]
    report = check(write_tar(tmp_path / "x.tar", members))
    assert report.form == "shards" and report.usable == 5
    expected = {"corrupt image": 1, "no caption": 1, "missing file": 1, "broken metadata line": 2}
    assert report.bad == expected


# what is refused


@pytest.mark.parametrize("cut", [700, 1024, 1500, 5000, 9999])
def test_a_shard_cut_short_names_itself(tmp_path, cut):
    path = write_tar(tmp_path / "x.tar", numbered(0, 6))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(CondgenError, match=r"x\.tar is not a complete"):
        list(samples(path))
    with pytest.raises(CondgenError, match=r"x\.tar"):
        load_captions(path, 4)


def test_a_damaged_header_in_the_middle_does_not_end_the_shard_silently(tmp_path):
    path = write_tar(tmp_path / "x.tar", numbered(0, 6))
    content = bytearray(path.read_bytes())
    place = [place for place, _ in samples(path)][3]
    content[place + 150] ^= 1  # the checksum
    path.write_bytes(content)
    with pytest.raises(CondgenError, match="end mark"):
        list(samples(path))
    one = write_tar(tmp_path / "1.tar", numbered(0, 2)).read_bytes()
    path.write_bytes(one + one)  # `cat a.tar b.tar`
    with pytest.raises(CondgenError, match="after the end mark"):
        list(samples(path))


def test_a_size_below_zero_does_not_go_around_in_circles(tmp_path):
    about = tarfile.TarInfo("1.txt")
    about.pax_headers = {"size": "-1024"}
    content = about.tobuf(tarfile.PAX_FORMAT) + bytes(1024)
    path = tmp_path / "x.tar"
    path.write_bytes(content)
    with pytest.raises(CondgenError, match=r"x\.tar"):
        list(samples(path))


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b" + b"x" * 600, b"PK" + b"x" * 2000, b"x" * 10_000])
def test_what_is_no_tar(tmp_path, content):
    path = tmp_path / "x.tar"
    path.write_bytes(content)
    with pytest.raises(CondgenError, match=r"x\.tar is not a (complete, uncompressed|plain \.tar but packed by gzip)"):
        list(samples(path))


@pytest.mark.parametrize(
    "spec", ["pipe:cat x.tar", "pipe:curl https://x | tee y", "s3://a/b.tar", "http://x/y.tar", "file:///etc/x.tar",
             "gs://x/{0..3}.tar", "hdfs:x"],
)  # fmt: skip
def test_other_places_and_commands_are_refused(spec, monkeypatch):
    monkeypatch.setattr("os.system", None)
    monkeypatch.setattr("subprocess.Popen", None)
    monkeypatch.setattr("urllib.request.urlopen", None)
    for read in (shard_files, load_captions_4, check):
        with pytest.raises(CondgenError, match="https"):
            read(spec)


def load_captions_4(spec):
    return load_captions(spec, 4)


def test_what_a_range_lacks(tmp_path):
    write_shards(tmp_path, 20, 7)
    with pytest.raises(CondgenError, match=r"s-003\.tar is missing \(2 of the 5"):
        load_captions(str(tmp_path / "s-{000..004}.tar"), 4)
    with pytest.raises(CondgenError, match="matches no file"):
        shard_files(str(tmp_path / "t-*.tar"))
    for wide in ("{0..999999999}.tar", "{5..1}.tar", "{0..999}{0..999}.tar"):
        with pytest.raises(CondgenError, match=r"range|more than"):
            shard_files(wide)


class Answer(io.BytesIO):
    def __init__(self, content, url, headers):
        super().__init__(content)
        self.headers, self._url = headers, url

    def geturl(self):
        return self._url


def test_a_fetched_shard_whose_bytes_changed_is_fetched_anew(tmp_path, monkeypatch):
    content = write_tar(tmp_path / "x.tar", numbered(0, 6)).read_bytes()
    asked = []

    def urlopen(url, timeout):
        asked.append(url)
        return Answer(content, url, {"Content-Length": str(len(content))})

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    url = "https://example.org/b.tar"
    place = fetch(url, tmp_path / "cache")
    assert fetch(url, tmp_path / "cache") == place and len(asked) == 1
    place.write_bytes(content[:700] + b"!" + content[701:])
    with pytest.warns(CondgenWarning, match=r"b\.tar is damaged and is fetched anew"):
        assert fetch(url, tmp_path / "cache").read_bytes() == content
    place.with_name(f"{place.name}.sha256").unlink()  # as earlier versions left it
    assert fetch(url, tmp_path / "cache") == place and len(asked) == 2


def test_shards_from_elsewhere_are_fetched_once_and_whole(tmp_path, monkeypatch):
    content = write_tar(tmp_path / "x.tar", numbered(0, 6)).read_bytes()
    asked, answer = [], {"content": content, "url": "", "headers": {"Content-Length": str(len(content))}}

    def urlopen(url, timeout):
        asked.append(url)
        return Answer(answer["content"], answer["url"] or url, answer["headers"])

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    monkeypatch.setenv("CONDGEN_CACHE", str(tmp_path / "cache"))
    spec = "https://example.org/a/s-{0..1}.tar"
    for _ in range(2):
        assert len(load_captions(spec, 4, split="all")) == 12
    assert asked == ["https://example.org/a/s-0.tar", "https://example.org/a/s-1.tar"]
    answer["url"] = "http://example.org/elsewhere"
    with pytest.raises(CondgenError, match="not https"):
        fetch("https://example.org/b.tar", tmp_path / "other")
    answer |= {"url": "", "content": content[:-1]}
    with pytest.raises(CondgenError, match="truncated"):
        fetch("https://example.org/b.tar", tmp_path / "other")
    monkeypatch.setattr(webdataset, "MAX_DOWNLOAD", 100)
    with pytest.raises(CondgenError, match="larger than"):
        fetch("https://example.org/b.tar", tmp_path / "other")
    assert not list((tmp_path / "other").iterdir())
