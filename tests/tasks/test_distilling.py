"""Distillation as stages of a run: with the rest, added to a finished run, and of a model."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from condgen.cli.info import facts_of, lines_of
from condgen.contracts import CondgenError, CondgenWarning
from condgen.files.registry import find
from condgen.pipelines.class_to_image import ClassToImage
from condgen.pipelines.text_to_image import TextToImage
from condgen.recipes import RECIPES, train
from condgen.tasks.class_to_image import ClassToImageTask
from condgen.tasks.text_to_image import TextToImageTask
from tests.tasks import test_class_to_image
from tests.tasks.test_text_to_image import small
from tests.tasks.test_upsampling import cascade, interrupt, weights

FIT = {"total_images": 48, "batch": 16}


def few(distill="4,2", **changes):
    return small(**{"distill": distill, "fit_distill": FIT} | changes)


def same(a, b):
    """Whether two parts hold the same weights, at the precision of a model."""
    one, other = (load_file(place / "model.safetensors") for place in (a, b))
    return all(torch.equal(one[name].half(), other[name].half()) for name in one)


def labels(distill="2", **changes):
    return test_class_to_image.small("diffusion", **{"distill": distill, "fit_distill": {"batch": 16}} | changes)


@pytest.fixture(scope="module")
def run(plain, tmp_path_factory):
    """The same run, whose decoder was distilled to 4 and then to 2 steps."""
    root = tmp_path_factory.mktemp("run") / "scenes"
    shutil.copytree(plain, root)
    return root, train("scenes32", root, few())


def test_the_model_has_the_decoder_of_the_last_stage_and_says_so(run):
    root, folder = run
    decoder = TextToImage.load(folder).decoder
    assert (decoder.config.steps, decoder.config.guidance, decoder.config.distilled) == (2, 1.0, 4.0)
    assert same(folder / "decoder", root / "parts" / "distill_2")
    assert not same(folder / "decoder", root / "parts" / "distill_4")
    card = (folder / "README.md").read_text()
    assert "**Steps**: 2" in card and "guidance scale of 4" in card and "--distill 4,2" in card
    assert "| distill 4 | 48 |" in card and "| distill 2 | 48 |" in card
    text = "\n".join(lines_of(facts_of(folder)))
    assert "default 2" in text and "distilled to 2" in text and "scale 4, which is part of the weights" in text
    assert list((root / "samples").glob("distill 2-*.png"))


def test_images_replay_and_seeds_and_inversion_keep_their_meaning(run):
    model = TextToImage.load(run[1])
    first, second = model.generate("a red circle", n=2, seed=5)
    assert first.recipe["steps"] == 2 and first.recipe["guidance"] == 1
    assert model.replay(first.recipe).png() == first.png()
    assert next(model.generate("a red circle", seed=6)).png() == second.png()
    assert model.replay(next(model.generate("a red circle", steps=3, guidance=2.0)).recipe).image.size == (32, 32)
    inverted = model.invert(first.image, steps=25)
    assert inverted.x_T.shape == (3, 32, 32)


def test_stopped_in_the_second_stage_it_ends_where_it_would_have(plain, run, tmp_path, monkeypatch):
    root = tmp_path / "stopped"
    shutil.copytree(plain, root)
    interrupt(monkeypatch, 2, 6)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train("scenes32", root, few(save_every=0.0))
    assert weights(train("scenes32", root, few()), "decoder") == weights(run[1], "decoder")


@pytest.mark.slow
def test_a_run_of_all_stages_makes_the_weights_of_stages_that_were_added(run, tmp_path):
    folder = train("scenes32", tmp_path / "all", few())
    assert weights(folder, "decoder") == weights(run[1], "decoder")


def test_a_decoder_that_trains_on_is_distilled_again(run, tmp_path):
    root = tmp_path / "longer"
    shutil.copytree(run[0], root)
    assert train("scenes32", root, few()) and weights(root / "model", "decoder") == weights(run[1], "decoder")
    folder = train("scenes32", root, few(fit_decoder={"total_images": 96, "batch": 16}))
    for part in ("decoder", "distill_4", "distill_2"):
        assert weights(root / "parts", part) != weights(run[0] / "parts", part)
    assert same(folder / "decoder", root / "parts" / "distill_2")
    assert TextToImage.load(folder).decoder.config.steps == 2


def test_the_stage_distills_the_decoder_of_a_model_and_keeps_the_rest(plain, tmp_path, monkeypatch):
    source = tmp_path / "source"
    shutil.copytree(plain, source)
    before = TextToImage.load(train("scenes32", source, cascade(upsample="64", stage="upsampler")))
    config = few("4", stage="distill", init_from=str(source))
    interrupt(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        train("scenes32", tmp_path / "run", replace(config, save_every=0.0))
    with pytest.warns(CondgenWarning, match="distill 4, 32 images"):
        assert TextToImage.load(find(tmp_path / "run")).decoder.config.steps == 4  # the last checkpoint makes a model
    folder = train("scenes32", tmp_path / "run", config)
    after = TextToImage.load(folder)
    assert not same(folder / "decoder", before.path / "decoder") and after.decoder.config.steps == 4
    assert weights(folder, "upsampler_64", "clip") == weights(before.path, "upsampler_64", "clip")
    assert after.sizes == [32, 64] and after.model_id != before.model_id and after.name == f"{before.name}-4-steps"
    assert next(after.generate("a red circle", size=64)).image.size == (64, 64)
    again = train("scenes32", tmp_path / "on", replace(config, distill="2", init_from=str(folder)))
    assert TextToImage.load(again).decoder.config.steps == 2 and not same(again / "decoder", folder / "decoder")


def test_a_decoder_of_labels_is_distilled_in_its_run_or_alone(tmp_path):
    plain = train("digits-diffusion", tmp_path / "plain", labels(""))
    folder = train("digits-diffusion", tmp_path / "run", labels("2,1"))
    model = ClassToImage.load(folder)
    assert model.decoder.config.steps == 1 and model.decoder.config.distilled == 1.5
    assert next(iter(model.sample({"label": "7"}, seed=3))).recipe["steps"] == 1
    alone = train("digits-diffusion", tmp_path / "alone", labels("2,1", init_from=str(plain)))
    assert ClassToImage.load(alone).decoder.config == model.decoder.config
    assert not same(alone / "decoder", plain / "decoder")
    lines = [json.loads(line)["stage"] for line in (tmp_path / "alone" / "metrics.jsonl").read_text().splitlines()]
    assert set(lines) == {"distill 2", "distill 1"}


@pytest.mark.parametrize("distill", ["4,3", "2,4", "4,4", "0", "a", "4;2", "4,", "-4", "65", "2.5"])
def test_steps_that_cannot_be_distilled_to_are_refused_before_anything_is_written(tmp_path, distill):
    for name, config in (("scenes32", few(distill)), ("digits-diffusion", labels(distill))):
        with pytest.raises(CondgenError, match=r"--distill is .*; expected numbers of steps.*--distill 4"):
            train(name, tmp_path / "run", config)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"distill": ""}, "give the numbers of steps"),
        ({}, "holds no decoder yet"),
        ({"encoder": "scenes32"}, "not only an encoder: --init_from MODEL"),
        ({"init_from": "scenes32", "data": {"size": 16, "scenes": 8}}, "Give --data.size 32"),
        ({"init_from": "nowhere"}, "no model 'nowhere'"),
        ({"kind": "cvae", "stage": "all"}, "of kind diffusion; cvae has one step"),
        ({"stage": "all", "distill_objective": {"between": 2.0}}, "--distill_objective.between"),
    ],
)
def test_a_stage_without_what_it_needs_is_refused(tmp_path, changes, message):
    with pytest.raises(CondgenError, match=message):
        train("scenes32", tmp_path / "run", few(**{"stage": "distill"} | changes))
    assert not (tmp_path / "run").exists()


def test_labels_of_another_model_are_refused(tmp_path):
    with pytest.raises(CondgenError, match="add the numbers of steps"):
        train("digits-diffusion", tmp_path / "run", labels("", init_from="fashion-diffusion"))
    with pytest.raises(CondgenError, match="generates 28 x 28 pixels of label; the data have 8 x 8"):
        train("digits-diffusion", tmp_path / "run", labels(init_from="fashion-diffusion"))
    assert not (tmp_path / "run").exists()


def test_the_time_of_a_run_is_shared(tmp_path):
    text = TextToImageTask("scenes32", RECIPES["scenes32"], tmp_path, few(minutes=100.0))
    assert text.stage_names[-3:] == ["decoder", "distill 4", "distill 2"]
    label = ClassToImageTask("digits-diffusion", RECIPES["digits-diffusion"], tmp_path, labels("4,2", minutes=100.0))
    for task in (text, label):
        shares = {name: task.share(name) for name in task.stage_names}
        assert sum(shares.values()) == pytest.approx(1) and shares["distill 4"] == shares["distill 2"] > 0.1
    label.config = replace(label.config, distill="")
    assert label.share("decoder") == 1
