"""The studio's page of search: the gate, the API through gradio_client, what it must not read, how it is opened."""

from __future__ import annotations

from pathlib import Path

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from PIL import Image

from condgen.contracts import CondgenError
from condgen.retrieval.gallery import Gallery
from condgen.retrieval.search import Finder, TextQuery, encoder_of
from condgen.studio import serve
from condgen.studio.search import MAX_IMAGES, check
from tests.retrieval.test_search import folder_of, pictures_only
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return folder_of(tmp_path_factory.mktemp("photos"), captions=True)


@pytest.fixture(scope="module")
def address(home, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        patch.setenv("CONDGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
        from condgen.studio.app import build, launch

        page = build(tiny_model(), str(home))
        launch(page, server_name="127.0.0.1", share=False, prevent_thread_lock=True, quiet=True)
        try:
            yield page.local_url.rstrip("/")
        finally:
            page.close()


@pytest.fixture
def client(address, tmp_path):
    return Client(address, verbose=False, download_files=str(tmp_path))


def test_words_find_what_search_finds(client, home):
    finder = Finder(encoder_of(tiny_model()), Gallery(home))
    (found,) = finder.find(["a red circle"], 5)
    pictures, told = client.predict(query="a red circle", count=5, api_name="/search")
    assert [one["caption"] for one in pictures] == [f"{hit.score:.3f} · {hit.text or hit.file}" for hit in found.hits]
    assert told.startswith("5 images, ")
    shown = [np.asarray(Image.open(one["image"]).convert("RGB"), float).mean((0, 1)) for one in pictures]
    own = [np.asarray(Image.open(home / hit.file), float).mean((0, 1)) for hit in found.hits]
    np.testing.assert_allclose(shown, own, atol=3)


def test_an_image_finds_itself(client, home):
    file = home / "03-yellow.png"
    pictures, _ = client.predict(query="", image=handle_file(str(file)), count=1, api_name="/search")
    assert pictures[0]["caption"] == "1.000 · a yellow square"


def test_the_api_is_one_question(client):
    assert set(client.view_api(return_format="dict")["named_endpoints"]) == {"/search"}


BAD = [
    ({"query": ""}, "empty"),
    ({"query": "a" * 2001}, "2,001 characters"),
    ({"query": "a dog", "count": 0}, "less than minimum value 1"),
    ({"query": "a dog", "count": MAX_IMAGES + 1}, f"maximum value {MAX_IMAGES}"),
    ({"query": "a dog", "count": 1.5}, "whole number"),
]


@pytest.mark.parametrize("asked, message", BAD)
def test_what_is_refused_is_reported(client, asked, message):
    with pytest.raises(Exception, match=message):
        client.predict(**asked, api_name="/search")


def test_what_is_no_image_is_reported_without_its_place(client, tmp_path):
    (tmp_path / "torn.png").write_bytes(b"no image")
    with pytest.raises(Exception, match=r"torn\.png is not an image") as error:
        client.predict(query="", image=handle_file(str(tmp_path / "torn.png")), api_name="/search")
    assert "/" not in str(error.value).split("torn.png")[0]


def test_a_path_is_no_way_to_the_files_of_the_server(client, address, home):
    """A text is words, whatever it is called; an image must have been uploaded."""
    pictures, _ = client.predict(query=str(home / "03-yellow.png"), count=1, api_name="/search")
    assert not pictures[0]["caption"].startswith("1.000")
    file = {"path": str(home / "03-yellow.png"), "meta": {"_type": "gradio.FileData"}}
    reply = httpx.post(f"{address}/gradio_api/call/search", json={"data": ["", file, 1]})
    if reply.status_code == 200:
        told = httpx.get(f"{address}/gradio_api/call/search/{reply.json()['event_id']}").text
        assert "event: error" in told and "1.000" not in told
    else:
        assert reply.status_code in (400, 403, 422)


def test_the_gate(home):
    finder, eyes = Finder(encoder_of(tiny_model()), Gallery(home)), Finder(pictures_only(), Gallery(home))
    query, n = check(finder, "  00-red.png ", None, 3.0)
    assert isinstance(query, TextQuery) and query == "00-red.png" and n == 3
    for bad in ((None, None, 1), (5, None, 1), ("a dog", None, "3"), ("a dog", None, True), ("", {"path": "x"}, 1)):
        with pytest.raises(CondgenError):
            check(finder, *bad)
    with pytest.raises(CondgenError, match="images and no text"):
        check(eyes, "a dog", None, 1)
    assert check(eyes, "a dog", "x.png", 1) == (Path("x.png"), 1)


def test_an_encoder_without_images_is_refused(tmp_path, capsys):
    pictures_only().save(tmp_path / "eyes")
    assert serve.main(["--model", str(tmp_path / "eyes")]) == 2
    assert serve.main(["--model", str(tmp_path / "eyes"), "--data", str(tmp_path / "missing")]) == 2
    told = capsys.readouterr().err.splitlines()
    assert "--data PATH" in told[0] and "missing is not there" in told[1] and len(told) == 2
