"""Measures of anomaly scores against torchmetrics, the definitions, and values that are known."""

import pytest
import torch
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from condgen.contracts import CondgenError
from condgen.metrics.anomaly import anomaly_report, auroc, average_precision, threshold


def normal(n: int, seed: int, mean: float = 0.0) -> torch.Tensor:
    return mean + torch.randn(n, generator=torch.Generator().manual_seed(seed))


def test_auroc_is_the_share_of_pairs_in_order():
    a, b = normal(80, 0), normal(60, 1, 0.7)
    pairs = (b[:, None] > a[None]).double().mean().item()
    assert auroc(a, b) == pytest.approx(pairs) and auroc(b, a) == pytest.approx(1 - pairs)


@pytest.mark.parametrize("step", [0.0, 0.5], ids=["continuous", "with ties"])
def test_they_are_those_of_torchmetrics(step):
    a, b = (normal(90, seed, mean) for seed, mean in ((0, 0.0), (1, 0.7)))
    if step:
        a, b = (z.div(step).round() * step for z in (a, b))
    scores, labels = torch.cat([a, b]).sigmoid(), torch.cat([torch.zeros(90), torch.ones(90)]).long()
    assert auroc(a, b) == pytest.approx(binary_auroc(scores, labels).item(), abs=1e-6)
    assert average_precision(a, b) == pytest.approx(binary_average_precision(scores, labels).item(), abs=1e-6)


def test_average_precision_is_the_mean_precision_at_every_anomaly():
    a, b = normal(80, 0), normal(60, 1, 0.7)
    scores, found = torch.cat([a, b]), torch.cat([torch.zeros(80), torch.ones(60)])
    ranked = found[scores.argsort(descending=True)]
    precision = ranked.cumsum(0) / torch.arange(1, len(ranked) + 1)
    assert average_precision(a, b) == pytest.approx(precision[ranked == 1].mean().item(), abs=1e-6)


def test_separable_is_one_and_the_same_is_a_half():
    a = normal(50, 0)
    assert auroc(a, a + 100) == average_precision(a, a + 100) == 1
    assert auroc(a, a) == 0.5 and auroc(a + 100, a) == 0
    assert average_precision(torch.zeros(30), torch.zeros(10)) == pytest.approx(0.25), "chance is their share"


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3])
def test_the_threshold_holds_the_share_of_false_alarms(share):
    rates = [(normal(50, 1000 + k) > threshold(normal(59, k), share)).double().mean().item() for k in range(400)]
    mean = sum(rates) / len(rates)
    assert share - 1 / 60 - 0.01 < mean <= share + 0.01, "on average over what is held out"


def test_the_threshold_whatever_the_distribution():
    rates = [(normal(50, 1000 + k).exp() > threshold(normal(59, k).exp(), 0.1)).double().mean() for k in range(300)]
    assert abs(torch.stack(rates).mean().item() - 0.1) < 0.02


def test_nineteen_images_are_enough_for_a_twentieth():
    held = normal(19, 0)
    assert threshold(held, 0.05) == held.max().double().item()
    with pytest.raises(CondgenError, match=r"18 held-out images are too few.*at least 19"):
        threshold(held[:18], 0.05)
    for share in (0, 1, -1):
        with pytest.raises(CondgenError, match="between 0 and 1"):
            threshold(held, share)


def test_the_report_counts_by_the_threshold():
    report = anomaly_report(torch.arange(99.0), torch.tensor([10.0, 97.0]), torch.tensor([94.0, 95.0, 1000.0]), 0.05)
    assert (
        report["threshold"] == 94
        and report["anomalies found"] == pytest.approx(2 / 3)
        and report["false alarms"] == 0.5
    )
