"""Runs of GANs without a condition: from images to a model in use, stopped and gone on with, and refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import condgen as front
from condgen.baselines.gans import Codes, GanConfig, GanObjective
from condgen.contracts import CondgenError
from condgen.data.datasets.labels import LabelledImages
from condgen.metrics.diversity import mean_distance
from condgen.pipelines.latent import LatentModel
from condgen.recipes import RECIPES, train
from condgen.recipes.unconditional import GANS
from condgen.tasks.gan import GanTask, in_every_category
from tests.configs import changed
from tests.stopping import two_sittings


def small(kind: str = "infogan", size: str | None = None, **changes):
    c = RECIPES[f"digits-{kind}"].config(size)
    shape = replace(c.gan, code=4, width=4, hidden=min(c.gan.hidden, 8))
    return changed(c, **{"eval_count": 2, "total_images": 192, "gan": shape, "fit": {"batch": 32}} | changes)


@pytest.mark.parametrize("kind, size", [("gan", "modern"), ("dcgan", "classic"), ("infogan", None)])
def test_a_run_leaves_a_model_its_critic_and_sheets(kind, size, tmp_path):
    folder = train(f"digits-{kind}", tmp_path / "run", small(kind, size))
    model = front.load(folder)
    assert isinstance(model, LatentModel) and model.network == "gan" and not model.encodes
    pictures = model.sample([3, 4])
    assert pictures.shape == (2, 1, 8, 8) and not torch.equal(*pictures)
    with torch.inference_mode():
        assert model.critic.phi(pictures).shape == (2, model.critic.width)
        assert model.critic.category(pictures).shape == (2, 10 if kind == "infogan" else 0)
    sheets = sorted((tmp_path / "run" / "samples").glob("gan-*.png"))
    assert len(sheets) == 2 and sheets[-1].name == "gan-000000192.png"
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(any(name in line for line in lines) for name in ("variety", "diversity", "lead"))
    assert any(("right_pairs" if size == "modern" and kind != "infogan" else "right_fake") in line for line in lines)
    assert "Command" in (folder / "README.md").read_text()


@pytest.mark.parametrize("size", ["modern", "classic"])
def test_stopped_in_the_middle_it_ends_where_it_would_have(size, tmp_path, monkeypatch):
    """Both players, their optimisers, how far augmentation has risen, and the running mean."""
    config = small("dcgan", size)
    whole, halves = two_sittings("digits-dcgan", config, "gan", tmp_path, monkeypatch)
    weights = [sorted(folder.rglob("*.safetensors")) for folder in (whole, halves)]
    assert len(weights[0]) == 2  # the generator's and the critic's
    assert [file.read_bytes() for file in weights[0]] == [file.read_bytes() for file in weights[1]]


def test_equal_images_are_called_a_collapse(tmp_path):
    run = GanTask("digits-dcgan", RECIPES["digits-dcgan"], tmp_path, small("dcgan"))
    messages = []
    run.display = type("Display", (), {"say": lambda self, text: messages.append(text)})()
    model = run.model(run.module(), {})
    real = run.real
    model.decode = lambda z: real[:1].expand(len(z), -1, -1, -1)
    assert run.evaluate(model)[0] == {"variety": 0} and "collapse" in messages[0] and "--objective.gamma" in messages[0]
    model.decode = lambda z: real
    assert run.evaluate(model)[0]["variety"] == pytest.approx(1) and len(messages) == 1
    assert mean_distance(real) > 1


def test_one_image_for_every_category_is_called_a_collapse(tmp_path):
    run = GanTask("digits-infogan", RECIPES["digits-infogan"], tmp_path, small())
    messages = []
    run.display = type("Display", (), {"say": lambda self, text: messages.append(text)})()
    model = run.model(run.module(), {})
    real, shape = run.real, model.net.config
    model.decode = lambda z: real[Codes.of(z, shape).category.argmax(1)]
    found, _ = run.evaluate(model)
    assert found["variety"] > 0.6 and found["variety_in_a_category"] == 0 and "collapse" in messages[0]
    model.decode = lambda z: real[torch.arange(len(z)) % len(real)]
    assert run.evaluate(model)[0]["variety_in_a_category"] == pytest.approx(1, abs=0.05) and len(messages) == 1


def test_every_category_is_generated_with_the_same_other_codes():
    shape = GanConfig(code=3, categories=4, continuous=2)
    z = torch.randn(5, shape.latent)
    codes = Codes.of(in_every_category(z, shape), shape)
    assert torch.equal(codes.category.argmax(1), torch.arange(4).repeat_interleave(5))
    for own, given in ((codes.noise, z[:, :3]), (codes.continuous, z[:, 7:])):
        assert torch.equal(own, given.repeat(4, 1))


@pytest.mark.parametrize("name", GANS)
def test_every_recipe_fits_together(name, tmp_path):
    recipe = RECIPES[name]
    sizes = {"digits": 8, "mnist": 28}
    for config in (recipe.base, *map(recipe.config, recipe.sizes)):
        size, channels = sizes.get(name.split("-")[0], 32), config.data.image_channels or 1
        task = GanTask(name, recipe, tmp_path, config)
        task.data = LabelledImages(np.zeros((2, channels, size, size), np.uint8), (), np.zeros((2, 0), np.float32))
        task.check()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"gan": GanConfig(code=0)}, r"--gan\.code is 0"),
        ({"gan": GanConfig(hidden=-1)}, r"--gan\.hidden is -1"),
        ({"gan": GanConfig(categories=-2)}, r"--gan\.categories"),
        ({"objective": GanObjective(gamma=-0.1)}, r"--objective\.gamma"),
        ({"objective": GanObjective(penalised=1.5)}, r"--objective\.penalised is 1.5; it must be from 0 to 1"),
        ({"objective": GanObjective(loss="wasserstein")}, "no adversarial loss 'wasserstein'; choose rp"),
        ({"minutes": -1.0}, "--minutes"),
        ({"data": "nowhere/at/all"}, "nowhere"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_leaves_nothing(changes, message, tmp_path):
    with pytest.raises(CondgenError, match=message):
        train("digits-infogan", tmp_path / "run", small(**changes))
    assert not (tmp_path / "run").exists()


def test_a_size_and_a_batch_that_do_not_work_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(4):
        picture = rng.integers(0, 256, (18, 18, 3), dtype=np.uint8)
        (tmp_path / "data").mkdir(exist_ok=True)
        Image.fromarray(picture).save(tmp_path / "data" / f"{i}.png")
    c = RECIPES["pictures-dcgan"].config()
    c = changed(c, data={"path": str(tmp_path / "data"), "size": 18, "split": "all"}, total_images=8)
    with pytest.raises(CondgenError, match=r"18 pixels cannot be halved.*--data\.size"):
        train("pictures-dcgan", tmp_path / "run", c)
    with pytest.raises(CondgenError, match=r"--fit\.batch is 1"):
        train("digits-gan", tmp_path / "run", small("gan", fit={"batch": 1}))
    assert not (tmp_path / "run").exists()
