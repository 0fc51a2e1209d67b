"""The settings of the Generate tab without a browser: masks, captions, and what a page says after a reload."""

from __future__ import annotations

import base64
import json
from types import SimpleNamespace

import gradio as gr
import pytest
from PIL import Image

from condgen.files.images import png_bytes
from condgen.pipelines.editing.guide import GUIDANCE, NOISE
from condgen.studio.components import defaults
from condgen.studio.images.outputs import Outputs
from condgen.studio.session import caption_of, check, note_of, serve
from condgen.studio.studio import Studio
from condgen.studio.tabs.generate.masks import PREFIX, MaskDefaults, fields_of, reopened
from condgen.studio.tabs.generate.recent import RecentRequests
from condgen.studio.tabs.generate.refill import filling_of
from condgen.studio.tabs.generate.settings import Settings
from tests.studio.support import PROMPT, colourful_model


@pytest.fixture(scope="module")
def model():
    return colourful_model()


@pytest.fixture
def studio(model, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "served"))
    library = SimpleNamespace(open=lambda name: model, entries=dict)
    return Studio(library, Outputs(tmp_path / "outputs", tmp_path / "served"))


def drawn(edge=32):
    return PREFIX + base64.b64encode(png_bytes(Image.new("RGB", (edge, edge), "white"))).decode()


def test_a_mask_shows_its_defaults_unless_they_were_changed(studio, model):
    masks, own = MaskDefaults(studio), defaults(fields_of(model, ""))
    assert own["guidance"] != GUIDANCE
    options, noise = masks.show("tiny", "", own, NOISE, {"path": "x"}, drawn())
    assert options["value"] == own | {"guidance": GUIDANCE} and noise == 1.0
    options, noise = masks.show("tiny", "", options["value"], noise, {"path": "x"})
    assert options["value"] == own and noise == NOISE
    assert masks.show("tiny", "", own | {"guidance": 3.5}, 0.4, {"path": "x"}, drawn()) == (gr.skip(), gr.skip())
    options, noise = masks.begin("tiny", "", own | {"guidance": GUIDANCE}, 1.0, {"path": "y"}, drawn())
    assert options["value"] == own and noise == NOISE  # the brush is taken away
    assert masks.begin("tiny", "", own | {"guidance": GUIDANCE}, 1.0, {"path": "y"}) == (gr.skip(), gr.skip())


@pytest.mark.parametrize("mask", [drawn(), None])
def test_what_the_page_shows_is_what_is_used(studio, model, mask):
    start = studio.slot_of("start.png", png_bytes(Image.new("RGB", (32, 32), "red")))
    options = defaults(fields_of(model, ""))
    values = (1, "5", True, "", options, 1, model.size, None, 0.5, start, 0.85, mask, None, "")
    asked = Settings(studio).request(model, PROMPT, values, None)
    *_, last = serve(model, asked)
    recipe = last.done[0].recipe
    assert {name: recipe[name] for name in options} == options and recipe["noise"] == 0.85
    assert (recipe["mask"] is not None) == (mask is not None)


def test_all_settings_of_a_guided_image_are_known(studio, model):
    start = studio.slot_of("start.png", png_bytes(Image.new("RGB", (32, 32), "red")))
    asked = check(model, PROMPT, options={"init": studio.image(start, None), "noise": 0.4, "steps": 2})
    *_, last = serve(model, asked)
    recipe = json.loads(json.dumps(last.done[0].recipe)) | {"empty": None}
    assert filling_of(studio.library, recipe | {"model": None}, "tiny").notes == ()
    assert "zoom" in filling_of(studio.library, recipe | {"model": None, "zoom": 9}, "tiny").notes[0]


def test_a_reload_opens_the_images_that_guide_and_says_what_was_finished():
    image = {"path": "x"}
    assert reopened(None, None, None, None) == (gr.skip(), gr.skip())
    assert reopened(None, None, None, drawn()) == (gr.skip(), gr.update(value=None))
    assert reopened(None, image, None, drawn()) == (gr.update(open=True), gr.update(image=image))
    requests = RecentRequests()
    assert requests.line("a", "1") == requests.line("a", None) == ""
    with requests.running("a", "1") as recent:
        assert requests.line("a", "1") == ""  # how many is not known yet
        recent.count = 16
        recent.cards += [{"id": str(number)} for number in range(6)]
    assert requests.line("a", "1") == "The page was reloaded: 6 of 16 images were finished."
    assert requests.line("b", "1") == ""
    assert len(requests.stopped("a", "1")) == 6 and requests.line("a", "1") == ""
    assert requests.stopped("b", "1") is None


def test_seed_and_match_are_two_texts():
    one = SimpleNamespace(seed=873270, clip_score=0.314)
    assert (caption_of(one), note_of(one)) == ("seed 873270", "match 0.31")
    assert note_of(SimpleNamespace(seed=1, clip_score=None)) == ""
