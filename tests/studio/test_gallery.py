"""The catalogue of kept images, and the API of the gallery."""

import json
import os
import threading
import time
import zipfile
from pathlib import Path

import httpx
import pytest
from PIL import Image, PngImagePlugin

from condgen.contracts import CondgenError
from condgen.files.images import gif, grid, parameters, png_bytes, png_with_recipe
from condgen.studio.images.catalogue import PAGE, Catalogue, Query, facts_of, ids_of, page_of, size_text, title_of
from condgen.studio.images.outputs import Outputs
from condgen.studio.studio import Studio
from condgen.studio.tabs.gallery.tab import GalleryTab
from tests.studio.support import PROMPT

OWN = {"prompt": "a red circle", "seed": 4, "prior": "regression", "size": 32, "model": "words", "model_id": "8" * 16}


def png(**changes):
    recipe = OWN | changes
    return png_with_recipe(Image.new("RGB", (8, 8)), recipe, parameters(OWN))


@pytest.fixture
def catalogue(tmp_path):
    return Catalogue(Outputs(tmp_path / "outputs", tmp_path / "served"))


def titles(catalogue, person="", **query):
    return [catalogue.facts(image).title for image in catalogue.find(person, Query.of(**query))]


# Catalogue ------------------------------------------------------------------------------------------------------------


def test_filters(catalogue):
    outputs = catalogue.outputs
    circle = outputs.save("", "a.png", png())
    labels = {"labels": {"label": "Sneaker", "age": 30}, "model": "shoes"}
    outputs.save("", "b.png", png(**labels, seed=9))
    outputs.save("", "c.png", png(operation="mix", title="Straße between two ends"))
    (outputs.root / "2020-01-01").mkdir()
    (outputs.root / "2020-01-01" / "old.png").write_bytes(png(prompt="a BLUE square"))
    outputs.star("", circle.id, True)
    assert titles(catalogue)[-1] == "a BLUE square" and len(titles(catalogue)) == 4
    assert titles(catalogue, words="Circle RED") == ["a red circle"] == titles(catalogue, starred=True)
    assert titles(catalogue, words="sneaker") == ["age: 30, label: Sneaker"] == titles(catalogue, model="shoes")
    assert titles(catalogue, words="STRASSE") == ["Straße between two ends"]
    assert titles(catalogue, day="2020-01-01") == ["a BLUE square"] == titles(catalogue, words="old.png")
    assert titles(catalogue, words="red blue") == [] == titles(catalogue, model="none") == titles(catalogue, "user bob")
    assert catalogue.models("") == ["words", "shoes"] and len(catalogue.days("")) == 2


@pytest.mark.parametrize("bad", [{"words": 5}, {"model": ["x"]}, {"day": {}}, {"words": "x" * 501}])
def test_filters_of_a_wrong_type_are_refused(bad):
    with pytest.raises(CondgenError, match="filter"):
        Query.of(**bad)


def test_every_kind_of_file_has_a_title(tmp_path):
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a castle\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 5, Model: xl")
    Image.new("RGB", (8, 8)).save(tmp_path / "foreign.png", pnginfo=info)
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    files = {
        "image": png(), "sheet": png_bytes(grid(frames, ["a", "b"])), "animation": gif(frames, 100),
        "other": png_bytes(frames[0]), "damaged": b"\x89PNG\r\n\x1a\n?", "text": b"<script>", "half": png()[:200],
        "odd": png(prompt={"a": 1}), "nan": png(seed=float("nan")), "list": png(labels=[1]),
    }  # fmt: skip
    for name, data in files.items():
        (tmp_path / f"{name}.{'gif' if name == 'animation' else 'png'}").write_bytes(data)
    facts = {path.stem: facts_of(path) for path in tmp_path.iterdir()}
    kinds = {name: one.kind for name, one in facts.items()}
    assert {name: kinds[name] for name in ("foreign", "image", "sheet", "animation", "other", "damaged")} == {
        name: name for name in ("foreign", "image", "sheet", "animation", "other", "damaged")
    }
    assert (kinds["text"], kinds["odd"], kinds["list"]) == ("damaged", "other", "other")
    assert facts["image"].actions is None and facts["sheet"].actions == ["star", "delete"]
    assert (facts["foreign"].title, facts["foreign"].model, facts["foreign"].seed) == ("a castle", "xl", 5)
    assert "vary" in facts["other"].actions and "use_seed" not in facts["other"].actions
    assert facts["odd"].title == "odd.png" and facts["nan"].seed is None


def test_a_file_that_changed_is_read_again(catalogue):
    image = catalogue.outputs.save("", "a.png", png())
    assert catalogue.facts(image).title == "a red circle"
    image.path.write_bytes(png(prompt="a blue square, later"))
    assert catalogue.facts(catalogue.outputs.get("", image.id)).title == "a blue square, later"


def test_pages():
    images = list(range(2 * PAGE + 1))
    assert page_of(images, 1) == (images[:PAGE], 1, 3)
    assert page_of(images, 3) == (images[-1:], 3, 3) == page_of(images, 99)
    assert page_of([], 1) == ([], 1, 1)
    for bad in (0, -1, 1.5, "1", None, float("nan"), True):
        with pytest.raises(CondgenError, match="page"):
            page_of(images, bad)


@pytest.mark.parametrize("bad", [None, [], {}, 5, [5], ["a", None], ["x"] * 10_001])
def test_ids_of_a_wrong_type_are_refused(bad):
    with pytest.raises(CondgenError, match="ids of images"):
        ids_of(bad)


def test_texts():
    assert title_of("2026-11-27") == "Friday, 27 November 2026" and title_of("2026-99-99") == "2026-99-99"
    assert size_text(2**20 * 3 // 2) == "1.5 MB" and size_text(2**32) == "4.00 GB"


def test_an_archive_has_all_images_and_their_recipes(catalogue, tmp_path):
    outputs = catalogue.outputs
    images = [outputs.save("", "a.png", png(seed=seed)) for seed in range(3)]
    (outputs.root / "flat.gif").write_bytes(gif([Image.new("RGB", (8, 8))] * 2, 50))
    outputs.star("", images[1].id, True)
    first = catalogue.archive("", outputs.list(""))
    with zipfile.ZipFile(first) as file:
        assert set(file.namelist()) == {image.id for image in images} | {"flat.gif", "recipes.json"}
        recipes = {entry["file"]: entry for entry in json.loads(file.read("recipes.json"))}
        assert file.read(images[1].id) == images[1].path.read_bytes()
    assert recipes[images[1].id]["recipe"] == OWN | {"seed": 1} and recipes[images[1].id]["star"]
    assert recipes["flat.gif"]["recipe"] is None
    assert len(first.parent.name) >= 21
    second = catalogue.archive("", images[:1])
    assert second.exists() and not first.exists()
    images[0].path.unlink()
    with pytest.raises(CondgenError, match="no such images"):
        catalogue.archive("", images[:1])


def test_an_archive_that_is_too_large_or_cannot_be_written_is_refused(catalogue, monkeypatch):
    image = catalogue.outputs.save("", "a.png", png())
    monkeypatch.setattr("condgen.studio.images.catalogue.MAX_ARCHIVE", 100)
    with pytest.raises(CondgenError, match="Select fewer"):
        catalogue.archive("", [image])
    monkeypatch.undo()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "write", full)
    with pytest.raises(CondgenError, match="No space left"):
        catalogue.archive("", [image])
    assert list(catalogue.outputs.served.iterdir()) == []


def test_the_tab_opens_quickly_with_five_thousand_images(tmp_path):
    outputs = Outputs(tmp_path / "outputs", tmp_path / "served")
    for day in range(10):
        folder = outputs.root / f"2026-01-{day + 1:02d}"
        folder.mkdir(parents=True)
        for i in range(500):
            (folder / f"{i}.png").write_bytes(png(seed=i, prompt=f"number {i} of day {day}"))
    tab = GalleryTab(Studio(None, outputs))
    began = time.process_time()
    grid, numbers, *_ = tab._show("", "", "", False, 1, None)
    tab._choices("", "", "", False, None)
    assert time.process_time() - began < 1
    assert len(grid["value"]) == PAGE and "5,000 images" in numbers
    assert grid["value"][0]["heading"] == "Saturday, 10 January 2026"
    began = time.process_time()
    grid, numbers, *_ = tab._show("number 7 day", "words", "", False, 1, None)
    assert time.process_time() - began < 0.5
    assert "of 5,000 images" in numbers


def test_images_that_vanish_while_the_page_is_made_are_left_out(tmp_path, monkeypatch):
    outputs = Outputs(tmp_path / "outputs", tmp_path / "served")
    images = [outputs.save("", "a.png", png(seed=i)) for i in range(3)]
    listed = outputs.list("")
    monkeypatch.setattr(outputs, "list", lambda person: listed)
    images[1].path.unlink()
    grid, *_ = GalleryTab(Studio(None, outputs))._show("", "", "", False, 1, None)
    assert {card["id"] for card in grid["value"]} == {images[0].id, images[2].id}


def test_an_image_that_is_not_kept_is_listed_without_a_star(tmp_path):
    outputs = Outputs(tmp_path / "outputs", tmp_path / "served", limit=1)
    outputs.save("", "a.png", png())
    grid, *_ = GalleryTab(Studio(None, outputs))._show("", "", "", False, 1, None)
    card = grid["value"][0]
    assert card["note"].startswith("Not kept") and "star" not in card["only"] and "use_all" in card["only"]


def test_two_threads_read_one_catalogue(catalogue):
    for seed in range(200):
        catalogue.outputs.save("", "a.png", png(seed=seed))
    counts, threads = [], [
        threading.Thread(target=lambda: counts.append(len(titles(catalogue, words="circle")))) for _ in range(8)
    ]  # fmt: skip
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert counts == [200] * 8


# API ------------------------------------------------------------------------------------------------------------------


def test_the_api_lists_gives_stars_and_deletes(client):
    client.predict("words", PROMPT, count=2, seed=70, api_name="/generate")
    answer = client.predict(words="circle", api_name="/images")
    ids = [entry["id"] for entry in answer["images"]]
    assert answer["total"] == len(ids) >= 2 and answer["images"][0]["recipe"]["prompt"] == PROMPT
    assert {entry["seed"] for entry in answer["images"]} >= {70, 71}
    one = client.predict(ids[0], api_name="/image")
    assert Path(one["image"]).read_bytes().startswith(b"\x89PNG") and one["title"] == PROMPT
    assert client.predict([ids[0]], True, api_name="/star") == {"images": [ids[0]]}
    assert [entry["id"] for entry in client.predict(starred=True, api_name="/images")["images"]] == [ids[0]]
    archive = client.predict(ids, api_name="/archive")["archive"]
    assert len(zipfile.ZipFile(archive).namelist()) == len(ids) + 1
    assert client.predict([ids[0], "2026-01-01/none.png"], api_name="/delete") == {"images": [ids[0]]}
    assert client.predict(starred=True, api_name="/images")["images"] == []
    with pytest.raises(Exception, match="no image"):
        client.predict(ids[0], api_name="/image")
    assert client.predict(count=1, page=1, api_name="/images")["pages"] == answer["total"] - 1


@pytest.mark.parametrize("name, data", [
    ("image", ["../../etc/passwd"]), ("image", [5]), ("image", [None]), ("image", ["people/x/2026-01-01/a.png"]),
    ("star", ["", True]), ("star", [[], True]), ("star", [[["a"]], True]), ("delete", [["../x.png"]]), ("delete", [{}]),
    ("archive", [["/etc/passwd"]]), ("images", [5]), ("images", ["", "", "", False, 0]), ("images", ["x" * 501]),
    ("images", ["", "", "", False, 1, 10**9]), ("images", ["", "", "", False, 1, "a"]),
])  # fmt: skip
def test_the_api_refuses_in_a_sentence(address, name, data):
    started = httpx.post(f"{address}/gradio_api/call/{name}", json={"data": data}, timeout=60)
    text = httpx.get(f"{address}/gradio_api/call/{name}/{started.json()['event_id']}", timeout=60).text
    assert text.startswith("event: error") and "Something went wrong" not in text and "Traceback" not in text


def test_files_of_the_outputs_have_no_address_of_their_own(address, client):
    client.predict("words", PROMPT, api_name="/generate")
    image = client.predict(api_name="/images")["images"][0]
    roots = [Path(address), Path("outputs"), Path.cwd() / "outputs", Path("/") / os.sep]
    for root in roots:
        assert httpx.get(f"{address}/gradio_api/file={root / image['id']}").status_code in (403, 404)
