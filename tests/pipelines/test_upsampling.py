"""Images larger than those of the decoder: exact, replayed, and without any change to images of its own size."""

import json

import pytest
import torch
import torch.nn.functional as F

import condgen
from condgen.contracts import CondgenError
from condgen.data.batches.base import to_float
from condgen.data.synthetic.scenes import draw_scenes, render
from condgen.files.weights import read_json, write_json
from condgen.metrics.image_quality import psnr
from condgen.pipelines.base import generator
from condgen.pipelines.text_to_image import TextToImage
from condgen.pipelines.upsampling import add_upsamplers
from tests.tiny import tiny_cascade, tiny_model, tiny_upsampler

PROMPTS = ["a red circle", "two blue squares"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a model with upsamplers; do not change it."""
    place = tmp_path_factory.mktemp("models") / "cascade"
    tiny_cascade().save(place)
    return place


@pytest.fixture
def model(folder):
    return TextToImage.load(folder)


@pytest.mark.parametrize("size", [64, 128])
def test_images_have_the_size_and_a_recipe_that_gives_their_bytes_again(model, folder, size):
    for generated in model.generate(PROMPTS, n=2, seed=3, size=size, steps=2, upsample_steps=3):
        recipe = generated.recipe
        assert generated.image.size == (size, size) and recipe["size"] == size and recipe["upsample_steps"] == 3
        assert len(recipe["upsampler_id"]) == 16 and generated.clip_score is not None
        assert TextToImage.load(folder).replay(json.loads(json.dumps(recipe))).png() == generated.png()


def test_a_seed_names_the_same_bytes_alone_and_among_others(model):
    many = list(model.generate(PROMPTS, n=5, seed=1, size=128, steps=2))
    assert len({one.png() for one in many}) == 10
    for one in many:
        alone = next(model.generate(one.prompt, seed=one.seed, size=128, steps=2))
        assert one.png() == alone.png() or "batch" in one.recipe


def test_nothing_changes_at_the_size_of_the_decoder(model, tmp_path):
    tiny_model().save(tmp_path / "cascade")
    plain = TextToImage.load(tmp_path / "cascade")
    assert model.model_id == plain.model_id and model.sizes == [32, 64, 128] and plain.sizes == [32]
    for size in (None, 32):
        for one, other in zip(model.generate(PROMPTS, seed=2, size=size), plain.generate(PROMPTS, seed=2), strict=True):
            assert one.png() == other.png() and one.recipe == other.recipe and "upsampler_id" not in one.recipe
    assert "upsampler_64" not in model.modules  # they are read when they are used


def test_what_is_enlarged_is_the_image_of_the_decoder(model):
    """An upsampler that adds nothing interpolates it."""
    model.upsamplers[64].residual_sd.zero_()
    steps = list(model.generate_steps(PROMPTS[0], 4, size=64, steps=2, upsample_augmentation=0.0))
    small, large = steps[1][0].images, steps[-1][0].images
    plain = list(model.generate_steps(PROMPTS[0], 4, steps=2))[-1][0].images
    assert torch.equal(small, plain)
    assert torch.allclose(F.interpolate(small, size=(64, 64), mode="bilinear"), large, atol=1e-5)


def test_operations_on_images_and_candidates_have_the_size_too(model):
    image = next(model.generate(PROMPTS[0], steps=2)).image
    made = [*model.guide([PROMPTS[1]], n=2, image=image, steps=2, size=128)]
    made += model.generate(PROMPTS[0], seed=1, steps=2, size=64, candidates=2)
    made += model.vary(image, steps=2, size=64)
    made += model.mix([image, PROMPTS[0]], steps=2, size=64)
    made += model.edit(image, PROMPTS[0], PROMPTS[1], theta=0, size=64)
    made += model.edit(image, PROMPTS[0], PROMPTS[1], steps=2, size=64)  # with a level that is chosen at 32 pixels
    assert [one.image.width for one in made] == [128, 128, 64, 64, 64, 64, 64]
    for one in made:
        assert len(one.recipe["upsampler_id"]) == 16 and model.replay(one.recipe).png() == one.png()
    with pytest.raises(CondgenError, match="32, 64 or 128"):
        next(model.guide([PROMPTS[1]], image=image, size=48))


def test_progress_counts_all_steps(model):
    steps = list(model.generate_steps(PROMPTS[0], 0, size=128, steps=3, upsample_steps=2))
    counted = [(progress.step, progress.steps) for progress, _ in steps[:-1]]
    assert counted == [(k, 7) for k in range(1, 8)]
    assert [p.images.shape[-1] for p, _ in steps[:-1]] == [32] * 3 + [64] * 2 + [128] * 2
    many = list(model.generate_batch(PROMPTS, [0, 1], size=128, steps=3, upsample_steps=2))
    assert many[-1].step == many[-1].steps == 7 and many[-1].images.shape == (2, 3, 128, 128)


@pytest.mark.parametrize("size", [100, 0, -64, "64", 64.0, True])
def test_other_sizes_are_refused_with_those_that_there_are(model, size):
    with pytest.raises(CondgenError, match="generates images of 32, 64 or 128 pixels, not of"):
        next(model.generate(PROMPTS, size=size))


def test_a_model_without_upsamplers_says_so():
    with pytest.raises(CondgenError, match=r"images of 32 pixels, not of 64.*--upsample"):
        next(tiny_model().generate(PROMPTS, size=64))


def test_options_of_larger_images_need_their_size(model):
    with pytest.raises(CondgenError, match=r"upsample_steps.*larger images"):
        next(model.generate(PROMPTS, upsample_steps=2))
    with pytest.raises(CondgenError, match="upsample_steps must be an integer from 1 to 16"):
        next(model.generate(PROMPTS, size=64, upsample_steps=99))


def test_other_upsamplers_do_not_replay_the_image(model, tmp_path):
    recipe = next(model.generate(PROMPTS[0], size=128)).recipe
    at_64 = next(model.generate(PROMPTS[0], size=64))
    other, space = tiny_model(), model.decoder.spec.space
    add_upsamplers(other, {64: model.upsamplers[64], 128: tiny_upsampler(128, 64, space, seed=7)})
    other.save(tmp_path / "other")
    other = TextToImage.load(tmp_path / "other")
    assert other.model_id == model.model_id
    with pytest.raises(CondgenError, match="enlarged by upsamplers with the weights"):
        other.replay(recipe)
    assert other.replay(at_64.recipe).png() == at_64.png()  # its upsampler is still there
    with pytest.raises(CondgenError, match="images of 32 pixels, not of 128"):
        tiny_model().replay(recipe)


def test_upsamplers_that_do_not_fit_are_refused(model):
    space = model.decoder.spec.space
    for upsamplers, message in (
        ({128: tiny_upsampler(128, 64, space)}, "enlarges 64 pixels to 128, but the images before it have 32"),
        ({64: tiny_upsampler(64, 32, "another")}, "was trained on embeddings of space 'another'"),
    ):
        with pytest.raises(CondgenError, match=message):
            add_upsamplers(tiny_model(), upsamplers)


@pytest.mark.parametrize("sizes", ["64", [64.0], [128, 64], [64, 64], {"64": 1}, [True]])
def test_a_damaged_index_is_refused(folder, tmp_path, sizes):
    tiny_cascade().save(tmp_path / "m")
    write_json(
        tmp_path / "m" / "model_index.json", read_json(tmp_path / "m" / "model_index.json") | {"upsamplers": sizes}
    )
    with pytest.raises(CondgenError, match=r"names upsamplers .* expected sizes in pixels"):
        TextToImage.load(tmp_path / "m")


def test_reading_is_strict(tmp_path):
    tiny_cascade().save(tmp_path / "m")
    weights = tmp_path / "m" / "upsampler_128" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-40])
    model = TextToImage.load(tmp_path / "m")
    with pytest.raises(CondgenError, match="upsampler_128"):
        next(model.generate(PROMPTS, size=64))
    weights.unlink()
    with pytest.raises(CondgenError, match=r"upsampler_128.*missing"):
        next(TextToImage.load(tmp_path / "m").generate(PROMPTS, size=128))


def test_the_command_line_generates_and_replays(folder, condgen, monkeypatch):
    monkeypatch.setenv("CONDGEN_MODELS", str(folder.parent))
    code, out, _ = condgen(
        "generate", PROMPTS[0], "-n", 2, "--size", 128, "--upsample-steps", 2, "--model", folder, "-o", "o"
    )
    assert code == 0 and out.count(".png") == 2
    assert condgen("replay", "o/a-red-circle-1.png", "--model", folder)[0] == 0
    code, _, err = condgen("generate", PROMPTS[0], "--size", 48, "--model", folder)
    assert code == 2 and "32, 64 or 128" in err
    code, out, _ = condgen("info", folder)
    assert code == 0 and "32, 64, 128" in out and "upsampler_128" in out and "--upsample-steps" in out


def test_the_upsamplers_of_the_package_are_better_than_bicubic_interpolation():
    model = condgen.load("scenes32")
    layout, _ = draw_scenes(6, 77, True)
    drawn = {size: to_float(render(layout, size)) for size in (32, 64, 128)}
    z = model.normalizer(model.embed_image(drawn[32]))
    assert model.sizes == [32, 64, 128]
    for size, upsampler in model.upsamplers.items():
        low = drawn[size // 2]
        *_, made = upsampler.upsample(low, [generator(seed) for seed in range(6)], z, upsample_steps=2)
        bicubic = F.interpolate(low, size=(size, size), mode="bicubic").clamp(-1, 1)
        assert psnr(made, drawn[size]) > psnr(bicubic, drawn[size]) + 2
