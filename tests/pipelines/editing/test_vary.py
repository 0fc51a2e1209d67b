"""Variations: the identity at strength 0, seeds and batches, decoders that do not invert, what is refused."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from condgen.contracts import CondgenError
from condgen.files.images import read_recipe
from condgen.pipelines.base import generator
from condgen.pipelines.editing.base import Editor, InputImage
from condgen.pipelines.editing.vary import FREE, Vary, guidance_at, shares
from tests.tiny import CLOTHES, tiny_decoder, tiny_images, tiny_labels, tiny_model


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def picked(n: int) -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)) for _ in range(n)]


def with_decoder(kind: str):
    model = tiny_model()
    model.decoder = model.modules["decoder"] = model.main = tiny_decoder(kind, vars(model.decoder.spec))
    return model


def test_the_shares_rise_from_nothing_to_fresh_noise():
    found = [shares(k / 20) for k in range(21)]
    assert found[0] == (0, 0) and found[-1] == (FREE, 1)
    assert all(a <= b for pair in pairwise(found) for a, b in zip(*pair))
    assert [guidance_at(s, 4.0) for s in (0, 0.25, 0.5, 1)] == [1, 2.5, 4, 4]


def test_strength_0_is_the_inverted_image_for_every_seed(model):
    (image,) = picked(1)
    expected = model.invert(image, steps=3).reconstruction.image
    for generated in model.vary(image, n=2, strength=0, seed=5, steps=3):
        assert generated.image.tobytes() == expected.tobytes()


@pytest.mark.parametrize("kind", ["cgan", "cvae"])
def test_strength_0_is_the_own_z_where_the_decoder_does_not_invert(kind):
    model = with_decoder(kind)
    image = InputImage.read(model, *picked(1))
    editor = Editor(model)
    with torch.inference_mode():
        none, some = (Vary(image, s).decoding(editor, generator(0), {}) for s in (0.0, 1.0))
        own = editor.z_of(image, generator(0), {})
    assert torch.equal(none.z, own) and not torch.equal(some.z, own)
    assert none.noise is None
    several = list(model.vary(image, n=3, strength=0.8))
    assert [model.replay(one.recipe).png() for one in several] == [one.png() for one in several]


def test_a_seed_names_a_variation_in_every_batch_and_its_recipe_replays_it(model):
    images = picked(2)
    several = list(model.vary(images, n=3, seed=1, steps=2))
    assert len({one.image.tobytes() for one in several}) == 6
    for k, image in enumerate(images):
        for seed in (1, 2, 3):
            (alone,) = model.vary(image, seed=seed, steps=2)
            assert alone.png() == several[3 * k + seed - 1].png()
            assert model.replay(alone.recipe).png() == alone.png()


def test_words_are_read_and_allow_stronger_variations(model):
    (image,) = picked(1)
    (plain,), (worded,) = (model.vary(image, prompt=words, steps=2) for words in ("", "a red circle"))
    assert (plain.recipe["strength"], worded.recipe["strength"]) == (0.5, 1.0)
    assert plain.clip_score is None and worded.clip_score is not None
    assert model.replay(worded.recipe).png() == worded.png()


@pytest.mark.parametrize("change", [{"strength": 1.1}, {"strength": -0.1}, {"strength": "much"}, {"strength": True},
                                    {"prompt": 3}, {"n": 0}, {"seed": -1}, {"best_of": 2}])  # fmt: skip
def test_what_is_out_of_range_is_refused(model, change):
    with pytest.raises(CondgenError):
        list(model.vary(picked(1), **change))


def test_grey_models_without_words_vary_and_mix_images_and_refuse_words():
    model = tiny_images(image_channels=1)
    a, b = picked(2)
    for generated in (*model.vary(a, n=2, steps=2), *model.interpolate(a, b, n=3, steps=2)):
        assert generated.image.mode == "L" and model.replay(generated.recipe).png() == generated.png()
    with pytest.raises(CondgenError, match="reads no text"):
        list(model.vary(a, prompt="a cat"))
    with pytest.raises(CondgenError, match="reads no text"):
        list(model.interpolate(a, "a cat"))


@pytest.mark.parametrize("image", ["missing.png", 3, None, Image.new("F", (4, 4)), Image.new("RGB", (0, 4))])
def test_what_is_no_image_is_refused(model, image):
    with pytest.raises(CondgenError):
        list(model.vary(image))


def test_a_damaged_recipe_is_refused(model):
    (generated,) = model.vary(picked(1), steps=2)
    for change in (
        {"image": "a red circle"},
        {"image": {"name": "a", "png": "!"}},
        {"image": {"name": "a", "png": "é"}},
        {"strength": 7},
    ):
        with pytest.raises(CondgenError):
            model.replay(generated.recipe | change)


def test_the_command_writes_variations_that_replay_and_a_sheet(condgen, tmp_path):
    for k, image in enumerate(picked(2)):
        image.save(tmp_path / f"{k}.png")
    code, out, _ = condgen("vary", "0.png", "1.png", "-n", 2, "--model", "tiny", "--steps", 2, "--json")
    assert code == 0 and len(out.splitlines()) == 4 and '"title": "0 varied by 0.5"' in out
    files = sorted(path for path in (tmp_path / "out").glob("*.png") if path.name != "grid.png")
    assert len(files) == 4 and read_recipe(files[0])["operation"] == "vary"
    assert Image.open(tmp_path / "out" / "grid.png").width > 3 * 160
    assert condgen("replay", files[0], "-o", "again")[0] == 0


def test_empty_words_are_refused_not_left_out(condgen, tmp_path):
    picked(1)[0].save(tmp_path / "a.png")
    for words in (("vary", "a.png", "--prompt", ""), ("edit", "a.png", "--from", " ", "--to", "a red circle")):
        code, _, err = condgen(*words, "--model", "tiny")
        assert code == 2 and "expected words" in err, err


def test_models_without_image_embeddings_are_refused_in_one_sentence(condgen, tmp_path):
    tiny_labels(attributes=(CLOTHES,)).save(tmp_path / "shoes")
    picked(1)[0].save(tmp_path / "a.png")
    code, _, err = condgen("vary", "a.png", "--model", tmp_path / "shoes")
    assert code == 2 and "decodes no image embeddings" in err and "Traceback" not in err
