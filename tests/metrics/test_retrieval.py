import pytest
import torch
import torch.nn.functional as F

from condgen.metrics.retrieval import prior_report, retrieval_at_1, swap_accuracy


@pytest.fixture
def embeds():
    torch.manual_seed(0)
    return F.normalize(torch.randn(200, 32), dim=1)


def test_a_perfect_prior(embeds):
    report = prior_report(embeds, embeds, embeds, torch.eye(200).bool())
    assert report["cos_true"] == pytest.approx(1) and report["recall_at_1"] == 1
    assert report["variance_ratio"] == pytest.approx(1) and abs(report["cos_unrelated"]) < 0.05


def test_a_collapsed_prior_is_seen(embeds):
    mean = F.normalize(embeds.mean(0, keepdim=True), dim=1).expand(200, -1)
    report = prior_report(mean, embeds, embeds, torch.eye(200).bool())
    assert report["variance_ratio"] < 1e-6 and report["recall_at_1"] < 0.02


def test_one_image_has_no_variance_and_no_warning(embeds, recwarn):
    one = embeds[:1]
    report = prior_report(one, one, one, torch.eye(1).bool())
    undefined = [name for name, value in report.items() if value != value]
    assert undefined == ["cos_unrelated", "recall_at_1", "variance_ratio"] and not recwarn


def test_equal_texts_are_hits(embeds):
    gallery = torch.cat([embeds[1:2], embeds[:1]])
    same = torch.eye(2, dtype=torch.bool)
    assert retrieval_at_1(embeds[:2], gallery, same) == 0
    equal = torch.tensor([[True, True], [False, True]])
    assert retrieval_at_1(embeds[:2], gallery, equal) == 0.5


def test_swaps(embeds):
    wrong = embeds.roll(1, 0)
    assert swap_accuracy(embeds, embeds, wrong) == 1
    assert swap_accuracy(embeds, wrong, embeds) == 0
    assert swap_accuracy(embeds, wrong, wrong) == 0, "a tie is not a win"
