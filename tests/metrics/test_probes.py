"""Probes against second implementations, and features of which the answer is known."""

import math
import time
import warnings

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import hypergeom
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from condgen.metrics import probes
from condgen.metrics import retrieval as alignment
from condgen.metrics.probes import (
    accuracy,
    accuracy_by_class,
    alignment_within,
    class_embeddings,
    collapse_report,
    effective_rank,
    knn,
    linear_probe,
    spread,
    uniformity,
    zero_shot,
)
from condgen.metrics.retrieval import chance_within, retrieval, retrieval_at_1

CLASSES = 5


def clusters(n: int, seed: int, width: int = 24, apart: float = 0.7) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of overlapping classes, on several scales, one of them constant."""
    centres = torch.randn(CLASSES, width, generator=torch.Generator().manual_seed(99))
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (n,), generator=rng)
    features = apart * centres[labels] + torch.randn(n, width, generator=rng)
    features = features * torch.logspace(-0.3, 0.3, width) + 1
    features[:, 3] = 2.0
    return features, labels


@pytest.fixture
def rows(monkeypatch):
    """Tables are cut into parts, so that their seams are tested."""
    monkeypatch.setattr(probes, "ROWS", 64)
    monkeypatch.setattr(alignment, "ROWS", 64)


@pytest.mark.parametrize("k", [1, 20, 10_000])
def test_neighbours_vote_as_in_scikit_learn(rows, k):
    (x, y), (asked, truth) = clusters(300, 0), clusters(150, 1)
    vote = KNeighborsClassifier(min(k, 300), weights=lambda d: np.exp((1 - d) / 0.1), metric="cosine")
    expected = vote.fit(x.double().numpy(), y.numpy()).predict(asked.double().numpy())
    found = knn(x.double(), y, asked.double(), CLASSES, k)
    assert found.tolist() == expected.tolist() and accuracy(found, truth) > 0.4


@pytest.mark.parametrize("strength", [1e-1, 1e-3])
def test_the_probe_is_logistic_regression(strength):
    (x, y), (asked, _) = clusters(400, 0), clusters(200, 1)
    scale = StandardScaler().fit(x.numpy())
    own = linear_probe(x.double(), y, CLASSES, (strength,), steps=1000)
    other = LogisticRegression(C=1 / (strength * len(x)), max_iter=5000, tol=1e-8)
    other.fit(scale.transform(x.double().numpy()), y.numpy())
    expected = other.predict_proba(scale.transform(asked.double().numpy()))
    assert np.abs(own.logits(asked.double()).softmax(1).numpy() - expected).max() < 3e-3


def test_the_penalty_is_chosen_on_training_images_alone():
    """What few images with many features want is strong; a difference of two large features wants large weights."""
    few, (x, y) = clusters(200, 0, width=200, apart=0.15), clusters(4000, 0)
    loud = 30 * torch.randn(4000, 24, generator=torch.Generator().manual_seed(3))
    many = torch.cat([x + loud, loud], 1), y
    strong, weak = (linear_probe(*own, CLASSES) for own in (few, many))
    assert strong.strength > weak.strength and strong.tried and set(weak.tried) <= set(probes.STRENGTHS)
    assert strong.tried[strong.strength] == max(strong.tried.values())
    again = linear_probe(*few, CLASSES)
    assert torch.equal(again.weight, strong.weight)


def test_with_too_few_images_to_choose_by_the_strongest_is_taken():
    x, y = clusters(12, 0)
    probe = linear_probe(x, y, CLASSES)
    assert probe.strength == probes.STRENGTHS[0] and not probe.tried and probe.bias.isfinite().all()


def test_shuffled_features_tell_nothing():
    (x, y), (asked, truth) = clusters(2000, 0), clusters(1000, 1)
    mixed = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(5))]
    largest = torch.bincount(truth).max() / len(truth) + 4 * 0.5 / math.sqrt(len(truth))
    for judge in (lambda z: knn(z, y, asked, CLASSES), lambda z: linear_probe(z, y, CLASSES)(asked)):
        assert accuracy(judge(x), truth) > 0.7 > largest > accuracy(judge(mixed), truth)


def test_accuracy_by_class():
    predicted, labels = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 1])
    found = accuracy_by_class(predicted, labels, 3)
    assert found[:2] == [1, pytest.approx(2 / 3)] and math.isnan(found[2]) and accuracy(predicted, labels) == 0.75


def test_zero_shot_goes_to_the_mean_direction():
    text = F.normalize(torch.randn(4, 3, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    classes = class_embeddings(text)
    assert torch.allclose(classes, F.normalize(torch.stack([own.sum(0) for own in text]), dim=1), atol=1e-6)
    assert zero_shot(classes[[2, 0, 3]], classes).tolist() == [2, 0, 3]


def test_zero_shot_is_that_of_open_clip():
    """open_clip's classifier of class names and templates, and its logits."""
    rng = torch.Generator().manual_seed(0)
    table = torch.randn(12, 8, generator=rng)  # a text is the number of its embedding

    class Texts(torch.nn.Module):
        def encode_text(self, tokens, normalize=False):
            return F.normalize(table[tokens], dim=-1) if normalize else table[tokens]

    templates = [lambda name, k=k: 3 * name + k for k in range(3)]
    weights = open_clip.build_zero_shot_classifier(Texts(), torch.tensor, list(range(4)), templates, use_tqdm=False)
    classes = class_embeddings(F.normalize(table, dim=1).unflatten(0, (4, 3)))
    torch.testing.assert_close(classes, weights.T, atol=1e-6, rtol=0)
    image = F.normalize(torch.randn(50, 8, generator=rng), dim=1)
    assert torch.equal(zero_shot(image, classes), (100.0 * image @ weights).argmax(1))


# Retrieval ------------------------------------------------------------------------------------------------------------


def pairs(n: int = 150, texts: int = 90, width: int = 6) -> tuple[torch.Tensor, ...]:
    """Images with one to three of fewer texts, so that texts are shared; embeddings that know something of it."""
    rng = torch.Generator().manual_seed(0)
    captions = torch.randint(0, texts, (n, 3), generator=rng)
    captions[torch.rand(n, 3, generator=rng) < 0.3] = -1
    captions[:, 0] = torch.randint(0, texts, (n,), generator=rng)
    text = F.normalize(torch.randn(texts, width, generator=rng), dim=1)
    image = F.normalize(text[captions[:, 0]] + 0.7 * torch.randn(n, width, generator=rng), dim=1)
    return image, text, captions, torch.arange(texts)[:, None]


@pytest.mark.parametrize("swap", [False, True])
def test_retrieval_is_what_a_loop_finds(rows, swap):
    image, text, captions, own = pairs()
    query, gallery, query_keys, gallery_keys = (text, image, own, captions) if swap else (image, text, captions, own)
    found = retrieval(query, gallery, query_keys, gallery_keys)
    for k in (1, 5, 10):
        hits, chances = [], []
        for i in range(len(query)):
            nearest = (gallery @ query[i]).argsort(descending=True)[:k]
            wanted = {key for key in query_keys[i].tolist() if key >= 0}
            right = [bool(wanted & set(keys)) for keys in gallery_keys.tolist()]
            hits.append(any(right[j] for j in nearest.tolist()))
            chances.append(1 - hypergeom(len(gallery), sum(right), k).pmf(0))
        assert found[f"R@{k}"] == pytest.approx(np.mean(hits))
        assert found[f"chance R@{k}"] == pytest.approx(np.mean(chances))
    assert found["R@1"] > 3 * found["chance R@1"]


def recall_of_clip_benchmark(scores, positive, k):
    """The share of rows with a positive among the k best, from its `recall_at_k` > 0."""
    best = torch.nn.functional.one_hot(scores.topk(k, dim=1).indices, scores.shape[1])
    true = (best * positive[:, None]).sum((1, 2))
    return (true / positive.sum(1) > 0).float().mean().item()


@pytest.mark.parametrize("at", [1, 5, 10])
def test_recall_is_that_of_clip_benchmark(rows, at):
    """Its data: several texts for every image, all of them different."""
    rng = torch.Generator().manual_seed(3)
    image = F.normalize(torch.randn(80, 6, generator=rng), dim=1)
    of = torch.arange(80).repeat_interleave(3)
    text = F.normalize(image[of] + 0.8 * torch.randn(240, 6, generator=rng), dim=1)
    captions, own = torch.arange(240).view(80, 3), torch.arange(240)[:, None]
    scores, positive = text @ image.T, of[:, None] == torch.arange(80)
    name = f"R@{at}"
    assert retrieval(text, image, own, captions, (at,))[name] == pytest.approx(
        recall_of_clip_benchmark(scores, positive, at)
    )
    assert retrieval(image, text, captions, own, (at,))[name] == pytest.approx(
        recall_of_clip_benchmark(scores.T, positive.T, at)
    )


def test_at_1_both_ways_of_asking_agree():
    image, text, captions, own = pairs()
    same = (captions[:, :, None] == torch.arange(len(text))).any(1)
    assert retrieval(image, text, captions, own)["R@1"] == pytest.approx(retrieval_at_1(image, text, same))


def test_chance_is_what_orders_at_random_find():
    image, text, captions, own = pairs()
    rng, found = torch.Generator().manual_seed(1), []
    for _ in range(200):
        order = torch.randperm(len(image), generator=rng)
        found.append(retrieval(image[order], text, captions, own, (5,)))
    mean, sd = np.mean([one["R@5"] for one in found]), np.std([one["R@5"] for one in found])
    assert abs(mean - found[0]["chance R@5"]) < 5 * sd / math.sqrt(len(found)) + 0.01


def test_an_encoder_that_makes_one_vector_of_everything_finds_nothing():
    _, _, captions, own = pairs()
    one = F.normalize(torch.ones(1, 6), dim=1)
    found = retrieval(one.expand(len(captions), -1), one.expand(len(own), -1), captions, own)
    assert found["R@1"] == found["R@10"] == 0 < found["chance R@1"]


def test_chance_is_sure_where_everything_is_looked_at():
    assert chance_within(torch.tensor([1, 2]), 5, 5) == chance_within(torch.tensor([1]), 1, 10) == 1
    assert chance_within(torch.tensor([0]), 5, 5) == 0
    assert chance_within(torch.tensor([1]), 5, 2) == pytest.approx(0.4)


# Collapse -------------------------------------------------------------------------------------------------------------


def test_the_rank_of_known_matrices():
    assert effective_rank(torch.eye(30)) == pytest.approx(30)
    assert effective_rank(torch.ones(50, 8)) == pytest.approx(1, abs=1e-3)
    left, right = (torch.linalg.qr(torch.randn(80, 4, generator=torch.Generator().manual_seed(s)))[0] for s in (0, 1))
    assert effective_rank(left @ right.T) == pytest.approx(4, abs=1e-3)
    values = torch.tensor([4.0, 2.0, 1.0, 1.0])
    shares = values / values.sum()
    assert effective_rank((left * values) @ right.T) == pytest.approx(
        math.exp(-(shares * shares.log()).sum()), abs=1e-3
    )
    wide = torch.randn(20, 300, generator=torch.Generator().manual_seed(2))
    assert effective_rank(wide) == pytest.approx(effective_rank(wide.T))


def test_alignment_and_uniformity_are_the_papers_formulas(rows):
    x = F.normalize(torch.randn(150, 5, generator=torch.Generator().manual_seed(0)).double(), dim=1)
    labels = torch.arange(150) % 7
    same = [(x[i] - x[j]).square().sum() for i in range(150) for j in range(i) if labels[i] == labels[j]]
    assert alignment_within(x, labels) == pytest.approx(torch.stack(same).mean().item())
    assert uniformity(x) == pytest.approx(torch.pdist(x).square().mul(-2).exp().mean().log().item())
    assert probes.alignment(x, x) == 0 and probes.alignment(x, -x) == pytest.approx(4)
    assert math.isnan(alignment_within(x[:3], torch.arange(3)))


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_a_collapse_is_seen(value):
    """Of features that are all the same, and of those of a network that is dead."""
    report = collapse_report(torch.full((300, 16), value), torch.arange(300) % 3)
    assert report["effective rank"] == pytest.approx(1, abs=1e-3) and report["spread"] == pytest.approx(0, abs=1e-6)
    assert report["uniformity"] == pytest.approx(0, abs=1e-5) and report["alignment"] == pytest.approx(0, abs=1e-5)


def test_what_fills_the_sphere_has_not_collapsed():
    x = torch.randn(2000, 64, generator=torch.Generator().manual_seed(0))
    report = collapse_report(x, torch.arange(2000) % 3)
    assert report["effective rank"] > 55 and spread(x) == pytest.approx(1, abs=0.01)
    assert report["uniformity"] == pytest.approx(-3.85, abs=0.1) and report["alignment"] == pytest.approx(2, abs=0.02)


def test_a_probe_of_many_images_takes_seconds():
    """6,000 x 512; of 60,000 it is ten times as long, and a minute is the limit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        x, y = clusters(6000, 0, width=512, apart=0.1)
        began = time.process_time()
        linear_probe(x, y, CLASSES)
        knn(x, y, x[:1000], CLASSES)
        assert time.process_time() - began < 8
