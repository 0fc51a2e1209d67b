"""ViewBatches at images: sound, reproducible, and the same on any number of processes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from condgen.contracts import CondgenError
from condgen.data.batches.augment import DICE, Augment, augment
from condgen.data.batches.views import ViewBatches

NOTHING = Augment(crop=1.0, flip=False, jitter=0.0, grey=0.0, erase=0.0)


def random_images(n=6, colours=3, size=16):
    torch.manual_seed(0)
    return torch.rand(n, colours, size, size) * 2 - 1


def dice(n=6, seed=1):
    return torch.rand(n, DICE, generator=torch.Generator().manual_seed(seed))


ALL = Augment(crop=0.2, flip=True, jitter=0.8, grey=0.5, erase=0.5)


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("how", [Augment(), ALL], ids=["usual", "all"])
def test_views_keep_shape_and_range_and_differ(colours, how):
    images = random_images(64, colours)
    kept = images.clone()
    one, other = (augment(images, dice(64, seed), how) for seed in (1, 2))
    assert one.shape == images.shape and one.abs().max() <= 1 and one.isfinite().all()
    assert ((one - other).abs().flatten(1).max(1).values > 0.01).all() and torch.equal(images, kept)


def test_a_look_depends_on_its_image_and_its_dice_alone():
    images, d = random_images(), dice()
    whole = augment(images, d, ALL)
    assert torch.equal(whole, augment(images, d, ALL))
    for i in range(len(images)):
        torch.testing.assert_close(augment(images[i : i + 1], d[i : i + 1], ALL)[0], whole[i])


def test_where_nothing_may_happen_nothing_does():
    assert torch.equal(augment(random_images(), dice(), NOTHING), random_images())


def test_a_mirror_image_is_one():
    images, d = random_images(), dice()
    d[:3, 4], d[3:, 4] = 0.1, 0.9
    out = augment(images, d, replace(NOTHING, flip=True))
    torch.testing.assert_close(out[:3], images[:3].flip(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(out[3:], images[3:], atol=1e-5, rtol=0)


def test_a_crop_is_a_part_enlarged():
    """Of a ramp from left to right, a part of a ramp: as wide as the area asked for, anywhere in the image."""
    ramp = torch.linspace(-1, 1, 64).expand(200, 1, 64, 64)
    out = augment(ramp, dice(200), replace(NOTHING, crop=0.25))
    seen = (out[..., -1] - out[..., 0]).mean((1, 2)) / 2  # share of the width
    assert 0.4 < seen.min() < 0.6 and 0.9 < seen.max() <= 1.001
    torch.testing.assert_close(out[:, :, 0], out[:, :, -1])
    assert out[..., 0].min() < -0.9 and out[..., -1].max() > 0.9


def test_grey_stays_grey_and_colours_go_where_asked():
    grey = random_images(32, 1).expand(-1, 3, -1, -1)
    out = augment(grey, dice(32), replace(NOTHING, jitter=0.8))
    torch.testing.assert_close(out[:, 0], out[:, 1], atol=1e-4, rtol=0)
    out = augment(random_images(32), dice(32), replace(NOTHING, grey=1.0))
    assert torch.equal(out[:, 0], out[:, 2])
    assert (augment(random_images(32), dice(32), replace(NOTHING, jitter=0.8)) != random_images(32)).any()


def test_a_square_is_erased_in_so_many_images():
    images = random_images(400, 1)
    out = augment(images, dice(400), replace(NOTHING, erase=0.3))
    gone = (out != images).float().mean((1, 2, 3))
    assert 0.2 < (gone > 0).float().mean() < 0.4
    assert gone[gone > 0].min() > 0.05 and gone.max() < 0.4


# batches

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)


def test_a_batch_is_the_same_whoever_draws_it():
    whole = ViewBatches(IMAGES, 8, seed=3, augmentation=ALL, noise=2)
    halves = [ViewBatches(IMAGES, 8, seed=3, augmentation=ALL, noise=2, rank=r, world=2) for r in (0, 1)]
    for step in (0, 2, 9, 2):
        joint, parts = whole(step), [half(step) for half in halves]
        assert joint.keys() == {"view_1", "view_2", "index", "noise"}
        for key, value in joint.items():
            torch.testing.assert_close(torch.cat([part[key] for part in parts]), value)
    assert not torch.equal(whole(0)["view_1"], ViewBatches(IMAGES, 8, seed=4, augmentation=ALL)(0)["view_1"])


def test_every_image_comes_once_an_epoch_under_its_number():
    looks = ViewBatches(IMAGES, 5, seed=0, augmentation=NOTHING, views=1)
    batches = [looks(step) for step in range(4)]
    assert sorted(torch.cat([b["index"] for b in batches]).tolist()) == list(range(20))
    for b in batches:
        assert b.keys() == {"view_1", "index"}
        expected = torch.from_numpy(IMAGES)[b["index"]].float() / 127.5 - 1
        torch.testing.assert_close(b["view_1"], expected)


def test_an_uneven_split_is_refused():
    with pytest.raises(CondgenError, match="multiple of 3"):
        ViewBatches(IMAGES, 8, seed=0, augmentation=NOTHING, world=3)
