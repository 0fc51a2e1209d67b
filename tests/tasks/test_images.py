"""Images without captions, trained small: one command, exact resume, given encoders, refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import condgen as front
from condgen.cli.main import main
from condgen.contracts import CondgenError, CondgenWarning
from condgen.data.batches.embedded import EmbeddedBatches
from condgen.decoders import DECODERS
from condgen.encoders.backbones import BackboneConfig
from condgen.evaluation.classifier import ClassifierFitConfig
from condgen.evaluation.options import SampleOptions
from condgen.evaluation.samples import evaluate_samples
from condgen.pipelines.unconditional import EmbeddingToImage, UnconditionalDecoder
from condgen.priors.unconditional import UnconditionalPriorConfig
from condgen.recipes import RECIPES, train
from condgen.tasks.images import ImagesTask
from condgen.training.trainer import Trainer
from tests.configs import changed
from tests.evaluation.models import digits
from tests.tiny import tiny_model

PARTS = ("backbone", "normaliser", "prior", "decoder")
FIT = {"batch": 32}


def small(kind="diffusion", **changes):
    config = changed(RECIPES["images"].config(), kind=kind)
    decoder = {"channels": (8,), "depth": 1, "heads": 2, "width": 16, "steps": 2, "latent": 4, "code": 4}
    sizes = {
        "eval_count": 1, "data": "digits", "total_images": 128, "fit_encoder": FIT, "fit_prior": FIT,
        "fit_decoder": FIT, "backbone": BackboneConfig(width=4, patch=1, stages=2),
        "prior": UnconditionalPriorConfig(width=16, depth=1),
        "decoder": {name: value for name, value in decoder.items() if hasattr(config.decoder, name)},
    }  # fmt: skip
    return changed(config, **sizes | changes)


def weights(model: Path) -> dict[str, bytes]:
    return {part: (model / part / "model.safetensors").read_bytes() for part in PARTS}


def photos(folder: Path, n: int = 40, mode: str = "RGB", captions: bool = False) -> Path:
    """Images of noise, of 12 x 12 pixels, in a folder; with captions in a table."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(n):
        pixels = rng.integers(0, 256, (12, 12, 3) if mode == "RGB" else (12, 12), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    if captions:
        lines = ["file_name,text", *(f"{i}.png,image number {i}" for i in range(n))]
        (folder / "metadata.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("run") / "digits"
    return root, train("images", root, small())


def test_one_command_leaves_a_model_with_all_parts(run):
    root, folder = run
    model = front.load(root)
    assert isinstance(model, EmbeddingToImage) and (model.size, model.image_channels) == (8, 1)
    assert {path.name for path in folder.iterdir()} >= {*PARTS, "README.md", "sheet.png"}
    stages = [json.loads(line) for line in (root / "metrics.jsonl").read_text().splitlines()]
    assert {line["stage"] for line in stages} == {"encoder", "prior", "decoder"}
    assert any("distance of embeddings" in line for line in stages) and any("spread" in line for line in stages)
    assert {path.name.split("-")[0] for path in (root / "samples").glob("*.png")} == {"encoder", "decoder"}
    card = (folder / "README.md").read_text()
    assert "condgen train images -o RUN --data DATA" in card and "unconditional-image-generation" in card
    assert model.about["reading"]["resize"] == "crop" and model.about["data"].startswith("digits")


def test_the_normalizer_is_that_of_the_embeddings_of_the_training_images(run):
    model = front.load(run[1])
    images = torch.from_numpy(digits(slice(None)).images).float() / 127.5 - 1
    data = RECIPES["images"].config(data="digits").data.open()
    embeds = model.embed_image(torch.from_numpy(data.images).float() / 127.5 - 1)
    z = model.normalizer(embeds)
    torch.testing.assert_close(z.mean(0), torch.zeros(z.shape[1]), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.std(0), torch.ones(z.shape[1]), atol=1e-3, rtol=0)
    assert model.embed_image(images[:2]).shape == (2, 8)


def test_a_seed_fixes_the_model_and_the_same_call_again_has_nothing_to_do(run, tmp_path, capsys):
    root, folder = run
    before = weights(folder)
    assert weights(train("images", tmp_path / "again", small())) == before
    assert train("images", root, small()) == folder and weights(folder) == before
    assert "is finished" in capsys.readouterr().err


def test_stopped_in_every_stage_it_ends_where_it_would_have(run, tmp_path, monkeypatch):
    step, calls = Trainer._step, []

    def interrupted(self):
        calls.append(1)
        if len(calls) in (3, 8, 13):  # a stage has four steps
            raise KeyboardInterrupt(2)
        return step(self)

    monkeypatch.setattr(Trainer, "_step", interrupted)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            train("images", tmp_path / "run", small(save_every=0.0))
    with pytest.warns(CondgenWarning, match="is not finished"):
        unfinished = front.load(tmp_path / "run")
    assert isinstance(unfinished, EmbeddingToImage) and len(list(unfinished.generate(2))) == 2
    assert weights(train("images", tmp_path / "run", small(save_every=0.0))) == weights(run[1])


def test_killed_before_the_first_step_of_a_stage_it_ends_where_it_would_have(run, tmp_path, monkeypatch):
    """Initial weights do not depend on what the process did before."""

    class Killed(BaseException):
        pass

    step, calls = Trainer._step, []

    def killed(self):
        calls.append(1)
        if len(calls) in (5, 6):  # the first of the prior, and of the decoder that follows after four more
            raise Killed
        return step(self)

    monkeypatch.setattr(Trainer, "_step", killed)
    for _ in range(2):
        with pytest.raises(Killed):
            train("images", tmp_path / "run", small())
    assert weights(train("images", tmp_path / "run", small())) == weights(run[1])


@pytest.mark.parametrize("kind", [kind for kind in DECODERS if kind != "diffusion"])
def test_every_kind_of_decoder_can_be_trained(kind, run, tmp_path):
    config = small(kind, encoder=str(run[0]), total_images=64)
    model = front.load(train("images", tmp_path / "run", config))
    assert DECODERS.name_of(model.decoder) == kind and len(list(model.generate(2))) == 2
    assert model.image_encoder.space == front.load(run[1]).image_encoder.space


def test_a_decoder_without_embeddings_is_trained_alone(tmp_path):
    config = small(unconditional=True, random_flip=True)
    folder = train("images", tmp_path / "run", config)
    model = front.load(folder)
    assert isinstance(model, UnconditionalDecoder) and not isinstance(model, EmbeddingToImage)
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["decoder"]
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {line["stage"] for line in lines} == {"decoder"}
    card = (folder / "README.md").read_text()
    assert "--unconditional" in card and "fit_encoder:" not in card and "backbone:" not in card


def test_a_trained_encoder_of_texts_serves_as_well(tmp_path):
    tiny_model().save(tmp_path / "clip")
    data = photos(tmp_path / "data", captions=True)
    options = {"data": {"path": str(data), "size": 32}, "encoder": str(tmp_path / "clip"), "random_flip": True}
    config = changed(small(total_images=32, **options), decoder={"channels": (8, 8)})
    model = front.load(train("images", tmp_path / "run", config))
    assert model.tokenizer is not None and model.image_encoder.embed_text(["a red circle"]).shape == (1, 16)
    assert (
        next(model.generate()).image.size == (32, 32)
        and "- **Pretrained**: clip" in (tmp_path / "run" / "model" / "README.md").read_text()
    )


@pytest.mark.parametrize("mode, captions", [("RGB", True), ("L", False)])
def test_any_folder_of_images_will_do(mode, captions, tmp_path, capsys):
    data = photos(tmp_path / "data", mode=mode, captions=captions)
    options = [
        *("--total_images", "32", "--eval_count", "1", "--fit_encoder.batch", "16", "--backbone.width", "4"),
        *("--prior.width", "16", "--decoder.channels", "[8]", "--decoder.steps", "2", "--data.size", "12"),
    ]
    root = tmp_path / "run"
    assert main(["train", "images", "--data", str(data), "-o", str(root), *options]) == 0
    assert main(["sample", "--model", str(root), "-n", "3", "-o", str(tmp_path / "out")]) == 0
    made = sorted((tmp_path / "out").glob("*-[0-9].png"))
    assert len(made) == 3 and {Image.open(place).mode for place in made} == {"L" if mode == "L" else "RGB"}
    assert all(main(["replay", str(place), "--model", str(root), "-o", str(tmp_path / "again")]) == 0 for place in made)


def test_minutes_are_shared_and_embeddings_count(tmp_path):
    task = ImagesTask("images", RECIPES["images"], tmp_path, replace(small(), minutes=20.0))
    vars(task)["status"] = {}
    before = [task.minutes(stage) for stage in task.stage_names]
    assert task.stage_names == ["encoder", "prior", "decoder"] and sum(before) == pytest.approx(20)
    vars(task)["status"] = {"embedding": 120.0}
    after = [task.minutes(stage) for stage in task.stage_names]
    assert after[0] == before[0] and sum(after) == pytest.approx(18)
    for option, names in (({"unconditional": True}, ["decoder"]), ({"encoder": "x"}, ["prior", "decoder"])):
        task.config = replace(small(), minutes=20.0, **option)
        vars(task)["status"] = {}
        assert task.stage_names == names and sum(map(task.minutes, names)) == pytest.approx(20)


def test_an_encoder_that_others_stand_on_stays(tmp_path, capsys):
    short = train("images", tmp_path / "run", small(total_images=64))
    before = weights(short)
    with pytest.warns(CondgenWarning, match="total_images: 64 -> 128"):
        train("images", tmp_path / "run", small())
    after = weights(short)
    assert after["backbone"] == before["backbone"] and after["normaliser"] == before["normaliser"]
    assert after["prior"] != before["prior"] and after["decoder"] != before["decoder"]
    assert "The encoder stays as it is" in capsys.readouterr().err


def test_a_mirrored_image_has_the_embedding_of_its_mirror_image():
    images = np.random.default_rng(0).integers(0, 256, (6, 1, 4, 4), dtype=np.uint8)
    both = np.stack([images, images[..., ::-1]], 1)
    embeds = torch.from_numpy(both.reshape(6, 2, 16).astype(np.float32) / 127.5 - 1)  # the pixels themselves
    batches = EmbeddedBatches("z", embeds, images, 64, 0)
    batch = batches(0)
    assert torch.equal(batch["image"].flatten(1), batch["z"])
    mirrored = (batch["z"] != embeds[torch.from_numpy(batches.rows(0)), 0]).any(1)
    assert 16 < mirrored.sum() < 48
    halves = [EmbeddedBatches("z", embeds, images, 64, 0, rank=rank, world=2)(0) for rank in (0, 1)]
    assert torch.equal(torch.cat([half["z"] for half in halves]), batch["z"])
    alone = EmbeddedBatches("image_embed", embeds, None, 64, 0)(0)
    assert alone.keys() == {"image_embed"} and torch.equal(alone["image_embed"], batch["z"])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"data": ""}, "--data"),
        ({"data": "nowhere/at/all"}, "nowhere"),
        ({"encoder": "nowhere/at/all"}, "nowhere"),
        ({"encoder": "digits", "unconditional": True}, "leave --encoder out"),
        ({"fit_encoder": {"batch": 5000}}, r"--fit_encoder\.batch"),
        ({"augment": {"crop": 0.0}}, r"--augment\.crop"),
        ({"prior": UnconditionalPriorConfig(width=0)}, r"--prior\.width"),
        ({"backbone": BackboneConfig(patch=3)}, "squares of 3"),
        ({"decoder": {"channels": (8, 8, 8, 8)}}, r"--decoder"),
        ({"data": {"path": "digits", "size": 4}}, "too small"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_leaves_nothing(changes, message, tmp_path):
    with pytest.raises(CondgenError, match=message):
        train("images", tmp_path / "run", small(**changes))
    assert not (tmp_path / "run").exists()


def test_one_image_is_refused_unless_there_is_an_encoder(run, tmp_path):
    data = photos(tmp_path / "one", n=1, mode="L")
    options = {"data": {"path": str(data), "size": 8, "image_channels": 1}}
    with pytest.raises(CondgenError, match="one training image"):
        train("images", tmp_path / "run", small(**options))
    with pytest.warns(CondgenWarning, match="one training image"):
        model = front.load(train("images", tmp_path / "run", small(encoder=str(run[0]), total_images=32, **options)))
    assert len(list(model.generate(2))) == 2


def test_an_encoder_of_another_size_is_refused(run, tmp_path):
    data = photos(tmp_path / "data")
    config = small(data={"path": str(data), "size": 12}, encoder=str(run[0]))
    with pytest.raises(CondgenError, match=r"reads 8 x 8 pixels. Give --data.size 8"):
        train("images", tmp_path / "run", config)


def test_its_samples_are_compared_with_real_images(run):
    train_set, test = digits(slice(0, 700)), digits(slice(700, 800))
    fit = ClassifierFitConfig(images=2000)
    for model in (front.load(run[1]), UnconditionalDecoder(front.load(run[1]).decoder)):
        report = evaluate_samples(model, train_set, test, SampleOptions(seeds=2), fit).report
        assert report["distances"] and report["coverage"] and report["samples"]["images of every seed"] == 100


@pytest.mark.slow
def test_two_processes_train_one_model(tmp_path):
    options = ["--data", "digits", "--total_images", "64", "--eval_count", "1", "--fit_encoder.batch", "32",
               "--fit_prior.batch", "32", "--backbone.width", "4", "--backbone.stages", "2", "--prior.width", "16",
               "--decoder.channels", "[8]", "--decoder.steps", "2"]  # fmt: skip
    here = Path(__file__).resolve().parents[2]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
    command = [*launcher, "condgen", "train", "images", "-o", str(tmp_path / "run"), *options]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(here)}
    done = subprocess.run(command, env=env, cwd=here, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(list(front.load(tmp_path / "run").generate(2))) == 2
