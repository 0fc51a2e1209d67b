"""Data with too little to learn from: trained where that means something, otherwise refused before training."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from condgen.baselines.mixture import fit_mixture
from condgen.contracts import CondgenError, CondgenWarning, Undefined
from condgen.data.attributes import Attribute
from condgen.evaluation import evaluate, markdown
from condgen.evaluation.classifier import accuracies, share_of
from condgen.metrics.anomaly import auroc, average_precision
from condgen.metrics.diversity import mean_distance
from condgen.metrics.fid_kid import frechet_distance
from condgen.metrics.probes import accuracy
from condgen.metrics.retrieval import prior_report, retrieval, retrieval_at_1
from condgen.pipelines.auto import load_folder
from condgen.priors.transformer import EmbeddingNormalizer
from condgen.recipes import RECIPES, train
from tests.configs import changed

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*(a single image has|one training image|all equal|for all images)"),
    pytest.mark.filterwarnings("ignore:There are . training images"),
]
SIZE, MANY = 16, 24
SETS = {  # number of images, whether they differ, captions, classes
    "one image": (1, True, 1, 1),
    "fewer than a batch": (3, True, 3, 2),
    "equal captions": (MANY, True, 1, 2),
    "one class": (MANY, True, MANY, 1),
    "equal images": (MANY, False, MANY, 2),
}
FIT = {"total_images": 16, "batch": 8}
CLIP = {"embed_dim": 8, "image_width": 8, "text_width": 16, "depth": 1, "heads": 2}
DECODER = {"channels": (8, 16), "depth": 1, "heads": 2, "width": 16, "word_depth": 1, "steps": 2}


def write(folder: Path, name: str) -> Path:
    """A folder of images with captions and labels."""
    n, differ, captions, classes = SETS[name]
    folder.mkdir(parents=True)
    rows = [["file_name", "text", "label", "split"]]
    for i in range(n):
        pixels = np.random.default_rng(i * differ).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        rows.append([f"{i}.png", f"a thing of kind {i % captions}", ["cat", "dog"][i % classes], "train"])
    with (folder / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def pairs(folder: Path, name: str) -> Path:
    """Folders a/ and b/ of images of the same names."""
    for side in "ab":
        write(folder / "train" / side, name)
        (folder / "train" / side / "metadata.csv").unlink()
    return folder


def config(recipe: str, data: Path):
    """A config of a recipe that takes about a second."""
    base = RECIPES[recipe].config()
    changes = {"eval_count": 1, "data": {"path": str(data), "size": SIZE}}
    if recipe == "captions":
        decoder = {name: value for name, value in DECODER.items() if hasattr(base.decoder, name)}
        prior = {"width": 16, "depth": 1, "heads": 2, "kinds": ("regression", "diffusion", "autoregressive")}
        return changed(
            base, clip=CLIP, prior=prior, decoder=decoder, fit_clip=FIT, fit_prior=FIT, fit_decoder=FIT, **changes
        )
    if recipe == "clip":
        return changed(base, clip=CLIP, fit=FIT, **changes)
    if recipe == "selfsup":
        return changed(base, backbone={"width": 8, "depth": 1, "stages": 2}, fit=FIT | {"batch": 2}, **changes)
    if recipe.startswith("labels"):
        decoder = {name: value for name, value in DECODER.items() if hasattr(base.decoder, name)}
        changes["data"] |= {"label_column": "label"}
        return changed(base, decoder=decoder, fit=FIT, **changes)
    if recipe in ("pairs", "unpaired"):
        return changed(base, net={"width": 8, "blocks": 1}, fit=FIT | {"batch": 2}, **changes)
    if hasattr(base, "gan"):
        return changed(base, gan={"code": 4, "width": 4, "hidden": 8}, fit=FIT, **changes)
    return changed(base, fit=FIT, **changes)


TRAINED = (
    "captions", "labels-diffusion", "labels-cgan", "labels-cvae", "pictures-linear", "pictures-conv-ae",
    "pictures-conv-vae", "pictures-dcgan", "pictures-infogan", "pairs", "unpaired",
)  # fmt: skip
REFUSED = {
    ("clip", "one image"): "one training image. Contrastive .* at least two different images with different captions",
    ("clip", "equal images"): "training images that are all equal",
    ("clip", "equal captions"): "one caption or class .'a thing of kind 0'. for all of its images",
    ("selfsup", "one image"): "one training image. Contrastive .* at least two different images. Add",
    ("selfsup", "equal images"): "training images that are all equal",
}
CASES = [(recipe, name) for recipe in (*TRAINED, "clip", "selfsup") for name in SETS if (recipe, name) not in REFUSED]


@pytest.mark.parametrize("recipe, name", CASES)
def test_what_can_be_trained_is_trained_and_its_scores_are_no_perfect_ones(recipe, name, tmp_path):
    make = pairs if recipe in ("pairs", "unpaired") else write
    data = make(tmp_path / "data", name)
    folder = train(recipe, tmp_path / "run", config(recipe, data))
    model = load_folder(folder)
    for file in (tmp_path / "run").glob("metrics.jsonl"):
        for line in file.read_text().splitlines():
            assert all(np.isfinite(x) for x in json.loads(line).values() if isinstance(x, float)), line
    if recipe.startswith("pictures"):
        assert torch.isfinite(model.decode(model.draw(range(4)))).all()
    if recipe in ("captions", "labels-cvae"):
        few = {"images_per_prompt": 1} if recipe == "captions" else {"per_label": 4, "seeds": 1}
        report = evaluate(model, str(data), out=tmp_path / "report", split="train", **few)
        _no_empty_score(recipe, name, report)
        text = json.loads((tmp_path / "report" / "report.json").read_text())
        assert text == report and "NaN" not in (tmp_path / "report" / "report.md").read_text()


def _no_empty_score(recipe: str, name: str, report: dict) -> None:
    if recipe == "captions" and name in ("one image", "equal captions"):
        assert {value for way, value in report["retrieval"].items() if way.endswith("R@1") and " to " in way} == {None}
        assert all(row["recall_at_1"] is None for row in report["prior"]["test"].values())
        assert "would score 1" in report["not_defined"]["retrieval, text to image R@1"]
    if recipe == "labels-cvae" and name in ("one image", "one class"):
        assert report["accuracy"]["overall"]["generated"] is None
        assert report["not_defined"]["accuracy, overall, generated"] == "there is one value only"
    if "not_defined" in report:
        assert "# not defined\n\n- " in markdown(report)


@pytest.mark.parametrize("recipe, name", REFUSED)
def test_what_cannot_be_learnt_is_refused_before_training(recipe, name, tmp_path):
    data = write(tmp_path / "data", name)
    with pytest.raises(CondgenError, match=REFUSED[recipe, name]):
        train(recipe, tmp_path / "run", config(recipe, data))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "recipe, name, warning",
    [
        ("captions", "one image", "data has one training image: a model can reproduce it, and nothing else"),
        ("captions", "equal captions", "one caption or class .'a thing of kind 0'. for all images: it cannot steer"),
        ("captions", "equal images", "training images, all equal"),
        ("labels-cvae", "one class", "one caption or class .'cat'. for all images"),
        ("pictures-conv-ae", "one image", "one training image"),
        ("pictures-dcgan", "equal images", "training images, all equal"),
    ],
)
def test_data_that_can_only_be_memorised_is_said(recipe, name, warning, tmp_path):
    data = write(tmp_path / "data", name)
    entry = RECIPES[recipe]
    with pytest.warns(CondgenWarning, match=warning):
        entry.task()(recipe, entry, tmp_path / "run", config(recipe, data)).check()


# Scores ---------------------------------------------------------------------------------------------------------------


def undefined(value: float) -> bool:
    return isinstance(value, Undefined) and bool(value.reason)


def test_scores_that_any_model_would_reach_are_not_defined():
    unit = torch.nn.functional.normalize(torch.randn(12, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    keys = torch.arange(12)[:, None]
    for n in (1, 3, 12):
        found = retrieval(unit[:n], unit[:n], keys[:n], keys[:n])
        assert [undefined(found[f"R@{k}"]) for k in (1, 5, 10)] == [n <= k for k in (1, 5, 10)]
        assert undefined(retrieval_at_1(unit[:n], unit[:n], torch.eye(n, dtype=torch.bool))) == (n == 1)
    assert undefined(retrieval(unit, unit, 0 * keys, 0 * keys)["R@1"])
    report = prior_report(unit[:1], unit[:1], unit[:1], torch.ones(1, 1, dtype=torch.bool))
    assert all(undefined(report[name]) for name in ("recall_at_1", "cos_unrelated", "variance_ratio"))
    assert undefined(auroc(unit[:, 0], unit[:0, 0])) and undefined(average_precision(unit[:0, 0], unit[:, 0]))
    assert undefined(frechet_distance(unit[:7], unit)) and not undefined(frechet_distance(unit[:8], unit))
    assert undefined(mean_distance(unit[:1])) and mean_distance(unit[:2]) > 0
    assert undefined(accuracy(keys[:0, 0], keys[:0, 0]))
    right = np.array([True, True])
    assert undefined(share_of(right, 1)) and share_of(right, 2) == 1 and undefined(share_of(right[:0], 2))
    one = accuracies(np.zeros((2, 1)), np.zeros((2, 1)), (Attribute("label", ("cat",)),))
    assert undefined(one["label"])


@pytest.mark.parametrize("n, equal", [(1, False), (8, True), (2, False)])
def test_statistics_of_one_or_equal_latents_are_finite(n, equal):
    latents = torch.randn(n, 4, generator=torch.Generator().manual_seed(0))
    latents = latents[:1].expand(n, -1) if equal else latents
    mixture, normalizer = fit_mixture(latents), EmbeddingNormalizer.fit(latents, "")
    drawn = mixture.draw([torch.Generator().manual_seed(0)])
    assert torch.isfinite(drawn).all() and torch.isfinite(mixture.log_prob(latents)).all()
    assert torch.isfinite(normalizer(latents)).all() and (normalizer.sd > 0).all()
    if n == 1:
        assert torch.equal(normalizer.sd, torch.ones(4)) and torch.allclose(drawn, latents, atol=1e-2)
