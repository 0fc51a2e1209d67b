"""Comparisons without a browser: lists of values, plans, files of prompts, stop and continue, and the API."""

import json
import random
from types import SimpleNamespace

import pytest
from gradio_client import handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from condgen.contracts import CondgenError
from condgen.pipelines.auto import load_folder
from condgen.studio.images.outputs import Outputs
from condgen.studio.studio import Studio
from condgen.studio.tabs.compare.axes import Axis, axes_of, listed
from condgen.studio.tabs.compare.comparisons import Comparisons
from condgen.studio.tabs.compare.grids import (
    base_settings,
    checked,
    models_plan,
    options_plan,
    priors_plan,
    prompts_plan,
    replaced,
)
from condgen.studio.tabs.compare.prompt_files import read_prompts
from tests.studio.support import PROMPT
from tests.tiny import tiny_cascade, tiny_model

NUMBER, WHOLE = Axis("guidance", "Guidance", "number"), Axis("steps", "Steps", "integer")
WORDS = Axis("words", "Words", "words")


@pytest.fixture(scope="module")
def opened(models):
    """Opens the tiny models by name."""
    cache = {name: load_folder(models / name) for name in ("words", "shoes", "vae", "gan", "photos", "plain", "clip")}
    cache["cascade"] = tiny_cascade()

    def open_model(name):
        if name not in cache:
            raise CondgenError(f"There is no model {name!r} here.")
        return cache[name]

    return open_model


@pytest.fixture
def studio(opened, tmp_path):
    """What a comparison needs of a studio."""
    return Studio(SimpleNamespace(open=opened), Outputs(tmp_path / "outputs", tmp_path / "served"))


@pytest.fixture
def calls(monkeypatch):
    """The seeds and options of everything that is generated."""
    from condgen.studio.tabs.compare import comparisons

    seen, serve = [], comparisons.serve

    def counted(model, request):
        seen.append((model.name, request.condition, request.seed, dict(request.options)))
        yield from serve(model, request)

    monkeypatch.setattr(comparisons, "serve", counted)
    return seen


# Values ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "axis, text, values",
    [
        (WHOLE, "1, 2, 4", [1, 2, 4]),
        (WHOLE, " 1..3, 8 ", [1, 2, 3, 8]),
        (WHOLE, "1..9 by 4", [1, 5, 9]),
        (WHOLE, "9007199254740993", [2**53 + 1]),
        (NUMBER, "0..1 by 0.25", [0, 0.25, 0.5, 0.75, 1]),
        (NUMBER, "1, 1.5, 2", [1, 1.5, 2]),
        (NUMBER, "0.1..0.5 by 0.1", [0.1, 0.2, 0.3, 0.4, 0.5]),
        (WORDS, "red > blue, green", [("red", "red"), ("red", "blue"), ("red", "green")]),
        (WORDS, "red > red, blue", [("red", "red"), ("red", "blue")]),
        (Axis("labels.x", "X", "choice", ("a, b", "c")), '"a, b", c', ["a, b", "c"]),
    ],
)
def test_values_as_they_are_typed(axis, text, values):
    assert axis.values(text) == values


@pytest.mark.parametrize("seed", range(20))
def test_a_list_of_texts_is_read_as_it_was_written(seed):
    rng = random.Random(seed)
    texts = list(
        {"".join(rng.choices('ab ,";>', k=rng.randint(1, 6))).strip() for _ in range(rng.randint(1, 5))} - {""}
    )
    if texts:
        assert Axis("x", "X", "choice", tuple(texts)).values(listed(texts)) == texts


@pytest.mark.parametrize(
    "axis, values, message",
    [
        (WHOLE, "", "no values of Steps"),
        (WHOLE, " , ,", "no values"),
        (WHOLE, [], "no values"),
        (WHOLE, "1, 2, 1.0", "listed twice"),
        (WHOLE, "1.5", "whole number"),
        (NUMBER, "1, nan", "must be a number, got 'nan'"),
        (NUMBER, [float("nan")], "must be a number"),
        (NUMBER, [True], "must be a number"),
        (NUMBER, "inf", "must be a number"),
        (NUMBER, "nan..2", "must be a number"),
        (NUMBER, "2..1", "is empty"),
        (NUMBER, "1..2 by 0", "is empty"),
        (NUMBER, "0..1 by 1e-300", "at most 64"),
        (WHOLE, "1..1000000000000", "1,000,000,000,000 images"),
        (WHOLE, "1..65", "65 images"),
        (WHOLE, None, "must be a list or text"),
        (WHOLE, {"a": 1}, "must be a list or text"),
        (WORDS, "red", "Write replacements"),
        (WORDS, "> blue", "Write replacements"),
        (WORDS, ["red"], "Write replacements"),
        (WORDS, "red > blue, blue", "listed twice"),
        (Axis("prior", "Prior", "choice", ("diffusion", "none")), "diffusion, other", "one of diffusion, none"),
        (WHOLE, "1" * 20_000, "characters"),
    ],
)
def test_values_that_are_refused(axis, values, message):
    with pytest.raises(CondgenError, match=message):
        axis.values(values)


def test_words_are_replaced_at_once_and_whole():
    assert replaced("a Red circle, reddish", {"red": "blue"}) == "a blue circle, reddish"
    assert replaced("red over blue", {"red": "blue", "blue": "red"}) == "blue over red"
    with pytest.raises(CondgenError, match="does not contain 'pink'"):
        replaced("a red circle", {"pink": "blue"})


# Plans ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["words", "shoes", "vae", "gan", "photos", "plain", "cascade"])
def test_all_options_of_every_model_can_be_varied_over_what_is_suggested(opened, name):
    base = base_settings(name, "a red circle" if name in ("words", "cascade") else "", {}, {"seed": 3})
    others = [one for one in ("words", "cascade") if name == one]
    axes = axes_of(opened(name), [*others, *(["words"] if name == "cascade" else [])])
    assert "seed" in axes
    for axis in axes.values():
        plan = checked(opened, options_plan(opened, base, (axis.name, axis.usual), models=axis.choices))
        assert len(plan.columns) > 1 and len({str(settings) for settings in plan.cells.values()}) == len(plan.columns)
        assert plan.rows == ("",) and len(plan.cells) == len(plan.columns)


def test_two_options_make_a_table_with_headings(opened):
    base = base_settings("words", "a red circle", {}, {"seed": 3})
    plan = checked(opened, options_plan(opened, base, ("steps", "1, 2"), ("words", "red > blue, green")))
    assert plan.axes == ("Words of the prompt", "Steps")
    assert (plan.rows, plan.columns) == (("red", "blue", "green"), ("1", "2"))
    assert plan.cells[1, 1].prompt == "a blue circle" and plan.cells[1, 1].options == {"steps": 2}


def test_models_that_cannot_read_the_condition_are_left_out_with_a_word(opened):
    base = base_settings("words", "a red circle")
    plan = models_plan(opened, base, ["words", "shoes", "vae", "clip"], "1..3")
    assert plan.columns == ("words",) and plan.rows == ("1", "2", "3")
    assert [note.split(" is left out: ")[0] for note in plan.notes] == ["shoes", "vae", "clip"]
    labels = models_plan(opened, base_settings("shoes", "", {"label": "Sneaker"}), ["shoes", "plain"], [1])
    assert labels.columns == ("shoes",) and "plain" in labels.notes[0]
    seeds_only = models_plan(opened, base_settings("vae"), ["vae", "gan", "photos", "plain"], [1, 2])
    assert seeds_only.columns == ("vae", "gan", "photos", "plain") and not seeds_only.notes
    with pytest.raises(CondgenError, match="shoes is left out"):
        models_plan(opened, base, ["shoes"], [1])


def test_what_another_model_does_not_have_is_left_out_with_a_word(opened):
    few = tiny_model()
    few.about["name"] = "few"
    dropped = few.priors.popitem()[0]
    models = {"few": few}
    both = lambda name: models.get(name) or opened(name)  # noqa: E731
    base = base_settings("words", "a red circle", {}, {"prior": dropped, "seed": 1})
    side_by_side = models_plan(both, base, ["words", "few"], [1])
    for plan in (side_by_side, options_plan(both, base, ("model", "words, few"), None, ["words", "few"])):
        assert plan.notes == (f"few has no prior {dropped}; its default, {next(iter(few.priors))}, is used.",)
        assert [plan.cells[0, k].prior for k in (0, 1)] == [dropped, ""]
        checked(both, plan)


def test_priors_are_compared_with_none(opened):
    plan = priors_plan(opened, base_settings("words", "a red circle"), "1, 2")
    assert plan.columns[-1] == "none" and len(plan.columns) >= 3
    with pytest.raises(CondgenError, match="no priors"):
        priors_plan(opened, base_settings("shoes"), "1")


@pytest.mark.parametrize(
    "x, y, base, message",
    [
        (("steps", "1..13"), ("seed", "1..5"), {}, "65 images"),
        (("unknown", "1"), None, {}, "X must be one of seed"),
        (None, None, {}, "X must be one of"),
        (("steps", "1"), ("steps", "2"), {}, "both Steps"),
        (("steps", "1, 999999"), ("seed", "5"), {}, "Seed 5, Steps 999999: steps must be an integer from"),
        (("seed", "-1, 2"), None, {}, "Seed -1: The seed must be"),
        (("candidates", "0, 1"), None, {}, "Candidates 0"),
        (("words", "pink > blue"), None, {}, "does not contain"),
        (("steps", "1"), None, {"options": {"unknown": 1}}, "no option unknown"),
        (("steps", "1"), None, {"options": {"guidance": float("nan")}}, "must be a number"),
        (("steps", "1"), None, {"unknown": 1}, "must be some of"),
        (("steps", "1"), None, {"options": 3}, "options by name"),
        (("steps", "1"), None, {"size": 77}, "must be one of 32, got 77"),
        (("steps", "1"), None, {"preset": "unknown"}, "no preset 'unknown'"),
        (("steps", "1"), None, {"options": {"image": "/etc/passwd"}}, "no sampling option"),
        (("steps", "1"), None, {"prior": 5}, "prior must be one of"),
    ],
)
def test_bad_axes_are_refused_and_the_cell_is_named(opened, x, y, base, message):
    with pytest.raises(CondgenError, match=message):
        checked(opened, options_plan(opened, base_settings("words", "a red circle", {}, base), x, y))


def test_long_prompts_and_too_many_models_are_refused(opened):
    with pytest.raises(CondgenError, match="10,000 characters"):
        checked(opened, models_plan(opened, base_settings("words", "a" * 10_000), ["words"], [1]))
    with pytest.raises(CondgenError, match="5 models are too many"):
        models_plan(opened, base_settings("vae"), ["vae", "gan", "photos", "plain", "shoes"], [1])
    for models in ([], "vae", [3], None):
        with pytest.raises(CondgenError, match="Choose the models"):
            models_plan(opened, base_settings("vae"), models, [1])


# Files of prompts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, text",
    [
        ("a.txt", "\ufeffa red circle\n\n a blue square \n"),
        ("a.csv", 'id,prompt\n1,a red circle\n2,"a blue square"\n3,\n'),
        ("a.json", '["a red circle", "a blue square"]'),
        ("a.json", '[{"prompt": "a red circle"}, {"prompt": "a blue square", "seed": 4}]'),
        ("a.json", '{"prompt": ["a red circle", "a blue square"]}'),
    ],
)
def test_prompts_of_a_file(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_prompts(tmp_path / name) == ["a red circle", "a blue square"]


@pytest.mark.parametrize(
    "name, data, message",
    [
        ("a.txt", bytes(range(256)), "not UTF-8 text"),
        ("a.txt", b"a\0b", "not UTF-8 text"),
        ("a.txt", b"\n \n", "contains no prompts"),
        ("a.txt", b"a" * 10_000, "Prompt 1 of a.txt has 10,000 characters"),
        ("a.txt", b"a\n" * 600_000, "too large"),
        ("a.csv", b"text\na red circle\n", "no column prompt"),
        ("a.csv", b"prompt\n" + b'"' + b"a" * 200_000 + b'"', "cannot be read"),
        ("a.json", b"[1, 2]", "list of texts"),
        ("a.json", b"{", "damaged"),
        ("a.json", b"[" * 100_000, "damaged"),
        ("a.png", b"a red circle", "must be a .txt"),
    ],
)
def test_files_that_are_no_prompts_are_refused(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CondgenError, match=message):
        read_prompts(tmp_path / name)


def test_prompts_are_rows_at_most_64_images(opened):
    base = base_settings("words", "", {}, {"seed": 5})
    plan = checked(opened, prompts_plan(opened, base, ["a red circle", "a blue square", "a red circle"], 2))
    assert (plan.rows, plan.columns) == (("a red circle", "a blue square"), ("5", "6")) and "repeated" in plan.notes[0]
    with pytest.raises(CondgenError, match="66 images"):
        prompts_plan(opened, base, [f"a red circle {k}" for k in range(33)], 2)
    with pytest.raises(CondgenError, match="shoes reads no prompts"):
        prompts_plan(opened, base_settings("shoes"), ["a red circle"])


# Kept and continued ---------------------------------------------------------------------------------------------------


def test_a_comparison_that_was_stopped_goes_on_and_repeats_no_image(studio, opened, calls):
    base = base_settings("words", "a red circle", {}, {"seed": 3})
    plan = checked(opened, options_plan(opened, base, ("steps", "1, 2"), ("seed", "1..3")))
    kept = Comparisons(studio)
    number = kept.start(plan, None).id
    running, finished = kept.run(number, None), 0
    for moment in running:
        finished += moment.card is not None
        if finished == 2:
            break
    running.close()
    again = Comparisons(studio)  # a server that was started anew
    assert again.list(None)[0] == (again.list(None)[0][0], number) and "2 of 6" in again.list(None)[0][0]
    first = [cell.image for cell in again.get(number, None).cells if cell.image]
    assert len(first) == 2 == len(calls)
    *_, last = again.run(number, None)
    assert last.fraction == 1 and "6 images, 4 of them new" in last.text
    done = again.get(number, None)
    assert len(calls) == 6 == len({(seed, options["steps"]) for _, _, seed, options in calls})
    assert len(studio.outputs.list("")) == 6 and {cell.image for cell in done.cells} >= set(first)
    for cell in done.cells:
        assert cell.recipe["seed"] == cell.settings.seed and cell.recipe["steps"] == cell.settings.options["steps"]
        assert cell.ms > 0 and cell.clip_score is not None
    assert next(again.run(number, None)).fraction == 1 and len(calls) == 6


def test_closing_within_an_image_keeps_what_is_finished_and_frees_the_model(studio, opened):
    from condgen.studio.session import BUSY

    kept = Comparisons(studio)
    plan = options_plan(opened, base_settings("words", "a red circle"), ("seed", "1..4"))
    number = kept.start(plan, None).id
    running = kept.run(number, None)
    next(moment for moment in running if moment.cell == 1 and moment.frame is not None)
    running.close()
    assert not BUSY.locked()
    assert [bool(cell.image) for cell in kept.get(number, None).cells] == [True, False, False, False]


def test_a_deleted_image_is_generated_again_and_a_deleted_comparison_is_not_written(studio, opened, calls):
    kept = Comparisons(studio)
    number = kept.start(options_plan(opened, base_settings("vae"), ("seed", "1, 2")), None).id
    list(kept.run(number, None))
    studio.outputs.delete("", kept.get(number, None).cells[0].image)
    list(kept.run(number, None))
    assert [seed for _, _, seed, _ in calls] == [1, 2, 1]
    other = kept.start(options_plan(opened, base_settings("vae"), ("seed", "1, 2")), None).id
    running = kept.run(other, None)
    next(running)
    kept.delete(other, None)
    with pytest.raises(CondgenError, match="no comparison"):
        list(running)
    assert [one for _, one in kept.list(None)] == [number]


def test_people_see_their_own_comparisons_alone(studio, opened):
    studio.several = True
    ann, bob = (SimpleNamespace(username=name, cookies={}, session_hash="") for name in ("ann", "bob"))
    kept = Comparisons(studio)
    number = kept.start(options_plan(opened, base_settings("vae"), ("seed", "1")), ann).id
    list(kept.run(number, ann))
    assert kept.list(bob) == [] and len(kept.list(ann)) == 1
    for use in (kept.get, kept.delete, lambda *given: list(kept.run(*given))):
        with pytest.raises(CondgenError, match="no comparison"):
            use(number, bob)


@pytest.mark.parametrize("number", ["", None, 3, "../../etc/passwd", "20260101-000000-00000000", "x" * 9999, "a\0b"])
def test_unknown_comparisons(studio, number):
    with pytest.raises(CondgenError, match="no comparison"):
        Comparisons(studio).get(number, None)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"cells": [{}]}', "[" * 100_000, "\0"])
def test_damaged_comparisons_are_named_and_can_be_deleted(studio, opened, text):
    kept = Comparisons(studio)
    number = kept.start(options_plan(opened, base_settings("vae"), ("seed", "1")), None).id
    (kept.folder(None) / f"{number}.json").write_text(text)
    with pytest.raises(CondgenError, match="damaged"):
        kept.get(number, None)
    assert "damaged" in kept.list(None)[0][0]
    kept.delete(number, None)
    assert kept.list(None) == []


def test_unknown_words_are_named_once_and_kept(studio, opened):
    kept = Comparisons(studio)
    number = kept.start(options_plan(opened, base_settings("words", "a red zebra"), ("seed", "1..3")), None).id
    list(kept.run(number, None))
    assert len(kept.get(number, None).notes) == 1 and "zebra" in kept.get(number, None).notes[0]


def test_the_sheet_has_all_cells_and_headings(studio, opened):
    kept = Comparisons(studio)
    plan = options_plan(opened, base_settings("words", "a red circle"), ("steps", "1, 2"), ("seed", "1..3"))
    comparison = kept.start(plan, None)
    assert kept.sheet(comparison, None) is None
    list(kept.run(comparison.id, None))
    sheet, report = kept.sheet(kept.get(comparison.id, None), None)
    with Image.open(sheet) as image:
        assert image.width > 3 * 160 and image.height > 4 * 160
    cells = json.loads(report.read_text())["cells"]
    assert len(cells) == 6 and all(cell["recipe"]["prompt"] == "a red circle" and cell["ms"] > 0 for cell in cells)


# API ------------------------------------------------------------------------------------------------------------------


def test_compare_over_the_api(client):
    result = client.predict(["words", "shoes"], PROMPT, None, [1, 2], api_name="/compare")
    assert (result["rows"], result["columns"]) == (["1", "2"], ["words"]) and "shoes" in result["notes"][0]
    assert [cell["recipe"]["seed"] for cell in result["cells"]] == [1, 2]
    for path in [result["sheet"], *(cell["image"] for cell in result["cells"])]:
        with Image.open(path) as image:
            assert image.width >= 32
    assert all(isinstance(cell["match"], float) and cell["ms"] > 0 for cell in result["cells"])


def test_grid_over_the_api(client):
    x, y = {"name": "labels.label", "values": ["Sneaker", "Trouser"]}, {"name": "seed", "values": "1..2"}
    result = client.predict("shoes", x, y, "", {"laces": "yes"}, api_name="/grid")
    assert (result["rows"], result["columns"]) == (["1", "2"], ["Sneaker", "Trouser"])
    assert result["cells"][0]["recipe"]["labels"] == {"label": "Sneaker", "laces": "yes"}


@pytest.mark.parametrize(
    "given, name, message",
    [
        ((["words"], "a" * 10_000, None, [1]), "/compare", "10,000 characters"),
        ((["words"], PROMPT, None, list(range(65))), "/compare", "65 images"),
        ((["words"], PROMPT, None, [1, 1]), "/compare", "twice"),
        ((["words"], PROMPT, None, []), "/compare", "no values"),
        ((["absent"], PROMPT), "/compare", "no model 'absent'"),
        (("words", "steps"), "/grid", "no values of Steps"),
        (("words", {}), "/grid", "X must be one of"),
        (("words", {"name": ["steps"], "values": 3}), "/grid", "X must be one of"),
        (("words", {"name": "steps", "values": "nan"}, None, PROMPT), "/grid", "must be a number"),
        (("clip", {"name": "seed", "values": [1]}), "/grid", "choose a model that generates images"),
    ],
)
def test_bad_requests_over_the_api(client, given, name, message):
    with pytest.raises(AppError, match=message):
        client.predict(*given, api_name=name)


def test_uploads_are_no_other_way_in(client, tmp_path):
    (tmp_path / "a.txt").write_text(PROMPT)
    with pytest.raises(AppError, match="X must be"):
        client.predict("words", handle_file(tmp_path / "a.txt"), api_name="/grid")
