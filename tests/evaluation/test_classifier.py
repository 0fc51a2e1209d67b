"""The independent classifier: what it learns, what it leaves alone, how it is kept."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from condgen.contracts import CondgenError, CondgenWarning, Trainable
from condgen.data.attributes import LABEL, Attribute
from condgen.data.batches.labels import condition_of
from condgen.data.datasets.labels import LabelledImages
from condgen.data.sources.labels import open_labelled
from condgen.evaluation.classifier import (
    Classifier,
    ClassifierConfig,
    ClassifierFitConfig,
    ClassifierTraining,
    cache_key,
    cached_classifier,
    features_of,
    predict,
    train_classifier,
)
from tests.evaluation.models import digits

FASHION = Path(__file__).resolve().parents[3] / "shared" / "data" / "fashion-mnist"
QUICK = ClassifierFitConfig(images=2000)


def right(classifier: Classifier, data: LabelledImages) -> float:
    return float((predict(classifier, features_of(classifier, data.images))[:, 0] == data.labels).mean())


def test_digits_are_nearly_all_right_in_seconds():
    assert right(train_classifier(digits(slice(0, 1437))), digits(slice(1437, None))) > 0.97


@pytest.mark.parametrize("size", [1, 5, 8, 28, 32, 45, 64, 128])
@pytest.mark.parametrize("image_channels", [1, 3])
def test_any_size_and_both_numbers_of_colours(size, image_channels):
    torch.manual_seed(0)
    classifier = Classifier(ClassifierConfig(size, image_channels, (10, 0, 3), channels=(8, 16, 16)))
    training = ClassifierTraining(classifier)
    assert isinstance(training, Trainable)
    targets = np.array([[1, 0.5, 2], [math.nan, 0.1, 0], [3, math.nan, math.nan]], np.float32)
    batch = {"image": torch.randn(3, image_channels, size, size)} | condition_of(targets)
    training.loss(batch)["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in training.parameters())
    seen = predict(classifier, features_of(classifier, np.zeros((4, image_channels, size, size), np.uint8)))
    assert seen.shape == (4, 3) and (seen[:, 1] == -1).all() and (seen[:, 2] < 3).all()


def test_a_label_that_is_missing_teaches_nothing():
    torch.manual_seed(0)
    classifier = Classifier(ClassifierConfig(8, 1, (10, 2), channels=(8, 8)))
    training = ClassifierTraining(classifier)
    images = torch.randn(4, 1, 8, 8)
    targets = np.array([[1, 0], [2, math.nan], [3, 1], [math.nan, math.nan]], np.float32)
    logits = classifier.logits(classifier.features(images))
    first = torch.nn.functional.cross_entropy(logits[0][:3], torch.tensor([1, 2, 3]))
    second = torch.nn.functional.cross_entropy(logits[1][[0, 2]], torch.tensor([0, 1]))
    found = training.loss({"image": images} | condition_of(targets))
    assert found["loss"].item() == pytest.approx((first + second).item(), rel=1e-5)
    none = training.loss({"image": images} | condition_of(np.full((4, 2), np.nan, np.float32)))
    assert none["loss"].item() == 0 and none["accuracy"].item() == 0


def test_nothing_labelled_is_refused():
    data = digits(slice(0, 20))
    for targets, attributes in (
        (np.full((20, 1), np.nan, np.float32), data.attributes),
        (data.targets, (Attribute("age"),)),
    ):
        with pytest.raises(CondgenError, match="nothing to evaluate by"):
            train_classifier(replace(data, targets=targets, attributes=attributes), QUICK)


def test_a_class_of_one_image_is_no_obstacle():
    data = digits(slice(0, 30))
    targets = np.zeros_like(data.targets)
    targets[7] = 1
    one = replace(data, targets=targets, attributes=(Attribute(LABEL, ("many", "one")),))
    assert right(train_classifier(one, QUICK), one) > 0.9


def test_it_is_trained_once_and_kept(tmp_path, monkeypatch):
    data = digits(slice(0, 200))
    state = torch.get_rng_state()
    again = train_classifier(data, QUICK)
    assert torch.equal(state, torch.get_rng_state()), "nobody else's random numbers are touched"
    first = cached_classifier(data, tmp_path, QUICK)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters())), "always the same"
    monkeypatch.setattr("condgen.evaluation.classifier.train_classifier", None)
    second = cached_classifier(data, tmp_path, QUICK)
    assert torch.equal(features_of(first, data.images), features_of(second, data.images))
    (place,) = tmp_path.iterdir()
    assert place.name == f"classifier-{cache_key(data, QUICK)}"


@pytest.mark.parametrize("damage", ["cut", "one byte"])
def test_a_damaged_one_is_trained_anew(tmp_path, damage):
    data = digits(slice(0, 200))
    first = cached_classifier(data, tmp_path, QUICK)
    (weights,) = tmp_path.rglob("model.safetensors")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100] if damage == "cut" else whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    with pytest.warns(CondgenWarning, match=r"trained anew: .*model\.safetensors is damaged"):
        second = cached_classifier(data, tmp_path, QUICK)
    assert torch.equal(features_of(first, data.images), features_of(second, data.images))
    assert weights.read_bytes() == whole


def test_the_key_names_everything_that_matters():
    data = digits(slice(0, 50))
    other = data.images.copy()
    other[3, 0, 2, 2] ^= 1
    targets = data.targets.copy()
    targets[4] = (targets[4] + 1) % 10
    (own,) = data.attributes
    keys = [
        cache_key(data, QUICK),
        cache_key(replace(data, images=other), QUICK),
        cache_key(replace(data, targets=targets), QUICK),
        cache_key(replace(data, attributes=(replace(own, values=own.values[::-1]),)), QUICK),
        cache_key(data, replace(QUICK, seed=1)),
        cache_key(replace(data, images=data.images.reshape(50, 1, 8, 8)[:, :, ::-1]), QUICK),
    ]
    assert len(set(keys)) == len(keys)
    assert keys[0] == cache_key(digits(slice(0, 50)), QUICK) == cache_key(replace(data, name="elsewhere"), QUICK)


def test_flips_are_off_unless_asked_for():
    assert not ClassifierFitConfig().flip
    data = digits(slice(0, 50))
    plain, flipped = (train_classifier(data, replace(QUICK, flip=flip)) for flip in (False, True))
    assert not torch.equal(features_of(plain, data.images), features_of(flipped, data.images))


@pytest.mark.slow
@pytest.mark.skipif(not FASHION.is_dir(), reason="Fashion-MNIST is not here")
def test_clothes_are_distinguished_well_enough_to_evaluator_by():
    train, test = (open_labelled(FASHION, split=split) for split in ("train", "test"))
    assert right(train_classifier(train), test) >= 0.92
