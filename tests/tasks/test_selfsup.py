"""Self-supervised training, small: images in, a backbone out, by every method."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import condgen as front
from condgen.contracts import CondgenError
from condgen.encoders.backbones import BackboneConfig
from condgen.encoders.clip import CLIP, CLIPConfig
from condgen.encoders.selfsup import METHODS, SelfsupObjective
from condgen.nn.specs import EncoderSpec
from condgen.pipelines.encoder import ImageEncoder, init_image_tower
from condgen.recipes import RECIPES, train
from tests.configs import changed
from tests.stopping import two_sittings


def small(kind="simclr", **changes):
    sizes = {
        "kind": kind, "eval_count": 2, "data": "digits", "total_images": 128, "fit": {"batch": 32},
        "objective": SelfsupObjective(dim=16, hidden=16, queue=100),
        "backbone": BackboneConfig(width=8, depth=1, patch=1, stages=2),
    }  # fmt: skip
    return changed(RECIPES["selfsup"].config(), **sizes | changes)


@pytest.mark.parametrize("method", METHODS)
def test_stopped_in_the_middle_it_ends_where_it_would_have(method, tmp_path, monkeypatch):
    whole, halves = two_sittings("selfsup", small(method), "selfsup", tmp_path, monkeypatch)
    states = [front.training.checkpoint.newest(f.parent / "checkpoints" / "selfsup")[0] for f in (whole, halves)]
    assert len({(state / "model.safetensors").read_bytes() for state in states}) == 1  # bank and queue, too
    a, b = ((f / "backbone" / "model.safetensors").read_bytes() for f in (whole, halves))
    assert a == b


def test_a_run_leaves_an_encoder_that_can_start_a_tower(tmp_path):
    folder = train("selfsup", tmp_path / "run", small())
    model = front.load(folder)
    assert isinstance(model, ImageEncoder) and model.size == 8
    assert model.embed_image(torch.rand(3, 3, 8, 8) * 2 - 1).shape == (3, 16)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    judged = [line["kNN"] for line in lines if "kNN" in line]
    assert len(judged) == 2 and model.about["metrics"]["validation"]["kNN"] == max(judged) > 0.3
    assert any("spread" in line and "effective rank" in line for line in lines)
    assert (tmp_path / "run" / "samples" / "views.png").is_file()
    assert "condgen train selfsup -o RUN" in (folder / "README.md").read_text()

    shape = {"image": "resnet", "image_width": 8, "image_depth": 1, "patch": 1, "stages": 2, "text_width": 8}
    shape |= {"vocab": 64, "context": 12, "depth": 1, "heads": 2}
    clip = CLIP(CLIPConfig(**shape), EncoderSpec(8))
    init_image_tower(clip, folder)
    for name, value in model.net.state_dict().items():
        assert torch.equal(clip.image.backbone.state_dict()[name], value)
    with pytest.raises(CondgenError, match="width 8, not 16"):
        init_image_tower(CLIP(CLIPConfig(**shape | {"image_width": 16}), EncoderSpec(8)), folder)
    with pytest.raises(CondgenError, match=r"--clip\.image resnet"):
        init_image_tower(CLIP(CLIPConfig(**shape | {"image": "grid"}), EncoderSpec(16)), folder)


def test_images_without_labels_give_the_last_state(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    for i in range(40):
        Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(tmp_path / "data" / f"{i}.png")
    config = small(
        "instance", data={"path": str(tmp_path / "data"), "size": 8}, total_images=96,
        objective=SelfsupObjective(dim=8, noise=4),
    )  # fmt: skip
    folder = train("selfsup", tmp_path / "run", config)
    assert front.load(folder).about["metrics"]["validation"]["images"] == 96
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert any("effective rank" in line for line in lines) and not any("kNN" in line for line in lines)


def test_a_collapse_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ImageEncoder, "features", lambda self, images: torch.ones(len(images), 4))
    train("selfsup", tmp_path / "run", small(total_images=64))
    assert "a collapse" in capsys.readouterr().err


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"data": ""}, "--data"),
        ({"data": "nowhere/at/all"}, "nowhere"),
        ({"kind": "moco", "objective": SelfsupObjective()}, r"--objective\.queue"),
        ({"objective": SelfsupObjective(key_momentum=1.5)}, r"--objective\.key_momentum"),
        ({"objective": SelfsupObjective(dim=0)}, r"--objective\.dim"),
        ({"minutes": -1.0}, "--minutes"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_leaves_nothing(changes, message, tmp_path):
    with pytest.raises(CondgenError, match=message):
        train("selfsup", tmp_path / "run", small(**changes))
    assert not (tmp_path / "run").exists()


def test_a_batch_larger_than_the_data_is_refused(tmp_path):
    config = small(fit={"batch": 4096})
    with pytest.raises(CondgenError, match=r"--fit\.batch"):
        train("selfsup", tmp_path / "run", config)
