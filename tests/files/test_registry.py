"""Names of models: what could be two models is refused, with the paths of both."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from condgen.benchmarks.compare import compare
from condgen.contracts import CondgenError
from condgen.encoders.interop.load import open_encoder
from condgen.files.registry import ASSETS, find, is_foreign
from condgen.pipelines.auto import load_pipeline
from condgen.retrieval.search import encoder_of
from condgen.studio.app import build

BUNDLED = ASSETS / "scenes32"


def model(folder):
    shutil.copytree(BUNDLED, folder)


def finished_run(folder):
    shutil.copytree(BUNDLED, folder / "model")


def unfinished_run(folder):
    folder.mkdir()
    (folder / "config.yaml").write_text("recipe: captions\n")


def encoder(folder):
    folder.mkdir()
    (folder / "open_clip_config.json").write_text("{}")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("ask", [find, is_foreign, open_encoder, encoder_of, load_pipeline, build])
@pytest.mark.parametrize("write", [model, finished_run, unfinished_run, encoder])
def test_a_name_of_ours_that_is_a_folder_here_is_refused_with_both_paths(write, ask):
    write(Path("scenes32"))
    with pytest.raises(CondgenError) as error:
        ask("scenes32")
    assert str(BUNDLED) in str(error.value) and " ./scenes32" in str(error.value)


def test_each_is_found_by_its_path(tmp_path):
    model(Path("scenes32"))
    finished_run(Path("models/scenes32"))
    assert find("./scenes32").samefile("scenes32") and find(Path("scenes32")).samefile("scenes32")
    assert find(str(BUNDLED)) == BUNDLED and find(None) == BUNDLED
    assert find("models/scenes32").samefile("models/scenes32/model")
    assert not is_foreign(Path("scenes32"))


def test_a_name_in_two_folders_of_models_is_refused(tmp_path, monkeypatch):
    model(Path("models/mine"))
    assert find("mine") == Path("models/mine")
    model(tmp_path / "others" / "mine")
    monkeypatch.setenv("CONDGEN_MODELS", "others")
    with pytest.raises(CondgenError, match=r"\./models/mine, \./others/mine"):
        find("mine")
    monkeypatch.setenv("CONDGEN_MODELS", str(tmp_path / "models"))  # the same folder twice is no ambiguity
    assert find("mine") == Path("models/mine")


def test_folders_of_other_things_may_have_the_name():
    Path("scenes32").mkdir()
    (Path("scenes32") / "a.png").touch()
    assert find("scenes32") == BUNDLED and not is_foreign("scenes32")


def test_a_recipe_whose_name_is_a_folder_here_is_not_compared(tmp_path):
    finished_run(Path("digits-cvae"))
    with pytest.raises(CondgenError, match=r"a recipe of condgen, \./digits-cvae/model"):
        compare(["digits-cvae", "digits-cgan"], tmp_path / "out")
