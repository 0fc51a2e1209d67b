"""Search finds what a count finds, keeps what it made and notices change; vectors come back as they were written."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import condgen as package
from condgen.cli.search import write_sheet
from condgen.contracts import CondgenError, CondgenWarning
from condgen.data.batches.base import to_float
from condgen.data.sources.images import fit, open_image
from condgen.encoders.backbones import Backbone, BackboneConfig
from condgen.nn.specs import EncoderSpec
from condgen.pipelines.encoder import ImageEncoder, TextImageEncoder
from condgen.retrieval.gallery import Gallery
from condgen.retrieval.search import Finder, TextQuery, encode, encoder_of, search
from condgen.retrieval.vectors import Vectors
from tests.tars import write_tar
from tests.test_errors import refused
from tests.tiny import tiny_labels, tiny_model

COLOURS = {"red": (220, 40, 40), "green": (40, 170, 60), "blue": (50, 80, 220), "yellow": (240, 210, 40)}


def image(seed: int, colour: str, size: tuple[int, int] = (40, 32)) -> Image.Image:
    """Noise of a colour; no two seeds look alike."""
    noise = np.random.default_rng(seed).integers(0, 90, (size[1], size[0], 3))
    return Image.fromarray(np.clip(np.array(COLOURS[colour]) + noise - 45, 0, 255).astype(np.uint8))


def folder_of(path: Path, captions: bool = False) -> Path:
    """Twelve images at several depths; with captions beside all but one of them."""
    for i in range(12):
        colour = list(COLOURS)[i % 4]
        file = path / ("deep/er" if i % 3 else ".") / f"{i:02}-{colour}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        image(i, colour).save(file)
        if captions and i != 5:
            file.with_suffix(".txt").write_text(f"a {colour} square\nnumber {i}\n")
    return path


def pictures_only(seed: int = 0) -> ImageEncoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Backbone(BackboneConfig("resnet", 8, 1, stages=2), EncoderSpec(32))
    return ImageEncoder(net, {"name": "eyes"})


@pytest.fixture(scope="module")
def encoder() -> TextImageEncoder:
    return encoder_of(tiny_model())


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CONDGEN_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def seen(monkeypatch) -> list[int]:
    """How many images every call of an encoder sees."""
    calls: list[int] = []
    for kind in (ImageEncoder, TextImageEncoder):
        embed = kind.embed_image
        monkeypatch.setattr(kind, "embed_image", lambda self, x, embed=embed: calls.append(len(x)) or embed(self, x))
    return calls


def embeds_of(encoder: ImageEncoder, files: list[Path]) -> np.ndarray:
    """The embeddings of image files, one by one."""
    squares = [fit(open_image(file), encoder.size) for file in files]
    return torch.cat([encoder.embed_image(to_float(square[None])) for square in squares]).numpy()


# what is found


@pytest.mark.parametrize("make", [lambda: encoder_of(tiny_model()), pictures_only])
def test_the_nearest_are_those_that_counting_finds(make, tmp_path):
    encoder, home = make(), folder_of(tmp_path / "photos")
    files = sorted(home.rglob("*.png"))
    known, query = embeds_of(encoder, files), image(99, "blue", (32, 32))
    square = to_float(np.asarray(query, np.uint8).transpose(2, 0, 1)[None].copy())
    scores = known @ encoder.embed_image(square).numpy()[0]
    (found,) = search(encoder, home, query, n=5)
    best = np.argsort(-scores)[:5]
    assert [home / hit.file for hit in found.hits] == [files[i] for i in best] and found.kind == "image"
    np.testing.assert_allclose([hit.score for hit in found.hits], scores[best], atol=1e-5)


def test_words_find_by_their_embedding(encoder, tmp_path):
    home = folder_of(tmp_path / "photos")
    files = sorted(home.rglob("*.png"))
    texts = ["a red circle", "a blue square"]
    scores = embeds_of(encoder, files) @ encoder.embed_text(texts).numpy().T
    for found, own in zip(search(encoder, home, texts, n=12), scores.T):
        assert [home / hit.file for hit in found.hits] == [files[i] for i in np.argsort(-own)]
    assert len(search(encoder, home, "a red circle", n=1000)[0].hits) == 12


def test_an_encoder_of_another_library_scores_as_that_library_does(tmp_path):
    open_clip = pytest.importorskip("open_clip")
    from tests.encoders.foreign_models import write_open_clip

    home, files = tmp_path / "photos", []
    for i, colour in enumerate(COLOURS):
        files.append(home / f"{i}.png")
        home.mkdir(exist_ok=True)
        image(i, colour, (32, 32)).save(files[-1])
    write_open_clip(tmp_path / "foreign")
    name, texts = f"local-dir:{tmp_path / 'foreign'}", ["a red circle", "three blue squares"]
    clip, _, prepare = open_clip.create_model_and_transforms(name)
    with torch.inference_mode():
        images = clip.eval().encode_image(torch.stack([prepare(Image.open(file)) for file in files]), normalize=True)
        words = clip.encode_text(open_clip.get_tokenizer(name)(texts), normalize=True)
    for found, own in zip(search(name, home, texts), words @ images.T):
        assert [hit.file for hit in found.hits] == [files[i].name for i in (-own).argsort()]
        np.testing.assert_allclose([hit.score for hit in found.hits], own.sort(descending=True).values, atol=1e-5)


def test_an_image_finds_itself_first(encoder, tmp_path):
    home = folder_of(tmp_path / "photos")
    for file in sorted(home.rglob("*.png")):
        for query in (file, str(file), Image.open(file)):
            hit = search(encoder, home, query, n=1)[0].hits[0]
            assert home / hit.file == file and hit.score == pytest.approx(1, abs=1e-5)


def test_words_may_be_called_like_an_image(encoder, tmp_path, monkeypatch):
    home = folder_of(tmp_path / "photos")
    monkeypatch.chdir(home)
    assert search(encoder, home, "00-red.png")[0].kind == "image"
    with pytest.warns(CondgenWarning, match="not read: 00, png"):
        assert search(encoder, home, TextQuery("00-red.png"))[0].kind == "text"
    with pytest.warns(CondgenWarning, match="not read: png"):
        assert search(encoder, home, "a red.png")[0].kind == "text"
    with pytest.raises(CondgenError, match="is not there"):
        search(encoder, home, "red.png")


# what can be looked through


def forms(tmp_path: Path) -> dict[str, Path]:
    """The same images in every form that there is."""
    plain = folder_of(tmp_path / "plain")
    files = sorted(plain.rglob("*.png"))
    table = tmp_path / "table"
    table.mkdir()
    lines = [{"file_name": file.name, "text": ["a thing", f"the {i}"]} for i, file in enumerate(files)]
    for file in files:
        shutil.copy(file, table)
    (table / "metadata.jsonl").write_text("\n".join(json.dumps(line) for line in lines[:-1]))
    classes = tmp_path / "classes"
    for file in files:
        (classes / file.stem[3:]).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, classes / file.stem[3:])
    shutil.copy(files[0], classes)
    members = [(f"{i}.{kind}", b) for i, f in enumerate(files) for kind, b in (("png", f.read_bytes()), ("txt", b"x"))]
    return {
        "plain": plain,
        "sidecars": folder_of(tmp_path / "sidecars", captions=True),
        "table": table,
        "classes": classes,
        "tar": write_tar(tmp_path / "x.tar", members),
    }


@pytest.mark.parametrize("form", ["plain", "sidecars", "table", "classes", "tar"])
def test_every_image_of_every_form(encoder, tmp_path, form):
    """An image without a caption, outside the classes, or absent from the table is an image all the same."""
    path = forms(tmp_path)[form]
    gallery = Gallery(path)
    entries, images = zip(*gallery.each(32))
    assert len({entry.file for entry in entries}) == len(entries) == 12 + (form == "classes")
    assert not gallery.bad.total() and all(image.shape == (3, 32, 32) for image in images)
    found = search(encoder, path, image(7, "yellow"), n=1)[0].hits[0]
    assert found.score == pytest.approx(1, abs=1e-4) and (form == "tar" or "07" in found.file)
    (again,) = gallery.images([found.number]).values()
    assert np.array_equal(np.asarray(again), np.asarray(image(7, "yellow")))
    said = {entry.file: (entry.captions, entry.label) for entry in entries}[found.file]
    assert said == {
        "plain": ([], ""), "sidecars": (["a yellow square", "number 7"], ""), "classes": ([], "yellow"),
        "table": (["a thing", "the 8"], ""), "tar": (["x"], ""),
    }[form]  # fmt: skip


def test_arrays_have_labels_and_images(encoder):
    gallery = Gallery("digits", split="test")
    entries = [entry for entry, _ in gallery.each(32)]
    assert len(entries) == len(gallery) and {entry.label for entry in entries} == set("0123456789")
    chosen = gallery.images([3, 200])
    from condgen.data.sources.labels import open_labelled

    known = open_labelled("digits", split="test")
    assert [int(entry.label) for entry in entries] == known.labels.tolist()
    for number, own in chosen.items():
        assert np.array_equal(np.asarray(own)[..., 1], known.images[number, 0])


def test_rows_that_name_one_file_are_one_image(encoder, tmp_path):
    image(1, "red").save(tmp_path / "a.png")
    rows = "".join(f"a.png,{text}\n" for text in ("one", "two", "one"))
    (tmp_path / "metadata.csv").write_text("file_name,text\n" + rows)
    (hit,) = search(encoder, tmp_path, "a red circle")[0].hits
    assert hit.captions == ("one", "two")


def test_a_name_that_is_no_text_is_found_all_the_same(encoder, tmp_path):
    home = folder_of(tmp_path / "photos")
    name = os.fsdecode(b"caf\xe9.png")
    try:
        image(50, "red").save(home / name)
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    finder, queries = Finder(encoder, Gallery(home)), [home / name, "a \udcff circle"]
    found = finder.find(queries, n=1)
    finder.sheet(found, queries)
    (hit,) = found[0].hits
    assert hit.file == "caf?.png" and hit.score == pytest.approx(1, abs=1e-5)
    encode(encoder, ["a \udcff circle"], home).write(tmp_path / "e.npy")


def test_bad_images_are_left_out_counted_and_reported(encoder, tmp_path):
    home = folder_of(tmp_path / "photos")
    (home / "torn.png").write_bytes((home / "00-red.png").read_bytes()[:60])
    (home / "none.jpg").write_bytes(b"no image")
    with pytest.warns(CondgenWarning, match=r"2 of 14 images left out: 2 corrupt image: none\.jpg, torn\.png"):
        (found,) = search(encoder, home, "a red circle", n=100)
    assert len(found.hits) == 12


# what is kept


def test_the_second_search_embeds_no_image(encoder, tmp_path, seen):
    home = folder_of(tmp_path / "photos")
    first = search(encoder, home, "a red circle")
    assert seen.count(12) == 1
    assert search(encoder, home, "a red circle") == first and seen == [12]
    assert [file.suffix for file in (tmp_path / "cache" / "search").iterdir()] == [".parquet"]
    assert {file.suffix for file in home.rglob("*") if file.is_file()} == {".png"}


@pytest.mark.parametrize("change", ["picture", "new", "gone", "touched", "caption"])
def test_a_change_is_noticed(encoder, tmp_path, seen, change):
    home = folder_of(tmp_path / "photos", captions=True)
    search(encoder, home, "a red circle")
    file = home / "00-red.png"
    if change == "picture":
        about = file.stat()
        image(50, "green").save(file, compress_level=0)
        os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))
    elif change == "new":
        image(50, "green").save(home / "new.png")
    elif change == "gone":
        file.unlink()
    elif change == "caption":
        file.with_suffix(".txt").write_text("another")
    else:
        os.utime(file, ns=(0, 0))
    with pytest.warns(CondgenWarning, match="computed anew: the images have changed"):
        (found,) = search(encoder, home, "a red circle", n=100)
    count = {"new": 13, "gone": 11}.get(change, 12)
    assert seen == [12, count] and len(found.hits) == count
    fresh = (
        embeds_of(encoder, [home / hit.file for hit in found.hits]) @ encoder.embed_text(["a red circle"]).numpy()[0]
    )
    np.testing.assert_allclose([hit.score for hit in found.hits], fresh, atol=1e-5)


def test_a_changed_shard_is_noticed(encoder, tmp_path, seen):
    members = [(f"{i}.{k}", b) for i in range(3) for k, b in (("png", png_of(i)), ("txt", b"a thing"))]
    path = write_tar(tmp_path / "x.tar", members)
    search(encoder, path, "a red circle")
    write_tar(path, [("0.png", png_of(9)), *members[1:]])
    with pytest.warns(CondgenWarning, match="have changed"):
        search(encoder, path, "a red circle")
    assert seen == [3, 3]


def png_of(seed: int) -> bytes:
    file = io.BytesIO()
    image(seed, "blue").save(file, "PNG")
    return file.getvalue()


def test_every_model_split_and_way_to_read_has_its_own(encoder, tmp_path, seen):
    home, other = folder_of(tmp_path / "photos"), pictures_only()
    shown = image(0, "red")
    for _ in range(2):
        search(encoder, home, shown)
        search(encoder, home, shown, resize="pad")
        search(other, home, shown)
    assert seen.count(12) == 3 and len(list((tmp_path / "cache" / "search").iterdir())) == 3


def test_a_damaged_or_foreign_file_is_computed_anew(encoder, tmp_path):
    home, cache = folder_of(tmp_path / "photos"), tmp_path / "kept"
    first = search(encoder, home, "a red circle", cache=cache)
    (file,) = cache.iterdir()
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.warns(CondgenWarning, match="damaged"):
        assert search(encoder, home, "a red circle", cache=cache) == first
    search(pictures_only(), home, home / "00-red.png", cache=cache)
    (other,) = set(cache.iterdir()) - {file}
    shutil.copy(other, file)
    with pytest.warns(CondgenWarning, match="of another encoder"):
        assert search(encoder, home, "a red circle", cache=cache) == first


def test_a_byte_of_the_cache_that_changed_is_noticed(encoder, tmp_path):
    """Anywhere in vectors, names and facts; the length stays."""
    home, cache = folder_of(tmp_path / "photos", captions=True), tmp_path / "kept"
    first = search(encoder, home, "a red circle", cache=cache)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    names = [whole.index(b"00-red.png")]
    for place in (*names, *range(100, len(whole), len(whole) // 12)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert search(encoder, home, "a red circle", cache=cache) == first
        assert file.read_bytes() == whole or not caught  # mended, or a byte without meaning
        file.write_bytes(whole)


def test_labels_that_changed_are_read_anew(encoder, tmp_path):
    """The names of classes may lie beside the data."""
    home = tmp_path / "labelled"
    home.mkdir()
    rows = ["file_name,label"]
    for i in range(12):
        image(i, "red").save(home / f"{i}.png")
        rows.append(f"{i}.png,{i % 2}")
    (home / "metadata.csv").write_text("\n".join(rows))
    for names in ("cat\ndog", "dog\ncat"):
        (home / "class_names.txt").write_text(names)
        found = search(encoder, home, image(0, "red"), n=1)[0].hits[0]
        assert found.label == names.splitlines()[0]


def edit(path: Path, form: str, what: str) -> None:
    """Changes data in place: the image that is found first, its caption or label, or the rows before it."""
    if form == "tar":
        images = [png_of(i + (what == "image") * 50) for i in range(what == "rows", 12)]
        write_tar(path, [pair for i, png in enumerate(images) for pair in ((f"{i}.png", png), (f"{i}.txt", b"x"))])
    elif what == "rows" and form == "table":
        lines = (path / "metadata.jsonl").read_text().splitlines()
        (path / "metadata.jsonl").write_text("\n".join(lines[5:]))
    elif what == "rows":
        for file in sorted(path.rglob("*.png"))[:5]:
            file.unlink()
    else:
        for file in sorted(path.rglob("*07-yellow*.png")):
            image(1, "blue", (30, 30)).save(file)


@pytest.mark.parametrize("what", ["rows", "image"])
@pytest.mark.parametrize("form", ["plain", "sidecars", "table", "classes", "tar"])
@pytest.mark.parametrize("again", [False, True], ids=["computed", "from the cache"])
def test_an_open_search_shows_no_image_under_the_name_of_another(encoder, tmp_path, form, what, again):
    path = forms(tmp_path)[form]
    for _ in range(1 + again):
        finder = Finder(encoder, Gallery(path))
        finder.embed()
    before = {hit.number: hit.file for hit in finder.find([image(7, "yellow")], 12)[0].hits}
    wanted = finder.gallery.images(before)
    edit(path, form, what)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        (found,) = finder.find([image(7, "yellow")], 12)
    assert {hit.number: hit.file for hit in found.hits} == before
    shown = finder.gallery.images(before)
    assert shown.keys() < wanted.keys() or (form, what) == ("table", "rows")
    for number, own in shown.items():
        assert own.tobytes() == wanted[number].tobytes(), before[number]
    assert [str(one.message) for one in caught if "since the images were embedded" in str(one.message)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        finder.embed()  # anew
    assert not finder.gallery.changed() and len(finder.gallery.images(range(20))) == len(finder.vectors)


def test_an_open_search_of_arrays_notices_that_they_changed(encoder, tmp_path):
    def write(seed: int) -> None:
        """MNIST's files."""
        pixels = np.random.default_rng(seed).integers(0, 256, (12, 28, 28), np.uint8)
        shape = b"".join(n.to_bytes(4, "big") for n in pixels.shape)
        (tmp_path / "train-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + shape + pixels.tobytes())
        labels = (np.arange(12) % 2).astype(np.uint8).tobytes()
        (tmp_path / "train-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + shape[:4] + labels)

    write(0)
    finder = Finder(encoder, Gallery(tmp_path))
    finder.embed(tmp_path / "cache")
    (hit,) = finder.find(["a red circle"], 1)[0].hits
    assert finder.gallery.images([hit.number])
    write(1)
    with pytest.warns(CondgenWarning, match="since the images were embedded"):
        finder.find(["a red circle"], 1)
    assert finder.gallery.images([hit.number]) == {}


def test_another_spelling_of_the_path_is_the_same_place(encoder, tmp_path, monkeypatch, seen):
    home = folder_of(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    for place in (home, "photos", "./photos/", "photos/../photos"):
        with warnings.catch_warnings():
            warnings.simplefilter("error", CondgenWarning)
            search(encoder, place, image(0, "red"))
    assert seen.count(12) == 1


def test_where_nothing_can_be_kept_the_search_goes_on(encoder, tmp_path):
    home = folder_of(tmp_path / "photos")
    (tmp_path / "file").touch()
    with pytest.warns(CondgenWarning, match="not kept"):
        assert search(encoder, home, "a red circle", cache=tmp_path / "file")[0].hits


def test_the_encoder_of_a_model_shares_what_is_kept(tiny_folder, tmp_path, seen):
    home = folder_of(tmp_path / "photos")
    model = package.load(tiny_folder)
    first = package.search(model, home, "a red circle")
    encoder_of(model).save(tmp_path / "encoder")
    assert package.search(tmp_path / "encoder", home, "a red circle") == first
    assert package.search(tiny_folder, home, "a red circle") == first and seen == [12]


# vectors


@pytest.mark.parametrize("form", [".npy", ".parquet"])
def test_what_is_written_is_what_the_model_gives(encoder, tmp_path, form):
    home, texts = folder_of(tmp_path / "photos", captions=True), ["a red circle", "a blue cross"]
    path = tmp_path / f"e{form}"
    encode(encoder, texts, home).write(path)
    if form == ".npy":
        embeds = np.load(path, allow_pickle=False)
        rows = [json.loads(line) for line in (tmp_path / "e.npy.jsonl").read_text(encoding="utf-8").splitlines()]
    else:
        rows = pq.read_table(path).to_pylist()
        embeds = np.array([row.pop("embedding") for row in rows], np.float32)
        assert pq.read_schema(path).field("embedding").type.value_type == "float"
        rows = [{name: value for name, value in row.items() if value is not None} for row in rows]
    assert embeds.shape == (14, 16) and embeds.dtype == np.float32
    assert [row.get("text") for row in rows] == texts + [None] * 12
    assert all(set(row) == {"file", "caption"} for row in rows[2:7])
    files = [home / row["file"] for row in rows[2:]]
    assert files == sorted(files) and len(set(files)) == 12
    expected = np.concatenate([encoder.embed_text(texts).numpy(), embeds_of(encoder, files)])
    np.testing.assert_allclose(embeds, expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(embeds, axis=1), 1, atol=1e-5)


def test_datasets_reads_it(encoder, tmp_path):
    datasets = pytest.importorskip("datasets")
    encode(encoder, ["a red circle"], "digits", split="test").write(tmp_path / "e.parquet")
    read = datasets.Dataset.from_parquet(str(tmp_path / "e.parquet"), cache_dir=str(tmp_path / "hf"))
    own = Vectors.read(tmp_path / "e.parquet")
    assert set(read.column_names) == {"file", "text", "label", "embedding"} and len(read) == len(own)
    assert np.array_equal(np.array(read["embedding"], np.float32), own.embeds)
    assert own.about["data"] == "digits" and own.row(0) == {"text": "a red circle"}


def test_vectors_of_many_groups_and_odd_files(tmp_path, monkeypatch):
    monkeypatch.setattr("condgen.retrieval.vectors.GROUP", 4)
    embeds = np.random.default_rng(0).normal(size=(11, 3)).astype(np.float32)
    vectors = Vectors.of(embeds, [{"file": str(i), "number": i} for i in range(11)], {"a": 1})
    vectors.write(tmp_path / "v.parquet")
    read = Vectors.read(tmp_path / "v.parquet")
    assert np.array_equal(read.embeds, embeds) and np.array_equal(vectors.embeds, embeds) and read.about == {"a": 1}
    assert list(read.rows()) == [read.row(i) for i in range(11)] and read.row(0) == {"file": "0", "number": 0}
    for name, content in (("text", b"no parquet"), ("empty", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CondgenError, match=f"{name} holds no readable embeddings"):
            Vectors.read(tmp_path / name)
    with pytest.raises(CondgenError, match=r"\.npy or \.parquet"):
        vectors.write(tmp_path / "v.csv")


# what is refused


@pytest.mark.parametrize(
    "ask, message",
    [
        (lambda e, home: search(e, home, []), "no query"),
        (lambda e, home: search(e, home, " "), "empty"),
        (lambda e, home: search(e, home, "a dog", n=0), "from 1"),
        (lambda e, home: search(e, home, "a dog", n=True), "from 1"),
        (lambda e, home: search(e, home, Path("missing.png")), "is not there"),
        (lambda e, home: search(e, home / "missing", "a dog"), "is not there"),
        (lambda e, home: search(e, home, "a dog", split="nowhere"), "no image"),
        (lambda e, home: search(pictures_only(), home, "a dog"), "encodes images and no text"),
        (lambda e, home: search(tiny_labels(), home, "a dog"), "ClassToImage has no encoder"),
        (lambda e, home: encode(e), "nothing to encode"),
        (lambda e, home: encode(pictures_only(), "a dog"), "no text"),
    ],
)
def test_what_no_search_can_answer(encoder, tmp_path, seen, ask, message):
    with pytest.raises(CondgenError, match=message):
        ask(encoder, folder_of(tmp_path / "photos"))
    assert not seen


# the sheet


def test_the_sheet_shows_what_was_found(encoder, tmp_path):
    home = folder_of(tmp_path / "photos")
    gallery = Gallery(home)
    finder = Finder(encoder, gallery)
    queries = ["a red circle", home / "03-yellow.png"]
    found = finder.find(queries, n=3)
    sheet = np.asarray(finder.sheet(found, queries))
    assert sheet.shape[1] == 6 + 4 * 166
    row = 6 + (sheet.shape[0] - 6) // 2
    for column in (0, 1):  # the query, and itself as what it found first
        cell = sheet[row + 1 : row + 159, 7 + 166 * column : 165 + 166 * column]
        assert np.abs(cell.mean((0, 1)) - COLOURS["yellow"]).max() < 20
    (home / found[0].hits[0].file).unlink()
    finder.sheet(found, queries)  # an image that is gone meanwhile does not spoil the rest


def test_a_sheet_of_many_is_cut_and_says_so(encoder, tmp_path, capsys):
    home = folder_of(tmp_path / "photos")
    finder, queries = Finder(encoder, Gallery(home)), ["a red circle"] * 60
    path = write_sheet(finder, finder.find(queries, 9), queries, tmp_path / "new" / "sheet.png")
    assert "50 of 60 queries, with 4 images" in capsys.readouterr().err
    with Image.open(path) as sheet:
        assert sheet.width == 6 + 5 * 166


# the commands


@pytest.fixture
def encoders(tiny_folder, tmp_path):
    """Folders of two encoders, beside which `tiny` is found."""
    encoder_of(tiny_model()).save(tmp_path / "models" / "pairs")
    pictures_only().save(tmp_path / "models" / "eyes")
    tiny_labels().save(tmp_path / "models" / "shoes")


def test_search_prints_and_draws(condgen, encoders):
    folder_of(Path("photos"), captions=True)
    code, out, err = condgen("search", "tiny", "--data", "photos", "a red circle", "photos/00-red.png", "-n", 3)
    lines = out.splitlines()
    assert code == 0 and lines[0] == "a red circle" and lines[4] == "photos/00-red.png" and len(lines) == 8
    assert lines[5].split(maxsplit=2) == ["1.000", "00-red.png", "a red square"]
    assert "sheet: search.png" in err and Path("search.png").is_file()
    argv = ["search", "pairs", "a red circle", "--image", "photos/00-red.png", "--data", "photos", "-n", 3, "--json"]
    code, out, _ = condgen(*argv)
    told = json.loads(out)
    assert [one["kind"] for one in told] == ["text", "image"] and not Path("search-2.png").exists()
    assert told[1]["hits"][0]["file"] == "00-red.png" and len(told[0]["hits"]) == 3
    assert condgen("search", "eyes", "photos/00-red.png", "--data", "photos", "-o", "deep/s.png")[0] == 0
    assert Path("deep/s.png").is_file()


def test_encode_prints_what_it_wrote(condgen, encoders, monkeypatch):
    folder_of(Path("photos"))
    monkeypatch.setattr(sys, "stdin", io.StringIO("a red circle\n\n  \na blue cross\n"))
    code, out, _ = condgen("encode", "pairs", "--text", "a cross", "--text", "-", "--data", "photos", "-o", "e.parquet")
    assert code == 0 and out.startswith("e.parquet  3 texts, 12 images, 16 numbers each")
    assert [row.get("text") for row in Vectors.read(Path("e.parquet")).rows()][:3] == [
        "a cross", "a red circle", "a blue cross",
    ]  # fmt: skip
    told = json.loads(condgen("encode", "tiny", "--text", "a cross", "-o", "e.npy", "--json")[1])
    assert told["rows"] == told["texts"] == 1 and told["embed_dim"] == 16 and told["images"] == 0
    assert told["space"] == encoder_of(tiny_model()).space and np.load("e.npy").shape == (1, 16)
    assert condgen("encode", "eyes", "--data", "photos", "-o", "eyes.npy")[0] == 0


@pytest.mark.parametrize(
    "argv, message",
    [
        (["search", "tiny", "a dog"], ["--data"]),
        (["search", "tiny", "--data", "photos"], ["no query"]),
        (["search", "tinny", "--data", "photos", "a dog"], ["Did you mean tiny?"]),
        (["search", "shoes", "--data", "photos", "a dog"], ["no text encoder"]),
        (["search", "eyes", "--data", "photos", "a dog"], ["eyes encodes images and no text"]),
        (["search", "tiny", "--data", "photos", "dog.png"], ["dog.png", "not there", "--text"]),
        (["search", "tiny", "--data", "photos", "--image", "photos"], ["photos"]),
        (["search", "tiny", "--data", "photos", "a dog", "-o", "sheet.jpg"], ["sheet.jpg", "PNG"]),
        (["search", "tiny", "--data", "photos", "a dog", "--imge", "x"], ["--image"]),
        (["search", "tiny", "--data", "photos", "a dog", "--device", "abacus"], ["abacus"]),
        (["search", "tiny", "--data", "empty", "a dog"], ["empty"]),
        (["search", "tiny", "--data", "torn", "a dog"], ["no image", "corrupt image: a.png"]),
        (["search", "tiny", "--data", "photos", "--filter", "a=b", "a dog"], ["photos"]),
        (["encode", "tiny", "-o", "e.npy"], ["nothing to encode"]),
        (["encode", "tiny", "--text", "a dog"], ["-o e.parquet"]),
        (["encode", "tiny", "--text", "a dog", "-o", "e.csv"], ["-o e.parquet"]),
        (["encode", "eyes", "--text", "a dog", "-o", "e.npy"], ["no text"]),
        (["encode", "tiny", "--text", " ", "-o", "e.npy"], ["empty"]),
        (["encode", "tiny", "a dog", "-o", "e.npy"], ["'a dog' was not expected"]),
    ],
)
def test_what_is_refused_is_one_line(condgen, encoders, argv, message):
    folder_of(Path("photos"))
    Path("empty").mkdir()
    Path("torn").mkdir()
    Path("torn/a.png").write_bytes(b"no image")
    code, out, err = condgen(*argv)
    err = "\n".join(line for line in err.splitlines() if not line.startswith("0%"))
    refused((code, out, err), *message)
    assert not list(Path().glob("*.png")) and not list(Path().glob("e.*"))


def test_stdin_without_text(condgen, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(" \n"))
    refused(condgen("encode", "tiny", "--text", "-", "-o", "e.npy"), "Standard input is empty")


def test_list_and_info_know_encoders(condgen, encoders):
    models = {model["name"]: model for model in json.loads(condgen("list", "--json")[1])["models"]}
    assert models["pairs"]["kind"] == "TextImageEncoder" and models["eyes"]["kind"] == "ImageEncoder"
    _, found, text = condgen("list")[1].partition("Text and image encoders")  # a recipe is called pairs, too
    assert found and text.index("pairs") < text.index("eyes")
    facts = json.loads(condgen("info", "pairs", "--json")[1])
    assert facts["space"] == encoder_of(tiny_model()).space and facts["size"] == 32 and facts["embed_dim"] == 16
    assert facts["parameters"] == sum(p.numel() for p in tiny_model().clip.parameters())
    told = condgen("info", "eyes")[1]
    assert "32 x 32" in told and "embeds" in told and "Backbone" in told and "options" not in told


def test_a_model_tells_its_folder(encoders, tiny_folder, tmp_path):
    home = tmp_path / "models"
    for folder in (home / "pairs", home / "eyes", home / "shoes", tiny_folder):
        assert Path(package.load(folder).path).samefile(folder)
    assert tiny_model().path is None


def test_a_gallery_scales_values_as_asked(tmp_path):
    for i in range(3):
        Image.fromarray(np.full((8, 8), 4095, np.uint16)).save(tmp_path / f"{i}.png")
    gallery = Gallery(tmp_path, value_range=(0.0, 4095.0))
    assert all((image == 255).all() for _, image in gallery.each(8))
    assert np.asarray(gallery.images([0])[0]).min() == 255
    assert all(image.max() < 20 for _, image in Gallery(tmp_path, value_range=(0.0, 65535.0)).each(8))
