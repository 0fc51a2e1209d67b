"""Reading of training runs while they are written: progress, losses, sheets; damaged and early ones."""

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from condgen.files.plots import Curve
from condgen.recipes import RECIPES
from condgen.recipes.choice import typical_minutes
from condgen.studio.tabs.train import view as train_view
from condgen.studio.tabs.train.curves import figure
from condgen.studio.tabs.train.runs import POINTS, Metrics, error_in, read_run, sheets_of

OLD = Path(__file__).parents[1] / "compat" / "runs"
LINE = {"stage": "gan", "images": 320, "time": 10.0, "loss/generator": 2.0, "seconds": 30.0, "progress": 0.25}


def write_run(folder: Path, lines=(LINE,), **config) -> Path:
    """A run folder with these metrics."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(json.dumps({"recipe": "digits-gan"} | config))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def read(folder: Path, log: str = ""):
    return read_run(folder, Metrics(folder / "metrics.jsonl"), log)


def test_metrics_are_read_as_they_grow(tmp_path):
    path = tmp_path / "metrics.jsonl"
    metrics = Metrics(path)
    assert metrics.update() == {}
    first, second = json.dumps(LINE), json.dumps(LINE | {"images": 640, "loss/generator": 1.5})
    path.write_text(f"{first}\n{second[:20]}")
    assert metrics.update()["gan"].losses[0].x == [320]
    path.write_text(f"{first}\n{second}\n")
    assert metrics.update()["gan"].losses[0].rows() == [[320, 640], [2.0, 1.5]]
    path.unlink()
    path.write_text(json.dumps(LINE | {"stage": "other"}) + "\n")
    assert [*metrics.update()] == ["other"]


def test_long_curves_keep_their_ends_and_stay_short(tmp_path):
    lines = [LINE | {"images": i, "loss/generator": 1 / (1 + i)} for i in range(10 * POINTS)]
    (stage,) = Metrics(write_run(tmp_path, lines) / "metrics.jsonl").update().values()
    curve = stage.losses[0]
    assert POINTS / 2 <= len(curve.x) < 2 * POINTS
    assert (curve.x[0], curve.x[-1]) == (0, 10 * POINTS - 1) and curve.x == sorted(curve.x)


def test_progress_and_time_left_of_a_run_with_and_without_a_limit_of_time(tmp_path, monkeypatch):
    monkeypatch.setattr("condgen.studio.tabs.train.runs.writer_of", lambda folder: {"pid": 1})
    run = read(write_run(tmp_path / "a"))
    assert (run.state, run.stage, run.images, run.loss) == ("running", "gan", 320, 2.0)
    assert run.progress == 0.25 and run.left == pytest.approx(90)
    run = read(write_run(tmp_path / "b", minutes=2))
    assert run.progress == 0.25 and run.left == pytest.approx(90)
    old = {key: value for key, value in LINE.items() if key != "progress"}
    run = read(write_run(tmp_path / "c", [old], fit={"total_images": 3200}))
    assert run.progress == pytest.approx(0.1) and run.left == pytest.approx(270)


def test_a_run_without_metrics_is_known_by_its_checkpoint(tmp_path):
    folder = write_run(tmp_path, ())
    assert (read(folder).stage, read(folder).images) == ("", 0)
    for name, text in (("gan/step-0000002", '{"images": 64, "seconds": 5.0}'), ("gan/step-0000003", "{")):
        (folder / "checkpoints" / name).mkdir(parents=True)
        (folder / "checkpoints" / name / "state.json").write_text(text)
    run = read(folder)
    assert (run.stage, run.images, run.seconds) == ("gan", 64, 5.0)
    assert train_view.run_row(run)["text"] == "gan · 64 images · 5 s of training · goes on from its last checkpoint"


def test_the_message_of_a_failed_run_is_the_last_one_that_it_printed(tmp_path):
    folder = write_run(tmp_path)
    assert read(folder, "gan: 3 %\nstopped; the same command goes on\n").state == "stopped"
    failed = read(folder, "gan: 3 %\ncondgen: error: The disk is full.\n")
    assert (failed.state, failed.message) == ("failed", "The disk is full.")
    crashed = "Traceback (most recent call last):\n  File ...\nZeroDivisionError: division by zero\n"
    assert read(folder, crashed).message == "ZeroDivisionError: division by zero"
    assert error_in("") == "" and error_in("gan: 3 % 320 images, 5/s") == ""


@pytest.mark.parametrize("name", sorted(path.name for path in OLD.iterdir()))
def test_runs_of_earlier_versions_are_shown(name, tmp_path):
    folder = tmp_path / name
    shutil.copytree(OLD / name, folder)
    run = read(folder)
    assert run.state in ("stopped", "finished") and run.recipe and not run.message
    stages = Metrics(folder / "metrics.jsonl").update()
    assert train_view.details(run, stages) and train_view.described(run, True)


DAMAGE = {
    "config.yaml": [b"", b"\xff\xfe", b"a: [", b"[1]", b"recipe: [1]\nminutes: many\nfit: 3\ndata: 5", b"x" * 100_000],
    "metrics.jsonl": [
        b"", b"\xff\xfe\n{", b"[]\n1\nnull\n{}\n", b'{"stage": 5}\n{"stage": "gan", "images": "x", "loss": NaN}\n',
        b'{"stage": "<i>", "loss": 1e999, "seconds": -5, "progress": 7, "images": -3}\n', b"[" * 100_000 + b"\n",
    ],
    "status.json": [b"", b"[]", b"{", b"5"],
    ".lock": [b"", b"{}", b"[]", b'{"pid": "x", "host": 3}'],
    "model/model_index.json": [b"", b"[]"],
}  # fmt: skip


@pytest.mark.parametrize("name, content", [(name, content) for name, some in DAMAGE.items() for content in some])
def test_damaged_runs_are_shown_for_what_can_be_read(name, content, tmp_path):
    folder = write_run(tmp_path / "run")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    run = read(folder)
    assert run.state in ("stopped", "finished") and not run.active
    assert json.dumps(run.as_dict()) and train_view.run_row(run)["text"]
    assert "<i>" not in train_view.details(run, Metrics(folder / "metrics.jsonl").update())
    for name in ("config.yaml", "metrics.jsonl", "samples", "checkpoints"):
        path = folder / name
        path.unlink(missing_ok=True)
        path.mkdir()
    assert read(folder).images == 0


def test_sheets_come_in_the_order_of_stages_and_images(tmp_path):
    stages = Metrics(write_run(tmp_path, [LINE | {"stage": "prior x"}, LINE]) / "metrics.jsonl").update()
    (tmp_path / "samples").mkdir()
    for name in ("gan-000000064.png", "gan-000000128.png", "prior x-000000900.png", "notes.txt", "gan-x.png"):
        (tmp_path / "samples" / name).write_bytes(b"")
    assert [(stage, images) for _, stage, images in sheets_of(tmp_path, stages)] == [
        ("prior x", 900), ("gan", 64), ("gan", 128),
    ]  # fmt: skip
    (tmp_path / "samples" / "gan-000000200.png").symlink_to("/etc/passwd")
    assert len(train_view.frames(read(tmp_path), stages, str)) == 3


@pytest.mark.parametrize("ys", [[3.0], [3.0, 3.0], [1e-9, 2e-9], [1e6, -5.0, 1e12], [1000.0, *[1.0] * 90]])
def test_a_figure_is_svg_that_says_what_it_shows(ys):
    text = figure("Loss of <gan>", [Curve("loss/<b>", [float(i) for i in range(len(ys))], ys)])
    tree = ElementTree.fromstring(text)
    image = tree.find("svg")
    assert image.get("role") == "img" and f"{ys[-1]:.4g}" in image.get("aria-label")
    for line in tree.iter("polyline"):
        for point in line.get("points").split():
            x, y = map(float, point.split(","))
            assert 0 <= x <= 440 and -10 <= y <= 230
    assert figure("Loss", [Curve("loss", [], [])]) == ""


def test_every_recipe_has_a_card_with_its_data_and_its_time():
    cards = [card for group in train_view.recipe_groups() for card in group["recipes"]]
    assert {card["name"] for card in cards} == set(RECIPES)
    for card in cards:
        assert card["data"].startswith("Needs data" if RECIPES[card["name"]].needs_data else "Needs no data")
        assert str(typical_minutes(card["name"])) in card["time"] and "--data is" not in card["text"]
