"""The shelf: one command trains, judges and writes the page; and the page that comes with the project is whole."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from condgen.benchmarks import CHAPTERS, Shelf, make_shelf
from condgen.benchmarks.models import KINDS
from condgen.cli.main import main
from condgen.contracts import CondgenError
from condgen.recipes import RECIPES

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("collection", ["digits", "fashion", "cifar10", "pictures"])
def test_every_kind_has_a_recipe_in_every_collection(collection, tmp_path):
    shelf = Shelf(tmp_path, tmp_path, collection, "data")
    for name, kind in KINDS.items():
        assert shelf.recipe(name) in RECIPES
        assert kind.size is None or kind.size in RECIPES[shelf.recipe(name)].sizes


def test_a_chapter_is_written_with_numbers_and_pictures_and_a_second_call_trains_nothing(tmp_path, monkeypatch):
    for kind in ("linear", "ae", "conv-ae"):
        recipe = RECIPES[f"digits-{kind}"]
        shape = replace(recipe.base.autoencoder, hidden=(16,), channels=(8,), latent=4)
        base = replace(recipe.base, autoencoder=shape, images=512, components=0, watch=1)
        monkeypatch.setitem(RECIPES, f"digits-{kind}", replace(recipe, base=base))
    words = ["benchmark", "-o", str(tmp_path / "docs"), "--runs", str(tmp_path / "runs"), "--chapters", "codes"]
    assert main([*words, "--minutes", "1"]) == 0
    page = (tmp_path / "docs" / "shelf.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith("| linear"))
    assert row.split(" | ")[1] == "4" and 5 < float(row.split(" | ")[3]) < 30  # decibels
    (picture,) = re.findall(r"\((shelf/.*?png)\)", page)
    with Image.open(tmp_path / "docs" / picture) as image:
        assert image.width > 300
    monkeypatch.setattr("condgen.training.trainer.Trainer._step", None)
    assert main([*words, "--minutes", "1"]) == 0
    assert (tmp_path / "docs" / "shelf.md").read_text() == page


@pytest.mark.parametrize(
    "how, message",
    [
        ({"collection": "cats"}, "no collection 'cats'"),
        ({"collection": "fashion"}, "--data PATH"),
        ({"chapters": ("cooking",)}, "no chapter 'cooking'"),
    ],
)
def test_what_is_not_there_is_refused_before_anything_is_written(how, message, tmp_path):
    with pytest.raises(CondgenError, match=message):
        make_shelf(tmp_path / "docs", tmp_path / "runs", **how)
    assert not list(tmp_path.iterdir())


def test_the_page_of_the_project_has_every_chapter_and_every_picture():
    page = (DOCS / "shelf.md").read_text(encoding="utf-8")
    assert page.count("\n## ") == len(CHAPTERS) and "condgen benchmark -o docs" in page
    shown = re.findall(r"\((shelf/.*?\.png)\)", page)
    assert {f"shelf/{path.name}" for path in (DOCS / "shelf").iterdir()} == set(shown)
    assert sum((DOCS / name).stat().st_size for name in shown) < 3_000_000
