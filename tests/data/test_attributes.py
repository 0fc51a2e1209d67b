"""What images are labelled with: names and numbers to codes and back; batches of labelled images."""

import math

import numpy as np
import pytest
import torch

from condgen.contracts import CondgenError
from condgen.data.attributes import Attribute
from condgen.data.batches.labels import LabelBatches
from condgen.data.datasets.labels import LabelledImages

CLOTHES = Attribute("label", ("T-shirt/top", "Trouser", "Sneaker", "Ankle boot"))
AGE = Attribute("age", mean=40.0, sd=10.0, low=18.0, high=90.0)


@pytest.mark.parametrize("value", CLOTHES.values)
def test_names_and_codes_are_a_round_trip(value):
    assert CLOTHES.format_target(CLOTHES.encode(value)) == value
    assert CLOTHES.encode(value.upper()) == CLOTHES.encode(value)


@pytest.mark.parametrize("value", [18, 40.5, "66"])
def test_numbers_are_standardised(value):
    assert AGE.encode(value) == pytest.approx((float(value) - 40) / 10)
    assert float(AGE.format_target(AGE.encode(value))) == pytest.approx(float(value))


def test_an_unknown_value_gets_the_nearest_names():
    with pytest.raises(CondgenError, match=r"no value 'sneakers'.*Nearest: Sneaker"):
        CLOTHES.encode("sneakers")


@pytest.mark.parametrize("value", ["old", float("nan"), None, "inf"])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(CondgenError, match="age must be a"):
        AGE.encode(value)


def some(n: int = 12) -> LabelledImages:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n, 1, 8, 8), dtype=np.uint8)
    targets = np.stack([np.arange(n) % 4, rng.standard_normal(n)], 1).astype(np.float32)
    targets[3, 1] = math.nan
    return LabelledImages(images, (CLOTHES, AGE), targets)


def test_an_epoch_shows_every_image_once_with_its_codes():
    data = some()
    views = LabelBatches(data, 4, seed=1)
    batches = [views(step) for step in range(3)]
    images = torch.cat([batch["image"] for batch in batches])
    back = ((images + 1) * 127.5).round().to(torch.uint8).numpy()
    rows = [next(i for i in range(12) if (data.images[i] == image).all()) for image in back]
    assert sorted(rows) == list(range(12))
    targets, known = (torch.cat([batch[name] for batch in batches]).numpy() for name in ("targets", "has_targets"))
    assert (known == ~np.isnan(data.targets[rows])).all()
    assert (targets[known] == data.targets[rows][known]).all() and (targets[~known] == 0).all()


def test_the_parts_of_two_processes_are_the_batch_of_one():
    data, shape = some(), {"seed": 2, "shift": 1, "flip": True}
    whole = LabelBatches(data, 4, **shape)(5)
    parts = [LabelBatches(data, 4, **shape, rank=rank, world=2)(5) for rank in (0, 1)]
    for name, value in whole.items():
        assert torch.equal(value, torch.cat([part[name] for part in parts])), name


def test_flips_mirror_about_half_of_the_images():
    data = some()
    plain, flipped = LabelBatches(data, 12, 0)(0)["image"], LabelBatches(data, 12, 0, flip=True)(0)["image"]
    same = [bool(torch.equal(a, b)) for a, b in zip(plain, flipped)]
    mirrored = [bool(torch.equal(a, b.flip(-1))) for a, b in zip(plain, flipped)]
    assert all(a != b for a, b in zip(same, mirrored)) and 0 < sum(mirrored) < 12
