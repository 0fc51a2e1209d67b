"""Options of `condgen train`: those of a recipe's own parts, on two screens, and earlier names of all of them."""

from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from condgen.cli.main import main
from condgen.cli.train import find_kind, read_config
from condgen.decoders.cgan import CganConfig
from condgen.files.renamed import flat, run_config, run_option
from condgen.recipes import RECIPES


def options_in(text: str) -> set[str]:
    return {word.removeprefix("--") for word in text.split() if word.startswith("--")}


@pytest.mark.parametrize("recipe", ["captions", "scenes32-cgan", "clip", "selfsup", "digits-conv-vae", "edges2picture"])
def test_help_fits_two_screens_and_help_all_has_every_option(recipe, condgen):
    code, text, _ = condgen("train", recipe, "--help")
    lines = text.splitlines()
    assert code == 0 and len(lines) <= 100 and max(map(len, lines)) <= 100
    everything = options_in(condgen("train", recipe, "--help-all")[1])
    names = {name for name, value in flat(asdict(RECIPES[recipe].base)).items() if value is not None}
    assert names <= everything and options_in(text) <= everything | {"help-all"}
    assert ("decoder.code" in everything) == recipe.endswith("cgan")


def test_a_kind_brings_its_options():
    words = ["--kind", "cgan", "--decoder.code", "8"]
    assert find_kind([], words) == "cgan" and find_kind([{"way": "paired"}], []) == "paired"
    recipe = RECIPES["scenes32"]
    config = read_config("scenes32", recipe.config(kind="cgan"), [], words)
    assert config.decoder == CganConfig(channels=(48, 96), code=8) and config.objective.mismatched == 0.5
    assert config.fit_decoder == recipe.base.fit_decoder


def test_an_option_of_another_kind_is_named_and_has_no_effect(condgen, monkeypatch):
    calls = []
    monkeypatch.setattr("condgen.recipes.train", lambda recipe, out, config: calls.append(config) or out)
    code, _, err = condgen("train", "scenes32", "-o", "run", "--cgan.code", 8, "--fit_clip.clip", 0.5)
    assert code == 0 and "--cgan.code is an option of another kind" in err
    assert "--fit_clip.clip is now called --fit_clip.max_grad_norm" in err
    assert calls[0].fit_clip.max_grad_norm == 0.5 and calls[0].decoder == RECIPES["scenes32"].base.decoder


def test_a_file_of_an_earlier_run_is_read(condgen, monkeypatch):
    calls = []
    monkeypatch.setattr("condgen.recipes.train", lambda recipe, out, config: calls.append(config) or out)
    old = {
        "recipe": "captions", "data": "here", "images": 7, "kind": "cvae", "pictures": {"use": "all", "split": "part"},
        "decoder": {"steps": 3}, "cgan": {"code": 9}, "cvae": {"latent": 5}, "cvae_objective": {"beta": 2.0},
        "decoder_objective": {"told": "text", "layout": 0.0}, "fit_decoder": {"ema": 0.0},
    }  # fmt: skip
    Path("old.yaml").write_text(yaml.safe_dump(old))
    assert condgen("train", "captions", "-o", "run", "--config", "old.yaml")[0] == 0
    (c,) = calls
    assert (c.kind, c.decoder.latent, c.objective.beta, c.fit_decoder.ema_gamma) == ("cvae", 5, 2.0, 0.0)
    assert (c.data.path, c.data.split, c.data.split_column, c.total_images) == ("here", "all", "part", 7)
    assert c.decoder_objective.conditioning == "text_embed"


def test_present_names_stay_as_they_are():
    for recipe in RECIPES.values():
        config = asdict(recipe.base)
        names = flat(config)
        assert all(run_option(name, names, config.get("kind", ""), per_kind=False) == name for name in names)
        assert flat(run_config(config, names)) == names


@pytest.mark.parametrize(
    "option, expected",
    [
        ("--epochs", ["--total_images", "--minutes", "epochs x images"]),
        ("--max_train_steps", ["--total_images", "steps x batch"]),
        ("--batch_size", ["--fit.batch"]),
        ("--batch-size", ["--fit.batch"]),
        ("--learning-rate", ["--fit.lr"]),
        ("--lr", ["--fit.lr"]),
        ("--resolution", ["--data.size", "pixels"]),
        ("--image_size", ["--data.size", "pixels"]),
        ("--img-size", ["--data.size", "pixels"]),
        ("--output_dir", ["--out"]),
        ("--train_data_dir", ["--data"]),
    ],
)
def test_an_option_of_another_program_is_answered_with_the_one_here(option, expected, tmp_path, capsys):
    assert main(["train", "digits-vae", "-o", str(tmp_path / "run"), option, "3"]) == 2
    told = capsys.readouterr().err
    assert f"no option {option}. Did you mean" in told and all(word in told for word in expected)
    assert not (tmp_path / "run").exists()


def test_size_says_that_it_is_that_of_the_model(tmp_path, capsys):
    assert main(["train", "captions", "-o", str(tmp_path / "run"), "--data", "x", "--size", "64"]) == 2
    assert "--data.size is the edge of the images" in capsys.readouterr().err
    assert main(["train", "captions", "--help"]) == 0
    assert "of the model: tiny, small, base (pixels: --data.size)" in capsys.readouterr().out
