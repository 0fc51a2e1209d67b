"""Words and images together: identities of the image prompt, of the image to begin from, and of the mask."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from PIL import Image

from condgen.contracts import CondgenError, CondgenWarning
from condgen.data.sources.images import fit
from condgen.files.images import parameters, read_recipe
from condgen.pipelines.base import generator, to_pil
from condgen.pipelines.editing.base import Editor, InputImage
from condgen.pipelines.editing.decoding import negative_of
from condgen.pipelines.editing.guide import GUIDANCE, Guide, guides, read_mask
from condgen.pipelines.text_to_image import TextToImage
from tests.tiny import tiny_cascade, tiny_decoder, tiny_images, tiny_model

PROMPT = "a red circle"


def noise_image(size: tuple[int, int] = (32, 32), seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8))


def colourful_model() -> TextToImage:
    """The tiny model with its zero weights changed, so that its images depend on their condition."""
    model = tiny_model()
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.decoder.parameters():
            if not weight.any():
                weight.add_(torch.randn(weight.shape, generator=rng) * 0.1)
    return model


def half_mask(width: int = 32, height: int = 32) -> Image.Image:
    """White on the right half."""
    array = np.zeros((height, width), np.uint8)
    array[:, width // 2 :] = 255
    return Image.fromarray(array)


def pixels(generated) -> np.ndarray:
    return np.asarray(generated.image).astype(int)


def one_pass(kind: str) -> TextToImage:
    """A model with a decoder that generates in one pass."""
    model = tiny_model()
    decoder = tiny_decoder(kind, asdict(model.decoder.spec))
    return TextToImage(model.clip, model.tokenizer, model.normalizer, model.priors, decoder)


def guided(model, n: int = 1, **values) -> list:
    return list(model.guide(PROMPT, n=n, seed=3, steps=2, **values))


@pytest.mark.parametrize("prior", [None, "none", "diffusion"])
def test_weight_0_is_the_image_of_the_prompt(prior):
    model = tiny_model()
    plain = list(model.generate(PROMPT, n=3, seed=3, steps=2, prior=prior))
    found = guided(model, 3, image=noise_image(), image_weight=0, prior=prior)
    assert [one.image.tobytes() for one in found] == [one.image.tobytes() for one in plain]


def test_weight_1_is_the_embedding_of_the_image():
    model = tiny_model()
    image = InputImage.read(model, noise_image())
    options = model._resolved_options(None, {})
    z = Guide(PROMPT, image=image, image_weight=1.0).decoding(Editor(model), generator(0), options).z
    assert torch.equal(z, model.normalizer(model.embed_image(image.pixels(model)[None]))[0])


def test_weights_between_stay_on_the_sphere_and_move_to_the_image():
    model = tiny_model()
    image, options, editor = InputImage.read(model, noise_image()), model._resolved_options(None, {}), Editor(model)
    rows = [Guide(PROMPT, image=image, image_weight=w, prior="none") for w in (0, 0.25, 0.5, 0.75, 1.0)]
    z = torch.stack([row.decoding(editor, generator(0), options).z for row in rows])
    embed = model.normalizer.back(z)
    assert torch.allclose(embed.norm(dim=1), torch.ones(5), atol=1e-5)
    assert ((embed @ editor.embed(image)).diff() > 0).all()


def test_the_kept_region_is_exact_to_the_pixel():
    model, init = tiny_model(), noise_image()
    for one in guided(model, 3, init=init, mask=half_mask()):
        left = np.s_[:, :16]
        assert (pixels(one)[left] == np.asarray(init)[left]).all()
        assert (pixels(one)[:, 16:] != np.asarray(init)[:, 16:]).any()


def test_noise_1_is_nearly_generation_without_an_image():
    model = tiny_model()
    plain = next(model.generate(PROMPT, seed=3, steps=2))
    assert np.abs(pixels(guided(model, init=noise_image(), noise=1)[0]) - pixels(plain)).max() <= 4


def test_a_white_mask_generates_from_the_words_alone():
    model, white = tiny_model(), Image.new("L", (32, 32), 255)
    *_, plain = model.generate_batch([PROMPT], [3], use_z=False, steps=2, guidance=GUIDANCE)
    (operation,) = guides(model, PROMPT, init=noise_image(), mask=white)
    *_, found = Editor(model).generate_batch([replace(operation, resample=1)], [3], steps=2)
    assert (found.images - plain.images).abs().max() < 0.03


def test_with_a_mask_the_image_prompt_and_the_guidance_count():
    model, values = tiny_model(), {"init": noise_image(), "mask": half_mask()}
    words, strong = guided(model, **values)[0], guided(model, guidance=6.0, **values)[0]
    image = guided(model, image=noise_image(seed=1), image_weight=1, **values)[0]
    assert words.recipe["guidance"] == GUIDANCE
    assert len({one.image.tobytes() for one in (words, strong, image)}) == 3


def test_little_noise_leaves_an_image_that_a_denoiser_leaves(monkeypatch):
    """With a denoiser that returns its input, the lower the level, the nearer is the result to the image."""
    model = tiny_model()
    monkeypatch.setattr(model.decoder, "denoise", lambda x_t, t, cond: x_t)
    far = [np.abs(pixels(guided(model, init=noise_image(), noise=t)[0]) - np.asarray(noise_image())).mean()
           for t in (0.01, 0.3, 0.9)]  # fmt: skip
    assert far[0] < 4 and far == sorted(far)


WAYS = {
    "image": {"image": noise_image(seed=1), "image_weight": 0.3},
    "init": {"init": noise_image()},
    "mask": {"init": noise_image(), "mask": half_mask()},
    "all": {
        "image": noise_image(seed=1),
        "init": noise_image(),
        "mask": half_mask(),
        "noise": 0.7,
        "prior": "diffusion",
        "negative": "a small blue square",
    },
    "negative": {"negative": "blue"},
}


@pytest.mark.parametrize("way", WAYS)
def test_an_image_does_not_depend_on_its_batch_and_is_replayed(way):
    model = tiny_model()
    many = guided(model, 4, **WAYS[way])
    for k, one in enumerate(many):
        alone = next(model.guide(PROMPT, seed=3 + k, steps=2, **WAYS[way]))
        assert alone.png() == one.png() == model.replay(one.recipe).png()


def test_candidates_of_an_operation_are_ranked_and_replayed():
    model = tiny_model()
    plain = guided(model, 3, init=noise_image(), mask=half_mask())
    best = guided(model, 3, init=noise_image(), mask=half_mask(), candidates=3)
    assert all(b.clip_score >= round(p.clip_score, 4) - 1e-4 for b, p in zip(best, plain, strict=True))
    assert any(one.recipe["candidate"] for one in best)
    for one in best:
        assert model.replay(one.recipe).png() == one.png()
        assert (pixels(one)[:, :16] == np.asarray(noise_image())[:, :16]).all()


def test_without_a_prompt_the_embedding_is_that_of_the_image_to_begin_from():
    model = tiny_model()
    init = InputImage.read(model, noise_image())
    (operation,) = guides(model, "", init=init, noise=0.5)
    z = operation.decoding(Editor(model), generator(0), model._resolved_options(None, {})).z
    assert torch.equal(z, model.normalizer(model.embed_image(init.pixels(model)[None]))[0])
    one = next(model.guide(init=init, noise=0.5, steps=2))
    assert one.clip_score is None and model.replay(one.recipe).png() == one.png()


# Negative words -------------------------------------------------------------------------------------------------------

LONG = "a small blue square left of a cross"


def test_without_negative_words_nothing_changes():
    model, (operation,) = tiny_model(), guides(tiny_model(), PROMPT)
    assert "negative" not in operation.to_json()
    plain, found = next(model.generate(PROMPT, seed=3, steps=2)), guided(model)[0]
    assert found.image.tobytes() == plain.image.tobytes()
    assert model.replay(found.recipe | {"negative": ""}).image.tobytes() == plain.image.tobytes()


def test_negative_words_take_the_place_of_the_null_condition():
    model = colourful_model()
    away = guided(model, negative="blue", guidance=0)[0]  # guidance 0 is what is steered away from
    *_, words = model.generate_batch(["blue"], [3], use_z=False, steps=2, guidance=1)
    assert np.abs(pixels(away) - np.asarray(to_pil(words.images)[0])).max() <= 1
    assert (pixels(guided(model, negative="blue")[0]) != pixels(guided(model)[0])).any()
    assert (pixels(guided(model, negative="blue")[0]) != pixels(guided(model, negative="red")[0])).any()


def test_negative_words_change_no_noise_of_the_seed():
    model = tiny_model()
    options, rngs = model._resolved_options("diffusion", {}), [generator(5), generator(5)]
    rows = [Guide(PROMPT, prior="diffusion", negative=words).decoding(Editor(model), rng, options)
            for words, rng in zip(["", LONG], rngs)]  # fmt: skip
    assert torch.equal(rows[0].z, rows[1].z) and torch.equal(*(rng.get_state() for rng in rngs))


def test_a_z_can_be_steered_away_from_with_and_without_words():
    model = colourful_model()
    (plain,) = guides(model, PROMPT)
    row = plain.decoding(Editor(model), generator(3), model._resolved_options(None, {}))
    same = model.condition(row.z[None], [PROMPT])
    for words in ("", PROMPT):
        found = negative_of(model, [replace(row, negative=words, negative_z=row.z)])["negative"]
        assert found["has_z"].tolist() == [True] and found["has_text"].tolist() == [bool(words)]
    frames = [[*model.decoder.sample(same, [generator(3)], negative=away, steps=2, guidance=w)][-1]
              for away, w in ((found, 3.0), (None, 1.0))]  # fmt: skip
    assert (frames[0] - frames[1]).abs().max() < 1e-3  # prompt + w (prompt - prompt) is the prompt without guidance


def test_operations_with_and_without_negative_words_share_a_batch():
    model = colourful_model()
    operations = [Guide(PROMPT), Guide(PROMPT, negative=LONG)]
    *_, both = Editor(model).generate_batch(operations, [3, 3], steps=2)
    for k, operation in enumerate(operations):
        *_, alone = Editor(model).generate_batch([operation], [3], steps=2)
        assert (alone.images[0] - both.images[k]).abs().max() < 1e-4


@pytest.mark.parametrize("candidates, size", [(2, None), (1, 64)])
def test_negative_words_with_candidates_and_upsamplers_are_replayed(candidates, size):
    model = tiny_cascade()
    more = {"candidates": candidates} | ({} if size is None else {"size": size})
    found = guided(model, 2, negative=LONG, **more)
    assert [one.recipe["negative"] for one in found] == [LONG] * 2 and found[0].image.width == (size or 32)
    for one in found:
        assert model.replay(one.recipe).png() == one.png()


def test_guidance_1_is_said_to_leave_negative_words_out():
    with pytest.warns(CondgenWarning, match="Guidance 1"):
        guided(tiny_model(), negative="blue", guidance=1)


def test_who_takes_no_negative_words_says_so():
    for kind in ("cgan", "cvae"):
        with pytest.raises(CondgenError, match="no guidance"):
            next(one_pass(kind).guide(PROMPT, negative="blue"))
    with pytest.raises(CondgenError, match="reads no text"):
        next(tiny_images().guide(init=noise_image(), negative="blue"))
    model = tiny_model()
    model.decoder.guide_by(tiny_model().decoder)
    with pytest.raises(CondgenError, match="autoguidance"):
        next(model.guide(PROMPT, negative="blue", autoguidance=2.0))
    next(model.guide(PROMPT, negative="blue", steps=1))
    for words in (5, " "):
        with pytest.raises(CondgenError, match="prompt"):
            next(tiny_model().guide(PROMPT, negative=words))


def test_other_programs_find_the_negative_words(tmp_path):
    (one,) = guided(tiny_model(), negative="blue, small")
    assert "\nNegative prompt: blue, small\n" in parameters(one.recipe)


@pytest.mark.parametrize("kind", ["cgan", "cvae"])
def test_decoders_of_one_pass_take_image_prompts_only(kind):
    model = one_pass(kind)
    plain = next(model.generate(PROMPT, seed=3))
    found = next(model.guide(PROMPT, seed=3, image=noise_image(), image_weight=0))
    assert found.image.tobytes() == plain.image.tobytes()
    with pytest.raises(CondgenError, match="begin from an image"):
        next(model.guide(PROMPT, init=noise_image()))


@pytest.mark.parametrize(
    "size, mask_size", [((32, 32), (8, 8)), ((64, 64), (32, 32)), ((48, 32), (24, 16)), ((100, 67), (50, 34))]
)
def test_a_mask_is_scaled_without_smoothing_as_its_image(size, mask_size):
    model = tiny_model()
    small = half_mask(*mask_size)
    mask = np.asarray(read_mask(model, small, noise_image(size)).image().convert("L"))
    assert set(np.unique(mask)) <= {0, 255} and mask.shape == (32, 32)
    large = np.asarray(small.resize(size, Image.Resampling.NEAREST).convert("RGB"))
    smooth = fit(Image.fromarray(large), 32)[0]
    sure = (smooth < 30) | (smooth > 225)  # away from the edge
    assert ((mask > 127) == (smooth > 127))[sure].all() and sure.mean() > 0.9


BAD = {
    "another aspect": ({"init": noise_image(), "mask": half_mask(32, 16)}, "aspect"),
    "no white": ({"init": noise_image(), "mask": Image.new("L", (32, 32))}, "no white"),
    "mask alone": ({"mask": half_mask()}, "--init"),
    "noise alone": ({"noise": 0.5}, "--init"),
    "weight alone": ({"image_weight": 0.5}, "--image"),
    "noise 0": ({"init": noise_image(), "noise": 0.0}, "noise must be"),
    "noise of text": ({"init": noise_image(), "noise": "x"}, "noise must be"),
    "weight 2": ({"image": noise_image(), "image_weight": 2}, "image_weight must be"),
    "no image": ({"image": 3}, "image"),
    "missing": ({"init": "no-such-file.png"}, "no-such-file.png"),
    "mask is an array": ({"init": noise_image(), "mask": np.zeros((32, 32))}, "PIL image"),
    "missing mask": ({"init": noise_image(), "mask": "no-such-file.png"}, "no-such-file.png"),
    "unknown option": ({"image": noise_image(), "stepz": 3}, "no option stepz"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence(name):
    values, expected = BAD[name]
    with pytest.raises(CondgenError, match=expected):
        list(tiny_model().guide(PROMPT, **values))


@pytest.mark.parametrize("alpha, refused", [(128, True), (255, False)])
def test_transparency_of_a_mask_is_refused(alpha, refused, tmp_path):
    mask, path = half_mask().convert("RGBA"), tmp_path / "mask.png"
    mask.putpixel((3, 3), (0, 0, 0, alpha))
    mask.save(path)
    for one in (mask, path):
        if refused:
            with pytest.raises(CondgenError, match="transparent in parts"):
                read_mask(tiny_model(), one, noise_image())
        else:
            assert (
                read_mask(tiny_model(), one, noise_image()).png
                == read_mask(tiny_model(), half_mask(), noise_image()).png
            )


def test_an_image_without_words_is_a_variation():
    with pytest.raises(CondgenError, match="condgen vary"):
        next(tiny_model().guide(image=noise_image()))
    with pytest.raises(CondgenError, match="neither a prompt nor an image"):
        next(tiny_model().guide())


@pytest.mark.parametrize("damage", [{"init": {"name": "a", "png": "?"}}, {"init": 3}, {"mask": [1]}, {"noise": None}])
def test_a_damaged_recipe_is_refused(damage):
    model = tiny_model()
    recipe = guided(model, init=noise_image(), mask=half_mask())[0].recipe
    with pytest.raises(CondgenError):
        model.replay(recipe | damage)


def test_command_line(condgen, tmp_path):
    noise_image((48, 48)).save(tmp_path / "a.png")
    half_mask(24, 24).save(tmp_path / "mask.png")
    code, out, _ = condgen(
        "generate", PROMPT, "--init", "a.png", "--mask", "mask.png", "--steps", 2, "-n", 2, "-o", "out"
    )
    assert code == 0 and "sheet" not in out
    paths = sorted((tmp_path / "out").glob("a-red*.png"))
    assert len(paths) == 2 and read_recipe(paths[0])["mask"]["name"] == "mask.png"
    code, out, _ = condgen("replay", paths[1], "-o", "again")
    assert code == 0 and "byte for byte" in out
    code, out, _ = condgen("generate", PROMPT, "--negative", "blue", "--steps", 2, "-o", "away")
    (path,) = (tmp_path / "away").glob("*.png")
    assert code == 0 and read_recipe(path)["negative"] == "blue"
    assert "byte for byte" in condgen("replay", path, "-o", "again")[1]
    code, _, err = condgen("generate", "--image", "a.png")
    assert code == 2 and "condgen vary" in err
    code, _, err = condgen("generate", PROMPT, "--noise", 0.5)
    assert code == 2 and "--init" in err
