"""How varied images are: known answers, and scikit-learn and scipy as second opinions."""

import itertools
import math

import pytest
import torch
from scipy.stats import entropy as scipy_entropy
from sklearn.metrics.cluster import contingency_matrix

from condgen.metrics.diversity import best_matching, entropy, mean_distance, missing, purity, shares


def test_mean_distance_is_that_of_all_pairs():
    x = torch.randn(20, 1, 3, 3)
    pairs = [(x[i] - x[j]).norm() for i, j in itertools.combinations(range(20), 2)]
    assert mean_distance(x) == pytest.approx(torch.stack(pairs).mean().item(), rel=1e-5)
    assert mean_distance(x[:1].expand(5, -1, -1, -1)) == 0


def test_entropy_and_missing_classes():
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    share = shares(labels, 4)
    assert share.tolist() == [0.25] * 4 and entropy(share) == pytest.approx(math.log(4))
    assert entropy(shares(torch.zeros(5, dtype=torch.long), 4)) == 0
    mixed = shares(torch.randint(7, (100,), generator=torch.Generator().manual_seed(0)), 9)
    assert entropy(mixed) == pytest.approx(scipy_entropy(mixed.numpy()))
    collapsed = shares(torch.tensor([0] * 98 + [1] * 2), 4)
    assert missing(collapsed, share) == 3 and missing(share, share) == 0  # 2 % of 25 % is hardly any
    assert missing(collapsed, shares(torch.tensor([0, 0, 1]), 4)) == 1  # what real images do not show is not missed


@pytest.mark.parametrize("kinds, classes", [(4, 4), (6, 4), (3, 4)])
def test_the_matching_is_the_best_of_all(kinds, classes):
    rng = torch.Generator().manual_seed(kinds)
    found, labels = (torch.randint(k, (200,), generator=rng) for k in (kinds, classes))
    names = best_matching(found, labels, kinds, classes)
    own = (names[found] == labels).sum().item()
    wide = [*range(classes), *([-1] * kinds)]
    best = max((torch.tensor(p)[found] == labels).sum().item() for p in set(itertools.permutations(wide[:7], kinds)))
    assert own == best
    used = [name for name in names.tolist() if name >= 0]
    assert len(used) == len(set(used)) == min(kinds, classes)


def test_purity_is_that_of_the_table_of_scikit_learn():
    rng = torch.Generator().manual_seed(0)
    found, labels = (torch.randint(k, (200,), generator=rng) for k in (6, 4))
    table = contingency_matrix(labels.numpy(), found.numpy())
    assert purity(found, labels, 6, 4) == pytest.approx(table.max(0).sum() / table.sum())


def test_purity_is_one_for_clusters_of_one_class_each():
    labels = torch.arange(12) % 3
    assert purity((labels + 1) % 3, labels, 3, 3) == 1.0
    assert purity(torch.zeros(12, dtype=torch.long), labels, 3, 3) == pytest.approx(1 / 3)
