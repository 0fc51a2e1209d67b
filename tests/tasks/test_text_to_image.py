"""The whole corridor, trained small: from data to an exported model that paints, and on again after a stop."""

import json
import shutil
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from condgen.contracts import CondgenError, CondgenWarning
from condgen.data.batches.base import to_float
from condgen.data.synthetic.scenes import draw_scenes, render
from condgen.files.weights import read_tensors
from condgen.nn.specs import CondSpec
from condgen.pipelines.text_to_image import TextToImage
from condgen.recipes import RECIPES, train
from condgen.tasks.generator import new_decoder
from condgen.tasks.text_to_image import TextToImageTask
from condgen.text import read_prompts
from condgen.training.run_folder import RunFolder
from tests.configs import changed

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def small(recipe="scenes32", **changes):
    config, fit = RECIPES[recipe].config(), {"total_images": 64, "batch": 16}
    decoder = {"channels": (8, 16), "depth": 1, "heads": 2, "width": 16, "word_depth": 1, "steps": 2}
    sizes = {
        "eval_count": 1,
        "clip": {"embed_dim": 16, "image_width": 8, "text_width": 16, "depth": 1, "heads": 2},
        "prior": {"width": 16, "depth": 1, "heads": 2},
        "decoder": {name: value for name, value in decoder.items() if hasattr(config.decoder, name)},
        "fit_clip": fit, "fit_prior": fit, "fit_decoder": fit,
    }  # fmt: skip
    return changed(changed(config, data={"scenes": 96}, **sizes), **changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("run") / "scenes"
    return root, train("scenes32", root, small())


def test_a_run_leaves_what_it_promises(run):
    root, model = run
    for name in ("config.yaml", "metrics.jsonl", "tensorboard", "checkpoints/clip", "checkpoints/decoder"):
        assert (root / name).exists(), name
    assert list((root / "samples").glob("*.png"))
    assert {p.name for p in model.iterdir()} >= {
        "model_index.json", "clip", "tokenizer", "normaliser", "prior_regression", "prior_diffusion", "decoder",
        "README.md", "sheet.png",
    }  # fmt: skip
    card = (model / "README.md").read_text()
    assert "condgen train scenes32" in card and "--fit_clip.total_images 64" in card
    stages = {json.loads(line)["stage"] for line in (root / "metrics.jsonl").read_text().splitlines()}
    assert stages == {"clip", "prior regression", "prior diffusion", "decoder"}


def test_scenes_of_version_2_train_and_their_scores_are_written(tmp_path):
    config = small(data={"scenes": 96, "templates": 2}, prior={"kinds": ("regression",)})
    model = TextToImage.load(train("scenes32", tmp_path / "run", config))
    assert not model.tokenizer.cut("a small red circle above a large blue square and left of a small green cross")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert any({"seen/overall", "seen/5 atoms", "held_out/10 atoms"} <= line.keys() for line in lines)


def test_the_model_generates_and_knows_its_words(run):
    model = TextToImage.load(run[1])
    generated = next(model.generate("a red circle above a blue square", steps=2))
    assert generated.image.size == (32, 32) and model.tokenizer.unseen("three pink zebras") == ["zebras"]


def test_the_same_call_again_has_nothing_to_do(run):
    root, model = run
    before = (model / "decoder" / "model.safetensors").read_bytes()
    lines = len((root / "metrics.jsonl").read_text().splitlines())
    assert train("scenes32", root, small()) == model
    assert (model / "decoder" / "model.safetensors").read_bytes() == before
    assert len((root / "metrics.jsonl").read_text().splitlines()) == lines


def test_a_seed_fixes_the_model(run, tmp_path):
    other = train("scenes32", tmp_path / "again", small())
    for part in ("clip", "prior_diffusion", "decoder"):
        a, b = ((folder / part / "model.safetensors").read_bytes() for folder in (run[1], other))
        assert a == b, part


def test_stopped_in_the_middle_it_ends_where_it_would_have(run, tmp_path, monkeypatch):
    """Interrupted in two stages and given again, the run makes the very same model."""
    from condgen.training.trainer import Trainer

    step, calls = Trainer._step, []

    def interrupted(self):
        calls.append(1)
        if len(calls) in (3, 14):
            raise KeyboardInterrupt(2)
        return step(self)

    root = tmp_path / "stopped"
    monkeypatch.setattr(Trainer, "_step", interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train("scenes32", root, small(save_every=0.0))
    model = train("scenes32", root, small())
    for part in ("clip", "prior_regression", "decoder"):
        a, b = ((folder / part / "model.safetensors").read_bytes() for folder in (run[1], model))
        assert a == b, part


def test_killed_before_the_first_step_of_a_stage_it_ends_where_it_would_have(run, tmp_path, monkeypatch):
    """Initial weights do not depend on what the process did before: a stage may be the first one of its process."""
    from condgen.training.trainer import Trainer

    class Killed(BaseException):
        pass

    step, calls = Trainer._step, []

    def killed(self):
        calls.append(1)
        if len(calls) in (5, 10, 15):  # a stage has four steps
            raise Killed
        return step(self)

    root = tmp_path / "killed"
    monkeypatch.setattr(Trainer, "_step", killed)
    for _ in range(3):
        with pytest.raises(Killed):
            train("scenes32", root, small())
    model = train("scenes32", root, small())
    assert len(calls) == 4 * 4 + 3
    for part in ("clip", "prior_regression", "prior_diffusion", "decoder"):
        a, b = ((folder / part / "model.safetensors").read_bytes() for folder in (run[1], model))
        assert a == b, part


def test_a_decoder_can_be_conditioned_on_the_text_embedding(tmp_path):
    config = small()
    told = replace(config, decoder_objective=replace(config.decoder_objective, conditioning="text"))
    assert (train("scenes32", tmp_path / "t", told) / "model_index.json").exists()


def test_a_run_can_start_from_the_encoder_of_another(run, tmp_path):
    root, model = run
    other = train("scenes32", tmp_path / "d", small(init_from=str(root), stage="decoder"))
    for part in ("clip", "prior_diffusion"):
        a, b = ((folder / part / "model.safetensors").read_bytes() for folder in (model, other))
        assert a == b, part
    with pytest.raises(CondgenError, match="Give the folder of a model or of a training run"):
        train("scenes32", tmp_path / "e", small(init_from=str(tmp_path)))


def test_one_stage_at_a_time(tmp_path):
    root = tmp_path / "staged"
    with pytest.raises(CondgenError, match="--stage clip"):
        train("scenes32", root, small(stage="decoder"))
    for stage in ("clip", "prior", "decoder"):
        train("scenes32", root, small(stage=stage))
    assert TextToImage.load(root / "model").size == 32


def test_anybodys_folder_of_captioned_images(tmp_path):
    layout, things = draw_scenes(60, 0)
    folder = tmp_path / "mine"
    folder.mkdir()
    with open(folder / "metadata.jsonl", "w") as file:
        for i, (picture, scene) in enumerate(zip(render(layout, 40), things)):
            Image.fromarray(picture.transpose(1, 2, 0)).save(folder / f"{i}.png")
            file.write(json.dumps({"file_name": f"{i}.png", "text": f"{len(scene)} {scene[0].colour} thing"}) + "\n")
    model = train("captions", tmp_path / "run", small("captions", data=str(folder)))
    assert str(tmp_path) not in (model / "README.md").read_text() + (model / "model_index.json").read_text()
    next(TextToImage.load(model).generate("1 red thing"))


@pytest.mark.skipif(not (SHARED / "nouns").exists(), reason="the nouns are not here")
def test_real_images_train(tmp_path):
    config = small("nouns32", data=str(SHARED / "nouns" / "test_iid.parquet"))
    config = changed(config, data={"split": "all"})
    assert TextToImage.load(train("nouns32", tmp_path / "run", config)).size == 32


def test_a_recipe_says_what_it_lacks(tmp_path):
    for name, config, told in (
        ("captions", None, "--data"), ("scenes32", small(data="x"), "captions"), ("scenes23", None, "scenes32"),
        ("scenes32", small(data={"size": 40}), "power of two"),
        ("captions", small("captions", data="/no/such/place"), "/no/such/place"),
    ):  # fmt: skip
        with pytest.raises(CondgenError, match=told):
            train(name, tmp_path / "run", config)
    with pytest.raises(CondgenError, match="huge"):
        RECIPES["captions"].config("huge")


def test_minutes_are_shared_out(tmp_path):
    recipe = RECIPES["scenes32"]

    def fits(**changes):
        task = TextToImageTask("scenes32", recipe, tmp_path, changed(recipe.config(), **changes))
        return {stage: task.fit(stage) for stage in task.stage_names}

    shared = fits(minutes=20.0)
    assert list(shared) == ["clip", "prior diffusion", "prior regression", "decoder"]
    assert sum(fit.minutes for fit in shared.values()) == pytest.approx(20)
    assert all(fit.total_images > 10**9 for fit in shared.values())  # time alone decides
    few = fits(minutes=20.0, fit_clip={"total_images": 64})
    assert few["clip"].total_images == 64  # unless a number was given
    assert fits(total_images=10)["clip"].total_images == 10


@pytest.mark.parametrize("size", RECIPES["captions"].sizes)
def test_every_size_builds(size):
    config = RECIPES["captions"].config(size)
    decoder = new_decoder(config, CondSpec(config.data.size, embed_dim=128, vocab=64, context=12))
    with torch.no_grad():
        cond = {"z": torch.zeros(1, 128), "has_z": torch.ones(1).bool(), "tokens": torch.ones(1, 12).long(),
                "has_text": torch.ones(1).bool()}  # fmt: skip
        x = torch.zeros(1, 3, config.data.size, config.data.size)
        assert decoder.denoise(x, torch.ones(1), decoder.encode_cond(cond)).shape == x.shape


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"decoder": {"channels": (10, 20)}}, "--decoder"),
        ({"decoder": {"channels": ()}}, "--decoder"),
        ({"decoder": {"heads": 7}}, "--decoder"),
        ({"decoder": {"steps": 0}}, "steps"),
        ({"clip": {"heads": 7}}, "--clip"),
        ({"prior": {"kinds": ("none",)}}, "--prior.kinds"),
        ({"prior": {"kinds": ()}}, "--prior.kinds"),
        ({"prior": {"heads": 5}}, "--prior"),
        ({"fit_clip": {"total_images": 0}}, "--fit_clip.total_images"),
        ({"fit_decoder": {"batch": -4}}, "--fit_decoder.batch"),
        ({"fit_prior": {"lr": float("nan")}}, "--fit_prior.lr"),
        ({"data": {"scenes": 0}}, "--data.scenes"),
        ({"total_images": -5}, "--total_images"),
        ({"minutes": -1.0}, "--minutes"),
        ({"seed": -1}, "--seed"),
    ],
)
def test_a_config_that_cannot_be_leaves_no_folder(changes, message, tmp_path):
    config = small(**changes)
    with pytest.raises(CondgenError, match=message):
        train("scenes32", tmp_path / "run", config)
    assert not (tmp_path / "run").exists()


def test_a_great_seed_is_a_seed(tmp_path):
    assert train("scenes32", tmp_path / "run", small(seed=10**18, stage="clip"))


def test_a_finished_run_goes_on_with_a_longer_budget(run, tmp_path, capsys):
    """Decoder and priors train on from their checkpoints; the encoder, on which they stand, stays."""
    root, model = run
    shutil.copytree(root, tmp_path / "run")
    root, model = tmp_path / "run", tmp_path / "run" / "model"
    (model / "README.md").write_text((model / "README.md").read_text() + "scores\n")
    card = (model / "README.md").read_text()
    assert train("scenes32", root, small()) == model
    assert (model / "README.md").read_text() == card  # nothing was trained, so nothing is written
    assert "is finished" in capsys.readouterr().err
    more = small(**{f"fit_{stage}": {"total_images": 96} for stage in ("clip", "prior", "decoder")})
    before = {part.name: read_tensors(part / "model.safetensors") for part in model.iterdir() if part.is_dir()
              if part.name != "tokenizer"}  # fmt: skip
    with pytest.warns(CondgenWarning, match="settings"):
        assert train("scenes32", root, more) == model
    told = capsys.readouterr().err
    assert "trains on: prior diffusion, prior regression, decoder" in told and "encoder stays" in told
    for part, weights in before.items():
        after = read_tensors(model / part / "model.safetensors")
        same = all(torch.equal(value, after[name]) for name, value in weights.items())
        assert same == (part in ("clip", "normaliser")), part
    lines = [json.loads(line) for line in (root / "metrics.jsonl").read_text().splitlines()]
    assert {x["stage"]: x["images"] for x in lines} == dict.fromkeys(
        ("prior diffusion", "prior regression", "decoder"), 96
    ) | {"clip": 64}
    assert train("scenes32", root, more) == model and "trains on" not in capsys.readouterr().err


def test_a_stage_trained_short_goes_on_with_the_whole_run(tmp_path):
    root = tmp_path / "run"
    train("scenes32", root, small(stage="clip", total_images=32))
    with pytest.warns(CondgenWarning, match="settings"):
        assert train("scenes32", root, small()).is_dir()
    seen = [json.loads(line) for line in (root / "metrics.jsonl").read_text().splitlines()]
    assert max(line["images"] for line in seen if line["stage"] == "clip") == 64


def test_another_encoder_takes_its_followers_with_it(tmp_path):
    """Once the encoder has moved on, whatever was trained on the old one begins anew and fits the new one."""
    root = tmp_path / "run"
    train("scenes32", root, small())
    longer = small(fit_clip={"total_images": 96})
    with pytest.warns(CondgenWarning, match="settings"):
        train("scenes32", root, replace(longer, stage="clip"))
    assert {p.name for p in (root / "parts").iterdir()} == {"clip", "tokenizer"}
    model = train("scenes32", root, longer)
    assert next(TextToImage.load(model).generate("a red circle")).image.size == (32, 32)


def test_mirrored_images_are_decoded_from_their_own_embedding(tmp_path):
    """Half of the images are mirrored, and z is the embedding of the image as the decoder is given it."""
    config = small(random_flip=True, data={"scenes": 40, "size": 16})
    with pytest.warns(CondgenWarning, match="captions say left or right"):
        train("scenes32", tmp_path / "run", replace(config, stage="clip"))
    task = TextToImageTask("scenes32", RECIPES["scenes32"], tmp_path / "run", replace(config, stage="decoder"))
    task.run = RunFolder(tmp_path / "run", {"recipe": "scenes32"} | asdict(task.config), 60, task.digest)
    batch = task.embeddings.decoder_batches(64)(0)
    expected = task.embeddings.normalizer(task.clip.embed_image(batch["image"]))
    assert torch.allclose(batch["z"], expected, atol=1e-4)
    plain = {image.tobytes() for image in to_float(task.data.images).numpy()}
    mirrored = sum(image.tobytes() not in plain for image in batch["image"].numpy())
    assert 16 < mirrored < 48


def test_own_prompts_are_on_the_sample_sheets(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("a red circle\n\na blue square\n", encoding="utf-8")
    assert read_prompts(str(file)) == ["a red circle", "a blue square"] == read_prompts("a red circle; a blue square;")
    task = TextToImageTask("scenes32", RECIPES["scenes32"], tmp_path / "none", small(prompts=str(file)))
    assert task.prompts == ["a red circle", "a blue square"]
    for wrong in (" ; ", ";".join(map(str, range(200)))):
        with pytest.raises(CondgenError, match="--prompts"):
            train("scenes32", tmp_path / "none", small(prompts=wrong))
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CondgenError, match="UTF-8"):
        train("scenes32", tmp_path / "none", small(prompts=str(file)))
    assert not (tmp_path / "none").exists()


def test_prompts_may_change_when_a_run_goes_on(run, tmp_path):
    shutil.copytree(run[0], tmp_path / "run")
    with warnings.catch_warnings():
        warnings.simplefilter("error", CondgenWarning)
        train("scenes32", tmp_path / "run", small(prompts="a red circle"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_the_whole_text_to_image_on_a_gpu(tmp_path):
    model = TextToImage.load(train("scenes32", tmp_path / "run", small())).to("cuda")
    assert next(model.generate("a red circle")).image.size == (32, 32)
