"""The side door, trained small: labelled images in, a model out, by every kind of decoder."""

import json

import numpy as np
import pytest
from PIL import Image

from condgen.contracts import CondgenError
from condgen.decoders.cgan import CganConfig
from condgen.pipelines.class_to_image import ClassToImage
from condgen.recipes import RECIPES, train
from condgen.recipes.table import LABELS
from tests.configs import changed
from tests.stopping import two_sittings

KINDS = ("diffusion", "cgan", "cvae")


SMALL = {
    "diffusion": {"channels": (8,), "depth": 1, "heads": 2, "width": 16, "steps": 2},
    "cgan": {"channels": (8,), "width": 16, "heads": 2, "code": 4},
    "cvae": {"channels": (8,), "width": 16, "latent": 4},
}


def small(kind: str, **changes):
    c = RECIPES[f"digits-{kind}"].config()
    sizes = {"eval_count": 1, "total_images": 128, "decoder": SMALL[kind], "fit": {"batch": 16}}
    return changed(c, **sizes | changes)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_leaves_a_model_that_generates_its_labels(kind, tmp_path):
    folder = train(f"digits-{kind}", tmp_path / "run", small(kind))
    model = ClassToImage.load(folder)
    (generated,) = model.sample({"label": "7"}, seed=3)
    assert generated.image.size == (8, 8) and model.labels == tuple("0123456789")
    card = (folder / "README.md").read_text()
    assert f"condgen train digits-{kind} -o RUN" in card and "label" in card
    assert (folder / "sheet.png").is_file() and list((tmp_path / "run" / "samples").glob("*.png"))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert any("variety" in line for line in lines)
    before = (folder / "decoder" / "model.safetensors").stat().st_mtime_ns
    assert train(f"digits-{kind}", tmp_path / "run", small(kind)) == folder
    assert (folder / "decoder" / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_in_the_middle_it_ends_where_it_would_have(kind, tmp_path, monkeypatch):
    whole, halves = two_sittings(f"digits-{kind}", small(kind), "decoder", tmp_path, monkeypatch, 3)
    a, b = ((f / "decoder" / "model.safetensors").read_bytes() for f in (whole, halves))
    assert a == b


def test_every_collection_has_every_kind_and_gans_the_classic_way():
    names = {name for name, recipe in RECIPES.items() if recipe.family == LABELS}
    assert names == {f"{data}-{kind}" for data in ("digits", "fashion", "cifar10", "labels") for kind in KINDS}
    classic = RECIPES["digits-cgan"].config("classic")
    assert classic.objective.loss == "ns" and not classic.objective.gamma and not classic.fit.ema_gamma
    assert RECIPES["digits-cgan"].config("modern") == RECIPES["digits-cgan"].config()


def test_a_collapse_is_named(tmp_path, monkeypatch, capsys):
    """A decoder that paints one image, whatever is drawn, is told so in words; others are not."""
    from condgen.decoders.cvae import CvaeDecoder

    train("digits-cgan", tmp_path / "sound", small("cgan"))
    assert "nearly one image" not in capsys.readouterr().err
    monkeypatch.setattr(CvaeDecoder, "decode", lambda self, code, said: code.new_zeros(len(code), 1, 8, 8))
    train("digits-cvae", tmp_path / "run", small("cvae"))
    assert "nearly one image" in capsys.readouterr().err


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"data": ""}, "--data"),
        ({"data": "nowhere/at/all"}, "nowhere"),
        ({"decoder": CganConfig(channels=(8, 8, 8, 8))}, "--decoder.*cannot be halved"),
        ({"minutes": -1.0}, "--minutes"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_leaves_nothing(changes, message, tmp_path):
    config = changed(RECIPES["digits-cgan"].config(), **changes)
    with pytest.raises(CondgenError, match=message):
        train("digits-cgan", tmp_path / "run", config)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_attributes_mixed_and_with_gaps(kind, tmp_path):
    """Discrete and real attributes of a table, some unknown; a grey and a coloured size; painted by some of them."""
    rng = np.random.default_rng(0)
    lines = ["file_name,smiling,age"]
    for i in range(64):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,{('yes', 'no')[i % 2]},{20 + i / 3 if i % 5 else ''}")
    (tmp_path / "metadata.csv").write_text("\n".join(lines) + "\n")
    config = small(kind, data={"path": str(tmp_path), "attribute_columns": ("smiling", "age")})
    model = ClassToImage.load(train(f"labels-{kind}", tmp_path / "run", config))
    assert [attribute.name for attribute in model.attributes] == ["smiling", "age"] and model.image_channels == 3
    for wanted in ({"smiling": "yes"}, {"age": 30}, {"smiling": "no", "age": 25.5}, {}):
        (generated,) = model.sample(wanted)
        assert generated.image.size == (16, 16)


def test_a_decoder_can_be_guided_by_its_weak_version(tmp_path):
    """At 1 it is off; beyond, images move away from the weak version's."""
    config = small("diffusion", eval_count=4, autoguidance_fraction=0.2, total_images=256)
    folder = train("digits-diffusion", tmp_path / "run", config)
    model = ClassToImage.load(folder)
    assert "autoguidance" in {option.name for option in model.sampling_options} and (folder / "decoder_weak").is_dir()
    wanted, seeds = [{"label": "3"}] * 4, [0, 1, 2, 3]
    plain, off, on, weak = (
        list(one.generate_batch(wanted, seeds, **options))[-1].images
        for one, options in (
            (model, {"guidance": 1}),
            (model, {"guidance": 1, "autoguidance": 1}),
            (model, {"guidance": 1, "autoguidance": 3}),
            (ClassToImage(model.weak, model.attributes), {"guidance": 1}),
        )
    )
    assert plain.equal(off) and (on - weak).norm() > (plain - weak).norm() > 0
    with pytest.raises(CondgenError, match="--autoguidance_fraction"):
        train("digits-cgan", tmp_path / "other", small("cgan", autoguidance_fraction=0.2))
