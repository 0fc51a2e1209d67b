"""Evaluation of class-to-image models with known behaviour: real images, copies, collapse, noise, ignored labels."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from condgen import load
from condgen.contracts import CondgenError
from condgen.data.attributes import Attribute
from condgen.data.datasets.labels import LabelledImages
from condgen.evaluation import evaluate, markdown
from condgen.evaluation.base import register
from condgen.evaluation.class_to_image import evaluate_class_to_image, evaluate_on
from condgen.evaluation.class_to_image_protocol import aligned, condition_of, make_protocol, unseen_combinations
from condgen.evaluation.classifier import ClassifierFitConfig
from condgen.evaluation.options import ClassToImageOptions
from condgen.evaluation.report import FILES
from tests.evaluation.models import Collapsed, IgnoresCondition, NoiseModel, PoolModel, digits
from tests.test_errors import refused
from tests.tiny import tiny_labels

TRAIN, POOL, TEST = slice(0, 700), slice(700, 1300), slice(1300, None)
QUICK = ClassifierFitConfig(images=5000)
register(PoolModel, options=ClassToImageOptions)(evaluate_class_to_image)


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """Name of a model -> what was found."""
    folder = tmp_path_factory.mktemp("classifiers")

    def options(seeds: int) -> ClassToImageOptions:
        return ClassToImageOptions(per_label=40, seeds=seeds, classifiers=folder)

    train, test, pool = digits(TRAIN), digits(TEST), digits(POOL)
    models = {"truth": PoolModel(pool), "copies": PoolModel(train), "collapsed": Collapsed(pool)}
    models |= {"noise": NoiseModel(pool), "deaf": IgnoresCondition(pool)}
    return {
        name: evaluate_on(model, train, test, options(2 if name == "truth" else 1), QUICK)
        for name, model in models.items()
    }


def of(judged, *path: str) -> dict[str, float]:
    """The same entry of every report."""
    out = {}
    for name, found in judged.items():
        report = found.report
        for key in path:
            report = next(report[k] for k in report if k.startswith(key))
        out[name] = report
    return out


def test_the_classifier_is_good_and_says_so(judged):
    report = judged["truth"].report
    assert report["classifier"]["label, accuracy on test images"] > 0.93
    assert report["accuracy"]["overall"]["real"] == pytest.approx(
        report["classifier"]["label, accuracy on test images"]
    )
    assert len({found.report["classifier"]["features"] for found in judged.values()}) == 1, "one classifier for all"


def test_accuracy_tells_whether_the_label_is_generated(judged):
    found = of(judged, "accuracy", "overall", "generated")
    assert min(found["truth"], found["copies"]) > 0.9 and found["collapsed"] >= 0.8
    assert max(found["noise"], found["deaf"]) < 0.25
    lines = judged["truth"].report["accuracy"]
    assert lines["3"]["N"] == 40 and lines["overall"]["N"] == 400 and lines["overall"]["sd"] < 0.03
    assert judged["noise"].report["accuracy"]["overall"]["sd"] is math.nan or math.isnan(
        of(judged, "accuracy", "overall", "sd")["noise"]
    )
    confusion = judged["deaf"].report["confusion"]
    assert all(sum(row.values()) == pytest.approx(1) for row in confusion.values())
    assert judged["truth"].report["confusion"]["asked 0"]["0"] > 0.9


def test_distances_are_near_the_floor_for_the_truth_alone(judged):
    for distance in ("frechet", "kernel"):
        found, floor = (of(judged, "distances", distance, side) for side in ("generated", "real"))
        assert found["truth"] < 2 * max(floor["truth"], 0.02 * found["noise"]), distance
        assert found["truth"] < found["collapsed"] < found["noise"], distance
    p = of(judged, "two_sample_test", "p", "generated")
    assert max(p["collapsed"], p["noise"]) < 0.01 < p["truth"]
    assert of(judged, "two_sample_test", "p", "real")["truth"] > 0.01


def test_distances_are_named_by_their_features_and_never_fid(judged):
    report = judged["truth"].report
    assert all(name.split(" (")[1].startswith("features: classifier of digits, ") for name in report["distances"])
    assert "FID" not in json.dumps(report)
    assert all(line["N"] == line["N real"] > 100 for line in report["distances"].values())


def test_coverage_tells_collapse(judged):
    for name in ("recall", "coverage"):
        found = of(judged, "coverage", name, "generated")
        assert found["collapsed"] < 0.5 * found["truth"], name
    assert of(judged, "coverage", "coverage", "generated")["noise"] < 0.2, "its recall is high: its balls are large"
    assert of(judged, "coverage", "precision", "generated")["truth"] > 0.7


def test_copies_are_found_and_shown(judged):
    found = of(judged, "memorisation", "memorised", "generated")
    assert found["copies"] == 1 and max(found[name] for name in ("truth", "noise")) < 0.08
    sheet = judged["copies"].sheets["neighbours"]
    pairs = list(zip(sheet[::2], sheet[1::2]))
    assert len(pairs) == 24 and all((own == there).all() for (_, own, _), (_, there, _) in pairs)
    assert "closeness 0.00" in sheet[0][0] and sheet[1][0].startswith("training image")
    assert sheet[0][1].shape == (3, 8, 8), "grey images are shown, too"


def test_what_is_generated_teaches_a_classifier_as_much_as_it_is_worth(judged):
    found = of(judged, "classifier_trained_on_generated", "label", "generated")
    real = of(judged, "classifier_trained_on_generated", "label", "real")
    assert found["truth"] > 0.85 and real["truth"] > 0.85 and abs(found["truth"] - real["truth"]) < 0.08
    assert found["noise"] < 0.3 and found["deaf"] < 0.5 and found["collapsed"] < found["truth"] - 0.1


def test_the_sheet_marks_what_the_evaluator_sees_otherwise(judged):
    assert [caption for caption, *_ in judged["truth"].sheets["sheet"]] == [str(k) for k in range(10) for _ in range(8)]
    assert (
        sum(ok for *_, ok in judged["truth"].sheets["sheet"])
        > 70
        > 30
        > sum(ok for *_, ok in judged["deaf"].sheets["sheet"])
    )


def test_the_report_is_written_and_reads_well(judged, tmp_path, monkeypatch):
    findings = judged["truth"]
    monkeypatch.setattr("condgen.evaluation.class_to_image.read_labelled", lambda *_: (digits(TRAIN), digits(TEST)))
    asked = []
    monkeypatch.setattr(
        "condgen.evaluation.class_to_image.evaluate_on",
        lambda model, train, test, options, progress: asked.append(options) or findings,
    )
    found = evaluate(PoolModel(digits(POOL)), out=tmp_path)
    assert asked[0].classifiers == tmp_path / "classifiers"
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(json.dumps(found))
    told = (tmp_path / "report.md").read_text()
    for line in (
        "## classifier",
        "## confusion",
        "| overall |",
        "| memorised |",
        "| generation |",
        "features: classifier of",
    ):
        assert line in told, line
    assert all((tmp_path / f"{name}.png").stat().st_size > 1000 for name in ("sheet", "neighbours"))
    assert markdown(found) == told


# several attributes

INK = Attribute("ink", ("pale", "dark"))
AGE = Attribute("age", mean=30.0, sd=5.0)


def written(rows: slice, without: tuple[int, int] | None) -> LabelledImages:
    """The digits 0 to 3 in two inks, without one of the combinations; of some the ink is not known."""
    data = digits(rows, 4)
    ink = np.arange(len(data)) % 2
    images = (data.images * np.where(ink, 1.0, 0.35)[:, None, None, None]).astype(np.uint8)
    targets = np.stack([data.targets[:, 0], ink, np.zeros(len(data))], 1).astype(np.float32)
    if without:
        kept = ~((targets[:, 0] == without[0]) & (ink == without[1]))
        images, targets = images[kept], targets[kept]
    targets[::10, 1] = math.nan
    return LabelledImages(images, (*data.attributes, INK, AGE), targets, "written digits")


class ForgetsInk(PoolModel):
    """Paints a 3 always pale."""

    def fitting(self, wanted):
        return super().fitting(wanted | ({"ink": "pale"} if wanted.get("label") == "3" else {}))


def test_combinations_that_training_never_showed_are_distinguished():
    train, test, pool = (written(rows, None) for rows in (slice(0, 350), slice(350, 500), slice(500, None)))
    train = written(slice(0, 350), (3, 1))
    found = evaluate_on(ForgetsInk(pool), train, test, ClassToImageOptions(per_label=10, seeds=1), QUICK)
    report, sheets = found.report, found.sheets
    seen, new = report["accuracy_seen"], report["accuracy_unseen"]
    assert set(seen) == set(new) == {"label", "ink", "all attributes"}
    assert min(seen["label"]["generated"], seen["ink"]["generated"], new["label"]["generated"]) > 0.85
    assert new["ink"]["generated"] < 0.15 and new["all attributes"]["generated"] < 0.15
    assert seen["label"]["N"] == 100 and 8 <= new["label"]["N"] <= 30
    assert set(report["classifier_trained_on_generated"]) == {"label", "ink"}
    assert "confusion" not in report and len(sheets["sheet"]) >= 32
    assert "## accuracy unseen" in markdown({"model": "m", "model_id": "0", **report})


def test_never_seen_looks_at_the_attributes_it_is_given():
    attributes = (Attribute("a", ("x", "y")), Attribute("b", ("x", "y")), Attribute("c", ("x", "y")), AGE)
    image = np.zeros((1, 8, 8), np.uint8)

    def data(*targets):
        return LabelledImages(np.stack([image] * len(targets)), attributes, np.array(targets, np.float32))

    train = data([0, 0, 0, 1.5], [1, 1, 1, 0], [0, 1, math.nan, 0])
    test = data([0, 0, 0, 9], [0, 0, 1, 0], [0, 1, math.nan, 3], [0, 1, 0, 0], [1, 0, 0, 0])
    assert unseen_combinations(train, test).tolist() == [False, True, False, True, True]
    assert unseen_combinations(train, test, ("a", "b")).tolist() == [False, False, False, False, True]
    for wrong in ("age", "d"):
        with pytest.raises(CondgenError, match=wrong):
            unseen_combinations(train, test, ("a", wrong))


def test_data_is_read_by_the_factors_of_the_model():
    data = digits(slice(0, 20))
    (own,) = data.attributes
    reordered = replace(data, attributes=(replace(own, values=own.values[::-1]),), targets=9 - data.targets)
    back = aligned(reordered, data.attributes)
    assert (back.targets == data.targets).all() and back.attributes == data.attributes
    fewer = aligned(data, (replace(own, values=own.values[:5]),))
    assert (np.isnan(fewer.targets) == (data.targets >= 5)).all()
    years = replace(data, attributes=(AGE,), targets=data.targets)
    other = aligned(years, (Attribute("age", mean=0.0, sd=1.0),))
    assert np.allclose(other.targets, data.targets * 5 + 30)
    with pytest.raises(CondgenError, match=r"digits has the attributes label.*age"):
        aligned(data, (AGE,))


def test_codes_are_asked_by_name():
    attributes = (Attribute("label", ("cat", "dog")), INK, AGE)
    assert condition_of(attributes, np.array([1, math.nan, 2], np.float32)) == {"label": "dog", "age": 40.0}


def test_as_many_of_every_class_as_there_are_stand_against_each_other():
    train, test = digits(slice(0, 300)), digits(slice(300, 400))
    protocol = make_protocol(train.attributes, train, test, 12)
    assert len(protocol.targets) == 120
    for rows, targets in (
        (protocol.reference, test.targets),
        (protocol.compared, protocol.targets),
        (protocol.real_rows(0), train.targets),
    ):
        counts = np.bincount(targets[rows, 0].astype(int), minlength=10)
        assert (counts == np.minimum(12, np.bincount(test.labels, minlength=10))).all()
    assert set(protocol.real_rows(0)) != set(protocol.real_rows(1))


def test_what_cannot_be_evaluated_is_refused():
    train, test = digits(slice(0, 100)), digits(slice(100, 140))
    with pytest.raises(CondgenError, match="numbers alone"):
        make_protocol((AGE,), replace(train, attributes=(AGE,)), replace(test, attributes=(AGE,)), 5)
    with pytest.raises(CondgenError, match="no combinations"):
        make_protocol(train.attributes, train, test, 5, ("label",))
    with pytest.raises(CondgenError, match="in both training and test"):
        make_protocol(train.attributes, train, replace(test, targets=np.full_like(test.targets, math.nan)), 5)
    with pytest.raises(CondgenError, match=r"--caption-column.*text-to-image models"):
        evaluate(PoolModel(train), caption_column="words")
    with pytest.raises(CondgenError, match="--per-label"):
        evaluate(PoolModel(train), per_label=0)
    with pytest.raises(CondgenError, match="--data"):
        evaluate(PoolModel(train))


# on the command line


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """The folder of an untrained model of digits, and a judge that learns for a moment."""
    monkeypatch.setattr(
        "condgen.evaluation.class_to_image.ClassifierFitConfig", lambda: ClassifierFitConfig(images=512)
    )
    model = tiny_labels(attributes=digits(slice(0, 1)).attributes)
    model.about |= {
        "data": "digits",
        "reading": {"size": 8, "image_channels": 1, "resize": "crop", "attribute_columns": []},
    }
    model.save(tmp_path / "digits", card="# digits\n")
    return tmp_path / "digits"


def test_a_model_of_labels_is_evaluated_on_its_own_data(condgen, stand_in):
    flags = ("--per-label", 3, "--seeds", 2, "-o", "report", "--classifiers", "classifiers")
    code, out, err = condgen("evaluate", stand_in, *flags, "--json", "--card")
    assert code == 0, err
    report = json.loads(out)
    assert report == json.loads(Path("report/report.json").read_text())
    assert report["accuracy"]["overall"]["N"] == 30 and report["seeds"] == [0, 1] and report["data"] == "digits"
    assert report["distances"][next(iter(report["distances"]))]["generated"] is None, "30 images are too few"
    assert len(list(Path("classifiers").iterdir())) == 3, "of all images, and of as few as were painted, twice"
    assert {file.name for file in Path("report").iterdir()} == {*FILES} - {"space.png", "samples.png"}
    index = json.loads((stand_in / "model_index.json").read_text())
    assert index["metrics"]["accuracy"] == report["accuracy"] and "## Scores" in (stand_in / "README.md").read_text()
    assert load(stand_in).about["reading"]["size"] == 8, "it still loads"


def test_what_does_not_fit_a_model_of_labels_is_refused(condgen, stand_in):
    Path("text.pth").write_text("no weights")
    for flags, word in (
        (("--layers", "parts.parquet", "--data", "digits"), "--layers"),
        (("--caption-column", "caption"), "--caption-column"),
        (("--seeds", "0"), "--seeds"),
        (("--data", "missing"), "missing"),
        (("--combined", "label,ink"), "no combinations"),
        (("--inception", "text.pth"), "text.pth"),
        (("--classifiers", "text.pth"), "text.pth"),
    ):
        refused(condgen("evaluate", stand_in, *flags), word)
    refused(condgen("evaluate", "tiny", "--per-label", 5), "--per-label", "class-to-image models")
    index = stand_in / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"data": "my digits"}))
    refused(condgen("evaluate", stand_in), "my digits", "--data")
    index.write_text(json.dumps(json.loads(index.read_text()) | {"data": ""}))
    refused(condgen("evaluate", stand_in), "--data")
