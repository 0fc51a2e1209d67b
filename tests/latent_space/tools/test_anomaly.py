"""Anomaly scores compared with their definitions, and what each of them detects."""

import pytest
import torch
from scipy.spatial.distance import mahalanobis

from condgen.contracts import CondgenError
from condgen.latent_space import anomaly
from condgen.latent_space.tools.anomaly import BASELINE, AnomalyScores
from tests.latent_space.flat import PPCA, Brush, Plane, on_plane


def test_scores_are_those_of_their_definition():
    space = Plane()
    train, x = on_plane(space, 100), on_plane(space, 8, 0.2, seed=5)
    found = AnomalyScores(space, train)(x)
    codes, z = space.encode(train).detach().double(), space.encode(x).detach().double()
    inverse = torch.linalg.inv(codes.T.cov())
    assert set(found) == {"reconstruction", "latent distance", BASELINE}, "a plane has no likelihood"
    for k in range(len(x)):
        assert found["latent distance"][k].item() == pytest.approx(mahalanobis(z[k], codes.mean(0), inverse), rel=1e-3)
    off = x - space.decode(space.encode(x))
    assert torch.allclose(found["reconstruction"], off.flatten(1).square().mean(1), atol=1e-6)
    nearest = (x.flatten(1)[:, None] - train.flatten(1)).norm(dim=2).amin(1) / 4
    assert torch.allclose(found[BASELINE], nearest, atol=1e-5)


def test_with_the_exact_posterior_the_likelihood_is_exact():
    space = PPCA()
    x = on_plane(space, 20, 0.3)
    found = AnomalyScores(space, on_plane(space, 50, 0.3, seed=2))(x)
    assert torch.allclose(found["likelihood"].double(), -space.log_prob(x).double(), atol=1e-3)
    assert (found["KL"] > 0).all()


def test_chunks_do_not_matter(monkeypatch):
    space = PPCA(wide=2.0)
    x, scores = on_plane(space, 20, 0.3), AnomalyScores(PPCA(wide=2.0), on_plane(PPCA(), 30, 0.3, seed=2))
    whole = scores(x, seed=4)
    monkeypatch.setattr("condgen.latent_space.tools.anomaly.ROWS", 6)
    parts = scores(x, seed=4)
    assert all(torch.allclose(whole[name], parts[name], atol=1e-4) for name in whole)


def test_every_score_detects_its_kind_of_anomaly():
    space = Plane()
    train, test = on_plane(space, 200, 0.02, seed=1), on_plane(space, 200, 0.02, seed=2)
    off = on_plane(space, 60, 0.3, seed=3)  # the codes are usual, the images leave the plane
    with torch.no_grad():  # the plane is kept, the codes are far out
        far = space.decode(torch.full((60, 3), 1.5)) + 0.02 * torch.randn(60, 1, 4, 4)
    for anomalous, best, blind in (
        (off, "reconstruction", "latent distance"),
        (far, "latent distance", "reconstruction"),
    ):
        rows = anomaly(space, train, test, anomalous).numbers["anomaly"]
        assert rows[best]["AUROC"] > 0.99 and rows[best]["anomalies found"] > 0.95
        assert rows[best]["AUROC"] > rows[blind]["AUROC"] + 0.1
        assert all(row["false alarms"] < 0.15 for row in rows.values())


def test_the_halves_are_disjoint_and_chosen_by_the_seed():
    space = Plane()
    train, test, anomalous = (on_plane(space, n, 0.1, seed=n) for n in (50, 101, 20))
    found = anomaly(space, train, test, anomalous, 0.1)
    assert found.numbers["images"][""] == {"training": 50, "for the threshold": 50, "normal": 51, "anomalous": 20}
    again = anomaly(space, train, test, anomalous, 0.1)
    assert found.numbers == again.numbers and found.sheets == again.sheets
    assert anomaly(space, train, test, anomalous, 0.1, seed=1).numbers != found.numbers


def test_too_few_images_are_refused():
    space = Plane()
    x = on_plane(space, 30)
    with pytest.raises(CondgenError, match="15 held-out images are too few"):
        anomaly(space, x, x, x, 0.05)
    with pytest.raises(CondgenError, match="no encoder"):
        anomaly(Brush(), x, x, x)
    with pytest.raises(CondgenError, match="There are no images"):
        anomaly(space, x, x, x[:0], 0.1)
