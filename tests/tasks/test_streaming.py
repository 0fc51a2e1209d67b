"""The whole corridor on shards: streamed, stopped and gone on with, and trained from embeddings alone."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from condgen.contracts import CondgenError
from condgen.data.embeddings.compute import embed, load_encoder
from condgen.data.sources.captions import open_captioned
from condgen.data.sources.webdataset import samples
from condgen.data.streaming import stream as stream_module
from condgen.data.synthetic.scenes import draw_scenes, render
from condgen.files.images import png_bytes
from condgen.pipelines.text_to_image import TextToImage
from condgen.recipes import train
from tests.configs import changed
from tests.tars import write_tar
from tests.tasks.test_text_to_image import small

N = 60


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    from PIL import Image

    folder = tmp_path_factory.mktemp("tars")
    layout, things = draw_scenes(N, 0)
    samples = []
    for i, (picture, scene) in enumerate(zip(render(layout, 32), things)):
        text = f"{len(scene)} {scene[0].colour} thing\na {scene[0].colour} {scene[0].shape}"
        image = png_bytes(Image.fromarray(picture.transpose(1, 2, 0)))
        samples.append([(f"{i:03}.png", image), (f"{i:03}.txt", text.encode())])
    for number in range(3):
        write_tar(folder / f"train-{number}.tar", [pair for own in samples[number::3] for pair in own])
    return folder


@pytest.fixture(autouse=True, scope="module")
def small_blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_module, "BLOCK", 8)
        yield


@pytest.fixture(scope="module")
def straight(shards, tmp_path_factory) -> dict[str, bytes]:
    """The weights of a run that nothing disturbed."""
    return weights(train("captions", tmp_path_factory.mktemp("run") / "straight", config(shards)))


def config(shards: Path | str, **changes):
    base = small("captions", data=str(shards), **changes)
    kinds = ("regression", "diffusion", "autoregressive")
    return changed(base, data={"stream": "always", "buffer": 24}, prior={"kinds": kinds})


def weights(model: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in model.glob("*/model.safetensors")}


def test_a_streamed_run_goes_on_where_it_was_stopped_and_ends_the_same(shards, straight, tmp_path, monkeypatch):
    assert set(straight) == {
        "clip",
        "normaliser",
        "prior_regression",
        "prior_diffusion",
        "prior_autoregressive",
        "decoder",
    }

    from condgen.training.trainer import Trainer

    step, calls = Trainer._step, []

    def interrupted(self):
        calls.append(1)
        if len(calls) in (3, 7, 14):
            raise KeyboardInterrupt(2)
        return step(self)

    monkeypatch.setattr(Trainer, "_step", interrupted)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            train("captions", tmp_path / "stopped", config(shards, save_every=0.0))
    assert weights(train("captions", tmp_path / "stopped", config(shards))) == straight


@pytest.mark.parametrize("stream", ["always", "never"])
def test_a_run_goes_on_with_the_data_it_began_with_only(stream, shards, tmp_path):
    """Streamed or in memory; no embeddings are there that would know."""
    shutil.copytree(shards, tmp_path / "tars")
    asked = config(tmp_path / "tars", stage="clip", total_images=32)
    asked = changed(asked, data={"stream": stream})
    train("captions", tmp_path / "run", asked)
    train("captions", tmp_path / "run", asked)
    before = (tmp_path / "run" / "data.json").read_bytes()
    with open(tmp_path / "tars" / "train-1.tar", "r+b") as file:  # the end mark, and one sample less before it
        whole = file.read()
        place = [place for place, _ in samples(tmp_path / "tars" / "train-1.tar")][-1]
        file.seek(place)
        file.write(bytes(1024))
        file.truncate()
        assert file.tell() < len(whole)
    with pytest.raises(CondgenError, match=r"data of .*run are not those .*another output folder"):
        train("captions", tmp_path / "run", asked)
    assert (tmp_path / "run" / "data.json").read_bytes() == before
    (tmp_path / "tars" / "train-1.tar").write_bytes(whole)
    train("captions", tmp_path / "run", replace(asked, fit_clip=replace(asked.fit_clip, lr=2e-3)))


def test_priors_and_decoder_train_from_embeddings(shards, straight, tmp_path, monkeypatch):
    """What `condgen embed` wrote serves as well as what the run would have made, and nothing is embedded anew."""
    train("captions", tmp_path / "run", config(shards, stage="clip"))
    stream = open_captioned(str(shards), 32, stream="shards")
    embeds = embed(*load_encoder(tmp_path / "run"), stream, tmp_path / "embeds")
    assert len(embeds) == len(stream)

    monkeypatch.setattr("condgen.tasks.encoder_based.embed", None)
    monkeypatch.setattr("condgen.tasks.encoder_based.rows_of", None)
    given = {"embeds": str(tmp_path / "embeds")}
    train("captions", tmp_path / "run", config(shards, stage="prior", **given))
    model = train("captions", tmp_path / "run", config(shards, stage="decoder", **given))
    assert weights(model) == straight
    assert str(tmp_path) not in (model / "README.md").read_text()
    next(TextToImage.load(model).generate("1 red thing", steps=1))


def test_priors_need_no_images_once_there_are_embeddings(shards, tmp_path):
    train("captions", tmp_path / "run", config(shards, stage="clip"))
    stream = open_captioned(str(shards), 32, stream="shards")
    embed(*load_encoder(tmp_path / "run"), stream, tmp_path / "embeds")
    alone = config("", stage="prior", init_from=str(tmp_path / "run"), embeds=str(tmp_path / "embeds"))
    train("captions", tmp_path / "alone", alone)
    assert (tmp_path / "alone" / "parts" / "prior_autoregressive" / "model.safetensors").exists()


def test_embeddings_of_another_encoder_are_refused(shards, tmp_path):
    train("captions", tmp_path / "one", config(shards, stage="clip"))
    train("captions", tmp_path / "other", config(shards, stage="clip", seed=1))
    stream = open_captioned(str(shards), 32, stream="shards")
    one, _ = load_encoder(tmp_path / "one")
    embeds = embed(*load_encoder(tmp_path / "other"), stream, tmp_path / "embeds")
    with pytest.raises(CondgenError, match=rf"{embeds.about.space}.*condgen embed"):
        train("captions", tmp_path / "one", config(shards, stage="prior", embeds=str(tmp_path / "embeds")))
    with pytest.raises(CondgenError, match="only now train one"):
        train("captions", tmp_path / "new", config(shards, embeds=str(tmp_path / "embeds")))
    few = open_captioned(str(shards / "train-0.tar"), 32, stream="shards")
    embed(one, load_encoder(tmp_path / "one")[1], few, tmp_path / "few")
    train("captions", tmp_path / "one", config(shards, stage="prior", embeds=str(tmp_path / "few")))
    with pytest.raises(CondgenError, match="other images"):
        train("captions", tmp_path / "one", config(shards, stage="decoder", embeds=str(tmp_path / "few")))


def test_small_shards_are_read_into_memory(shards, monkeypatch):
    assert not isinstance(open_captioned(str(shards), 32), stream_module.Stream)
    monkeypatch.setattr(stream_module, "IN_MEMORY", 1000)
    assert isinstance(open_captioned(str(shards), 32), stream_module.Stream)
    assert not isinstance(open_captioned(str(shards), 32, stream="never"), stream_module.Stream)
