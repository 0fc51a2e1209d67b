"""Recipes and models side by side, small: the report is whole, and what cannot be compared is refused before work."""

import json

import pytest

from condgen.benchmarks import compare as comparison
from condgen.benchmarks.compare import compare, summary
from condgen.benchmarks.compare_report import FILES
from condgen.contracts import CondgenError
from condgen.data.sources.labels import open_labelled
from condgen.evaluation.class_to_image import evaluate_on
from condgen.evaluation.classifier import ClassifierFitConfig
from condgen.evaluation.options import ClassToImageOptions
from condgen.priors import PRIORS
from tests.tiny import tiny_model


@pytest.fixture
def quickly(monkeypatch):
    """Small judges and few settings: what is looked at here is the report."""
    monkeypatch.setattr(ClassifierFitConfig, "__init__", lambda self, **own: _set(self, **own))
    monkeypatch.setattr(comparison, "SETTINGS", {"steps": (1, 2), "temperature": (0.5,), "truncation": (1.0,)})


def _set(run, images=2000, epochs=3, batch=64, lr=4e-3, shift=0.06, flip=False, seed=0):
    for name, value in locals().copy().items():
        if name != "run":
            object.__setattr__(run, name, value)


def test_recipes_are_trained_and_evaluated_alike(quickly, tmp_path):
    names = ["digits-cvae", "digits-diffusion"]
    report = compare(names, tmp_path, minutes=0.03, seeds=2, per_label=13)
    assert report["compared"] == names and set(report["scores"]) == set(names)
    for name in names:
        assert 0 <= report["scores"][name]["accuracy"] <= 1 < report["scores"][name]["images per second"]
        assert report["models"][name]["images seen"] > 0
        minutes, accuracy = report["time"][name]
        assert len(minutes) == len(accuracy) > 1 and minutes == sorted(minutes)
    assert "temperature 0.5" in report["options"]["digits-cvae"] and "steps 2" in report["options"]["digits-diffusion"]
    assert all((tmp_path / file).is_file() for file in FILES)
    assert json.loads((tmp_path / "report.json").read_text()) == report
    text, page = (tmp_path / "report.md").read_text(), (tmp_path / "report.html").read_text()
    for told in (*names, "Fréchet distance, real", "milliseconds per image"):
        assert told in text and told in page
    assert page.count("data:image/png;base64,") == 3 and "http" not in page
    before = (tmp_path / "runs" / "digits-cvae" / "model" / "model_index.json").stat().st_mtime_ns
    again = compare(
        [*names, str(tmp_path / "runs" / "digits-cvae" / "model")], tmp_path, minutes=0.03, seeds=1, per_label=13
    )
    assert (tmp_path / "runs" / "digits-cvae" / "model" / "model_index.json").stat().st_mtime_ns == before
    assert len(again["compared"]) == 3


def test_every_prior_of_a_model_of_words_is_a_contestant(tmp_path, monkeypatch):
    models = []
    for name in ("one", "two"):
        model = tiny_model()
        model.about |= {"recipe": "scenes32", "name": name}
        model.save(tmp_path / name)
        models.append(str(tmp_path / name))
    monkeypatch.setattr(comparison, "SETTINGS", {"steps": (1,)})
    report = compare(models, tmp_path / "report", prompts=1, seeds=1)
    priors = [f"{name}, {prior} prior" for name in ("one", "two") for prior in PRIORS]
    assert report["compared"] == priors == list(report["scene_eval_seen"]) == list(report["scene_eval_held_out"])
    assert report["scene_eval_seen"][priors[0]] == report["scene_eval_seen"][priors[len(PRIORS)]]  # the same weights
    with pytest.raises(CondgenError, match=r"from labels and others from texts"):
        compare([models[0], "digits-cvae"], tmp_path / "mixed", minutes=0.01)


@pytest.mark.parametrize(
    "entries, message",
    [
        (["digits-cvae"], "at least two"),
        (["digits-cvae", "digits-gun"], "no model 'digits-gun'"),
        (["digits-cvae", "digits-gan"], "no class-to-image recipe"),
        (["digits-cvae", "fashion-cvae"], "--data"),
        (["scenes32-cgan", "scenes32-cvae"], "no class-to-image recipe"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_is_made(entries, message, tmp_path):
    with pytest.raises(CondgenError, match=message):
        compare(entries, tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_a_line_of_scores_says_what_the_report_says(quickly):
    """Judged are the test images themselves: nothing can come nearer to them."""
    train, test = open_labelled("digits"), open_labelled("digits", split="test")

    class Truth:
        attributes, about, name, size, image_channels, options = train.attributes, {}, "truth", 8, 1, ()
        device = "cpu"

        def generate_batch(self, wanted, seeds, **options):
            from condgen.data.batches.base import to_float
            from condgen.pipelines.base import Progress

            rows = [int((test.labels == train.attributes[0].encode(one["label"])).nonzero()[0][0]) for one in wanted]
            yield Progress(1, 1, to_float(test.images[rows]))

    report = evaluate_on(Truth(), train, test, ClassToImageOptions(per_label=13, seeds=1)).report
    line = summary(report)
    assert line["accuracy"] == report["accuracy"]["overall"]["generated"]
    assert {"CAS", "CAS, real", "Fréchet distance", "precision", "images per second"} <= set(line)
