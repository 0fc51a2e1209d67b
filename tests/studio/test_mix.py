"""Operations on images in the studio without a browser: plans, their images, what is refused, and the API."""

import io
import json
import time
from types import SimpleNamespace

import numpy as np
import pytest
from gradio_client import handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from condgen.contracts import CondgenError
from condgen.files.images import read_recipe
from condgen.pipelines.auto import load_folder
from condgen.pipelines.editing.base import Editor
from condgen.studio.images.outputs import Outputs
from condgen.studio.library import ModelLibrary
from condgen.studio.session import BUSY
from condgen.studio.studio import Studio
from condgen.studio.tabs.mix.editing import (
    TRIED,
    Plan,
    editor_of,
    noted,
    plan_between,
    plan_changes,
    plan_components,
    plan_mixture,
    plan_reconstruction,
    plan_variations,
    read,
)
from condgen.studio.tabs.mix.requests import MixRequests, bars
from condgen.studio.tabs.mix.running import Seen, animation, caption_of, carry_out, lines_of, look
from tests.studio.support import PROMPT
from tests.tiny import tiny_images

OTHER = "a green triangle"


@pytest.fixture(scope="module")
def editor(models):
    return Editor(load_folder(models / "words"))


@pytest.fixture(scope="module")
def photos(models):
    return Editor(load_folder(models / "photos"))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A photograph of 40 x 30 pixels, unlike anything that a model knows."""
    path = tmp_path_factory.mktemp("files") / "cat.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def cat(editor, file):
    return read(editor.model, file)


def made(plan: Plan) -> list[bytes]:
    *_, last = carry_out(plan)
    return [one.png() for one in last.done]


def same(plan: Plan, expected) -> bool:
    return made(plan) == [one.png() for one in expected]


# The images are those of the library ----------------------------------------------------------------------------------


def test_variations_are_those_of_the_library(editor, file, cat):
    model = editor.model
    assert same(plan_variations(editor, cat, count=2, seed=3), model.vary(file, 2, seed=3))
    assert same(plan_variations(editor, cat, None, PROMPT, 1, 3), model.vary(file, 1, seed=3, prompt=PROMPT))
    options = {"steps": 2, "guidance": 2.0}
    assert same(plan_variations(editor, cat, 0.2, "", 1, 3, options), model.vary(file, 1, 0.2, 3, **options))


def test_strips_and_mixtures_are_those_of_the_library(editor, file, cat):
    model = editor.model
    assert same(plan_between(editor, [PROMPT, cat], 3, 5), model.interpolate(PROMPT, file, 3, 5))
    assert same(plan_between(editor, [PROMPT, OTHER], 3, 5, "fixed"), model.interpolate(PROMPT, OTHER, 3, 5, "fixed"))
    ends, weights = [PROMPT, file, OTHER], [2, 1, 1]
    assert same(plan_mixture(editor, [PROMPT, cat, OTHER], weights, 1, 5), model.mix(ends, weights, 1, 5))


@pytest.mark.parametrize("method", ["prior-diff", "text-diff"])
@pytest.mark.parametrize("theta", [None, 0, 0.5])
def test_changes_are_those_of_the_library(editor, file, cat, method, theta):
    noise = {"noise": 0.9} if method == "prior-diff" else {}
    plan = plan_changes(editor, cat, PROMPT, OTHER, theta, method, noise.get("noise"), 1, 2)
    assert same(plan, editor.model.edit(file, PROMPT, OTHER, theta, 1, 2, method, **noise))


def test_the_best_of_ten_changes_is_that_of_the_library(editor, file, cat):
    plan = plan_changes(editor, cat, PROMPT, OTHER, count=1, seed=2, options={"steps": 2})
    moments = list(carry_out(plan))
    (expected,) = editor.model.edit(file, PROMPT, OTHER, seed=2, steps=2)
    assert [one.png() for one in moments[-1].done] == [expected.png()]
    assert len(plan.pieces[0].tries) == 10


def test_a_reconstruction_is_that_of_the_library(editor, file, cat):
    *_, last = carry_out(plan_reconstruction(editor, cat, 6))
    with pytest.warns(match="unlike the training images"):
        expected = editor.model.invert(file, 6)
    assert last.done[0].png() == expected.reconstruction.png()
    assert last.psnr == expected.psnr and f"PSNR {last.psnr:.1f} dB" in last.text
    assert any("unlike the training images" in note for note in last.notes)


def test_several_values_of_a_slider_have_one_image_each(editor, cat):
    plan = plan_variations(editor, cat, TRIED, "", 4, 3)
    assert [piece.operation.strength for piece in plan.pieces] == list(TRIED)
    assert {piece.seed for piece in plan.pieces} == {3}
    plan = plan_changes(editor, cat, PROMPT, OTHER, TRIED, "prior-diff", 0.9, 4, 3)
    assert [piece.operation.name for piece in plan.pieces] == ["invert", *["edit"] * 4]
    assert caption_of(plan.pieces[1], SimpleNamespace(clip_score=0.5)) == "theta 0.25, match 0.50"


def test_components_without_words(photos, file):
    plan = plan_components(photos, read(photos.model, file), 1)
    *_, last = carry_out(plan)
    assert [one.recipe["dims"] for one in last.done] == [1, 2, 4, 8, 16]
    assert photos.model.replay(last.done[2].recipe).png() == last.done[2].png()


# Progress -------------------------------------------------------------------------------------------------------------


def test_progress_grows_to_the_whole_and_images_appear_in_order(editor, cat, monkeypatch):
    monkeypatch.setattr("condgen.studio.tabs.mix.running.RATE", 1e9)
    fresh = Editor(editor.model)
    moments = list(carry_out(plan_variations(fresh, cat, count=3, seed=3)))
    fractions = [moment.fraction for moment in moments]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    counts = [len(moment.done) for moment in moments]
    assert counts == sorted(counts) and set(counts) == {0, 1, 2, 3}
    steps = editor.steps_of(plan_variations(fresh, cat).pieces[0].operation, {})
    inverting = [moment for moment in moments if moment.text.startswith("inverting cat")]
    assert len(inverting) == steps and all(moment.frame is None for moment in inverting)
    assert sum(moment.frame is not None for moment in moments) == 3 * steps
    again = list(carry_out(plan_variations(fresh, cat, count=1, seed=9)))
    assert not any("inverting" in moment.text for moment in again)  # it is kept


@pytest.mark.parametrize("taken", [1, 7])
def test_closing_stops_at_once_and_frees_the_models(editor, cat, monkeypatch, taken):
    monkeypatch.setattr("condgen.studio.tabs.mix.running.RATE", 1e9)
    moments = carry_out(plan_variations(Editor(editor.model), cat, count=16, seed=3))
    for _ in range(taken):
        next(moments)
    assert BUSY.locked()
    began = time.perf_counter()
    moments.close()
    assert not BUSY.locked() and time.perf_counter() - began < 1


def test_unknown_words_are_noted_once(editor, cat):
    words = "a red zeppelin"
    for plan in (
        noted(plan_variations, editor, cat, None, words, 2, 3),
        noted(plan_between, editor, [words, OTHER], 3, 3),
        noted(plan_changes, editor, cat, PROMPT, words, 1.0, "prior-diff", 0.9, 2, 3),
    ):
        notes = [note for moment in carry_out(plan) for note in moment.notes]
        assert len(notes) == 1 and "zeppelin" in notes[0]


def test_the_animation_has_all_images_and_runs_back(editor):
    *_, last = carry_out(plan_between(editor, [PROMPT, OTHER], 4, 5))
    with Image.open(io.BytesIO(animation(last.done))) as gif:
        assert gif.n_frames in (4, 5, 6) and gif.info["loop"] == 0
        assert gif.size == (192, 192)


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "values, message",
    [
        ({"strength": 1.5}, "strength"), ({"strength": "high"}, "strength"), ({"strength": True}, "strength"),
        ({"count": 0}, "number of images"), ({"count": 17}, "number of images"), ({"seed": -2}, "seed"),
        ({"seed": 2**63}, "seed"), ({"words": 3}, "words"), ({"words": "x" * 5000}, "characters"),
        ({"options": {"stepz": 3}}, "stepz"), ({"options": {"steps": 10**9}}, "steps"),
        ({"options": [1]}, "options"), ({"options": {"steps": "many"}}, "steps"),
    ],
)  # fmt: skip
def test_variations_refuse(editor, cat, values, message):
    with pytest.raises(CondgenError, match=message):
        plan_variations(editor, cat, **values)


@pytest.mark.parametrize(
    "ends, values, message",
    [
        ([PROMPT, PROMPT], {}, "same"), ([PROMPT, f" {PROMPT} "], {}, "same"), ([PROMPT, ""], {}, "empty"),
        ([PROMPT, OTHER], {"count": 2}, "from 3 to 15"), ([PROMPT, OTHER], {"count": 16}, "from 3 to 15"),
        ([PROMPT, OTHER], {"noise": "pink"}, "slerp"), ([PROMPT, OTHER], {"noise": None}, "name"),
        ([PROMPT, OTHER], {"prior": "magic"}, "prior"), ([PROMPT], {}, "2 to 16"), ([PROMPT, 3], {}, "text"),
    ],
)  # fmt: skip
def test_strips_refuse(editor, ends, values, message):
    with pytest.raises(CondgenError, match=message):
        plan_between(editor, ends, **values)


def test_the_same_image_twice_is_refused(editor, cat, file, tmp_path):
    (tmp_path / "copy.png").write_bytes(file.read_bytes())
    with pytest.raises(CondgenError, match="same"):
        plan_between(editor, [cat, read(editor.model, tmp_path / "copy.png")])


@pytest.mark.parametrize("weights", [[0, 0], [1], [1, -1], ["a", 1], "12", [1, float("nan")]])
def test_mixtures_refuse_weights(editor, weights):
    with pytest.raises(CondgenError, match="eight"):
        plan_mixture(editor, [PROMPT, OTHER], weights)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"theta": 1.5}, "theta"), ({"theta": "far"}, "Theta"), ({"noise": 0}, "noise"), ({"noise": 2}, "noise"),
        ({"method": "magic"}, "method"), ({"target": " "}, "empty"), ({"source": 3}, "text"),
        ({"options": {"prior": "magic"}}, "prior"), ({"method": "text-diff", "noise": 0.5}, "noise"),
        ({"options": {"prior": 3}}, "prior"),
    ],
)  # fmt: skip
def test_changes_refuse(editor, cat, values, message):
    given = {"source": PROMPT, "target": OTHER} | values
    with pytest.raises(CondgenError, match=message):
        plan = plan_changes(editor, cat, given.pop("source"), given.pop("target"), **given)
        list(carry_out(plan))


@pytest.mark.parametrize("steps", [0, 101, 2.5, "many"])
def test_reconstructions_refuse_steps(editor, cat, steps):
    with pytest.raises(CondgenError, match="number of steps"):
        plan_reconstruction(editor, cat, steps)


def test_models_without_words_take_images_alone(photos, file):
    image = read(photos.model, file)
    assert len(made(plan_variations(photos, image, count=2, seed=1))) == 2
    with pytest.raises(CondgenError, match="reads no text"):
        plan_variations(photos, image, words="a cat")
    with pytest.raises(CondgenError, match="reads no text"):
        plan_between(photos, [image, "a cat"])
    with pytest.raises(CondgenError, match="reads no text"):
        list(look(photos, image))


@pytest.mark.parametrize("kind", ["cgan", "cvae"])
def test_decoders_that_cannot_invert(kind, file):
    photos = Editor(tiny_images(kind))
    image = read(photos.model, file)
    assert len(made(plan_variations(photos, image, count=2, seed=1))) == 2
    with pytest.raises(CondgenError, match="cannot begin at an image"):
        plan_reconstruction(photos, image)


@pytest.mark.parametrize("name", ["shoes", "vae", "plain", "clip", "sides"])
def test_other_kinds_of_models_are_refused(models, name):
    with pytest.raises(CondgenError, match="needs a model of image embeddings"):
        editor_of(load_folder(models / name))


def test_images_that_cannot_be_read_are_named_without_their_folder(editor, tmp_path):
    text = tmp_path / "secret" / "text.png"
    text.parent.mkdir()
    text.write_text("no image")
    with pytest.raises(CondgenError, match=r"text\.png") as caught:
        read(editor.model, text)
    assert "secret" not in str(caught.value)


def test_images_of_every_size_and_animations_are_read(editor, tmp_path):
    Image.new("RGB", (1, 1), "red").save(tmp_path / "one.png")
    Image.new("L", (4000, 3)).save(tmp_path / "long.png")
    frames = [Image.new("P", (9, 9), k) for k in range(3)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    for name in ("one.png", "long.png", "moving.gif"):
        assert read(editor.model, tmp_path / name).image().size == (32, 32)


def test_kept_images_lose_the_time_in_their_name(editor, file, tmp_path):
    (tmp_path / "101112-a-cat-7.png").write_bytes(file.read_bytes())
    assert read(editor.model, tmp_path / "101112-a-cat-7.png").name == "a-cat-7.png"


# What the encoder sees ------------------------------------------------------------------------------------------------


def seen_by(editor, image, texts=()) -> tuple[Seen, list]:
    *rest, (fraction, seen, _) = look(editor, image, texts)
    assert fraction == 1.0 and all(one is None for _, one, _ in rest)
    return seen, [note for _, _, notes in rest for note in notes]


def test_nearest_texts_are_sorted_and_agree_with_the_encoder(editor, cat):
    seen, _ = seen_by(editor, cat)
    assert set(seen.texts) == {"Captions", "Words"}
    for rows in seen.texts.values():
        scores = [score for _, score in rows]
        assert scores == sorted(scores, reverse=True)
    text, score = seen.texts["Captions"][0]
    expected = (editor.model.embed_text([text]).embed[0] @ editor.embed(cat)).item()
    assert score == pytest.approx(expected, abs=1e-5)
    seen, notes = seen_by(editor, cat, lines_of(f"{PROMPT}\n\n{OTHER}\n{PROMPT}\na zeppelin"))
    assert {text for text, _ in seen.texts["Your texts"]} == {PROMPT, OTHER, "a zeppelin"}
    assert any("zeppelin" in note for note in notes)


def test_texts_are_checked_and_escaped():
    with pytest.raises(CondgenError, match="at most 1,000"):
        lines_of("\n".join(map(str, range(1001))))
    with pytest.raises(CondgenError, match="characters"):
        lines_of("x" * 5000)
    page = bars(Seen({"Your texts": [("<script>alert(1)</script>", 1.7), ("b", -0.3)]}))
    assert "<script>" not in page and "width: 100.0%" in page and "width: 0.0%" in page


# The page, without a browser ------------------------------------------------------------------------------------------


@pytest.fixture
def requests(tmp_path, models, monkeypatch):
    monkeypatch.setattr("condgen.files.registry.folders", lambda: [models])
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "served"))
    (tmp_path / "served").mkdir()
    return MixRequests(Studio(ModelLibrary("words"), Outputs(tmp_path / "outputs", tmp_path / "served")))


def values(**given) -> SimpleNamespace:
    """The values of the page, as it sends them."""
    usual = {"mode": "vary", "image": None, "words": "", "strength": 0.5, "kind": "strip", "noise": "slerp",
             "between": 3, "source": "", "target": "", "method": "prior-diff", "theta": 1.0, "best": False,
             "level": 0.85, "steps": 25, "count": 2, "seed": "3"}  # fmt: skip
    ends = {f"{name}{k}": value for k in range(4) for name, value in (("slot", None), ("end", ""), ("weight", 0.5))}
    return SimpleNamespace(**(usual | ends | given))


@pytest.mark.parametrize(
    "given, message",
    [
        ({}, "There is no image yet"), ({"mode": "between"}, "End 1 is empty"),
        ({"mode": "between", "end0": PROMPT}, "End 2 is empty"), ({"mode": "between", "kind": "mixture"}, "End 1"),
        ({"image": "/etc/passwd"}, "uploaded file"), ({"image": {"path": "/etc/passwd"}}, "uploaded file"),
        ({"image": {"id": "../../etc/passwd"}}, "no image"), ({"image": {"id": 3}}, "no image"),
        ({"image": [1]}, "uploaded file"), ({"mode": "change", "target": OTHER}, "There is no image yet"),
    ],
)  # fmt: skip
def test_values_of_the_page_are_checked(requests, editor, given, message):
    with pytest.raises(CondgenError, match=message):
        requests.planned(editor, values(**given), None, None)


def test_values_of_the_page_become_plans(requests, editor, file, tmp_path):
    (tmp_path / "served" / "cat.png").write_bytes(file.read_bytes())
    image = {"path": str(tmp_path / "served" / "cat.png"), "url": "", "name": "cat.png"}
    plan = requests.planned(editor, values(image=image), None, None)
    assert [piece.seed for piece in plan.pieces] == [3, 4] and plan.pieces[0].operation.strength == 0.5
    plan = requests.planned(editor, values(image=image), None, TRIED)
    assert [piece.operation.strength for piece in plan.pieces] == list(TRIED)
    given = values(mode="between", kind="mixture", end0=PROMPT, slot1=image, end3=OTHER, weight3=1.0)
    plan = requests.planned(editor, given, None, None)
    assert plan.pieces[0].operation.weights == (0.25, 0.25, 0.5) and len(plan.pieces) == 2
    plan = requests.planned(editor, values(mode="between", end0=PROMPT, slot1=image), None, None)
    assert len(plan.pieces) == 3 and plan.moves
    given = values(mode="change", image=image, target=OTHER, method="text-diff", theta=0.3)
    assert requests.planned(editor, given, None, None).pieces[0].operation.name == "text-diff"
    assert requests.planned(editor, values(mode="reconstruct", image=image, steps=5), None, None).inverts


# API ------------------------------------------------------------------------------------------------------------------


def replays(models, result, name="words") -> bool:
    model = load_folder(models / name)
    for path in result["images"]:
        with open(path, "rb") as image:
            if model.replay(read_recipe(path)).png() != image.read():
                return False
    return True


def test_api_vary(client, models, file):
    result = client.predict("words", handle_file(file), 0.5, PROMPT, 2, 7, {"steps": 2}, api_name="/vary")
    assert result["seeds"] == [7, 8] and replays(models, result)
    expected = load_folder(models / "words").vary(file, 2, 0.5, 7, PROMPT, steps=2)
    assert [recipe["strength"] for recipe in result["recipes"]] == [0.5, 0.5]
    with open(result["images"][0], "rb") as image:
        assert image.read() == next(iter(expected)).png()


def test_api_interpolate_and_mix(client, models, file):
    result = client.predict("words", PROMPT, handle_file(file), 3, 7, api_name="/interpolate")
    assert len(result["images"]) == 3 and replays(models, result)
    with Image.open(result["animation"]) as gif:
        assert gif.format == "GIF" and gif.is_animated
    ends = [PROMPT, handle_file(file), OTHER]
    result = client.predict("words", ends, [1, 2, 1], 1, 7, api_name="/mix")
    assert result["recipes"][0]["weights"] == [0.25, 0.5, 0.25] and replays(models, result)


def test_api_edit_and_invert(client, models, file):
    given = ("words", handle_file(file), OTHER, PROMPT)
    result = client.predict(*given, 0.5, 7, "prior-diff", {"noise": 0.9, "steps": 2}, api_name="/edit")
    assert result["recipes"][0]["theta"] == 0.5 and replays(models, result)
    result = client.predict(*given, 0.5, 7, "text-diff", {"count": 2}, api_name="/edit")
    assert result["seeds"] == [7, 8] and replays(models, result)
    result = client.predict("words", handle_file(file), 6, api_name="/invert")
    assert result["psnr"] > 0 and replays(models, result)


def test_api_probe(client, models, file):
    result = client.predict("words", handle_file(file), [PROMPT, OTHER], api_name="/probe")
    assert {row["text"] for row in result["texts"]["your texts"]} == {PROMPT, OTHER}
    result = client.predict("photos", handle_file(file), api_name="/probe")
    assert result["texts"] == {} and len(result["images"]) == 5 and replays(models, result, "photos")


@pytest.mark.parametrize(
    "given, name, message",
    [
        (("words", "/etc/passwd"), "/vary", "uploaded file"), (("nothing", None), "/vary", "no model"),
        (("shoes", "x"), "/vary", "image embeddings"), (("words", PROMPT, PROMPT), "/interpolate", "same"),
        (("words", "", PROMPT), "/interpolate", "empty"), (("words", "a b", [PROMPT]), "/mix", "list"),
        (("words", [PROMPT]), "/mix", "2 to 16"), (("words", {"path": "/etc/passwd"}), "/invert", "uploaded file"),
    ],
)  # fmt: skip
def test_the_api_refuses_with_a_sentence(client, given, name, message):
    with pytest.raises((AppError, ValueError), match=message):
        client.predict(*given, api_name=name)


def test_a_text_named_png_is_refused_by_its_name(client, tmp_path):
    path = tmp_path / "notes.png"
    path.write_text(json.dumps({"no": "image"}))
    with pytest.raises(AppError, match=r"notes\.png") as caught:
        client.predict("words", handle_file(path), api_name="/vary")
    assert "/" not in str(caught.value).split("notes.png")[0]
