"""The Translate tab without a browser: checks, drawings and the API."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest
from gradio_client import handle_file
from PIL import Image

from condgen.contracts import CondgenError
from condgen.files.images import KEY, png_bytes
from condgen.pipelines.translator import Translator
from condgen.studio.tabs.translate.translating import MAX_FILES, PREFIX, check_translation, drawn, translate
from tests.tiny import tiny_model, tiny_translator


def sides() -> Translator:
    return Translator({"a_to_b": tiny_translator()}, ("squares", "circles"), {"name": "sides"})


@pytest.fixture
def images(tmp_path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{name}.png" for name in ("one", "two")]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (20, 16, 3), np.uint8)).save(path)
    return paths


def test_checks(images):
    files = [(images[0], "one.png")]
    assert check_translation(sides(), files, "", False).to == "circles"
    for bad in (
        ([], "", False), (files * (MAX_FILES + 1), "", False), (files, "squares", False), (files, 5, False),
        (files, "", "yes"),
    ):  # fmt: skip
        with pytest.raises(CondgenError):
            check_translation(sides(), *bad)
    with pytest.raises(CondgenError, match="choose a model that translates images"):
        check_translation(tiny_model(), files, "", False)


@pytest.mark.parametrize("edges", [False, True])
def test_translations_are_those_of_the_library_under_the_names_that_people_gave(images, edges):
    job = check_translation(sides(), [(path, f"my {path.name}") for path in images], "", edges)
    for one, expected in zip(translate(job), sides().translations(images, edges=edges), strict=True):
        np.testing.assert_array_equal(np.asarray(one.image), np.asarray(expected.image))
        np.testing.assert_array_equal(np.asarray(one.given), np.asarray(expected.given))
        assert one.recipe["translated"] == f"my {expected.source.name}"


def test_a_damaged_file_is_named_without_its_folder(tmp_path):
    (tmp_path / "x.png").write_bytes(b"no image")
    with pytest.raises(CondgenError, match=r"shoe\.png is not an image") as error:
        list(translate(check_translation(sides(), [(tmp_path / "x.png", "shoe.png")], "", False)))
    assert str(tmp_path) not in str(error.value)


def test_drawings_are_images():
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.putpixel((1, 2), (0, 0, 0, 255))
    path = drawn(PREFIX + base64.b64encode(png_bytes(image)).decode())
    assert path.startswith(b"\x89PNG") and drawn("") is None and drawn(None) is None
    for bad in (5, "x", "data:text/html;base64,AAAA", PREFIX + "?", PREFIX + "AAAA", PREFIX + "A" * 2**22, ["x"]):
        with pytest.raises(CondgenError):
            drawn(bad)


def test_the_api_translates_several_files_and_keeps_them_with_recipes(client, images):
    files = [handle_file(str(path)) for path in images]
    result = client.predict("sides", files, api_name="/translate")
    assert [one["translated"] for one in result["recipes"]] == ["one.png", "two.png"]
    for shown, expected in zip(result["images"], sides().translations(images), strict=True):
        image = Image.open(shown)
        np.testing.assert_allclose(np.asarray(image, int), np.asarray(expected.image, int), atol=1)
        assert json.loads(image.text[KEY])["to"] == "circles"


BAD = [
    ({"model": "words", "images": []}, "choose a model that translates"),
    ({"model": "sides", "images": []}, "no image yet"),
    ({"model": "sides", "images": ["/etc/hostname"]}, "uploaded file"),
    ({"model": "sides", "images": [{"path": "/etc/hostname"}]}, "uploaded file"),
    ({"model": "sides", "images": "x"}, "no image yet"),
]


@pytest.mark.parametrize("given, message", BAD)
def test_refusals_say_why(client, given, message):
    with pytest.raises(Exception, match=message):
        client.predict(**given, api_name="/translate")
