"""Distances between sets of features, against closed forms and other people's code."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance, poly_mmd

from condgen.metrics.fid_kid import (
    frechet_distance,
    gaussian_kernel,
    kernel_distance,
    mmd2,
    mmd_test,
    polynomial_kernel,
)


def normal(n: int, d: int = 8, seed: int = 0, mean: float = 0.0, sd: float = 1.0) -> torch.Tensor:
    return mean + sd * torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def mixed(n: int, d: int = 8, seed: int = 0) -> torch.Tensor:
    """Dimensions that hang together, and one that says nothing new: the covariance has no full rank."""
    x = normal(n, d, seed) @ normal(d, d, 99)
    x[:, -1] = x[:, 0] - 2 * x[:, 1]
    return x


class Given(torch.nn.Module):
    """Features are given as images."""

    num_features = 8

    def forward(self, x):
        return x


@pytest.mark.parametrize(
    "x, y", [(normal(400), normal(300, seed=1, mean=0.3, sd=2)), (mixed(400), mixed(300, seed=1) + 1)]
)
def test_frechet_is_that_of_torchmetrics_torch_fidelity_and_scipy(x, y):
    other = FrechetInceptionDistance(feature=Given())
    other.set_dtype(torch.float64)
    other.update(x.double(), real=True)
    other.update(y.double(), real=False)
    found = frechet_distance(x, y)
    assert found == pytest.approx(other.compute().item(), rel=1e-4)
    c, k = np.cov(x.double().numpy().T), np.cov(y.double().numpy().T)
    cross = np.trace(scipy.linalg.sqrtm(c @ k)).real
    apart = (x.double().mean(0) - y.double().mean(0)).square().sum().item()
    assert found == pytest.approx(apart + np.trace(c) + np.trace(k) - 2 * cross, rel=1e-4)
    theirs = fid_statistics_to_metric(*(fid_features_to_statistics(z.double()) for z in (x, y)), verbose=False)
    assert found == pytest.approx(theirs["frechet_inception_distance"], rel=1e-4)


def test_frechet_of_known_normals():
    n = 200_000
    found = frechet_distance(normal(n, 3, 1), normal(n, 3, 2, mean=2.0, sd=3.0))
    assert found == pytest.approx(3 * 2.0**2 + 3 * (3.0 - 1) ** 2, rel=0.02)
    assert frechet_distance(normal(50), normal(50)) == pytest.approx(0, abs=1e-9)


def test_frechet_of_too_few_images_is_not_reported():
    assert math.isnan(frechet_distance(normal(15), normal(400))) and math.isnan(
        frechet_distance(normal(400), normal(15))
    )
    assert frechet_distance(normal(16), normal(16, seed=1)) > 0


def test_mmd2_under_the_polynomial_kernel_is_that_of_torchmetrics():
    x, y = normal(60).double(), normal(60, seed=1, mean=0.5).double()
    own = mmd2(polynomial_kernel(x, x), polynomial_kernel(y, y), polynomial_kernel(x, y))
    assert own == pytest.approx(poly_mmd(x, y).item(), rel=1e-9)


def test_kernel_distance_is_that_of_torchmetrics_and_torch_fidelity():
    """Subsets are drawn at random: their mean and their standard deviation agree within the error of 400 subsets."""
    x, y, subsets, size = normal(300).double(), normal(280, seed=1, mean=0.3).double(), 400, 100
    mean, sd = kernel_distance(x, y, subsets, size)
    other = KernelInceptionDistance(feature=Given(), subsets=subsets, subset_size=size)
    other.set_dtype(torch.float64)
    other.update(x, real=True)
    other.update(y, real=False)
    options = {"kid_subsets": subsets, "kid_subset_size": size, "rng_seed": 3, "verbose": False}
    theirs = kid_features_to_metric(y, x, **options)
    for their_mean, their_sd in ([v.item() for v in other.compute()], theirs.values()):
        assert abs(mean - their_mean) < 4 * sd * math.sqrt(2 / subsets) and sd == pytest.approx(their_sd, rel=0.2)


def test_mmd2_of_one_distribution_is_zero_on_average():
    values = []
    for seed in range(200):
        x, y = normal(10, 4, 2 * seed).double(), normal(20, 4, 2 * seed + 1).double()
        values.append(mmd2(*(gaussian_kernel(a, b, 2.0) for a, b in ((x, x), (y, y), (x, y)))))
    assert abs(np.mean(values)) < 3 * np.std(values) / math.sqrt(200) and min(values) < 0


def test_kernel_distance_is_near_the_mmd2_of_everything_and_grows():
    x = normal(600)
    found = []
    for mean in (0.0, 0.3, 0.6):
        y = normal(500, seed=1, mean=mean)
        whole = mmd2(*(polynomial_kernel(a.double(), b.double()) for a, b in ((x, x), (y, y), (x, y))))
        value, sd = kernel_distance(x, y)
        assert abs(value - whole) < sd
        found.append(value)
    assert found == sorted(found) and found[-1] > 0.1
    assert kernel_distance(x, x[:8])[1] > 0, "of eight images, four at a time"


def test_the_two_sample_test_permutes_the_mmd2():
    x, y = normal(30), normal(40, seed=1, mean=0.4)
    value, p = mmd_test(x, y, permutations=199)
    pooled = torch.cat([x, y]).double()
    scale = torch.pdist(pooled).median().item()

    def statistic(order):
        a, b = pooled[order[:30]], pooled[order[30:]]
        return mmd2(*(gaussian_kernel(u, v, scale) for u, v in ((a, a), (b, b), (a, b))))

    assert value == pytest.approx(statistic(torch.arange(70)), rel=1e-9)
    rng = torch.Generator().manual_seed(5)
    drawn = [statistic(torch.randperm(70, generator=rng)) for _ in range(300)]
    assert abs(p - np.mean(np.array(drawn) >= value)) < 0.1


def test_the_two_sample_test_keeps_its_level_and_has_power():
    same = [mmd_test(normal(40, 4, 2 * s), normal(40, 4, 2 * s + 1), permutations=99)[1] for s in range(100)]
    assert 0.3 < np.mean(same) < 0.7 and np.mean(np.array(same) <= 0.05) < 0.12
    other = [mmd_test(normal(40, 4, 2 * s), normal(40, 4, 2 * s + 1, 1.0), permutations=99)[1] for s in range(10)]
    assert max(other) == 0.01, "one in a hundred is as small as it can be"
