"""Requests of the studio without a page: checked, and served step by step."""

from __future__ import annotations

import math
import threading
import time

import pytest
from PIL import Image

from condgen.contracts import CondgenError
from condgen.pipelines.presets import PRESETS
from condgen.studio.session import (
    ACROSS,
    MAX_IMAGES,
    SCENES,
    check,
    examples_of,
    one_of_each,
    presets_of,
    serve,
    sizes_of,
)
from condgen.studio.tabs.generate import prompts
from condgen.studio.tabs.generate.recent import RecentRequests
from tests.studio.support import PROMPT, colourful_model, tiny_gan, tiny_vae
from tests.tiny import tiny_cascade, tiny_images, tiny_labels, tiny_unconditional


@pytest.fixture(scope="module")
def model():
    return colourful_model()


def asked(model, prompt=PROMPT, count=1, seed=7, prior="regression", **options):
    return check(model, prompt, count, seed, prior, "default", options)


# Checks ---------------------------------------------------------------------------------------------------------------


def test_defaults_are_filled_in_and_a_seed_is_drawn(model):
    request = asked(model, f"  {PROMPT} ", 2.0, -1)
    assert (request.condition, request.count) == (PROMPT, 2)
    assert request.options.items() >= {"guidance": 2.0, "steps": 4, "prior": "regression"}.items()
    assert request.seed >= 0 and {asked(model, seed=-1).seed for _ in range(5)} != {request.seed}


def test_options_of_another_prior_are_left_out(model):
    assert "best_of" not in asked(model, best_of=10**6).options
    assert asked(model, prior="diffusion", best_of=3).options["best_of"] == 3


REFUSED = {
    "prompt": ("", " \n\x00", None, 5, ["a"], "a" * 2001),
    "count": (0, MAX_IMAGES + 1, 1.5, "3", True, None),
    "seed": (-2, 0.5, "7", 2**63, 10**400, None),
    "prior": ("oracle", ["none"], 3),
    "steps": (0, 1e9, 2.5, "12", None),
    "guidance": (-1, True, [2], 10**400),
    "candidates": (0, 17, "2", 1.5),
    "size": (31, "32", True, 64),
    "image": ("a.png", 5, {"path": "/etc/passwd"}),
    "image_weight": ("x", 2, True),
    "noise": (0.5,),
}
BAD = [{name: value} for name, values in REFUSED.items() for value in values] + [{"prior": "diffusion", "best_of": 65}]
WORSE = [{"guidance": math.nan}, {"guidance": math.inf}, {"seed": math.nan}, {"seed": 10**5000}, {"sharpness": 1}]


@pytest.mark.parametrize("bad", BAD + WORSE, ids=",".join)
def test_refused(model, bad):
    with pytest.raises(CondgenError) as error:
        asked(model, **bad)
    assert 20 < len(str(error.value)) < 250


@pytest.mark.parametrize("options", [5, "steps", [("steps", 3)], {3: 4}])
def test_options_must_be_numbers_by_name(model, options):
    with pytest.raises(CondgenError, match="numbers by name"):
        check(model, PROMPT, options=options)


def test_the_last_seed_stays_in_range(model):
    assert asked(model, count=2, seed=2**63 - 2).seeds == [2**63 - 2, 2**63 - 1]
    with pytest.raises(CondgenError, match="seed"):
        asked(model, count=2, seed=2**63 - 1)


def test_presets_are_those_that_a_model_has(model):
    assert presets_of(model) == PRESETS and list(presets_of(tiny_labels("diffusion"))) == ["fast", "default"]
    assert list(presets_of(tiny_labels("cvae"))) == ["default"] == list(presets_of(tiny_vae()))
    assert check(model, PROMPT, preset="fast").options["steps"] == PRESETS["fast"]["steps"]
    assert check(model, PROMPT, preset="fast", options={"steps": 3}).options["steps"] == 3
    assert check(model, PROMPT, preset="quality").candidates == 2
    assert check(model, PROMPT, preset="quality", options={"candidates": 3}).candidates == 3
    for one, preset in ((model, "best"), (model, ["fast"]), (tiny_vae(), "quality")):
        with pytest.raises(CondgenError, match="has no preset"):
            check(one, PROMPT, preset=preset)


def test_only_models_that_generate_are_asked():
    from condgen.pipelines.encoder import TextImageEncoder

    words = colourful_model()
    with pytest.raises(CondgenError, match="choose a model that generates"):
        check(TextImageEncoder(words.clip, words.tokenizer, {"name": "clip"}), PROMPT)


def test_labels_are_checked_and_one_of_each_has_one_seed():
    shoes = tiny_labels()
    with pytest.raises(CondgenError, match="no value"):
        check(shoes, {"label": "Boat"})
    with pytest.raises(CondgenError, match="values by attribute"):
        check(shoes, "Sneaker")
    each = one_of_each(shoes, {"laces": "yes"}, "label")
    assert [one["label"] for one in each] == list(shoes.labels) and {one["laces"] for one in each} == {"yes"}
    ages = [one["age"] for one in one_of_each(shoes, {}, "age")]
    assert len(ages) == ACROSS and ages[0] == 18 and ages[-1] == 90 and ages == sorted(ages)
    with pytest.raises(CondgenError, match="no attribute"):
        one_of_each(shoes, {}, "colour")


# Serving --------------------------------------------------------------------------------------------------------------


def test_progress_and_images(model):
    snapshots = list(serve(model, asked(model, count=3, steps=2)))
    last = snapshots[-1]
    assert snapshots[0].text.startswith("image 1 of 3, step 1 of 2") and snapshots[0].frame is not None
    fractions = [one.fraction for one in snapshots]
    assert fractions == sorted(fractions) and last.fraction == 1
    assert last.over and last.frame is None and last.text.startswith("3 images, seeds 7 to 9")
    assert [one.seed for one in last.done] == [7, 8, 9]


@pytest.mark.parametrize("candidates", [1, 3])
def test_images_are_those_of_generate(model, candidates):
    *_, last = serve(model, asked(model, count=2, candidates=candidates))
    expected = model.generate(PROMPT, n=2, seed=7, prior="regression", candidates=candidates)
    assert [one.png() for one in last.done] == [one.png() for one in expected]


def test_every_step_of_candidates_is_shown_so_that_a_stop_is_quick(model):
    texts = [one.text for one in serve(model, asked(model, candidates=3, steps=60))]
    assert len([text for text in texts if "of 180" in text]) > 2


def test_a_size_is_that_of_an_upsampler():
    large = tiny_cascade()
    assert sizes_of(large) == [32, 64, 128]
    *_, last = serve(large, check(large, PROMPT, seed=1, options={"size": 64, "steps": 2}))
    assert last.done[0].image.size == (64, 64) and check(large, PROMPT, options={"size": 32}).size is None


def test_images_guide_a_generation(model, tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (40, 40), "red").save(path)
    mask = Image.new("L", (40, 40))
    mask.paste(255, (0, 0, 20, 40))
    request = check(model, PROMPT, 2, 3, options={"init": path, "mask": mask, "steps": 2})
    *_, last = serve(model, request)
    expected = model.guide(PROMPT, 2, 3, init=path, mask=mask, steps=2)
    assert [one.png() for one in last.done] == [one.png() for one in expected]
    assert "guidance" not in request.options  # the default with a mask is another one
    *_, last = serve(model, check(model, PROMPT, 1, 3, options={"image": path, "image_weight": 0.3, "candidates": 2}))
    assert last.done[0].recipe["image_weight"] == 0.3 and last.done[0].recipe["candidates"] == 2
    with pytest.raises(CondgenError, match="Give words"):
        check(model, "", options={"image": path})
    with pytest.raises(CondgenError, match="takes no image"):
        check(tiny_images(), None, options={"image": path})
    with pytest.raises(CondgenError, match="takes no images"):
        check(tiny_labels(), {}, options={"init": path})


def test_negative_words_guide_a_generation(model):
    request = check(model, PROMPT, 1, 3, options={"negative": " blue ", "steps": 2})
    *_, last = serve(model, request)
    assert last.done[0].png() == next(model.guide(PROMPT, 1, 3, negative="blue", steps=2)).png()
    assert check(model, PROMPT, options={"negative": " "}).guide is None
    shown = serve(model, check(model, PROMPT, 1, 3, options={"negative": "blue", "guidance": 1, "steps": 2}))
    assert any("Guidance 1" in note for snapshot in shown for note in snapshot.notes)
    for bad in (5, ["blue"], "x" * 3000):
        with pytest.raises(CondgenError, match="negative words"):
            check(model, PROMPT, options={"negative": bad})
    with pytest.raises(CondgenError, match="prompt is empty"):
        check(model, "", options={"negative": "blue"})
    for other, condition in ((tiny_images(), None), (tiny_labels(), {}), (tiny_vae(), None)):
        with pytest.raises(CondgenError, match="takes no negative words"):
            check(other, condition, options={"negative": "blue"})


@pytest.mark.parametrize("make", [tiny_vae, tiny_gan, tiny_images, tiny_unconditional, tiny_labels])
def test_models_of_every_kind(make):
    made = make()
    *_, last = serve(made, check(made, {}, 2, 5))
    assert [one.seed for one in last.done] == [5, 6] and last.over


def test_not_every_step_is_sent(model):
    began = time.perf_counter()
    snapshots = list(serve(model, asked(model, steps=100)))
    assert len(snapshots) <= 6 * (time.perf_counter() - began) + 3


def test_closing_stops_within_a_step_and_lets_the_next_one_begin(model):
    generated = serve(model, asked(model, count=16, steps=200))
    assert not next(generated).over
    waiting = threading.Thread(target=lambda: list(serve(model, asked(model))), daemon=True)
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    generated.close()
    waiting.join(20)
    assert not waiting.is_alive()


# Notes ----------------------------------------------------------------------------------------------------------------


def test_notes_mark_what_is_not_read(model):
    assert "<mark>" not in prompts.prompt_notes(model, PROMPT)
    assert "<mark>zebra</mark>" in prompts.prompt_notes(model, "a red zebra")
    assert "<mark>circel</mark> (known: circle)" in prompts.prompt_notes(model, "a red circel")
    assert "no word of this" in prompts.prompt_notes(model, "🦓")
    note = prompts.prompt_notes(model, f"{'red circle ' * 80}<b>blue</b>")
    assert "cut off: <mark>" in note and "<b>" not in note
    assert "2,001 characters" in prompts.prompt_notes(model, "a" * 2001)
    assert "<mark>" not in prompts.prompt_notes(tiny_labels(), "zebra")


def test_notes_say_what_is_read_letter_by_letter():
    import condgen

    note = prompts.prompt_notes(condgen.load(), "a red zebra ♥")
    assert (
        "read letter by letter: <mark>zebra</mark>" in note
        and "Not read, in no training caption: <mark>♥</mark>" in note
    )


def test_examples_are_words_the_model_knows(model):
    assert set(examples_of(model)) <= set(SCENES) and examples_of(model)
    other = colourful_model()
    other.about["examples"] = ["a skull", 5]
    assert examples_of(other) == ["a skull"] and examples_of(tiny_labels()) == []


# The latest requests --------------------------------------------------------------------------------------------------


def test_requests_are_remembered_by_person():
    requests = RecentRequests()
    with requests.running("ann", "1") as recent:
        recent.cards.append({"id": "a"})
        assert requests.runs("ann", "1") and not requests.runs("bob", "1")
        with requests.running("ann", "1") as second:
            assert second is None
        assert requests.runs("ann", "1")
    assert requests.cards("ann", "1") == [{"id": "a"}] and requests.cards("bob", "1") is None
    assert requests.cards("ann", {"id": 3}) is None
    for number in range(1000):
        with requests.running("bob", str(number)):
            pass
    assert requests.cards("ann", "1") is None
