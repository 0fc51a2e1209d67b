"""Evaluation of text-to-image models: one that generates what was asked for, and untrained ones."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from condgen.contracts import CondgenError
from condgen.data.batches.base import to_float
from condgen.data.synthetic.grammar import parse, relation_of
from condgen.data.synthetic.scenes import draw_scenes, render, scenes
from condgen.evaluation import evaluate, markdown
from condgen.evaluation.embed import same_text
from condgen.evaluation.options import TextToImageOptions
from condgen.evaluation.scenes import images_evaluated, scene_eval
from condgen.evaluation.text_to_image import evaluate_captions, read_captioned
from condgen.metrics.geneval import TASKS, is_exact
from condgen.pipelines.text_to_image import Progress, TextToImage
from tests.tiny import tiny_model

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"


class Truth:
    """Renders every prompt, from a pool of scenes."""

    def __init__(self):
        layout, self.things = draw_scenes(30_000, 1, None)
        self.layout = layout

    def generate_batch(self, prompts, seeds):
        rows = [next(i for i, t in enumerate(self.things) if _fits(parse(p), t)) for p in prompts]
        yield Progress(1, 1, to_float(render(self.layout[np.array(rows)], 32)))


def _fits(meaning, things):
    if meaning.relation and relation_of(*things[:2] if len(things) > 1 else things * 2) is None:
        return False
    return is_exact(meaning, things)


def test_what_was_asked_for_gets_full_marks():
    truth = Truth()
    for held_out in (False, True):
        scores, examples = scene_eval(truth, held_out, prompts=6, images_per_prompt=2)
        assert set(scores) == {*TASKS, "overall", "exact"}
        assert min(scores.values()) == 1 and all(ok for *_, ok in examples)


def test_something_else_does_not():
    truth = Truth()

    class Shifted(Truth):
        def generate_batch(self, prompts, seeds):
            return truth.generate_batch(prompts[1:] + prompts[:1], seeds)

    scores, _ = scene_eval(Shifted(), False, prompts=6, images_per_prompt=1)
    assert scores["overall"] < 0.6 and scores["exact"] < 0.3


def test_every_image_has_a_seed_of_its_own_and_is_counted():
    asked = []

    class Blank:
        def generate_batch(self, prompts, seeds):
            asked.extend(zip(prompts, seeds))
            yield Progress(1, 1, torch.ones(len(prompts), 3, 32, 32))

    _, examples = scene_eval(Blank(), True, prompts=8, images_per_prompt=3, seed=5)
    seeds = [seed for _, seed in asked]
    assert seeds == list(range(5, 5 + len(asked)))
    judged = images_evaluated(True, 8, 3, 5)
    assert sum(judged.values()) == len(asked) and judged["colours"] == 18 and judged["position"] == 24
    assert [caption for caption, *_ in examples] == [caption for caption, _ in asked[::3]]


def test_an_untrained_model_scores_near_nothing_and_the_report_is_written(tmp_path):
    model = tiny_model()
    model.about["recipe"] = "scenes32"
    other = tiny_model()
    other.about["name"], other.model_id = "other", "cafe"
    report = evaluate(model, out=tmp_path, prompts=2, images_per_prompt=1, ablate=1, compare_with=[other])
    assert report["scene_eval"]["seen"]["overall"] < 0.3
    assert report["images_evaluated"]["held_out"] == dict.fromkeys(TASKS, 2)
    assert report["failures"]["seen"]["all tasks"]["failed"] > 6 and list(report["failures"]["held_out"])[:6] == [
        *TASKS
    ]
    assert set(report["prior"]["held_out"]) == {"regression", "diffusion", "autoregressive", "none"}
    assert set(report["ablation"]) >= {"full stack", "text embedding fed zero-shot", "words alone (no image embedding)"}
    assert report["ablation"]["other (cafe)"] == report["ablation"]["full stack"]
    assert report["prior"]["seen"]["none"]["cos_text"] == pytest.approx(1, abs=1e-4)
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(json.dumps(report))
    told = (tmp_path / "report.md").read_text()
    assert "| seen |" in told and "| held_out | 2 | 2 |" in told and (tmp_path / "sheet.png").stat().st_size > 1000


def test_scores_go_into_the_card_once(tmp_path):
    from condgen.evaluation.report import SCORES, record

    tiny_model().save(tmp_path, card="# tiny\n\nwords\n")
    report = {"model": "tiny", "model_id": "0", "scene_eval": {"seen": {"overall": 0.5}}}
    for overall in (0.5, 0.75):
        report["scene_eval"]["seen"]["overall"] = overall
        record(tmp_path, report)
    card = (tmp_path / "README.md").read_text()
    assert card.startswith("# tiny\n\nwords") and card.count(SCORES) == 1 and "0.750" in card and "0.500" not in card
    TextToImage.load(tmp_path)
    assert json.loads((tmp_path / "model_index.json").read_text())["metrics"] == {"scene_eval": report["scene_eval"]}


def test_captioned_images_are_evaluated_on_retrieval_too():
    data = scenes(40, 3, negatives="none")
    found = evaluate_captions(tiny_model(), data, TextToImageOptions(images_per_prompt=1), lambda *_: None)
    report, shown = found.report, found.sheets["sheet"]
    assert 0 <= report["retrieval"]["text to image R@1"] <= 1 and len(shown) == 2 * 24
    assert -1 <= report["clip_score"]["generated"] <= 1
    assert report["explained"].keys() == report.keys() - {"kind", "data", "images", "explained"}
    assert "text to image R@1" in markdown({"model": "m", "model_id": "0", **report})


def test_images_are_read_as_those_of_the_training(tmp_path):
    names = ("a", "b", "c")
    for name in names:
        Image.new("RGB", (16, 8), "red").save(tmp_path / f"{name}.png")
    lines = ["picture,words,other,part,maker"]
    lines += [f"{name}.png,one {name},two {name},test,{'me' if name == 'c' else 'you'}" for name in names]
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    model = tiny_model()
    model.about["reading"] = {
        "image_column": "picture", "caption_column": "words", "split_column": "part", "filter": "maker=you",
        "resize": "pad",
    }  # fmt: skip
    here = {"data": str(tmp_path), "split": "test"}
    own = read_captioned(model, TextToImageOptions(**here))
    assert own.texts == ["one a", "one b"] and (own.images[0, :, 0] == 255).all()
    changed = TextToImageOptions(**here, caption_column="other", filter="", resize="crop", image_column=None)
    other = read_captioned(model, changed)
    assert other.texts == ["two a", "two b", "two c"] and not (other.images[0, :, 0] == 255).all()
    for about in (None, [], {"caption_column": 3}):
        model.about["reading"] = about
        with pytest.raises(CondgenError, match="columns"):
            read_captioned(model, TextToImageOptions(**here))


def test_same_text_knows_all_captions_of_an_image():
    data = scenes(60, 3, negatives="none")
    same = same_text(data, 60)
    for i, j in ((0, 0), (3, 7), (11, 2)):
        first = data.texts[data.captions[i, 0]]
        assert same[i, j].item() == (first in {data.texts[k] for k in data.captions[j] if k >= 0})
    assert torch.diagonal(same).all()


def test_missing_data_is_named():
    with pytest.raises(CondgenError, match="--data"):
        evaluate(tiny_model())
    with pytest.raises(CondgenError, match="--data"):
        evaluate(tiny_model(), layers="parts.parquet")
    with pytest.raises(CondgenError, match="--compare-with"):
        evaluate(tiny_model(), compare_with=[tiny_model()], data="pictures")


@pytest.mark.skipif(not (SHARED / "nouns").exists(), reason="the nouns are not here")
def test_parts_are_evaluated_on_every_test_table():
    from condgen.evaluation.nouns.protocol import evaluate_layers, read_protocol

    nouns = SHARED / "nouns"
    protocol = read_protocol(nouns, nouns / "parts.parquet", 4, 32)
    options = TextToImageOptions(images_per_prompt=1, ablate=2)
    found = evaluate_layers(tiny_model(), protocol, options, lambda *_: None)
    report, shown = found.report, found.sheets["sheet"]
    assert set(report["layers"]) == {"test_comp", "test_iid"} and report["layers"]["test_iid"]["all"] == 0
    assert len(shown) == 8 and "full stack" in report["layers_ablation"]


SHIPPED = Path(__file__).resolve().parents[2] / "condgen" / "assets" / "scenes32"


@pytest.mark.skipif(not SHIPPED.exists(), reason="the model is not trained yet")
def test_the_bundled_model_generates_what_captions_ask_for():
    """A small SceneEval against the scores in the card, so that weights and code cannot drift apart."""
    model = TextToImage.load(SHIPPED)
    assert sum(f.stat().st_size for f in SHIPPED.rglob("*")) < 16e6
    recorded = model.about["metrics"]["scene_eval"]
    for side, held_out in (("seen", False), ("held_out", True)):
        scores, _ = scene_eval(model, held_out, prompts=10, images_per_prompt=2)
        assert abs(scores["overall"] - recorded[side]["overall"]) < 0.15, "six tasks of 20: three standard errors"


@pytest.mark.skipif(not (SHARED / "nouns").is_dir(), reason="the nouns are not here")
def test_the_kept_model_of_nouns_generates_what_captions_name():
    """On combinations of head and glasses that its training never showed; its card says .99."""
    nouns = SHARED / "nouns"
    report = evaluate(
        ROOT / "models" / "nouns32",
        data=str(nouns),
        layers=str(nouns / "parts.parquet"),
        prompts=24,
        images_per_prompt=1,
        ablate=0,
    )
    assert report["layers"]["test_comp"]["head"] >= 0.9 and report["layers"]["test_comp"]["glasses"] >= 0.9
