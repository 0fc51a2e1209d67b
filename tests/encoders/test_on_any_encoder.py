"""Priors and decoders on encoders that condgen did not train: of other libraries, and home-made ones."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import condgen as front
from condgen.contracts import CondgenError
from condgen.data.embeddings.compute import embed, load_encoder
from condgen.data.synthetic.scenes import scenes
from condgen.encoders.clip import CLIPConfig
from condgen.encoders.interop.freeze import tower_of
from condgen.encoders.interop.load import load_pair, open_encoder, space_of
from condgen.encoders.tokenizer import Tokenizer
from condgen.evaluation.scenes import scene_eval
from condgen.nn.specs import EncoderSpec
from condgen.pipelines.encoder import ImageEncoder, TextImageEncoder
from condgen.pipelines.text_to_image import TextToImage
from condgen.recipes import train
from tests.encoders import foreign_models as made
from tests.tasks.test_clip import small as small_clip
from tests.tasks.test_text_to_image import small
from tests.tiny import tiny_captions

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A corridor on a CLIP of transformers that reads 48 pixels, where the decoder paints 32."""
    root = tmp_path_factory.mktemp("run")
    made.write_clip(root / "clip", size=48)
    config = small(encoder=f"transformers:{root / 'clip'}")
    model = train("scenes32", root / "run", config)
    shutil.move(root / "clip", root / "gone")  # the run and the model carry it along
    return root, config, model


def test_a_run_trains_no_encoder_of_its_own(run):
    root, _, model = run
    stages = {json.loads(line)["stage"] for line in (root / "run" / "metrics.jsonl").read_text().splitlines()}
    assert stages == {"prior regression", "prior diffusion", "decoder"}
    assert space_of(load_pair(model)[0]) == space_of(open_encoder(root / "gone")[0])
    card = (model / "README.md").read_text()
    assert "transformers:clip" in card and str(root) not in card


def test_the_model_generates(run):
    model = TextToImage.load(run[2])
    generated = next(model.generate("a red circle above a blue square", steps=2))
    assert generated.image.size == (32, 32) and -1 <= generated.clip_score <= 1
    assert model.clip.size == 48 and model.size == 32
    assert scene_eval(model, False, prompts=1, images_per_prompt=1)[0].keys() >= {"overall"}


def test_the_run_goes_on_without_the_folder(run, tmp_path):
    root, config, _ = run
    shutil.copytree(root / "run", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "model")
    (tmp_path / "run" / "parts" / "decoder" / "model.safetensors").unlink()
    model = train("scenes32", tmp_path / "run", config)
    assert TextToImage.load(model).model_id


def test_embeddings_come_from_it_too(run, tmp_path):
    encoder, tokenizer = load_encoder(run[0] / "run")
    data = scenes(96, small().seed, 32, negatives="seen")
    embeds = embed(encoder, tokenizer, data, tmp_path / "embeds")
    assert len(embeds) == 96 and embeds.about.embed_dim == made.DIM
    config = replace(run[1], encoder=str(run[0] / "gone"), embeds=str(tmp_path / "embeds"))
    assert TextToImage.load(train("scenes32", tmp_path / "run", config)).size == 32


def test_another_run_can_start_from_it(run, tmp_path):
    config = small("scenes32-cvae", init_from=str(run[0] / "run"))
    model = TextToImage.load(train("scenes32-cvae", tmp_path / "run", replace(config, stage="decoder")))
    assert model.clip.size == 48


def test_the_command_tells_what_it_is(run, condgen):
    code, out, _ = condgen("info", str(run[2]), "--json")
    facts = json.loads(out)
    assert code == 0 and facts["parts"]["clip"]["class"] == "OfTransformers" and facts["parts"]["clip"]["parameters"]


# a home-made encoder


class Mine(nn.Module):
    """The least that keeps the contract: the mean colour, and the mean of the words."""

    def __init__(self, tokenizer, dim=8):
        super().__init__()
        self.size, self.embed_dim, self.vocab, self.context = 32, dim, tokenizer.vocab, tokenizer.context
        self.image, self.text = nn.Linear(3, dim), nn.Embedding(tokenizer.vocab, dim)
        self.log_scale, self.bias = nn.Parameter(torch.tensor(2.0)), None

    def features(self, images):
        return images.mean((2, 3))

    def embed_image(self, images):
        return F.normalize(self.image(self.features(images)), dim=-1)

    def embed_text(self, tokens):
        return F.normalize(self.text(tokens).mean(1), dim=-1)


def mine(seed=0):
    torch.manual_seed(seed)
    tokenizer = Tokenizer.train(tiny_captions())
    return Mine(tokenizer), tokenizer


def test_a_home_made_encoder_plugs_in(tmp_path):
    config = small()
    model = train("scenes32", tmp_path / "run", config, encoder=mine())
    assert not (model / "clip").exists()
    loaded = TextToImage.load(model, encoder=mine())
    assert next(loaded.generate("a red circle", steps=2)).image.size == (32, 32)
    with pytest.raises(CondgenError, match="encoder of your own"):
        TextToImage.load(model)
    other = mine(1)
    with pytest.raises(CondgenError, match=rf"space {space_of(other[0])}.*trained on {space_of(mine()[0])}"):
        TextToImage.load(model, encoder=other)
    with pytest.raises(CondgenError, match="other settings"):
        train("scenes32", tmp_path / "run", config, encoder=other)
    assert train("scenes32", tmp_path / "run", config, encoder=mine()) == model


def test_a_model_opens_with_its_encoder_given(run):
    net, tokenizer = load_pair(run[2])
    assert TextToImage.load(run[2], encoder=(net, tokenizer)).clip is net
    with pytest.raises(CondgenError, match="were trained on"):
        TextToImage.load(run[2], encoder=mine())


# contrastive training that goes on, or with a text tower from elsewhere


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    made.write_bert(folder := tmp_path_factory.mktemp("bert"))
    return folder


def towers(folder):
    """The weights of both towers of a model, each as one vector."""
    net = load_pair(folder)[0]
    out = {"image": [], "text": [], None: []}
    for name, value in net.named_parameters():
        out[tower_of(name)].append(value.detach().flatten())
    return {tower: torch.cat(values) for tower, values in out.items()}


@pytest.mark.parametrize("freeze", ["none", "image", "text"])
def test_an_encoder_of_another_library_learns_on(run, freeze, tmp_path):
    config = small_clip(encoder=f"transformers:{run[0] / 'gone'}", freeze=freeze)
    model = train("clip", tmp_path / "run", config)
    before, after = towers(tmp_path / "run" / "parts" / "start"), towers(model)
    assert {tower for tower in ("image", "text") if torch.equal(before[tower], after[tower])} == {freeze} - {"none"}
    assert "transformers:gone" in (model / "README.md").read_text()


@pytest.mark.parametrize("loss", ["infonce", "siglip"])
def test_a_text_tower_beside_ours(bert, loss, tmp_path):
    objective = replace(small_clip().clip_objective, loss=loss)
    config = small_clip(text_tower=f"transformers:{bert}", freeze="text", clip_objective=objective)
    model = TextImageEncoder.load(train("clip", tmp_path / "run", config))
    assert type(model.net).__name__ == "Paired" and model.size == 8 and model.embed_dim == 16
    assert (model.net.bias is not None) == (loss == "siglip")
    assert model.embed_text(["a photo of a seven"]).shape == (1, 16)


def test_a_locked_image_tower_of_ours(bert, tmp_path):
    """What LiT does: a trained image tower stays, a text model learns to speak of it."""
    first = train("clip", tmp_path / "first", small_clip())
    config = small_clip(encoder=str(first), text_tower=f"transformers:{bert}", freeze="image")
    second = train("clip", tmp_path / "second", config)
    images = torch.rand(4, 3, 8, 8) * 2 - 1
    one, other = (TextImageEncoder.load(folder) for folder in (first, second))
    assert torch.equal(one.embed_image(images), other.embed_image(images)) and one.space != other.space
    assert train("clip", tmp_path / "second", config) == second


def test_a_backbone_without_words_meets_a_text_tower(bert, tmp_path):
    """Locked-tower training on features that were learned from images alone."""
    from tests.tasks.test_selfsup import small as small_selfsup

    first = train("selfsup", tmp_path / "first", small_selfsup())
    backbone = ImageEncoder.load(first).net
    b = backbone.config
    shape = CLIPConfig(image=b.kind, text="clip", image_width=b.width, image_depth=b.depth, patch=b.patch,
                       heads=b.heads, stages=b.stages, norm=b.norm, text_width=16, embed_dim=16, depth=1)  # fmt: skip
    config = small_clip(init_from=str(first), text_tower=f"transformers:{bert}", freeze="image")
    config = replace(config, clip=shape, data=replace(config.data, size=backbone.size))
    net = load_pair(train("clip", tmp_path / "second", config))[0]
    images = torch.rand(4, 3, backbone.size, backbone.size)
    assert torch.equal(net.eval().features(images), backbone.eval()(images))


def test_other_libraries_are_evaluated_and_loaded_by_name(run, tmp_path):
    name = f"transformers:{run[0] / 'gone'}"
    encoder = front.load(name)
    assert isinstance(encoder, TextImageEncoder) and encoder.size == 48
    report = front.evaluate(name, data="digits", split="test", train_images=64, finetune_images=0)
    assert report["model_id"] == "" and len(report) > 2


def test_contrastive_runs_refuse_before_they_write(run, tmp_path):
    gone = f"transformers:{run[0] / 'gone'}"
    siglip = replace(small_clip().clip_objective, loss="siglip")
    for config, match in (
        (small_clip(encoder=gone, clip_objective=siglip), "needs an encoder whose logits have a bias"),
        (small_clip(encoder="scenes32"), "reads 32 pixels"),
        (small_clip(text_tower="transformers:nowhere"), "no folder 'nowhere'"),
        (small_clip(encoder="open_clip:ViT-9"), "no architecture"),
    ):
        with pytest.raises(CondgenError, match=match):
            train("clip", tmp_path / "run", config)
        assert not (tmp_path / "run").exists()


# what is refused


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"encoder": "nothing-here"}, "no model 'nothing-here'"),
        ({"encoder": "transformers:nowhere"}, "no folder 'nowhere'"),
        ({"encoder": "scenes32", "stage": "clip"}, "--stage clip"),
        ({"encoder": "scenes32", "init_from": "runs/other"}, "--init_from runs/other"),
    ],
)
def test_what_does_not_fit_leaves_no_folder(changes, match, tmp_path):
    with pytest.raises(CondgenError, match=match):
        train("scenes32", tmp_path / "run", small(**changes))
    assert not (tmp_path / "run").exists()


def test_our_own_encoder_reads_its_size_alone(tmp_path):
    config = small(encoder="scenes32")
    with pytest.raises(CondgenError, match=r"reads 32 x 32.*--data\.size 32"):
        train("scenes32", tmp_path / "run", replace(config, data=replace(config.data, size=64)))
    with pytest.raises(CondgenError, match="trains no prior"):
        train("digits-cvae", tmp_path / "run", encoder=mine())


def test_the_model_of_the_package_lends_its_encoder(tmp_path):
    model = TextToImage.load(train("scenes32", tmp_path / "run", small(encoder="scenes32")))
    assert space_of(model.clip) == space_of(load_encoder(None)[0]) and model.tokenizer.unseen("zebra") == ["zebra"]


# the commands


def test_out_and_in_by_command(condgen, tmp_path, monkeypatch):
    pytest.importorskip("open_clip")
    from condgen.encoders.clip import CLIP

    monkeypatch.chdir(tmp_path)
    words = Tokenizer.train(tiny_captions())
    shape = {"patch": 8, "image_width": 16, "text_width": 16, "embed_dim": 8, "depth": 1, "heads": 2}
    net = CLIP(
        CLIPConfig(vocab=words.vocab, context=words.context, image="patch", text="clip", **shape), EncoderSpec(32)
    )
    TextImageEncoder(net, words, {"name": "mine"}).save("mine")
    code, out, _ = condgen("export", "mine", "--to", "transformers", "-o", "out")
    assert code == 0 and out.startswith("out  largest difference: text ")
    code, out, err = condgen("import", "out", "-o", "back")
    assert code == 0 and out == "back\n" and "converted" in err
    assert TextImageEncoder.load("back").space == TextImageEncoder.load("mine").space
    assert np.allclose(*(TextImageEncoder.load(name).embed_text(["a red circle"]) for name in ("mine", "back")))
    for argv, told in (
        (["export", "mine", "--to", "onnx", "-o", "x"], "invalid choice"),
        (["export", "mine", "--to", "open_clip", "-o", "out"], "exists"),
        (["export", "scenes32", "--to", "open_clip", "-o", "x"], "condgen train clip --size patch"),
        (["export", "nobody", "--to", "open_clip", "-o", "x"], "no model 'nobody'"),
        (["import", "out"], "-o MODEL"),
        (["import", "nowhere", "-o", "x"], "no folder nowhere"),
        (["import", "out", "-o", "back"], "exists"),
    ):
        code, out, err = condgen(*argv)
        assert code == 2 and told in err and err.count("\n") == 1 and not out, err
