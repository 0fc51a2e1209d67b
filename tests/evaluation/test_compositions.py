"""SceneEval-2: a model that draws what was asked for, others that do not, and the report."""

import json

import pytest
import torch

from condgen.cli.main import main
from condgen.contracts import CondgenError
from condgen.data.batches.base import to_float
from condgen.data.synthetic.compositions import TEMPLATES, composition_prompts
from condgen.data.synthetic.descriptions import say
from condgen.data.synthetic.scenes import join_layouts, render
from condgen.evaluation import evaluate
from condgen.evaluation.compositions import composition_images, composition_scores, scene_eval_2
from condgen.pipelines.text_to_image import Progress
from tests.tiny import tiny_model


class Truth:
    """Renders every prompt of SceneEval-2, of at most n for each number of atoms; `shift` takes another prompt's."""

    def __init__(self, n: int, shift: int = 0):
        self.layouts, self.shift = {}, shift
        for side in (False, True):
            for atoms in TEMPLATES:
                prompts, layout = composition_prompts(atoms, n, side)
                self.layouts |= {say(one): layout[row : row + 1] for row, one in enumerate(prompts)}

    def generate_batch(self, prompts, seeds):
        drawn = [self.layouts[prompt] for prompt in (*prompts[self.shift :], *prompts[: self.shift])]
        yield Progress(1, 1, to_float(render(join_layouts(drawn), 32)))


@pytest.mark.parametrize("held_out", [False, True])
def test_what_was_asked_for_gets_full_marks_and_something_else_does_not(held_out):
    scores = scene_eval_2(Truth(6), held_out, prompts=6, images_per_prompt=2)
    assert list(scores) == [*(f"{atoms} atoms" for atoms in TEMPLATES), "all"]
    for row in scores.values():
        assert {row[name] for name in row if name != "images"} <= {1, None}
    assert scores["all"]["images"] == 12 * len(TEMPLATES) and None not in scores["all"].values()
    assert scores["3 atoms"]["binding"] is scores["3 atoms"]["position"] is None
    wrong = scene_eval_2(Truth(6, shift=3), held_out, prompts=6, images_per_prompt=1)["all"]
    assert wrong["prompt"] < 0.1 and wrong["atoms"] < 0.5 and wrong["position"] < 0.3


def test_every_image_has_a_seed_of_its_own():
    asked = []

    class Blank:
        def generate_batch(self, prompts, seeds):
            asked.extend(zip(prompts, seeds))
            yield Progress(1, 1, torch.ones(len(prompts), 3, 32, 32))

    found = composition_images(Blank(), 5, True, prompts=4, images_per_prompt=3, seed=5)
    assert [seed for _, seed in asked] == list(range(5, 17)) and len(found) == 12
    assert all(one.cause == "nothing drawn" and not one.passed for one in found)
    assert composition_scores(Blank())["seen/all"] == 0


def test_a_model_of_version_1_answers_and_the_report_is_written(tmp_path):
    model = tiny_model()
    model.about["recipe"] = "scenes32"
    report = evaluate(model, out=tmp_path, prompts=2, images_per_prompt=1, scene_eval=2)
    assert set(report["scene_eval_2"]) == set(report["failures"]) == {"seen", "held_out"}
    assert report["scene_eval_2"]["seen"]["all"]["prompt"] < 0.3
    assert report["failures"]["held_out"]["all tasks"]["images"] == 2 * len(TEMPLATES)
    assert all(0 <= share <= 1 for side in report["not_read"].values() for share in side.values())
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(json.dumps(report))
    assert "| 10 atoms |" in (tmp_path / "report.md").read_text() and (tmp_path / "sheet.png").stat().st_size > 1000


@pytest.mark.parametrize("options", [{"scene_eval": 3}, {"data": "x"}, {"compare_with": ["scenes32"]}])
def test_what_does_not_go_with_version_2_is_refused(options):
    with pytest.raises(CondgenError, match="--scene-eval is 1 or 2"):
        evaluate(tiny_model(), **{"scene_eval": 2} | options)


def test_the_card_keeps_version_1(tmp_path, capsys):
    tiny_model().save(tmp_path / "tiny")
    assert main(["evaluate", str(tmp_path / "tiny"), "--scene-eval", "2", "--card"]) != 0
    assert "leave out --scene-eval 2, or --card" in capsys.readouterr().err
