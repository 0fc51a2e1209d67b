"""Evaluation of samples of models with known behaviour: real images, copies, one image."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from condgen.baselines.gans import Codes, GanConfig
from condgen.contracts import CondgenError
from condgen.data.batches.base import to_float
from condgen.data.datasets.labels import LabelledImages
from condgen.evaluation.classifier import ClassifierFitConfig
from condgen.evaluation.options import SampleOptions
from condgen.evaluation.samples import evaluate_samples
from tests.evaluation.models import digits

TRAIN, POOL, TEST = slice(0, 700), slice(700, 1250), slice(1250, None)
QUICK = ClassifierFitConfig(images=5000)


class Pool:
    """Its images are those of a pool, the code is the row."""

    device, critic = torch.device("cpu"), None

    def __init__(self, pool: LabelledImages):
        self.pool = pool

    def draw(self, seeds):
        return torch.tensor([np.random.default_rng(s).integers(len(self.pool)) for s in seeds])[:, None]

    def decode(self, z):
        return to_float(self.pool.images[z[:, 0].numpy()])

    def sample(self, seeds):
        return self.decode(self.draw(seeds))


class ByCategory(Pool):
    """An InfoGAN that has found the classes under other names: category c is the class 3 c + 1 modulo ten."""

    net = SimpleNamespace(config=GanConfig(code=1, categories=10))

    def __init__(self, pool: LabelledImages):
        super().__init__(pool)
        known = [digits(part) for part in (TRAIN, TEST)]
        images, labels = (np.concatenate([getattr(p, name) for p in known]) for name in ("images", "targets"))
        self.seen = {i.tobytes(): int(c) for i, c in zip(images, labels[:, 0])}
        self.critic = SimpleNamespace(category=self.category)

    def draw(self, seeds):
        rngs = [np.random.default_rng(s) for s in seeds]
        even = torch.tensor([[rng.random()] for rng in rngs])
        return (
            Codes.from_uniform(torch.tensor([[rng.random()] for rng in rngs]), even, self.net.config).joined().float()
        )

    def decode(self, z):
        noise, category, _ = Codes.of(z, self.net.config)
        rows = [np.flatnonzero(self.pool.targets[:, 0] == (3 * c + 1) % 10) for c in category.argmax(1).tolist()]
        return to_float(self.pool.images[[own[int(x * len(own))] for x, own in zip(noise[:, 0], rows)]])

    def category(self, images):
        shown = [self.seen[i.tobytes()] for i in (images * 127.5 + 127.5).round().byte().numpy()]
        return torch.eye(10)[[(c - 1) * 7 % 10 for c in shown]]  # 7 undoes the 3


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """Name of a model -> what was found."""
    folder = tmp_path_factory.mktemp("classifiers")
    train, test, pool = digits(TRAIN), digits(TEST), digits(POOL)
    options = SampleOptions(seeds=2, classifiers=folder)
    models = {"truth": Pool(pool), "copies": Pool(train), "one": Pool(pool.rows([0])), "kinds": ByCategory(pool)}
    return {name: evaluate_samples(m, train, test, options, QUICK) for name, m in models.items()}


def of(judged, section: str, line: str, side: str = "generated") -> dict[str, float]:
    """The same entry of every report; a line is named by its beginning."""
    tables = {name: found.report[section] for name, found in judged.items()}
    return {name: next(table[key] for key in table if key.startswith(line))[side] for name, table in tables.items()}


def test_real_images_are_as_near_as_real_ones(judged):
    for line in ("frechet", "kernel"):
        found, floor = (of(judged, "distances", line, side) for side in ("generated", "real"))
        assert found["truth"] < max(2 * floor["truth"], 0.02 * found["one"]), line
    p = of(judged, "two_sample_test", "p")
    assert p["one"] < 0.01 < p["truth"]
    coverage, real = (of(judged, "coverage", "recall", side) for side in ("generated", "real"))
    assert coverage["one"] < 0.05 < 0.8 * real["truth"] < coverage["truth"]


def test_one_image_again_and_again_is_reported(judged):
    distance, real = (of(judged, "diversity", "mean distance", side) for side in ("generated", "real"))
    assert distance["one"] == 0 and distance["truth"] == pytest.approx(real["truth"], rel=0.05)
    missing = of(judged, "diversity", "label: missing")
    assert missing["one"] == 9 and missing["truth"] == missing["copies"] == 0
    spread = of(judged, "diversity", "label: entropy")
    assert spread["one"] == 0 and spread["truth"] > 2.2
    assert sorted(line["generated"] for line in judged["one"].report["shares_of_label"].values()) == [0.0] * 9 + [1.0]


def test_training_images_learned_by_heart_are_reported(judged):
    found = of(judged, "memorisation", "memorised")
    assert found["copies"] == 1 and found["truth"] < 0.2
    sheet = judged["copies"].sheets["neighbours"]
    assert all(np.array_equal(own[1], known[1]) for own, known in zip(sheet[::2], sheet[1::2]))


def test_categories_are_named_after_the_classes_that_they_are(judged):
    report = judged["kinds"].report
    assert all(line["accuracy"] == 1 for name, line in report["categories"].items() if "inferred" in name)
    assert all(line["accuracy"] > 0.9 for name, line in report["categories"].items() if "generated" in name)
    assert set(report["classes_of_test_images_by_category"]) == {
        f"category {c}, assigned to {(3 * c + 1) % 10}" for c in range(10)
    }
    assert all("categories" not in judged[name].report for name in ("truth", "one"))


def test_images_without_classes_are_evaluated_by_a_network_that_has_learned_nothing():
    train, test = (LabelledImages(d.images, (), d.targets[:, :0], "bare") for d in map(digits, (TRAIN, TEST)))
    report = evaluate_samples(Pool(train), train, test, SampleOptions(seeds=1)).report
    assert report["samples"]["features"].startswith("features: random network")
    assert list(report["diversity"]) == ["mean distance of two images, intensities in [0, 1]"]


def test_too_few_pictures_are_refused():
    train = digits(TRAIN)
    with pytest.raises(CondgenError, match="has 700 training and 5 test images; 12"):
        evaluate_samples(Pool(train), train, train.rows(range(5)), SampleOptions())
