"""Arithmetic and editing with a known outcome."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from condgen.contracts import CondgenError
from condgen.data.attributes import Attribute
from condgen.latent_space import arithmetic, edit
from condgen.latent_space.adapters import as_float
from condgen.latent_space.tools.edit import PixelProbe, fit_direction
from tests.latent_space.flat import SIZE, Brush, Plane, on_plane, two_classes


class Pixels(nn.Module):
    """The space in which a code is the image."""

    size, image_channels, latent, encodes = SIZE, 1, SIZE**2, True

    def encode(self, images):
        return images.flatten(1)

    def decode(self, z):
        return z.unflatten(1, (1, SIZE, SIZE))


@pytest.fixture
def halves():
    return two_classes(80), two_classes(40, seed=1)


# arithmetic


def test_what_is_added_and_subtracted_cancels():
    space = Plane()
    a, b = on_plane(space, 10, 0.2, seed=1), on_plane(space, 12, 0.2, seed=2)
    found = arithmetic(space, [a, b], [a])
    assert torch.allclose(found.latent, space.encode(b).mean(0, keepdim=True), atol=1e-4)
    assert torch.allclose(found.image, space.decode(found.latent), atol=1e-6)
    assert torch.allclose(arithmetic(space, [b, a], [a]).latent, found.latent, atol=1e-5), "order does not matter"


def test_on_a_plane_sums_of_latents_stay_on_it():
    space, among = Plane(), on_plane(Plane(), 300)
    sets = [on_plane(space, 1, 0.3, seed=k) for k in range(3)]
    rows = arithmetic(space, sets[:2], sets[2:], among).numbers["realism"]
    assert rows["latents"]["to its reconstruction"] < 1e-5 < 0.1 < rows["pixels"]["to its reconstruction"]
    assert rows["latents"]["to the nearest real image"] < rows["pixels"]["to the nearest real image"]


def test_sums_need_sets_and_an_encoder():
    x = on_plane(Plane(), 2)
    with pytest.raises(CondgenError, match="no set of images"):
        arithmetic(Plane(), [], [x])
    with pytest.raises(CondgenError, match="There are no images"):
        arithmetic(Plane(), [x[:0]])
    with pytest.raises(CondgenError, match="no encoder"):
        arithmetic(Brush(), [x])


# editing


def test_a_step_of_one_goes_from_class_to_class_and_keeps_the_rest(halves):
    train, test = halves
    found = edit(Pixels(), train, test, "label", "light")
    rows = found.numbers["edited"]
    assert rows["strength 0"] == {"has the value": 0, "top kept": 1, "change": pytest.approx(0, abs=1e-6)}
    assert rows["strength 1"]["has the value"] == rows["strength 2"]["has the value"] == 1
    assert all(row["top kept"] == 1 for row in rows.values())
    assert rows["strength 2"]["change"] == pytest.approx(2 * rows["strength 1"]["change"], rel=1e-3)
    means = [as_float(train.images[train.labels == k]).mean(0) for k in (0, 1)]
    assert torch.allclose(found.direction.view(1, 4, 4), means[1] - means[0], atol=1e-5)
    judge = found.numbers["classifier"]["held-out images"]
    assert judge["images edited"] == len(found.images) == 20, "those that are dark"
    assert judge["label, accuracy on real images"] == judge["top, accuracy on real images"] == 1


@pytest.mark.parametrize("how", ["means", "probe", "lda"])
def test_every_direction_is_as_long_as_the_classes_are_apart_along_it(halves, how):
    codes = torch.from_numpy(halves[0].images).float().flatten(1) / 127.5
    sides = [codes[halves[0].labels == k] for k in (1, 0)]
    found, gap = fit_direction(*sides, how), sides[0].mean(0) - sides[1].mean(0)
    assert (found @ gap).item() == pytest.approx((found @ found).item(), rel=1e-4)
    assert torch.allclose(fit_direction(*sides[::-1], how), -found, atol=0.05 * found.norm().item())
    rows = edit(Pixels(), *halves, "label", "light", method=how).numbers["edited"]
    assert rows["strength 2"]["has the value"] == 1 and rows["strength 2"]["top kept"] == 1


def test_the_discriminant_takes_out_what_both_classes_vary_in():
    rng = torch.Generator().manual_seed(0)
    both = torch.tensor([[1.0, 0.9], [0.0, 0.3]])  # what varies most is common to both numbers
    no, yes = (torch.randn(4000, 2, generator=rng) @ both + torch.tensor(at) for at in ((0.0, 0.0), (1.0, 0.0)))
    covariance = (both.T @ both).double()
    normal = torch.linalg.solve(covariance, torch.tensor([1.0, 0.0], dtype=torch.float64)).float()
    cosine = torch.nn.functional.cosine_similarity
    for how in ("lda", "probe"):
        assert cosine(fit_direction(yes, no, how), normal, dim=0) > 0.99
    assert cosine(fit_direction(yes, no, "means"), normal, dim=0) < 0.9


def test_images_without_the_attribute_are_left_out(halves):
    train, test = halves
    codes = test.targets.copy()
    codes[:20, 0] = np.nan
    found = edit(Pixels(), train, replace(test, targets=codes), "label", "light", strengths=(1,))
    assert len(found.images) == 10
    three = replace(train, attributes=(Attribute("label", ("dark", "light", "never")), train.attributes[1]))
    other = replace(test, attributes=three.attributes)
    assert len(edit(Pixels(), three, other, "label", "light", "dark", strengths=(1,)).images) == 20
    with pytest.raises(CondgenError, match="There are 0 images with label never; at least two"):
        edit(Pixels(), three, other, "label", "never")


def test_another_classifier_replaces_the_probe(halves):
    seen = []

    def judge(images):
        seen.append(len(images))
        return np.ones((len(images), 2), int)

    rows = edit(Pixels(), *halves, "label", "light", strengths=(1, 2), classifier=judge).numbers["edited"]
    assert seen == [40, 20, 20] and rows["strength 1"]["has the value"] == 1 and rows["strength 1"]["top kept"] == 0.5


def test_the_probe_is_right_on_held_out_images(halves):
    train, test = halves
    assert (PixelProbe(train)(as_float(test.images)) == test.targets).all()


@pytest.mark.parametrize(
    "asked, words",
    [
        (("colour", "red"), "halves has no categorical attribute 'colour'; it has label, top"),
        (("label", "grey"), "grey"),
        (("label", "light", "light"), "cannot be edited into itself"),
    ],
)
def test_impossible_edits_are_refused(halves, asked, words):
    with pytest.raises(CondgenError, match=words):
        edit(Pixels(), *halves, *asked)


def test_unknown_methods_are_refused(halves):
    with pytest.raises(CondgenError, match="means, probe, lda, got 'magic'"):
        edit(Pixels(), *halves, "label", "light", method="magic")
    with pytest.raises(CondgenError, match="have different attributes"):
        edit(Pixels(), halves[0], replace(halves[1], attributes=halves[1].attributes[::-1]), "label", "light")
