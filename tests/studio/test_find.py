"""The Find tab without a browser: queries, places, the API, and what visitors must not read."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from gradio_client import Client, handle_file
from PIL import Image

from condgen.contracts import CondgenError
from condgen.retrieval.gallery import Gallery
from condgen.retrieval.search import Finder
from condgen.studio.tabs.find.finding import FOLDER, MAX_FOUND, Query, Searcher, check_query, embed_query, encoder_for
from condgen.studio.tabs.find.places import Places, titles_of
from tests.retrieval.test_search import folder_of, pictures_only
from tests.studio.support import colourful_model, serving, tiny_vae


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    return folder_of(tmp_path_factory.mktemp("photos"), captions=True)


@pytest.fixture(scope="module")
def address(models, photos, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONDGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
        with serving(tmp_path_factory.mktemp("studio"), models, data=(str(photos),)) as url:
            yield url


@pytest.fixture
def encoder():
    return encoder_for(colourful_model())


# Queries --------------------------------------------------------------------------------------------------------------


def test_words_and_an_image_are_weighed(encoder, photos):
    image = next(photos.glob("*.png"))
    words, both = Query("a red circle", None, 0.5, 1), Query("a red circle", image, 0.25, 1)
    alone = embed_query(encoder, Query("", image, 0.0, 1))  # an image alone counts in full
    mean = 0.75 * embed_query(encoder, words) + 0.25 * alone
    assert np.linalg.norm(alone) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(embed_query(encoder, both), mean / np.linalg.norm(mean), atol=1e-6)


def test_checks_of_queries(encoder):
    assert check_query(encoder, "  a dog ", None, 1, 3.0) == Query("a dog", None, 1.0, 3)
    for words in ("", "   "):
        with pytest.raises(CondgenError, match="Type words to find images by, or choose an image"):
            check_query(encoder, words, None, 0.5, 3)
    for bad in (
        (5, None, 0.5, 3), ("a" * 2001, None, 0.5, 3), ("a", None, 1.1, 3), ("a", None, "1", 3), ("a", None, 0.5, 0),
        ("a", None, 0.5, MAX_FOUND + 1), ("a", None, 0.5, 1.5),
    ):  # fmt: skip
        with pytest.raises(CondgenError):
            check_query(encoder, *bad)
    with pytest.raises(CondgenError, match="images and no text"):
        check_query(pictures_only(), "a dog", None, 0.5, 3)
    with pytest.raises(CondgenError, match="choose a model that embeds images"):
        encoder_for(tiny_vae())


def test_files_are_embedded_once_and_damaged_ones_left_out(encoder, photos, tmp_path, monkeypatch):
    (tmp_path / "torn.png").write_bytes(b"no image")
    files = [tmp_path / "torn.png", *sorted(photos.glob("*.png"))]
    searcher = Searcher()
    assert list(searcher.embed_files(encoder, files))
    vector = embed_query(encoder, Query("", files[2], 0.5, 1))
    found = searcher.in_files(encoder, files, vector, 3)
    assert found[0].key == 2 and found[0].score == pytest.approx(1, abs=1e-4)
    monkeypatch.setattr(type(encoder), "embed_image", lambda *args: pytest.fail("embedded again"))
    list(searcher.embed_files(encoder, files[1:]))
    with pytest.raises(CondgenError, match="no images to search"):
        searcher.in_files(encoder, [], vector, 3)


# Places ---------------------------------------------------------------------------------------------------------------


def test_titles_of_folders_are_distinct():
    assert titles_of(["/a/photos", "/b/photos", "digits"]) == {
        "photos": "/a/photos", "photos (2)": "/b/photos", "digits": "digits",
    }  # fmt: skip


@pytest.mark.parametrize("several", [False, True])
def test_only_the_owner_of_the_machine_names_folders(several, photos, tmp_path):
    person = "visitor x" if several else ""
    outputs = SimpleNamespace(list=lambda who: [])
    studio = SimpleNamespace(data=(str(photos),), several=several, person=lambda request: person, outputs=outputs)
    places, request = Places(studio), SimpleNamespace()
    assert (FOLDER in dict(places.offered(request)).values()) != several
    assert places.source("data:photos" + photos.name.removeprefix("photos"), "", None, request) == str(photos)
    if several:
        with pytest.raises(CondgenError, match="no place"):
            places.source(FOLDER, str(tmp_path), None, request)
    else:
        assert places.source(FOLDER, str(tmp_path), None, request) == str(tmp_path)
        for bad in (None, "", "  ", "/no/such/folder", "a\0b", 5):
            with pytest.raises(CondgenError, match="no folder"):
                places.source(FOLDER, bad, None, request)
    for bad in (str(tmp_path), f"data:{tmp_path}", "data:", "data:../x", None, 5, []):
        with pytest.raises(CondgenError, match="no place"):
            places.source(bad, str(tmp_path), None, request)


# The API --------------------------------------------------------------------------------------------------------------


def test_words_find_what_the_library_finds(client, photos):
    finder = Finder(encoder_for(colourful_model()), Gallery(photos))
    (expected,) = finder.find(["a red circle"], 5)
    result = client.predict("words", "a red circle", count=5, api_name="/search")
    assert result["files"] == [hit.file for hit in expected.hits]
    assert result["scores"] == pytest.approx([hit.score for hit in expected.hits], abs=1e-5)
    for shown, hit in zip(result["images"], expected.hits):
        own = np.asarray(Image.open(photos / hit.file).convert("RGB"))
        np.testing.assert_array_equal(np.asarray(Image.open(shown).convert("RGB")), own)


def test_an_image_finds_itself_in_a_folder_and_among_uploads(client, photos):
    file = sorted(photos.glob("*.png"))[3]
    result = client.predict("clip", image=handle_file(str(file)), count=1, place=photos.name, api_name="/search")
    assert result["files"] == [file.name] and result["scores"][0] == pytest.approx(1, abs=1e-4)
    uploads = [handle_file(str(one)) for one in sorted(photos.glob("*.png"))[2:5]]
    result = client.predict("clip", image=handle_file(str(file)), count=2, images=uploads, api_name="/search")
    assert result["files"][0] == file.name and len(result["images"]) == 2


def test_own_images_are_searched(client):
    client.predict("words", "a red circle", count=2, seed=3, api_name="/generate")
    result = client.predict("words", "a red circle", place="mine", api_name="/search")
    assert len(result["images"]) == 2 and all(name.endswith(".png") for name in result["files"])


BAD = [
    ({"words": ""}, "nothing to find"),
    ({"words": "a", "place": "/etc"}, "no place"),
    ({"words": "a", "place": "elsewhere"}, "no place"),
    ({"image": {"path": "/etc/hostname"}}, "uploaded file"),
    ({"words": "a", "place": "uploads", "images": ["/etc/hostname"]}, "uploaded file"),
    ({"words": "a", "place": "uploads", "images": []}, "no images to search"),
]


@pytest.mark.parametrize("given, message", BAD)
def test_refusals_say_why(client, photos, given, message):
    with pytest.raises(Exception, match=message) as error:
        client.predict("words", **given, api_name="/search")
    assert str(photos.parent) not in str(error.value)


def test_a_visitor_reads_no_folder_and_no_image_of_another(models, photos, tmp_path):
    with serving(tmp_path, models, data=(str(photos),), several=True) as url:
        first, second = (Client(url, verbose=False, download_files=str(tmp_path / name)) for name in "ab")
        first.predict("words", "a red circle", seed=3, api_name="/generate")
        assert first.predict("words", "a red circle", place="mine", api_name="/search")["images"]
        with pytest.raises(Exception, match="no images to search"):
            second.predict("words", "a red circle", place="mine", api_name="/search")
        with pytest.raises(Exception, match="no place"):
            second.predict("words", "a red circle", place="folder", path=str(photos), api_name="/search")
        assert second.predict("words", "a red circle", count=1, api_name="/search")["images"]
