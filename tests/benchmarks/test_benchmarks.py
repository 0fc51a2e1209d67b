"""The benchmark: one command trains, evaluates and writes the page; and the page of the project is complete."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from condgen.benchmarks import SECTIONS, Benchmark, run_benchmark
from condgen.benchmarks.models import BASELINES
from condgen.cli.main import main
from condgen.contracts import CondgenError
from condgen.recipes import RECIPES

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("dataset", ["digits", "fashion", "cifar10", "pictures"])
def test_every_kind_has_a_recipe_for_every_dataset(dataset, tmp_path):
    benchmark = Benchmark(tmp_path, tmp_path, dataset, "data")
    for name, kind in BASELINES.items():
        assert benchmark.recipe(name) in RECIPES
        assert kind.size is None or kind.size in RECIPES[benchmark.recipe(name)].sizes


def test_a_section_is_written_with_numbers_and_images_and_a_second_call_trains_nothing(tmp_path, monkeypatch):
    for kind in ("linear", "ae", "conv-ae"):
        recipe = RECIPES[f"digits-{kind}"]
        shape = recipe.options["autoencoder"] | {"hidden": (16,), "channels": (8,), "latent": 4}
        options = {"autoencoder": shape, "total_images": 512, "components": 0, "eval_count": 1}
        monkeypatch.setitem(RECIPES, f"digits-{kind}", replace(recipe, options=recipe.options | options))
    words = ["benchmark", "-o", str(tmp_path / "docs"), "--runs", str(tmp_path / "runs"), "--sections", "autoencoders"]
    assert main([*words, "--minutes", "1"]) == 0
    page = (tmp_path / "docs" / "baselines.md").read_text()
    row = next(line for line in page.splitlines() if line.startswith("| linear"))
    assert row.split(" | ")[1] == "4" and 5 < float(row.split(" | ")[3]) < 30  # decibels
    (picture,) = re.findall(r"\((baselines/.*?png)\)", page)
    with Image.open(tmp_path / "docs" / picture) as image:
        assert image.width > 300
    monkeypatch.setattr("condgen.training.trainer.Trainer._step", None)
    assert main([*words, "--minutes", "1"]) == 0
    assert (tmp_path / "docs" / "baselines.md").read_text() == page


@pytest.mark.parametrize(
    "how, message",
    [
        ({"dataset": "cats"}, "no dataset 'cats'"),
        ({"dataset": "fashion"}, "--data PATH"),
        ({"sections": ("cooking",)}, "no section 'cooking'"),
    ],
)
def test_what_is_not_there_is_refused_before_anything_is_written(how, message, tmp_path):
    with pytest.raises(CondgenError, match=message):
        run_benchmark(
            Benchmark(tmp_path / "docs", tmp_path / "runs", how.get("dataset", "digits")), how.get("sections", ())
        )
    assert not list(tmp_path.iterdir())


def test_the_page_of_the_project_has_every_section_and_every_image():
    page = (DOCS / "baselines.md").read_text(encoding="utf-8")
    assert page.count("\n## ") == len(SECTIONS) and "condgen benchmark -o docs" in page
    shown = re.findall(r"\((baselines/.*?\.png)\)", page)
    assert {f"baselines/{path.name}" for path in (DOCS / "baselines").iterdir()} == set(shown)
    assert sum((DOCS / name).stat().st_size for name in shown) < 3_000_000
