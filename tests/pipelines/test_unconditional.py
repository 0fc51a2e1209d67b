"""Generators without captions: parts of one space, options, bytes on disk, commands."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import condgen as front
from condgen.cli.main import main
from condgen.contracts import CondgenError
from condgen.decoders import DECODERS
from condgen.evaluation.features import feature_extractor
from condgen.files.registry import INDEX
from condgen.nn.conditioning import null_cond
from condgen.pipelines.unconditional import EmbeddingToImage, UnconditionalDecoder
from condgen.priors.transformer import EmbeddingNormalizer, EmbeddingSpec
from condgen.retrieval.search import encoder_of
from tests.tiny import tiny_backbone, tiny_decoder, tiny_images, tiny_model, tiny_prior, tiny_unconditional


@pytest.mark.parametrize("make", [tiny_images, tiny_unconditional])
@pytest.mark.parametrize("kind", DECODERS)
def test_saved_and_loaded_it_generates_the_same_bytes(make, kind, tmp_path):
    model = make(kind)
    model.save(tmp_path / "model", half=False)
    loaded = front.load(tmp_path / "model")
    assert type(loaded) is type(model) and loaded.about == model.about
    assert [one.image.tobytes() for one in loaded.generate(3)] == [one.image.tobytes() for one in model.generate(3)]
    assert torch.equal(loaded.sample(range(2)), model.sample(range(2)))


@pytest.mark.parametrize("image_channels, mode", [(1, "L"), (3, "RGB")])
def test_images_are_grey_or_of_colour_as_the_decoder_is(image_channels, mode):
    model = tiny_images(image_channels=image_channels)
    assert next(model.generate()).image.mode == mode and model.sample([0, 1]).shape == (2, image_channels, 8, 8)
    assert model.embed_image(torch.rand(2, image_channels, 8, 8)).norm(dim=1).allclose(torch.ones(2))


def test_drawn_embeddings_lie_on_the_sphere():
    model = tiny_images()
    z = model.draw_embed([torch.Generator().manual_seed(seed) for seed in range(5)])
    embeds = z * model.normalizer.sd + model.normalizer.mean
    torch.testing.assert_close(embeds.norm(dim=1), torch.ones(5))


def test_options_of_prior_and_decoder_reach_them_and_stand_in_the_recipe():
    model = tiny_images()
    base = next(model.generate(seed=3))
    for option, value in {"steps": 2, "guidance": 3.0, "prior_steps": 3}.items():
        one = next(model.generate(seed=3, **{option: value}))
        assert one.recipe[option] == value and one.image.tobytes() != base.image.tobytes(), option
        assert model.replay(one.recipe).png() == one.png()
    for wrong in ({"steps": 0}, {"prior_steps": 9999}, {"best_of": 2}):
        with pytest.raises(CondgenError, match=next(iter(wrong))):
            next(model.generate(**wrong))


@pytest.mark.parametrize("kind", DECODERS)
def test_without_embeddings_the_decoder_sees_the_null_condition_without_guidance(kind):
    model = tiny_unconditional(kind)
    names = {option.name for option in model.sampling_options()}
    assert not {name for name in names if "guidance" in name or "prior" in name}
    cond = null_cond({"z": torch.ones(2, 1), "has_z": torch.ones(2, dtype=torch.bool)})
    rng = [torch.Generator().manual_seed(seed) for seed in (4, 5)]
    *_, expected = model.decoder.sample(cond, rng, **({"guidance": 1.0} if kind == "diffusion" else {}))
    torch.testing.assert_close(model.sample([4, 5]), expected)


def test_it_takes_no_prompt_and_no_label(tmp_path, capsys):
    for model in (tiny_images(), tiny_unconditional()):
        with pytest.raises(CondgenError, match="takes no prompt and no labels"):
            next(model.generate_batch(["a cat"], [0]))
        model.save(tmp_path / model.name)
        for words in (["generate", "a cat"], ["sample", "--label", "cat"], ["sample", "--brightness", "2"]):
            assert main([*words, "--model", str(tmp_path / model.name), "-o", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert "condgen sample --model" in error and "leave --label out" in error and "--brightness" in error
        assert not (tmp_path / "out").exists()


def test_parts_of_two_spaces_or_sizes_are_refused():
    model = tiny_images()
    other = EmbeddingNormalizer(EmbeddingSpec(16, "elsewhere"))
    with pytest.raises(CondgenError, match=r"different embedding spaces .*normalizer: elsewhere"):
        EmbeddingToImage(model.encoder, other, model.prior, model.decoder)
    space = model.normalizer.spec.space
    large = tiny_decoder("cvae", {"size": 16, "embed_dim": 16, "space": space})
    with pytest.raises(CondgenError, match="8 and 16 pixels"):
        EmbeddingToImage(tiny_backbone(), model.normalizer, tiny_prior(16, space), large)


@pytest.mark.parametrize("field, value", [("encoder", "towers"), ("encoder", ["clip"]), ("decoder", "flow")])
def test_a_damaged_index_is_named(field, value, tmp_path):
    tiny_images().save(tmp_path)
    index = json.loads((tmp_path / INDEX).read_text())
    (tmp_path / INDEX).write_text(json.dumps(index | {field: value}))
    with pytest.raises(CondgenError, match=f"{INDEX} names the {field}"):
        front.load(tmp_path)


def test_a_missing_or_changed_part_is_named(tmp_path):
    tiny_images().save(tmp_path)
    shutil.rmtree(tmp_path / "prior")
    with pytest.raises(CondgenError, match="prior"):
        front.load(tmp_path)


def test_an_encoder_of_texts_serves_as_well(tmp_path):
    words = tiny_model()
    space = words.normalizer.spec.space
    decoder = tiny_decoder("diffusion", {"size": 32, "embed_dim": 16, "space": space})
    prior = tiny_prior(16, space)
    model = EmbeddingToImage(words.clip, words.normalizer, prior, decoder, words.tokenizer, {"name": "mine"})
    model.save(tmp_path, half=False)
    loaded = EmbeddingToImage.load(tmp_path)
    assert next(loaded.generate()).image.tobytes() == next(model.generate()).image.tobytes()
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    assert torch.equal(loaded.embed_image(images), words.embed_image(images))
    torch.testing.assert_close(
        encoder_of(loaded).embed_text(["a red circle"]), words.embed_text(["a red circle"]).embed
    )


def test_the_commands_know_such_models(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONDGEN_MODELS", str(tmp_path / "models"))
    for model in (tiny_images(), tiny_unconditional()):
        model.save(tmp_path / "models" / model.name)
    assert main(["list"]) == 0 and main(["info", "photos"]) == 0 and main(["info", "plain"]) == 0
    out = capsys.readouterr().out
    assert out.count("Unconditional models") == 1 and "--prior-steps" in out and "8 x 8, grey" in out
    assert main(["sample", "--model", "photos", "-n", "3", "--seed", "5", "--steps", "3", "-o", "out"]) == 0
    made = sorted((tmp_path / "out").glob("*-*.png"))
    assert len(made) == 3 and Image.open(made[0]).size == (8, 8)
    for place in made:
        assert main(["replay", str(place), "-o", "again"]) == 0
    assert encoder_of("photos").size == 8 and feature_extractor(front.load("photos")).size == 8
    with pytest.raises(CondgenError, match="decoder alone"):
        feature_extractor(front.load("plain"))


@pytest.mark.parametrize("name", ["photos", "plain"])
def test_the_studio_opens_it(name, tmp_path, monkeypatch):
    pytest.importorskip("gradio")
    from condgen.studio.library import ModelLibrary

    monkeypatch.setenv("CONDGEN_MODELS", str(tmp_path))
    models: list[UnconditionalDecoder] = [tiny_images(), tiny_unconditional()]
    for model in models:
        model.save(tmp_path / model.name)
    for first in (name, front.load(name)):
        library = ModelLibrary(first)
        assert library.default == name and library.open(name).size == 8


def test_images_are_varied_mixed_and_inverted_and_words_are_refused(tmp_path, capsys):
    tiny_images().save(tmp_path / "photos")
    a, b = (tmp_path / f"{name}.png" for name in "ab")
    for seed, place in enumerate((a, b)):
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)).save(place)
    model = ["--model", str(tmp_path / "photos"), "-o", str(tmp_path / "out")]
    for words in (["vary", a, "-n", "2"], ["mix", a, b], ["invert", a, "--steps", "4"], ["probe", a]):
        assert main([*map(str, words), *model]) == 0, words
    assert "nearest" not in capsys.readouterr().out
    made = [place for place in (tmp_path / "out").glob("*.png") if not place.name.startswith("grid")]
    assert len(made) >= 5
    for place in made[::2]:
        assert main(["replay", str(place), "--model", str(tmp_path / "photos"), "-o", str(tmp_path / "again")]) == 0
    assert main(["mix", "a cat", str(a), *model]) == 2
    assert "reads no text. Give images instead" in capsys.readouterr().err
