"""Upsamplers as stages of a run: with the rest, added to a finished run, and added to a model."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from condgen.contracts import CondgenError, CondgenWarning
from condgen.data.batches.base import to_float
from condgen.data.synthetic.scenes import draw_scenes, render
from condgen.files.registry import find
from condgen.pipelines.text_to_image import TextToImage
from condgen.recipes import RECIPES, train
from condgen.tasks.text_to_image import TextToImageTask
from condgen.tasks.upsampling import LargeImages, resized, spec_of
from condgen.training.trainer import Trainer
from tests.configs import changed
from tests.tasks.test_text_to_image import small
from tests.tiny import tiny_model


def cascade(recipe="scenes32", upsample="64,128", **changes):
    networks = {"upsampler": {"channels": (8, 16), "blocks": 1, "width": 16}, "upsample": upsample}
    return small(recipe, **networks, fit_upsampler={"total_images": 48, "batch": 16}, **changes)


@pytest.fixture(scope="module")
def run(plain, tmp_path_factory):
    """The same run, to which upsamplers were added."""
    root = tmp_path_factory.mktemp("run") / "scenes"
    shutil.copytree(plain, root)
    return root, train("scenes32", root, cascade())


def interrupt(monkeypatch, *which: int) -> None:
    """Lets steps of training, counted over all runs, be interrupted."""
    step, calls = Trainer._step, []

    def interrupted(self):
        calls.append(1)
        if len(calls) in which:
            raise KeyboardInterrupt(2)
        return step(self)

    monkeypatch.setattr(Trainer, "_step", interrupted)


def weights(folder, *parts):
    return [(folder / part / "model.safetensors").read_bytes() for part in parts or ("upsampler_64", "upsampler_128")]


def test_a_run_trains_its_upsamplers_after_the_decoder(run):
    root, folder = run
    model = TextToImage.load(folder)
    assert model.sizes == [32, 64, 128] and model.upsamplers[128].spec.low == 64
    assert next(model.generate("a red circle", size=128, steps=2)).image.size == (128, 128)
    lines = [json.loads(line) for line in (root / "metrics.jsonl").read_text().splitlines()]
    assert list(dict.fromkeys(line["stage"] for line in lines))[-2:] == ["upsampler 64", "upsampler 128"]
    assert {"psnr", "psnr_bicubic"} <= {name for line in lines for name in line}
    assert Image.open(next((root / "samples").glob("upsampler 128-*.png"))).width > 500
    card = (folder / "README.md").read_text()
    assert "| upsampler 64 | 48 |" in card and "--upsample 64,128" in card


def test_stopped_in_an_upsampler_it_ends_where_it_would_have(plain, run, tmp_path, monkeypatch):
    root = tmp_path / "stopped"
    shutil.copytree(plain, root)
    interrupt(monkeypatch, 2, 6)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train("scenes32", root, cascade(save_every=0.0))
    assert weights(train("scenes32", root, cascade())) == weights(run[1])


def test_nothing_else_changes_when_they_are_added(plain, run):
    before, after = TextToImage.load(plain / "model"), TextToImage.load(run[1])
    assert after.model_id == before.model_id and before.sizes == [32]
    generated = next(before.generate("a red circle", steps=2))
    assert after.replay(generated.recipe).png() == generated.png()


@pytest.mark.slow
def test_a_run_of_all_stages_makes_the_weights_of_stages_that_were_added(run, tmp_path):
    folder = train("scenes32", tmp_path / "all", cascade())
    assert weights(folder) == weights(run[1])  # initial weights and data do not depend on what the process did before
    assert TextToImage.load(folder).model_id == TextToImage.load(run[1]).model_id


def test_the_stage_can_be_chosen_in_a_run_that_has_a_decoder(plain, run, tmp_path):
    root = tmp_path / "chosen"
    shutil.copytree(plain, root)
    folder = train("scenes32", root, cascade(upsample="64", stage="upsampler"))
    assert weights(folder, "upsampler_64") == weights(run[1], "upsampler_64")
    assert TextToImage.load(folder).sizes == [32, 64]


def test_they_are_added_to_a_model_byte_for_byte(run, tmp_path, monkeypatch):
    source = tmp_path / "source"
    shutil.copytree(run[1], source)
    file = source / "decoder" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text())))  # written otherwise, as by an earlier version
    before = TextToImage.load(source)
    interrupt(monkeypatch, 3)
    config = cascade(stage="upsampler", init_from=str(source), upsample="64")
    with pytest.raises(KeyboardInterrupt):
        train("scenes32", tmp_path / "run", replace(config, save_every=0.0))
    with pytest.warns(CondgenWarning, match="upsampler 64, 32 images"):
        unfinished = TextToImage.load(find(tmp_path / "run"))  # the last checkpoint makes a model
    assert next(unfinished.generate("a red circle", size=64, steps=2)).image.size == (64, 64)
    folder = train("scenes32", tmp_path / "run", config)
    after = TextToImage.load(folder)
    assert after.model_id == before.model_id != TextToImage.load(run[1]).model_id
    assert after.sizes == [32, 64] and not (folder / "upsampler_128").exists()
    assert weights(folder, "upsampler_64") == weights(run[1], "upsampler_64") and after.about["name"] == before.name
    generated = next(before.generate("a red circle", steps=2))
    assert after.replay(generated.recipe).png() == generated.png()
    assert (
        train("scenes32", tmp_path / "run", cascade(stage="upsampler", init_from=str(source), upsample="64")) == folder
    )


@pytest.mark.parametrize("upsample", ["48", "64,64", "128,64", "a", "64;128", "32", "64,", "-64", "96"])
def test_sizes_that_cannot_be_trained_are_refused_before_anything_is_written(tmp_path, upsample):
    with pytest.raises(CondgenError, match=r"--upsample is .*; expected sizes.*--upsample 64,128"):
        train("scenes32", tmp_path / "run", cascade(upsample=upsample))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"upsample": ""}, "give their sizes"),
        ({}, "holds no decoder yet"),
        ({"encoder": "scenes32"}, "not only an encoder: --init_from MODEL"),
        ({"init_from": "scenes32", "upsample": "32", "data": {"size": 16, "scenes": 8}}, "Give --data.size 32"),
        ({"init_from": "nowhere"}, "no model 'nowhere'"),
        ({"stage": "all", "upsampler_objective": {"crop": 30}}, r"--upsampler.*do not fit together"),
    ],
)
def test_a_stage_without_what_it_needs_is_refused(tmp_path, changes, message):
    with pytest.raises(CondgenError, match=message):
        train("scenes32", tmp_path / "run", cascade(**{"stage": "upsampler"} | changes))
    assert not (tmp_path / "run").exists()


def test_the_time_of_a_run_is_shared(tmp_path):
    task = TextToImageTask("scenes32", RECIPES["scenes32"], tmp_path, cascade(minutes=100.0))
    shares = {name: task.share(name) for name in task.stage_names}
    assert sum(shares.values()) == pytest.approx(1) and shares["upsampler 64"] == shares["upsampler 128"] > 0.1
    task.config = replace(task.config, stage="upsampler")
    assert task.stage_names == ["upsampler 64", "upsampler 128"] and task.minutes("upsampler 64") == 50


# Data -----------------------------------------------------------------------------------------------------------------


def task_on(tmp_path, **changes):
    """A task whose encoder is that of the tiny model, with its data opened."""
    model = tiny_model()
    config = changed(cascade(), **changes)
    task = TextToImageTask(
        "scenes32", RECIPES["scenes32"], tmp_path / "run", config, given=(model.clip, model.tokenizer)
    )
    (tmp_path / "run").mkdir()
    task.run = type("Run", (), {"update_status": lambda self, **changes: None})()
    return task


def test_scenes_are_drawn_at_both_sizes_and_cropped_at_the_same_places(tmp_path):
    task = task_on(tmp_path, data={"scenes": 24})
    spec = spec_of(task.config, 128, 16)
    batch = LargeImages(task, spec).batches(8, 32)(0)
    assert (
        batch["image"].shape == (8, 3, 32, 32) and batch["low"].shape == (8, 3, 16, 16) and batch["z"].shape == (8, 16)
    )
    near = torch.nn.functional.avg_pool2d(batch["image"], 2)
    assert (near - batch["low"]).abs().mean() < 0.02
    whole = LargeImages(task, spec).batches(24, 128)(0)  # an epoch without crops
    layout, _ = draw_scenes(24, task.config.seed, False)
    for size, name in ((128, "image"), (64, "low")):
        expected = to_float(render(layout, size)).flatten(1)
        order = torch.cdist(whole[name].flatten(1), expected)
        assert order.min(1).values.max() == 0 and order.argmin(1).unique().numel() == 24


def folder_of(tmp_path, n=12, size=80):
    rng = np.random.default_rng(0)
    data = tmp_path / "data"
    data.mkdir()
    lines = ["file_name,text"]
    for k in range(n):
        coarse = Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8))
        coarse.resize((size, size), Image.Resampling.BICUBIC).save(data / f"{k}.png")
        lines.append(f"{k}.png,a red square number {k}")
    (data / "metadata.csv").write_text("\n".join(lines), encoding="utf-8")
    return data


@pytest.mark.parametrize("flip", [False, True])
def test_images_are_read_at_the_largest_size_and_reduced_smoothly(tmp_path, flip):
    task = task_on(tmp_path, data={"path": str(folder_of(tmp_path))}, random_flip=flip)
    batch = LargeImages(task, spec_of(task.config, 64, 16)).batches(12, 64)(0)
    assert batch["image"].shape == (12, 3, 64, 64) and batch["low"].shape == (12, 3, 32, 32)
    assert (torch.nn.functional.avg_pool2d(batch["image"], 2) - batch["low"]).abs().mean() < 0.03
    plain = to_float(task.data.images)  # read at 32 pixels
    both = torch.cat([plain, plain.flip(-1)]) if flip else plain
    distance = torch.cdist(batch["low"].flatten(1), both.flatten(1))
    assert distance.min(1).values.max() < 4  # of 55 between two of them
    found = distance.argmin(1)
    assert bool((found >= 12).any()) == flip
    z = task.embeddings.z()
    expected = z.transpose(0, 1).flatten(0, 1)[found] if flip else z[found]
    assert torch.allclose(batch["z"], expected, atol=1e-5)  # a mirrored image comes with its own embedding


def test_resizing_is_that_of_the_reader():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 3, 64, 64), np.uint8)
    assert resized(images, 64) is images
    expected = Image.fromarray(images[0].transpose(1, 2, 0)).resize((32, 32), Image.Resampling.LANCZOS)
    assert np.array_equal(resized(images, 32)[0], np.asarray(expected).transpose(2, 0, 1))
