"""Neighbours and realism, compared with brute force."""

import numpy as np
import pytest
import torch

from condgen.data.batches.base import to_uint8
from condgen.data.datasets.labels import LabelledImages
from condgen.latent_space import neighbours
from condgen.latent_space.adapters import as_float
from condgen.latent_space.measures import nearest_real, realism
from tests.latent_space.flat import Brush, Plane, on_plane, two_classes


def labelled(space: Plane, n: int = 60) -> LabelledImages:
    return LabelledImages(to_uint8(on_plane(space, n, 0.1)), (), np.zeros((n, 0), np.float32))


def test_the_nearest_are_the_nearest_by_either_measure():
    space = Plane()
    among, x = labelled(space), on_plane(space, 5, 0.1, seed=8)
    found = neighbours(space, x, among, 4)
    real = as_float(among.images)
    for rows, a, b in ((found.by_pixels, x.flatten(1), real.flatten(1)),
                       (found.by_latents, space.encode(x), space.encode(real))):  # fmt: skip
        distance = (a[:, None] - b[None]).norm(dim=2)
        assert torch.equal(rows, distance.argsort(1)[:, :4])
    shared = np.mean([len({*a} & {*b}) / 4 for a, b in zip(found.by_latents.tolist(), found.by_pixels.tolist())])
    assert found.numbers["neighbours"]["both"]["shared"] == pytest.approx(shared)


def test_an_image_is_not_its_own_neighbour():
    among = labelled(Plane())
    found = neighbours(Plane(), as_float(among.images[:6]), among, 3)
    own = torch.arange(6)[:, None]
    assert not (found.by_latents == own).any() and not (found.by_pixels == own).any()
    assert found.by_latents.shape == (6, 3)


def test_classes_that_lie_apart_are_shared():
    among = two_classes()
    found = neighbours(Plane(), among.images[:10], among, 5, torch.from_numpy(among.labels[:10]))
    assert found.numbers["neighbours"]["pixels"]["of the same class"] > 0.95
    assert "of the same class" not in neighbours(Plane(), among.images[:4], among).numbers["neighbours"]["latents"]


def test_realism_measures_both_distances():
    space = Plane()
    among = on_plane(space, 50)
    assert nearest_real(among[:5], among).max() < 1e-6
    row = realism(space, among[:5] + 0.1, among)
    assert row["to the nearest real image"] <= 0.1 + 1e-6 and row["images"] == 5
    assert realism(space, among, None).keys() == {"images", "to its reconstruction"}
    assert realism(Brush(), among, None) == {"images": 50}
