"""Generation through the API, settings taken from images, and the card of a model; without a browser."""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file
from PIL import Image, PngImagePlugin

from condgen.contracts import CondgenError
from condgen.files.images import read_recipe
from condgen.studio import app
from condgen.studio.header.model_card import facts_of, licence_of, scores_of, shown_card
from condgen.studio.library import ModelLibrary
from condgen.studio.session import check, serve
from condgen.studio.tabs.generate.refill import filling_of
from tests.studio.support import PROMPT, colourful_model, serving
from tests.studio.test_session import BAD


def count_steps(model):
    """Makes a model note every step, in the list that is returned; a broken prompt raises."""
    steps, generate_steps = [], model.generate_steps

    def counted(prompt, *args, **options):
        for step in generate_steps(prompt, *args, **options):
            steps.append(prompt)
            if "broken" in prompt:
                raise RuntimeError("a secret of the server")
            yield step

    model.generate_steps = counted
    return steps


@pytest.fixture(scope="module")
def model():
    return colourful_model()


@pytest.fixture(scope="module")
def steps(model):
    return count_steps(model)


@pytest.fixture(scope="module")
def address(model, steps, models, tmp_path_factory):
    """A studio whose first model is in memory, `tiny`."""
    with serving(tmp_path_factory.mktemp("studio"), models, model) as url:
        yield url


# The API --------------------------------------------------------------------------------------------------------------


def test_png_files_with_their_recipes(client, model):
    result = client.predict("tiny", PROMPT, count=2, seed=5, options={"guidance": 1.5}, api_name="/generate")
    recipes = [read_recipe(path) for path in result["images"]]
    assert [(r["prompt"], r["seed"], r["guidance"]) for r in recipes] == [(PROMPT, 5, 1.5), (PROMPT, 6, 1.5)]
    assert recipes == result["recipes"] and result["seeds"] == [5, 6] and result["notes"] == []
    assert recipes[0]["model_id"] == model.model_id and Image.open(result["images"][0]).size == (32, 32)
    assert client.predict("tiny", "a red zebra", api_name="/generate")["notes"]


def test_same_seed_same_bytes_also_of_large_seeds(client):
    def generated(seed):
        result = client.predict("tiny", PROMPT, seed=seed, api_name="/generate")
        return Path(result["images"][0]).read_bytes(), result["seeds"][0]

    first, seed = generated(-1)
    assert generated(seed) == (first, seed) and generated(seed + 1)[0] != first
    assert generated(2**63 - 1)[1] == 2**63 - 1


@pytest.mark.parametrize(
    "name, labels", [("shoes", {"label": "Sneaker"}), ("vae", None), ("gan", None), ("plain", None)]
)
def test_models_of_every_kind(client, name, labels):
    result = client.predict(name, labels=labels, seed=3, api_name="/generate")
    assert read_recipe(result["images"][0])["labels"] == (labels or {})


def test_uploads_guide_a_generation(client, tmp_path):
    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    options = {"init": handle_file(str(tmp_path / "red.png")), "noise": 0.4, "steps": 2}
    result = client.predict("tiny", PROMPT, options=options, api_name="/generate")
    assert result["recipes"][0]["operation"] == "guide" and result["recipes"][0]["noise"] == 0.4


def test_negative_words_are_an_option(client):
    result = client.predict("tiny", PROMPT, options={"negative": "blue", "steps": 2}, api_name="/generate")
    assert result["recipes"][0]["negative"] == "blue"
    with pytest.raises(Exception, match="takes no negative words"):
        client.predict("shoes", options={"negative": "blue"}, api_name="/generate")


@pytest.mark.parametrize("path", ["/etc/passwd", __file__, {"path": __file__}])
def test_files_of_the_server_are_no_uploads(client, path):
    with pytest.raises(Exception, match="must be an uploaded file") as error:
        client.predict("tiny", PROMPT, options={"init": path}, api_name="/generate")
    assert "passwd" not in str(error.value) and "test_generate" not in str(error.value)


def test_models_are_listed(client):
    models = {one["name"]: one for one in client.predict(api_name="/models")}
    assert models["shoes"] == {
        "name": "shoes", "kind": "ClassToImage", "task": "class-to-image", "place": models["shoes"]["place"], "size": 8,
        "in_training": False,
    }  # fmt: skip
    assert {"tiny", "words", "shoes", "vae", "gan", "photos", "plain", "clip", "sides"} <= set(models)


@pytest.mark.parametrize("bad", BAD, ids=",".join)
def test_refused_with_a_message(client, steps, bad):
    before, options = len(steps), dict(bad)
    own = {name: options.pop(name) for name in ("prompt", "count", "seed", "prior") if name in options}
    with pytest.raises(Exception) as error:
        client.predict(**({"model": "tiny", "prompt": PROMPT, "prior": "regression"} | own), options=options,
                       api_name="/generate")  # fmt: skip
    text = str(error.value)
    assert 20 < len(text) < 250 and "Traceback" not in text and "upstream" not in text
    assert len(steps) == before


@pytest.mark.parametrize("name", ["nothing", "clip", "sides", "../words", None, 5, "a" * 5000])
def test_models_that_generate_nothing_are_refused(client, name):
    with pytest.raises(Exception, match=r"no model|choose a model"):
        client.predict(name, PROMPT, api_name="/generate")


def test_nan_is_refused(address):
    body = '{"data": ["tiny", "a red circle", null, 1, 3, "regression", "default", {"guidance": NaN}]}'
    headers = {"Content-Type": "application/json"}
    reply = httpx.post(f"{address}/gradio_api/call/generate", content=body, headers=headers)
    if reply.status_code == 200:
        text = httpx.get(f"{address}/gradio_api/call/generate/{reply.json()['event_id']}").text
        assert "event: error" in text and "guidance must be a number" in text
    else:
        assert reply.status_code in (400, 422)


def test_what_broke_is_not_said(client, caplog):
    with caplog.at_level(logging.ERROR, "condgen.studio"), pytest.raises(Exception, match="Something went") as error:
        client.predict("tiny", "a broken circle", api_name="/generate")
    assert "secret" not in str(error.value) and "a secret of the server" in caplog.text
    assert str(error.value).partition("(error ")[2][:8] in caplog.text
    assert client.predict("tiny", PROMPT, api_name="/generate")["images"]


def test_a_cancelled_request_stops(client, steps):
    before = len(steps)
    job = client.submit("tiny", PROMPT, count=16, options={"steps": 200}, api_name="/generate")
    deadline = time.monotonic() + 30
    while not job.outputs() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert set(job.outputs()[0]) == {"progress", "text"}
    job.cancel()
    assert client.predict("tiny", "a blue square", api_name="/generate")["images"]
    generated = len(steps) - before
    assert 0 < generated < 16 * 200
    time.sleep(0.3)
    assert len(steps) - before == generated


def test_who_finds_the_queue_full_is_refused_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(app, "QUEUE", 2)
    model, started, go_on = colourful_model(), threading.Event(), threading.Event()
    generate_steps = model.generate_steps

    def held(*args, **options):
        started.set()
        assert go_on.wait(60)
        yield from generate_steps(*args, **options)

    model.generate_steps = held
    with serving(tmp_path, None, model) as url:

        def ask() -> httpx.Response:
            data = ["tiny", PROMPT, None, 1, 3, "", "default", {"steps": 1}]
            return httpx.post(f"{url}/gradio_api/call/generate", json={"data": data}, timeout=60)

        first = ask()
        assert started.wait(60)
        assert [ask().status_code for _ in range(2)] == [200] * 2
        refused = ask()
        assert refused.status_code == 503 and "Queue is full" in refused.text
        client = Client(url, verbose=False, download_files=str(tmp_path / "down"))
        with pytest.raises(Exception, match="Queue is full"):
            client.predict("tiny", PROMPT, api_name="/generate")
        go_on.set()
        assert (
            "event: complete"
            in httpx.get(f"{url}/gradio_api/call/generate/{first.json()['event_id']}", timeout=60).text
        )


# Settings of an image -------------------------------------------------------------------------------------------------


@pytest.fixture
def library(model, models, monkeypatch):
    monkeypatch.setattr("condgen.files.registry.folders", lambda: [models])
    return ModelLibrary(model)


def recipe_of(model, condition=PROMPT, **more):
    *_, last = serve(model, check(model, condition, 1, more.pop("seed", 2**60 + 1), more.pop("prior", ""), **more))
    return last.done[0]


def test_settings_generate_the_image_again(library, model):
    image = recipe_of(model, prior="diffusion", options={"steps": 3, "best_of": 4, "guidance": 1.5, "candidates": 2})
    filling = filling_of(library, image.recipe, "shoes")
    assert filling.name == "tiny" and filling.notes == () and filling.request.seed == 2**60 + 1
    *_, last = serve(model, filling.request)
    assert last.done[0].png() == image.png()


def test_settings_of_labels_and_of_guided_images(library, model, tmp_path):
    shoes = library.open("shoes")
    image = recipe_of(shoes, {"label": "Sneaker", "age": 30})
    filling = filling_of(library, image.recipe, "tiny")
    assert filling.name == "shoes" and filling.request.condition == {"label": "Sneaker", "age": 30.0}
    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    guided = recipe_of(model, options={"init": tmp_path / "red.png", "noise": 0.5, "steps": 2})
    filling = filling_of(library, guided.recipe, "tiny")
    *_, last = serve(model, filling.request)
    assert last.done[0].png() == guided.png() and filling.request.condition == PROMPT


def test_settings_with_negative_words(library, model):
    image = recipe_of(model, options={"negative": "blue", "steps": 2})
    filling = filling_of(library, image.recipe, "shoes")
    *_, last = serve(model, filling.request)
    assert last.done[0].png() == image.png() and filling.request.guide.negative == "blue" and not filling.notes
    of_others = {"prompt": PROMPT, "negative": "blue", "seed": 3}  # as `usable` gives it
    assert filling_of(library, of_others, "tiny").request.guide.negative == "blue"
    with pytest.raises(CondgenError, match="damaged"):
        filling_of(library, image.recipe | {"negative": 5}, "tiny")


def test_settings_of_another_model_are_taken_over_as_far_as_they_go(library):
    recipe = {
        "prompt": "a red cross",
        "seed": 3,
        "prior": "oracle",
        "model": "<b>other</b>",
        "model_id": "1",
        "zoom": 9,
    }
    filling = filling_of(library, recipe, "tiny")
    request = filling.request
    assert (request.condition, request.seed, request.options["prior"]) == ("a red cross", 3, "regression")
    assert len(filling.notes) == 3 and "<" not in "".join(filling.notes)
    recipe |= {"model": "words", "prior": "none"}
    filling = filling_of(library, recipe, "tiny")
    assert filling.name == "words" and "other weights" in filling.notes[0]


def test_settings_of_other_programs(library):
    assert filling_of(library, {"prompt": "a cat", "seed": 5, "steps": 20}, "tiny").request.options["steps"] == 20


@pytest.mark.parametrize(
    "change", [{"seed": "x"}, {"steps": 10**9}, {"prompt": 5}, {"guidance": None}, {"seed": 2**63}, {"seed": math.nan}]
)
def test_hostile_settings_are_refused(library, model, change):
    recipe = {"prompt": "a", "seed": 3, "prior": "none", "model": "tiny", "model_id": model.model_id} | change
    with pytest.raises(CondgenError):
        filling_of(library, recipe, "tiny")


@pytest.mark.parametrize("recipe", [[], {}, {"labels": {}}, {"operation": "vary"}, {"operation": ["guide"]},
                                    {"operation": "guide", "init": 5, "prompt": "a"}, None])  # fmt: skip
def test_recipes_without_settings_are_refused(library, recipe):
    with pytest.raises(CondgenError):
        filling_of(library, recipe, "tiny")


def test_recipes_in_files(library, tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_itxt("condgen", json.dumps({"prompt": "a", "seed": 2**62, "prior": "none", "model": "x", "model_id": "y"}))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=text)
    assert filling_of(library, read_recipe(tmp_path / "a.png"), "tiny").request.seed == 2**62


# The card of a model --------------------------------------------------------------------------------------------------


def test_facts_of_every_model(library):
    for name, entry in library.entries().items():
        facts = dict(facts_of(entry, library.open(name)))
        assert facts["Kind"] == entry.kind.title and facts["Parameters"]
    assert dict(facts_of(library.entry("words"), library.open("words")))["Words"].startswith(("2", "3"))
    assert "Sneaker" in dict(facts_of(library.entry("shoes"), library.open("shoes")))["Label"]


def test_cards_are_shown_without_front_matter_and_config():
    card = "---\nlicense: mit\n---\n# name\n\n- **Licence**: MIT\n\n## Config\n\nseed: 0\n\n## Scores\n\n| a |\n"
    assert shown_card(card) == "# name\n\n- **Licence**: MIT\n\n## Scores\n\n| a |"
    assert licence_of(card) == "mit" and licence_of("- **Licence**: MIT, as\n") == "MIT, as" and licence_of("") == ""
    assert "- exact: 0.9613" in scores_of({"metrics": {"scene_eval": {"exact": 0.96127}}}) and scores_of({}) == ""
