import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from condgen.contracts import CondgenError
from condgen.files.images import GeneratedImage, grid, parameters, read_recipe, slug
from tests.tiny import tiny_model

RECIPE = {"prompt": "a red circle", "seed": 3, "prior": "none", "steps": 4, "guidance": 2.0, "size": 8, "model": "m",
          "model_id": "0" * 16}  # fmt: skip


def generated(**more):
    return GeneratedImage(Image.new("RGB", (8, 8), "red"), RECIPE | more, 0.5, 1.0)


def test_the_recipe_travels_with_the_image(tmp_path):
    path = generated(prompt="ein rötlicher Kreis ❤").save(tmp_path / "new" / "folder")
    assert read_recipe(path)["prompt"] == "ein rötlicher Kreis ❤"
    with Image.open(path) as picture:
        assert picture.text["parameters"].splitlines()[0] == "ein rötlicher Kreis ❤"
        assert picture.getpixel((3, 3)) == (255, 0, 0)


def test_other_programs_find_their_words():
    told = parameters(RECIPE)
    assert told.startswith("a red circle\n") and "Steps: 4" in told and "CFG scale: 2.0" in told and "Seed: 3" in told


def test_another_image_of_that_name_is_kept(tmp_path):
    first, same, other = (generated(**m).save(tmp_path) for m in ({}, {}, {"steps": 5}))
    assert first == same != other and read_recipe(first)["steps"] == 4 and read_recipe(other)["steps"] == 5


@given(st.text(max_size=300))
def test_any_prompt_makes_a_safe_name(text):
    name = slug(text)
    assert name.isascii() and 0 < len(name) <= 80 and not set(name) & set('/\\:*?"<>| .\n\x00')


@pytest.mark.parametrize("folder", ["nul\0", "n" * 300])
def test_a_folder_that_cannot_be_named_is_refused(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CondgenError, match="cannot be written"):
        generated().save(folder)


def test_long_and_foreign_prompts_keep_apart():
    assert slug("a" * 200) != slug("a" * 201) and slug("猫") != slug("犬") and slug("a red circle") == "a-red-circle"


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n broken"])
def test_what_is_no_image_is_named(tmp_path, content):
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(CondgenError, match=r"x\.png"):
        read_recipe(path)


def test_an_image_without_a_recipe_is_named(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    with pytest.raises(CondgenError, match="no recipe"):
        read_recipe(tmp_path / "x.png")


def test_grid_shows_every_image():
    sheet = grid([Image.new("RGB", (8, 8), c) for c in ("red", "blue", "lime")], ["one", "two words", ""], columns=2)
    colours = {sheet.getpixel((x, y)) for x in range(0, sheet.width, 9) for y in range(0, sheet.height, 9)}
    assert {(255, 0, 0), (0, 0, 255), (0, 255, 0)} <= colours


# the pipeline that makes them


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def test_each_stage_can_be_called_alone(model):
    import torch

    text = model.embed_text(["a red circle", "two blue squares"])
    rng = [torch.Generator().manual_seed(i) for i in range(2)]
    for prior in (*model.priors, "none"):
        z = model.draw_embed(text, rng, prior)
        assert z.shape == (2, 16)
    *_, pictures = model.draw_image(z, text, rng, steps=2)
    assert pictures.shape == (2, 3, 32, 32)


def test_generate_counts_seeds_up_and_repeats_byte_for_byte(model):
    many = list(model.generate(["a red circle"], n=3, seed=5, steps=2))
    again = next(model.generate("a red circle", seed=6, steps=2))
    assert [p.seed for p in many] == [5, 6, 7] and many[1].png() == again.png()
    assert many[0].png() != many[1].png() and -1 <= many[0].clip_score <= 1 and many[0].ms > 0
    assert json.loads(json.dumps(many[0].recipe)) == many[0].recipe


def test_generation_in_a_batch_is_the_same_image(model):
    *_, batch = model.generate_batch(["a red circle", "two blue squares"], [1, 2], steps=2)
    *_, alone = model.generate_batch(["two blue squares"], [2], steps=2)
    assert (batch.images[1] - alone.images[0]).abs().max() < 1e-3


def test_progress_comes_every_step(model):
    frames = list(model.generate_steps("a red circle", 0, steps=3))
    assert [p.step for p, _ in frames] == [1, 2, 3, 3] and frames[-1][1] is not None


@pytest.mark.parametrize("empty", ["", "<end>", " <pad> \u200b", None])
def test_nothing_is_generated_where_one_prompt_is_empty(model, monkeypatch, empty):
    monkeypatch.setattr(model, "generate_steps", None)
    with pytest.raises(CondgenError, match=r"prompt is empty|must be text"):
        next(model.generate(["a red circle", empty]))


@pytest.mark.parametrize("filler", [" ", "\n", "\u200b", "<end>"])
def test_what_nobody_reads_does_not_crowd_out_the_words(model, recwarn, filler):
    padded = next(model.generate(filler * 3000 + "a red circle", steps=1))
    assert padded.image.tobytes() == next(model.generate("a red circle", steps=1)).image.tobytes() and not recwarn


def test_an_option_of_another_prior_is_named(model):
    with pytest.raises(CondgenError, match="best_of belongs to --prior diffusion, but the prior is regression"):
        next(model.generate("a red circle", best_of=3))
    with pytest.raises(CondgenError, match="no option zoom"):
        next(model.generate("a red circle", zoom=3))


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, "7", None, True])
def test_what_is_no_seed_is_refused(model, seed):
    with pytest.raises(CondgenError, match="seed"):
        next(model.generate("a red circle", seed=seed))


def test_best_of_draws_what_lies_nearer_to_the_text(model):
    import torch

    text = model.embed_text(["a red circle"] * 8)

    def similarity(n):
        rng = [torch.Generator().manual_seed(i) for i in range(8)]
        z = model.draw_embed(text, rng, "diffusion", best_of=n, prior_steps=2)
        return (model.normalizer.back(z) * text.embed).sum(1)

    assert (similarity(6) >= similarity(1) - 1e-5).all() and similarity(6).mean() > similarity(1).mean() + 0.01


def test_a_model_round_trips_through_its_folder(model, tmp_path):
    from condgen.pipelines.text_to_image import TextToImage

    model.save(tmp_path / "m", card="# card", half=False)
    again = TextToImage.load(tmp_path / "m")
    a, b = (next(m.generate("a red circle", seed=1, steps=2)).image.tobytes() for m in (model, again))
    assert a == b and again.name == "tiny" and len(again.model_id) == 16
    model.save(tmp_path / "h")
    sizes = [(tmp_path / m / "decoder" / "model.safetensors").stat().st_size for m in "hm"]
    assert sizes[0] < 0.7 * sizes[1]
    half = next(TextToImage.load(tmp_path / "h").generate("a red circle", seed=1, steps=2))
    assert half.image.size == (32, 32)
