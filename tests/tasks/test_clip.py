"""Contrastive training by itself, small: images with labels or captions in, an encoder out."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import condgen as front
from condgen.contracts import CondgenError
from condgen.encoders.backbones import Backbone, BackboneConfig
from condgen.encoders.clip import CLIPConfig
from condgen.encoders.clip_objective import ClipObjective
from condgen.nn.specs import EncoderSpec
from condgen.pipelines.auto import load_folder
from condgen.pipelines.encoder import ImageEncoder, TextImageEncoder
from condgen.recipes import RECIPES, train
from condgen.tasks.clip import ClipTask
from tests.configs import changed
from tests.stopping import two_sittings


def small(total_images=192, **changes):
    shape = CLIPConfig(image="resnet", text="clip", image_width=8, image_depth=1, text_width=16, depth=1, heads=2,
                       embed_dim=16, patch=1, stages=2)  # fmt: skip
    sizes = {
        "eval_count": 1, "total_images": total_images, "clip": shape, "fit": {"batch": 32},
        "data": {"path": "digits", "size": 8},
    }  # fmt: skip
    return changed(RECIPES["clip"].config(), **sizes | changes)


@pytest.fixture(scope="module")
def captions(tmp_path_factory):
    """Forty images of four colours, each with a caption."""
    home = tmp_path_factory.mktemp("captions")
    rows, rng = [], np.random.default_rng(0)
    for i in range(44):
        name, colour = [("red", (220, 0, 0)), ("green", (0, 200, 0)), ("blue", (0, 0, 220)), ("grey", (99,) * 3)][i % 4]
        pixels = np.clip(np.array(colour) + rng.integers(-20, 20, (16, 16, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(home / f"{i}.png")
        rows.append({"file_name": f"{i}.png", "text": f"a {name} thing", "split": "val" if i >= 40 else "train"})
    (home / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return home


def test_digits_are_learned_from_sentences_about_them(tmp_path):
    """A few seconds of training know unseen digits far above chance; the best state is the model."""
    config = small(9_600, eval_count=3)
    folder = train("clip", tmp_path / "run", config)
    model = front.load(folder)
    assert isinstance(model, TextImageEncoder) and model.path == folder and model.size == 8
    kept = model.about["metrics"]["validation"]
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    judged = [line["zero-shot"] for line in lines if "zero-shot" in line]
    assert len(judged) == 3 and kept["zero-shot"] == max(judged) > 0.6
    assert any("floor" in line and line["contrast"] > line["floor"] for line in lines)
    assert len(list((tmp_path / "run" / "samples").glob("*.png"))) == 3
    card = (folder / "README.md").read_text()
    assert "condgen train clip -o RUN --data DATA" in card and "zero-shot-image-classification" in card
    before = (folder / "model_index.json").stat().st_mtime_ns
    assert train("clip", tmp_path / "run", config) == folder
    assert (folder / "model_index.json").stat().st_mtime_ns == before


def test_stopped_in_the_middle_it_ends_where_it_would_have(tmp_path, monkeypatch):
    whole, halves = two_sittings("clip", small(), "clip", tmp_path, monkeypatch, 3)
    weights = [(folder / "clip" / "model.safetensors").read_bytes() for folder in (whole, halves)]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("loss", ["infonce", "siglip"])
@pytest.mark.parametrize("positives", ["pair", "text", "label"])
def test_every_loss_learns_by_label(loss, positives, tmp_path):
    objective = ClipObjective(loss=loss, positives=positives, negatives=0, caption=0.0)
    model = load_folder(train("clip", tmp_path / "run", small(clip_objective=objective)))
    assert (model.net.bias is not None) == (loss == "siglip")
    assert model.embed_text(["a handwritten three"]).shape == (1, 16)


def test_captions_are_evaluated_by_retrieval_on_the_split_that_is_named(captions, tmp_path):
    config = small(data={"path": str(captions), "size": 16}, validation_split="val", fit={"batch": 20})
    model = load_folder(train("clip", tmp_path / "run", config))
    scores = model.about["metrics"]["validation"]
    assert {"R@1", "text to image R@1", "image to text R@1", "images"} == set(scores)
    run = ClipTask("clip", RECIPES["clip"], tmp_path / "x", config)
    assert len(run.data) == 40 and len(run.splits[1]) == 4


def test_what_is_held_out_is_not_trained_on(tmp_path):
    run = ClipTask("clip", RECIPES["clip"], tmp_path / "x", small())
    both = len(run.data) + len(run.splits[1])
    assert len(run.splits[1]) == both // 20 and both < 1797  # the test split is nobody's
    seen = {image.tobytes() for image in run.data.images}
    twice = sum(image.tobytes() in seen for image in run.splits[1].images)
    assert twice == 0


def test_any_number_of_images_and_texts_can_be_embedded(tmp_path):
    model = load_folder(train("clip", tmp_path / "run", small()))
    images = torch.rand(300, 3, 8, 8) * 2 - 1
    embeds = model.embed_image(images)
    torch.testing.assert_close(embeds.norm(dim=1), torch.ones(300))
    torch.testing.assert_close(embeds[299:], model.embed_image(images[299:]), rtol=1e-4, atol=1e-5)
    model.save(tmp_path / "copy")
    assert torch.equal(TextImageEncoder.load(tmp_path / "copy").embed_image(images), embeds)
    with pytest.raises(CondgenError, match="empty"):
        model.embed_text([" "])


def test_a_backbone_that_learned_from_images_alone_starts_the_image_tower(condgen, tmp_path):
    torch.manual_seed(7)
    backbone = Backbone(BackboneConfig("resnet", width=8, depth=1, patch=1, stages=2), EncoderSpec(8))
    ImageEncoder(backbone).save(tmp_path / "pictures")
    config = small(32, init_from=str(tmp_path / "pictures"), fit={"batch": 32, "lr": 1e-12})
    started = load_folder(train("clip", tmp_path / "run", config)).net.image.backbone
    for key, value in backbone.state_dict().items():
        torch.testing.assert_close(started.state_dict()[key], value, msg=key)
    code, _, err = condgen(
        "train", "clip", "--data", "digits", "-o", tmp_path / "other", "--init_from", tmp_path / "pictures"
    )
    assert code == 2 and "another shape" in err and not (tmp_path / "other").exists()


@pytest.mark.parametrize("words, message", [
    (["--data", ""], "needs images with captions or labels"),
    (["--data", "nowhere"], "nowhere is not there"),
    (["--data", "digits", "--data.size", "30", "--clip.patch", "4"], "cannot be cut into squares of 4"),
    (["--data", "digits", "--clip.image", "grid", "--data.size", "28"], "powers of two"),
    (["--data", "digits", "--clip_objective.loss", "sigmoid"], "clip_objective.loss"),
    (["--data", "digits", "--clip_objective.patch_dropout", "0.5"], "patch transformer"),
    (["--data", "digits", "--templates", "[a photo]"], "A template needs one"),
    (["--data", "digits", "--validation_split", "dev"], "no images in the split 'val'"),
])  # fmt: skip
def test_what_cannot_be_trained_is_reported_in_a_line(condgen, tmp_path, words, message):
    code, out, err = condgen("train", "clip", "-o", tmp_path / "run", *words)
    assert code == 2 and message in err and "Traceback" not in err and not out
    assert not (tmp_path / "run").exists()


def test_captions_without_classes_cannot_be_matched_by_label(condgen, captions, tmp_path):
    code, _, err = condgen(
        "train", "clip", "-o", tmp_path / "run", "--data", captions, "--clip_objective.positives", "label"
    )
    assert code == 2 and "has no labels" in err and not (tmp_path / "run").exists()


def test_an_encoder_is_distinguished_from_a_generator(condgen, tmp_path):
    folder = train("clip", tmp_path / "run", small())
    for words in (["generate", "a three"], ["sample", "--label", "3"]):
        code, _, err = condgen(*words, "--model", folder)
        assert code == 2 and "embeds texts and images" in err and "condgen search" in err
