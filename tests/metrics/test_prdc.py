"""Nearest neighbours, against scikit-learn, prdc, torch-fidelity and the definitions word by word."""

import numpy as np
import pytest
import torch
from prdc import compute_prdc
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import NearestNeighbors
from torch_fidelity.metric_prc import prc_features_to_metric

from condgen.metrics.prdc import closeness, coverage_report, memorisation, nearest


def normal(n: int, d: int = 6, seed: int = 0, mean: float = 0.0, sd: float = 1.0) -> torch.Tensor:
    return mean + sd * torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_nearest_is_that_of_scikit_learn(monkeypatch):
    monkeypatch.setattr("condgen.metrics.prdc.ROWS", 7)
    x, among = normal(30), normal(200, seed=1)
    distances, rows = nearest(x, among, 5)
    other = NearestNeighbors(n_neighbors=5, algorithm="brute").fit(among.numpy()).kneighbors(x.numpy())
    assert np.allclose(distances, other[0], atol=1e-5) and (rows.numpy() == other[1]).all()


def test_small_distances_keep_their_digits():
    among = normal(50) + 1000
    x = among[:3].clone()
    x[:, 0] += torch.tensor([0.0, 0.25, 0.5])
    distances, rows = nearest(x, among)
    assert distances[:, 0].tolist() == [0.0, 0.25, 0.5] and rows[:, 0].tolist() == [0, 1, 2]


def by_definition(real: np.ndarray, generated: np.ndarray, k: int) -> dict[str, float]:
    rr, gg, rg = (pairwise_distances(a, b) for a, b in ((real, real), (generated, generated), (real, generated)))
    reach_r, reach_g = np.sort(rr, 1)[:, k], np.sort(gg, 1)[:, k]
    inside = rg <= reach_r[:, None]
    return {
        "precision": inside.any(0).mean(),
        "recall": (rg <= reach_g[None]).any(1).mean(),
        "density": inside.sum(0).mean() / k,
        "coverage": inside.any(1).mean(),
    }


@pytest.mark.parametrize("mean, sd", [(0.0, 1.0), (0.5, 1.0), (0.0, 0.3), (3.0, 2.0)])
def test_coverage_report_is_by_definition(mean, sd, monkeypatch):
    monkeypatch.setattr("condgen.metrics.prdc.ROWS", 64)
    real, generated = normal(150).double(), normal(110, seed=1, mean=mean, sd=sd).double()
    assert coverage_report(real, generated) == pytest.approx(by_definition(real.numpy(), generated.numpy(), 5))


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("mean, sd", [(0.0, 1.0), (0.5, 1.0), (0.0, 0.3), (3.0, 2.0)])
def test_coverage_report_is_that_of_prdc_and_torch_fidelity(mean, sd, k):
    real, generated = normal(150).double(), normal(110, seed=1, mean=mean, sd=sd).double()
    found = coverage_report(real, generated, k)
    assert found == pytest.approx(compute_prdc(real.numpy(), generated.numpy(), k))
    options = {"prc_neighborhood": k, "prc_batch_size": 64, "verbose": False, "save_cpu_ram": False}
    theirs = prc_features_to_metric(generated, real, **options)
    assert [found[name] for name in ("precision", "recall")] == pytest.approx(
        [theirs[name] for name in ("precision", "recall")], abs=1e-6
    )


def test_an_image_on_the_edge_of_a_ball_is_inside_as_in_torch_fidelity():
    """Copies of real images tie with their neighbours. prdc leaves the edge out: it calls copies less covered."""
    real = normal(40).double()
    generated = real.flip(0)
    options = {"prc_neighborhood": 3, "prc_batch_size": 64, "verbose": False, "save_cpu_ram": False}
    theirs, found = prc_features_to_metric(generated, real, **options), coverage_report(real, generated, 3)
    assert found["precision"] == theirs["precision"] == found["recall"] == theirs["recall"] == 1
    assert found["density"] == pytest.approx(4 / 3) and compute_prdc(real.numpy(), generated.numpy(), 3)["density"] == 1


def test_coverage_tells_collapse_from_noise():
    real = normal(200)
    same, narrow, wide = (coverage_report(real, normal(200, seed=1, sd=sd)) for sd in (1.0, 0.05, 5.0))
    assert min(same.values()) > 0.7
    assert narrow["precision"] == 1 and narrow["recall"] < 0.1 and narrow["coverage"] < 0.7 and narrow["density"] > 1
    assert wide["precision"] < 0.1 and wide["coverage"] < 0.2
    assert coverage_report(real, real) == {"precision": 1, "recall": 1, "density": 1.2, "coverage": 1}


def test_copies_are_close_and_soft_images_are_not():
    training = normal(300, 20)
    training[150:] = training[:150]  # every image twice
    real, copies, soft = normal(200, 20, 1), training[:50] + 0.01 * normal(50, 20, 2), 0.1 * normal(50, 20, 3)
    near_real = closeness(real, training)[0]
    near_copies, rows = closeness(copies, training)
    assert (rows % 150 == torch.arange(50)).all() and near_copies.max() < 0.2 < near_real.min()
    found = memorisation(near_copies, near_real)
    assert found["generated"] == 1 and 0.01 <= found["real"] <= 0.02
    assert memorisation(closeness(soft, training)[0], near_real)["generated"] == 0, "near to all, a copy of none"
    assert memorisation(closeness(normal(400, 20, 4), training)[0], near_real)["generated"] < 0.06


def test_few_training_images_are_all_looked_at():
    near, rows = closeness(normal(4), normal(3, seed=1))
    assert near.shape == rows.shape == (4,) and ((near > 0) & (near <= 1)).all()
    near, _ = closeness(normal(1), normal(1))
    assert near.tolist() == [0.0], "a copy of the only one"
